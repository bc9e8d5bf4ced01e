"""One part of the answer: routed, asked for, asked for again, accepted. An undivided answer is a part too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_sgd.decoding.caller import TIME_USED_UP, Patience, Reply, call_model
from langchain_sgd.decoding.context import TOKENS_A_WORD, RunContext, Within
from langchain_sgd.decoding.hearing import Hearing
from langchain_sgd.decoding.length import Share, count_words, whole_sentences
from langchain_sgd.decoding.nesting import InnerJournal, placed
from langchain_sgd.decoding.prefixes import with_hints
from langchain_sgd.errors import (
    DependencyFailedError,
    NodeDecodeError,
    RunDeadlineError,
    SkeletonGraphError,
)
from langchain_sgd.events import PLAIN_ID, Discarded, Emit, Ended, Started, Token
from langchain_sgd.journal import Forgetful, Journal
from langchain_sgd.limits import Limit
from langchain_sgd.options import nested_in
from langchain_sgd.planning.forms import with_options
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import Attempt, NodeReport, NodeStatus, Report, Usage
from langchain_sgd.retry import describe, is_retryable
from langchain_sgd.routing import path_up
from langchain_sgd.skeleton import Node, NodeId
from langchain_sgd.tiers import Tier


@dataclass(frozen=True, slots=True)
class Outline:
    """What is planned when a part begins."""

    nodes: Sequence[Node]
    lines: Sequence[str] | None = None
    """The nodes as prompts show them, if they are at hand."""
    complete: bool = True
    """No more nodes will come."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be written, and by whom it may be."""

    id: NodeId
    run_name: str
    messages: Sequence[BaseMessage]
    path: Sequence[Tier]
    """The tiers to try, in order: the chosen one and the larger ones."""
    heading: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    smaller: Sequence[Tier] = ()
    """Asked in turn if none of them could answer: a smaller model's text is better than a gap."""
    node: Node | None = None
    """None for an undivided answer."""
    planned_s: float = 0.0
    share: Share | None = None
    """Its length; None: as long as the writer likes."""
    outline: str = ""
    """What is planned, as its prompt shows it."""
    question: Sequence[BaseMessage] = ()
    """What is asked where it is planned and written in parts itself."""
    journal: Journal = field(default_factory=Forgetful)
    """Where those are kept."""

    def least_words(self, tier: Tier, least_share: float) -> int:
        """With fewer words, the text of a tier that has a larger one beside it is not taken."""
        if self.share is None or self.node is None or tier is self.path[-1]:
            return 0
        return 0 if tier in self.smaller else round(self.share.words * least_share)

    @property
    def expected_tokens(self) -> int:
        """Of its text; 0 where nobody knows."""
        return 0 if self.share is None else round(self.share.words * TOKENS_A_WORD)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a part; nobody has been told of its end yet."""

    report: NodeReport
    cause: BaseException | None = None
    """What was raised last, if the part has no answer or one that an error broke off."""

    @property
    def has_come_to_its_end(self) -> bool:
        """Whether there is an answer, and no error broke it off."""
        return bool(self.report.answer) and self.cause is None

    def ended(self) -> Ended:
        """The event that tells of it."""
        report = self.report
        return Ended(report.id, report.status, report.answer, report.ended_s, report)


@dataclass(slots=True)
class _Draft:
    """One attempt's text."""

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


async def write_node(
    run: RunContext,
    node: Node,
    outline: Outline,
    answers: Mapping[NodeId, str | None],
    *,
    planned_s: float = 0.0,
    journal: Journal | None = None,
    key: str = "",
) -> Written:
    """One node's answer, or why it has none; every dependency has answered or failed.

    Args:
        run: The run it belongs to.
        node: The node.
        outline: What is planned, this node included.
        answers: Its dependencies' texts; None for one that has none, which skips the node.
        planned_s: When the node was planned.
        journal: Where its own parts are kept, if it is written in parts.
        key: The node's, in the journal.
    """
    options = run.options
    if missing := [d for d in node.dependencies if answers.get(d) is None]:
        problem = f"not decoded: its dependency {', '.join(missing)} has no answer"
        part = Part(node.id, "", (), (), node.heading, node=node, planned_s=planned_s)
        return Written(
            _report(run, part, run.clock.now(), "skipped", problem=problem),
            DependencyFailedError(node, missing[0]),
        )
    share = _share(run, node, outline)
    tiers = options.tiers_by_size
    path = path_up(tiers, options.route(node), node)
    lines = outline.lines or [options.prompts.line_of(each) for each in outline.nodes]
    if _expands(run, node, share):  # what it is then asked is asked of the run's own kind
        itself = cast("Runnable[Any, Any]", options)
        path = (replace(path[0], model=itself, limit=Limit(None)), *path)

    def ask(prompts: Prompts) -> list[BaseMessage]:
        return prompts.for_node(
            run.question.messages,
            node,
            planned=outline.nodes,
            answers={d: text for d, text in answers.items() if text is not None},
            lines=lines,
            length=str(share or ""),
        )

    messages = ask(options.prompts)
    part = Part(
        node.id,
        f"node:{run.place}{node.id}",
        messages,
        path,
        node.heading,
        {
            "sgd_node_id": f"{run.place}{node.id}",
            "sgd_difficulty": node.difficulty,
            "sgd_dependencies": list(node.dependencies),
        },
        tiers[: len(tiers) - len(path)][::-1],
        node,
        planned_s,
        share,
        "".join([options.prompts.outline.format(), *lines]),
        ask(options.prompts.for_questions) if any(nested_in(t.model) for t in path) else (),
        InnerJournal(journal or Forgetful(), f"{key}/"),
    )
    refusal = run.spending.refusal(part.path[0].name, messages, part.expected_tokens)
    if refusal is not None:
        return Written(_report(run, part, run.clock.now(), "skipped", problem=refusal))
    return await _write(run, part, run.emit)


