"""One attempt at a part: what is asked of a model, what is heard of it, and whether that is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable

from langchain_sgd.decoding.caller import call_model
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.hearing import Hearing
from langchain_sgd.decoding.length import Share
from langchain_sgd.decoding.part import Part
from langchain_sgd.decoding.patience import Patience
from langchain_sgd.decoding.prefixes import with_hints
from langchain_sgd.decoding.reply import Reply, usage_when_stopped
from langchain_sgd.decoding.sentences import count_words, whole_sentences
from langchain_sgd.events import Discarded, Emit, Started
from langchain_sgd.options import answer_of
from langchain_sgd.planning.forms import is_refusal, with_options
from langchain_sgd.planning.kinds import SHAPING, continues
from langchain_sgd.redaction import describe
from langchain_sgd.report import Attempt, NodeStatus, Report
from langchain_sgd.retry import is_retryable
from langchain_sgd.tiers import Tier

_NOT_GONE_ON = "the begun answer was not gone on with"
_NEARLY = 0.8
"""Of a bound: a text that was cut there was cut by it."""


@dataclass(slots=True)
class Attempted:
    """What became of one attempt: its text, or why there is none."""

    reply: Reply
    text: str = ""
    problem: str | None = None
    """Why it is not taken."""
    status: NodeStatus = "complete"
    """What the part is if nothing better comes."""
    retryable: bool = False
    annotations: tuple[Mapping[str, Any], ...] = ()
    parts: Report | None = None
    """Of a text that was written in parts."""
    vain: Attempted | None = None
    """The call before it, which was to go on from a begun answer and gave nothing."""
    is_vain: bool = False
    """It is such a call."""

    def calls(self, at: Callable[[float], float]) -> list[Attempt]:
        """What was called, for the report; `at` makes run times of loop times."""
        before = [] if self.vain is None else self.vain.calls(at)
        return [*before, self.reply.attempt(at, self.problem)]

    @property
    def worth(self) -> tuple[bool, int]:
        """A whole text that the user's check did not take is worth more than one that breaks off."""
        return self.status in {"unaccepted", "complete"}, len(self.text)

    @property
    def may_step_down(self) -> bool:
        """Whether a smaller model may stand in: for one that failed, not for a text that was refused."""
        if self.reply.ending == "refused":
            return False
        return self.reply.error is not None or not self.text


async def attempt_by_model(
    run: RunContext,
    part: Part,
    tier: Tier,
    number: int,
    on_tier: int,
    emit: Emit,
    until: float | None,
) -> tuple[Attempted, float | None]:
    """One call, whatever becomes of it; and when the part's time ends.

    A server that is known to go on from a begun answer is given one. Where nothing comes of that, it is
    asked in words at once.

    Args:
        run: The run.
        part: What is to be written.
        tier: Whom to ask.
        number: Of the call among all of the part, from 1.
        on_tier: Of the call among those to this tier, from 1.
        emit: Is told of it.
        until: Loop time at which the part must have ended.
    """
    begun = await _may_go_on(run, part, tier)
    tried, until = await _attempt(run, part, tier, number, on_tier, emit, until, continuing=begun)
    if tried.is_vain and not run.clock.is_late(until):
        if tried.text:
            emit(Discarded(part.id, _NOT_GONE_ON, run.clock.now()))
        vain, number = tried, number + 1
        tried, until = await _attempt(run, part, tier, number, on_tier, emit, until)
        tried.vain = vain
    return tried, until


async def _attempt(
    run: RunContext,
    part: Part,
    tier: Tier,
    number: int,
    on_tier: int,
    emit: Emit,
    until: float | None,
    *,
    continuing: bool = False,
) -> tuple[Attempted, float | None]:
    tried = Attempted(Reply(tier.name))
    messages = await _begun(run, part) if continuing else part.messages
    least = part.least_words(tier, run.options.least_share)
    share = part.share.begun if continuing and part.share is not None else part.share
    begun = str(messages[-1].text) if continuing else ""
    hearing = Hearing(part.id, part.heading, share, least, tier, emit, run.clock.now, begun=begun)

    async def started() -> float | None:
        nonlocal until
        until = call_started(run, part, tier, number, emit, until)
        return until

    model, options = _bound(run, part, tier, share, continuing=continuing)
    # An undivided answer shares its beginning with the planner's prompt, or with nothing.
    if (
        not continuing
        and run.options.cache_hints
        and (part.node is not None or run.options.mode != "never")
    ):
        messages, hints = with_hints(
            tier.model, run.question.messages, messages, outline=part.outline
        )
        options = {**hints, **options}
    run.spending.note(tried.reply, messages, part.expected_tokens)
    try:
        await call_model(
            Tier(tier.name, model, tier.limit, tier.shared),
            messages,
            run.child(part.run_name, tier.name, number, part.metadata),
            hearing.feed,
            tried.reply,
            limits=run.limits,
            patience=Patience(run.options.stall_timeout_s, until),
            options=options,
            on_start=started,
        )
    except Exception as error:
        if leaves_the_run(error):
            raise
        tried.retryable = is_retryable(error, on_tier) and not tried.reply.ran_on
        if continuing and tried.reply.first_at is None and is_refusal(error):
            tried.is_vain, tier.shared.goes_on = True, False
    hearing.close()
    tried.text = hearing.text
    if hearing.thinking and tried.reply.ending is None and tried.reply.error is None:
        tried.reply.ending = "cut"
    if hearing.done:
        tried.reply.ending, tried.reply.error = "complete", None
        tried.reply.usage = usage_when_stopped(tried.reply, messages)
    examine(run, part, tried, nearly_empty=hearing.is_nearly_empty)
    tried.annotations = placed(tried.reply.annotations, hearing.said, tried.text)
    if continuing and tried.reply.error is None and (tried.reply.reasoning or not tried.text):
        # A thought comes at the beginning of a message only, or what came was taken for one.
        if tried.reply.reasoning:
            tier.shared.goes_on = False
        tried.is_vain, tried.problem = True, tried.problem or _NOT_GONE_ON
    return tried, until