def _share(run: RunContext, node: Node, outline: Outline) -> Share | None:
    """How long a part is to be; None where the prompt does not tell its writer."""
    options = run.options
    if not options.prompts.tells_length:
        return None
    shares = [
        length.share(
            planned=len(outline.nodes), complete=outline.complete, difficulty=node.difficulty
        )
        for length in (run.length, run.most_length)
        if length is not None
    ]
    return min(shares, key=lambda share: share.words)


def _expands(run: RunContext, node: Node, share: Share | None) -> bool:
    """Whether the user wants the part to be planned and written in parts."""
    wanted = run.options.expand
    if wanted is None or run.depth >= run.options.expand_depth:
        return False
    if isinstance(wanted, int):
        return share is not None and share.words >= wanted
    return wanted(node)


async def write_plain(
    run: RunContext, reason: str, emit: Emit, journal: Journal | None = None
) -> Written:
    """The whole question, undivided, by the largest tier, or why there is no answer.

    A part that was to be split and is left whole is written as any other part.
    """
    part = Part(
        PLAIN_ID,
        "plain",
        run.question.messages,
        (run.options.largest,),
        metadata={"sgd_plain": reason},
        planned_s=run.clock.now(),
        question=run.question.messages,
        journal=InnerJournal(journal or Forgetful(), "plain/"),
    )
    if run.within is not None and (node := run.within.part.node) is not None:
        part = replace(
            part,
            messages=run.within.part.messages,
            path=path_up(run.options.tiers_by_size, run.options.route(node), node),
            heading=node.heading,
            node=node,
            share=run.within.part.share,
        )
    return await _write(run, part, emit)


async def _write(run: RunContext, part: Part, emit: Emit) -> Written:
    """Try the part on its tiers, each with repeats, until a text is good."""
    ready = run.clock.now()
    attempts: list[Attempt] = []
    best: _Draft | None = None
    best_index: int | None = None
    draft: _Draft | None = None
    until = run.deadline
    for tier in (*part.path, *part.smaller):
        if tier in part.smaller and not _may_step_down(draft):
            break
        if attempts and (
            refusal := run.spending.refusal(tier.name, part.messages, part.expected_tokens)
        ):
            run.warn(f"{_name(part)}: {refusal}")
            break
        for repeat in range(run.options.retries + 1):
            if draft is not None:
                if repeat and not await run.pause(repeat, draft.reply.error, until):
                    break
                emit(Discarded(part.id, draft.problem or "", run.clock.now()))
            if run.clock.is_late(until):
                break
            attempt = _attempt if nested_in(tier.model) is None else _attempt_in_parts
            draft, until = await attempt(
                run, part, tier, len(attempts) + 1, repeat + 1, emit, until
            )
            attempts.append(draft.reply.attempt(run.clock.at, draft.problem))
            if draft.problem is None:
                if tier in part.smaller:
                    failed = ", ".join(each.name for each in part.path)
                    run.warn(f"{_name(part)}: {failed} could not answer, so {tier.name} wrote it")
                done = _report(run, part, ready, draft.status, draft, attempts, len(attempts) - 1)
                return Written(done)
            if draft.text and (best is None or _worth(draft) >= _worth(best)):
                best, best_index = draft, len(attempts) - 1
            if not draft.retryable or run.clock.is_late(until):
                break
        if run.clock.is_late(until):
            break
    late = draft is None or run.clock.is_late(until)
    problem = TIME_USED_UP if late else (draft.problem if draft else None) or ""
    cause = draft.reply.error if draft is not None else None
    if best is not None:
        return Written(
            _report(run, part, ready, best.status, best, attempts, best_index, problem=problem),
            None if late or best.reply.error is None or best.reply.ran_on else cause,
        )
    unasked = part.path[0] if draft is None else None
    report = _report(run, part, ready, "failed", draft, attempts, problem=problem, tier=unasked)
    return Written(report, cause or TimeoutError(problem))


def _may_step_down(draft: _Draft | None) -> bool:
    """Whether a smaller model may stand in: for one that failed, not for a text that was refused."""
    if draft is None or draft.reply.ending == "refused":
        return False
    return draft.reply.error is not None or not draft.text


def _worth(draft: _Draft) -> tuple[bool, int]:
    """A whole text that the user's check did not take is worth more than one that breaks off."""
    return draft.status in {"unaccepted", "complete"}, len(draft.text)


async def _attempt(
    run: RunContext,
    part: Part,
    tier: Tier,
    number: int,
    on_tier: int,
    emit: Emit,
    until: float | None,
) -> tuple[_Draft, float | None]:
    """One call, whatever becomes of it; and when the part's time ends.

    Args:
        run: The run.
        part: What is to be written.
        tier: Whom to ask.
        number: Of the call among all of the part, from 1.
        on_tier: Of the call among those to this tier, from 1.
        emit: Is told of it.
        until: Loop time at which the part must have ended.
    """
    draft = _Draft(Reply(tier.name))
    least = part.least_words(tier, run.options.least_share)
    hearing = Hearing(part.id, part.heading, part.share, least, tier, emit, run.clock.now)

    def started() -> float | None:
        nonlocal until
        until = _started(run, part, tier, number, emit, until)
        return until

    model, options = _bound(run, part, tier)
    messages = part.messages
    # An undivided answer shares its beginning with the planner's prompt, or with nothing.
    if run.options.cache_hints and (part.node is not None or run.options.mode != "never"):
        messages, hints = with_hints(
            tier.model, run.question.messages, messages, outline=part.outline
        )
        options = {**hints, **options}
    run.spending.note(draft.reply, messages, part.expected_tokens)
    try:
        await call_model(
            Tier(tier.name, model, tier.limit, tier.shared),
            messages,
            run.child(part.run_name, tier.name, number, part.metadata),
            hearing.feed,
            draft.reply,
            limits=run.limits,
            patience=Patience(run.options.stall_timeout_s, until),
            options=options,
            on_start=started,
        )
    except Exception as error:
        if _leaves_the_run(error):
            raise
        draft.retryable = is_retryable(error, on_tier) and not draft.reply.ran_on
    hearing.close()
    draft.text = hearing.text
    if hearing.thinking and draft.reply.ending is None and draft.reply.error is None:
        draft.reply.ending = "cut"
    if hearing.done:
        draft.reply.ending, draft.reply.error = "complete", None
        if draft.reply.usage is None:
            characters = sum(len(str(message.text)) for message in part.messages)
            draft.reply.usage = Usage(
                input_tokens=characters // 4, output_tokens=draft.reply.pieces, estimated=True
            )
    _judge(run, part, draft, nearly_empty=hearing.is_nearly_empty)
    draft.annotations = _placed(draft.reply.annotations, hearing.said, draft.text)
    return draft, until


def _started(
    run: RunContext, part: Part, tier: Tier, number: int, emit: Emit, until: float | None
) -> float | None:
    """A call goes out; when its part's time ends, which is counted from the first one."""
    if number == 1 and (seconds := run.options.node_timeout_s) is not None:
        ends = run.clock.loop.time() + seconds
        until = ends if until is None else min(ends, until)
    emit(Started(part.id, tier.name, number, run.clock.now()))
    return until


async def _attempt_in_parts(
    run: RunContext,
    part: Part,
    tier: Tier,
    number: int,
    _: int,
    emit: Emit,
    until: float | None,
) -> tuple[_Draft, float | None]:
    """As `_attempt`, by an `SGDRunnable`, which repeats by itself what fails in it."""
    draft = _Draft(Reply(tier.name))
    reply = draft.reply
    pieces: list[str] = []
    until = _started(run, part, tier, number, emit, until)
    within = Within(run, part, part.journal, tier.limit, run.clock.loop.time(), until)
    expands = nested_in(tier.model) is run.options
    if not expands:
        run.spending.note(reply, part.question, part.expected_tokens)

    def hear(text: str) -> None:
        pieces.append(text)
        emit(Token(part.id, text, run.clock.now()))

    try:
        await call_model(
            Tier(tier.name, tier.model),  # its calls hold the slots
            part.question,
            placed(run.child(part.run_name, tier.name, number, part.metadata), within),
            hear,
            reply,
            patience=Patience(),  # it ends itself in time, with what is finished
            options={k: v for k, v in run.question.options.items() if k != "max_tokens"},
        )
    except Exception as error:
        if _leaves_the_run(error):
            raise
    draft.text = "".join(pieces)
    if reply.report is not None:
        parts = Report.model_validate(reply.report)
        draft.parts = parts.model_copy(update={"tier": None if expands else tier.name})
        reply.usage = parts.total_usage if parts.usage else None
        if parts.ttft_s is not None:
            reply.first_at = run.clock.began + parts.ttft_s
        for warning in parts.warnings:
            run.warn(f"{_name(part)}: {warning}")
    _judge(run, part, draft, nearly_empty=False)
    if draft.problem is None and draft.parts is not None and draft.parts.status == "partial":
        draft.status = "partial"
    draft.annotations = tuple(reply.annotations)
    return draft, until