async def _may_go_on(run: RunContext, part: Part, tier: Tier) -> bool:
    """Whether the tier's server is given a begun answer. A model that thinks first is told in words."""
    shared = tier.shared
    if part.begun is None or not shared.goes_on or shared.opens_thoughts:
        return False
    if SHAPING & run.question.options.keys():
        return False
    return await continues(tier.model)


async def _begun(run: RunContext, part: Part) -> Sequence[BaseMessage]:
    """The begun answer, with its opening before it."""
    if part.begun is None:
        return part.messages
    opening = await run.opening.whole()
    *asked, begun = part.begun()
    return [*asked, begun] if not opening else [*asked, AIMessage(f"{opening}\n\n{begun.text}")]


def call_started(
    run: RunContext, part: Part, tier: Tier, number: int, emit: Emit, until: float | None
) -> float | None:
    """A call goes out; when its part's time ends, which is counted from the first one."""
    if number == 1 and (seconds := run.options.node_timeout_s) is not None:
        ends = run.clock.loop.time() + seconds
        until = ends if until is None else min(ends, until)
    emit(Started(part.id, tier.name, number, run.clock.now()))
    return until


def placed(
    annotations: Sequence[Mapping[str, Any]], said: str, text: str
) -> tuple[Mapping[str, Any], ...]:
    """Annotations of what a model said, their places those in the text that was taken of it."""
    placed: list[Mapping[str, Any]] = []
    for annotation in annotations:
        start, end = annotation.get("start_index"), annotation.get("end_index")
        if isinstance(start, int) and isinstance(end, int):
            begin = text.find(said[start:end], max(0, start - len(said) + len(text)))
            begin = text.find(said[start:end]) if begin < 0 else begin
            if begin < 0:  # what it is about was left out
                continue
            places = {"start_index": begin, "end_index": begin + end - start}
            placed.append({**annotation, **places})
        else:
            placed.append(annotation)
    return tuple(placed)


def _bound(
    run: RunContext, part: Part, tier: Tier, share: Share | None, *, continuing: bool
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """The tier's model and its options for this part, under the names that its class takes them."""
    given = dict(run.question.options)
    tokens, temperature = given.pop("max_tokens", None), given.pop("temperature", None)
    if share is not None:
        bound = share.max_tokens
        tokens = bound if tokens is None else min(tokens, bound)
    return with_options(
        tier.model,
        given,
        max_tokens=tokens,
        temperature=temperature,
        continuing=continuing,
        **run.seed(part.id),
    )


def leaves_the_run(error: Exception) -> bool:
    """Whether it is LangGraph's way to stop for a human, which is no failure; known by its name."""
    return any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)


def _has_its_length(run: RunContext, share: Share, tried: Attempted) -> bool:
    """Whether a text that was cut has the words that it was to have, or the tokens of our bound."""
    reply = tried.reply
    asked = run.question.options.get("max_tokens")
    bound = share.max_tokens if asked is None else min(asked, share.max_tokens)
    tokens = max(reply.pieces, reply.usage.output_tokens if reply.usage else 0)
    return tokens >= _NEARLY * bound or count_words(tried.text) >= _NEARLY * share.words


def examine(run: RunContext, part: Part, tried: Attempted, *, nearly_empty: bool) -> None:
    """Whether the text is taken, and if not, why and what it is still good for."""
    reply = tried.reply
    if reply.error is not None and reply.ending == "complete" and tried.text:
        # All had come; what failed was something about it.
        run.warn(f"{part.name}: the answer was whole, but then: {describe(reply.error)}")
        reply.error = None
    if reply.error is not None:
        tried.problem, tried.status = describe(reply.error), "truncated"
    elif reply.tools:
        tried.problem, tried.status = f"the model {reply.asked_for}", "truncated"
    elif not tried.text:
        tried.problem, tried.status = "the answer was empty", "failed"
        # A larger tier is asked at once; the largest once more.
        tried.retryable = reply.ending != "refused" and reply.tier == part.path[-1].name
        if reply.ending == "refused":
            tried.problem = "the model's content filter gave no answer"
    elif (
        reply.ending == "cut"
        and part.share is not None
        and _has_its_length(run, part.share, tried)
        and (whole := whole_sentences(tried.text))
    ):
        tried.text = whole  # the bound was ours, and is far beyond the part's length
    elif reply.ending == "cut":
        tried.problem, tried.status = "a token limit or a fault cut the answer", "truncated"
    elif reply.ending == "refused":
        tried.problem, tried.status = "a content filter cut the answer", "truncated"
    elif nearly_empty and part.share is not None:
        words = count_words(tried.text)
        tried.problem = f"the text is nearly empty: {words} of about {part.share.words} words"
    elif (
        run.options.accept is not None
        and part.node is not None
        and not answer_of("accept", run.options.accept, part.node, tried.text)
    ):
        tried.problem, tried.status = "the answer was not accepted", "unaccepted"