def _placed(
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


def _bound(run: RunContext, part: Part, tier: Tier) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """The tier's model and its options for this part, under the names that its class takes them."""
    given = dict(run.question.options)
    tokens = given.pop("max_tokens", None)
    if part.share is not None:
        bound = part.share.max_tokens
        tokens = bound if tokens is None else min(tokens, bound)
    model, options = with_options(
        tier.model,
        max_tokens=tokens,
        temperature=given.pop("temperature", None),
        **run.seed(part.id),
    )
    return model, {**given, **options}


def _leaves_the_run(error: Exception) -> bool:
    """Whether it is LangGraph's way to stop for a human, which is no failure; known by its name."""
    return any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)


def _judge(run: RunContext, part: Part, draft: _Draft, *, nearly_empty: bool) -> None:
    """Whether the text is taken, and if not, why and what it is still good for."""
    reply = draft.reply
    if reply.error is not None and reply.ending == "complete" and draft.text:
        # All had come; what failed was something about it.
        run.warn(f"{_name(part)}: the answer was whole, but then: {describe(reply.error)}")
        reply.error = None
    if reply.error is not None:
        draft.problem, draft.status = describe(reply.error), "truncated"
    elif not draft.text:
        draft.problem, draft.status = "the answer was empty", "failed"
        # A larger tier is asked at once; the largest once more.
        draft.retryable = reply.ending != "refused" and reply.tier == part.path[-1].name
        if reply.ending == "refused":
            draft.problem = "the model's content filter gave no answer"
    elif (
        reply.ending == "cut" and part.share is not None and (whole := whole_sentences(draft.text))
    ):
        draft.text = whole  # the bound was ours, and is far beyond the part's length
    elif reply.ending == "cut":
        draft.problem, draft.status = "a token limit cut the answer", "truncated"
    elif reply.ending == "refused":
        draft.problem, draft.status = "a content filter cut the answer", "truncated"
    elif nearly_empty and part.share is not None:
        words = count_words(draft.text)
        draft.problem = f"the text is nearly empty: {words} of about {part.share.words} words"
    elif (
        run.options.accept is not None
        and part.node is not None
        and not run.options.accept(part.node, draft.text)
    ):
        draft.problem, draft.status = "the answer was not accepted", "unaccepted"


def _name(part: Part) -> str:
    return "undivided answer" if part.node is None else f"node {part.id}"


def failure(run: RunContext, node: Node | None, written: Written) -> SkeletonGraphError:
    """What is raised for a part without an answer."""
    if isinstance(written.cause, DependencyFailedError):
        return written.cause
    if run.clock.is_late(run.deadline):
        what = f"node {node.id} ({node.heading!r})" if node else "the question"
        seconds = run.options.deadline_s
        time = "Its time" if seconds is None else f"The deadline of {seconds:g} s"
        msg = f"{time} passed before {what} had an answer"
        error: SkeletonGraphError = RunDeadlineError(msg)
    else:
        error = NodeDecodeError(node, written.report.tier, written.report.error or "")
    error.__cause__ = written.cause
    return error


def _report(
    run: RunContext,
    part: Part,
    ready: float,
    status: NodeStatus,
    draft: _Draft | None = None,
    attempts: Sequence[Attempt] = (),
    answered_by: int | None = None,
    *,
    problem: str | None = None,
    tier: Tier | None = None,
) -> NodeReport:
    text = draft.text if draft is not None and answered_by is not None else ""
    name = tier.name if tier else (draft.reply.tier if draft is not None else "")
    return NodeReport(
        id=part.id,
        heading=part.heading,
        dependencies=part.node.dependencies if part.node else (),
        status=status,
        tier=name,
        answer=text,
        answered_by=answered_by,
        reasoning=draft.reply.reasoning if text and draft is not None else "",
        annotations=draft.annotations if text and draft is not None else (),
        parts=draft.parts if text and draft is not None else None,
        planned_s=part.planned_s,
        ready_s=ready,
        ended_s=run.clock.now(),
        attempts=tuple(attempts),
        error=problem,
    )
