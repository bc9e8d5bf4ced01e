"""One model call, streamed: its text piece by piece, and what came of it.

Every call streams, also where the caller wants the whole answer only: closing a stream is what stops the
work on the server, and first-token times exist only in streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import RunnableConfig

from langchain_sgd.decoding.endings import Ending, ending_of, worse
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.limits import Limit, in_line, slots
from langchain_sgd.report import REPORT_KEY, Attempt, Usage
from langchain_sgd.retry import describe, is_timeout
from langchain_sgd.tiers import Shared, Tier, innermost

TIME_USED_UP = "its time was used up"
_CLEANUP_S = 5.0
"""How long a cancelled model may clean up before it is cancelled again."""


_CACHE_WRITES = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Tokens put into a prefix cache; who tells for how long does not count them under the first name too."""
_SILENT_SHARE = 0.1
"""Of the time since its first text: a model that was silent for less was no silent one."""
_STALE = 20
"""How many connections of ended loops a client may have kept."""
_OTHER_LOOP = ("Event loop is closed", "different loop", "different event loop")


class StalledError(TimeoutError):
    """A model sent nothing for too long, or took too long in all."""


class NoAnswerError(InvalidInputError):
    """What a tier gave is no answer: it asked for a tool or a human, or gave no text or message."""

    is_retryable = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take; None is no bound."""

    stall_s: float | None = None
    """Between two pieces of text, and before the first."""
    until: float | None = None
    """Loop time at which it must have ended."""

    def ends(self, now: float) -> float | None:
        """When it ends if nothing comes from `now` on."""
        if self.stall_s is None:
            return self.until
        stalled = now + self.stall_s
        return stalled if self.until is None else min(stalled, self.until)


@dataclass(slots=True)
class Reply:
    """What came of one model call; filled while it runs. Times are the loop's."""

    tier: str
    began_at: float | None = None
    """When its slots were free and the call went out; None if it never did."""
    first_at: float | None = None
    """When the first text came."""
    last_at: float | None = None
    """When the last piece came."""
    ended_at: float | None = None
    model: str | None = None
    """The model's own name, as its server gave it."""
    ending: Ending | None = None
    """How the model says that its text ended; None if it does not say."""
    usage: Usage | None = None
    error: BaseException | None = None
    pieces: int = 0
    """Pieces of text that came; with most servers tokens."""
    streamed: bool = False
    """Its text came as a stream's chunk."""
    stopped: bool = False
    """Whoever took the text had enough of it."""
    first_logprob: float | None = None
    """Log-probability of the first token, where it was asked for and given."""
    last_usage: Usage | None = None
    """What the last piece that counted said."""
    reasoning: str = ""
    """What came as a thought beside the text."""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """Citations and the like."""
    report: Mapping[str, Any] | None = None
    """Of a call that was a whole run: its report."""

    @property
    def ran_on(self) -> bool:
        """Whether its time ended while text still came: another call would take as long."""
        if self.error is None or self.first_at is None or self.last_at is None:
            return False
        ended = self.last_at if self.ended_at is None else self.ended_at
        brief = ended - self.last_at < _SILENT_SHARE * (ended - self.first_at)
        return brief and is_timeout(self.error)

    def attempt(self, clock: Callable[[float], float], problem: str | None = None) -> Attempt:
        """The call for the report.

        Args:
            clock: From loop time to seconds since the run began.
            problem: Why its text was not taken; the call's own error if there is one.
        """
        ended = self.ended_at if self.ended_at is not None else (self.began_at or 0.0)
        return Attempt(
            tier=self.tier,
            model=self.model,
            started_s=clock(self.began_at if self.began_at is not None else ended),
            first_token_s=None if self.first_at is None else clock(self.first_at),
            ended_s=clock(ended),
            usage=self.usage,
            error=problem if self.error is None else describe(self.error),
        )


async def call_model(
    tier: Tier,
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    on_text: Callable[[str], bool | None],
    reply: Reply,
    *,
    limits: Sequence[Limit] = (),
    patience: Patience,
    options: Mapping[str, Any] | None = None,
    on_start: Callable[[], float | None] | None = None,
) -> None:
    """Wait for the call's slots, and stream its text into `on_text`, which may return True to stop it.

    Cancelling it, or `on_text` returning True, closes the model's stream. A model that swallows the
    cancellation is stopped at its next piece. The wait for a slot is no silence of the model.

    Args:
        tier: Whom to ask.
        messages: What to ask.
        config: The call's name, tags, callbacks.
        on_text: Takes each piece of text.
        reply: Filled with what comes of it, the error too.
        limits: Slots to hold beside the tier's own.
        patience: How long it may take.
        options: For the model.
        on_start: Called when the slots are held; gives a nearer end of the patience, or None.

    Raises:
        StalledError: The patience ended.
        ConnectionAbortedError: The model's client cancelled its own call.
        Exception: Whatever the model raises.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(patience.until) as waiting, slots([*limits, *tier.limits]):
            waiting.reschedule(None)
            reply.began_at = loop.time()
            until = on_start() if on_start is not None else None
            if until is not None:
                patience = Patience(patience.stall_s, until)
            tier.shared.used_here()
            for stale in range(_STALE, -1, -1):
                try:
                    await _stream(
                        tier.model,
                        messages,
                        config,
                        on_text,
                        reply,
                        patience=patience,
                        options=options,
                    )
                    _check_ending(reply, tier.shared)
                    break
                except Exception as error:
                    if not stale or reply.first_at is not None or not _is_of_another_loop(error):
                        raise
    except BaseException as error:
        reply.error = error
        if reply.began_at is None and isinstance(error, TimeoutError):
            raise StalledError(TIME_USED_UP) from error
        raise
    finally:
        reply.ended_at = loop.time()


def _check_ending(reply: Reply, shared: Shared) -> None:
    """Take a stream that says nothing of its end for a broken one, if the model's others have said it."""
    if reply.ending is not None:
        shared.tells_endings = True
    elif shared.tells_endings and reply.streamed and not reply.stopped:
        reply.ending = "cut"


def _is_of_another_loop(error: BaseException | None) -> bool:
    """Whether a client took a kept connection that belongs to a loop which has ended.

    Clients throw such a connection away and take the next one, so the call is made again at once.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and any(said in str(error) for said in _OTHER_LOOP):
            return True
        error = error.__cause__ or error.__context__
    return False


async def _stream(
    model: Any,
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    on_text: Callable[[str], bool | None],
    reply: Reply,
    *,
    patience: Patience,
    options: Mapping[str, Any] | None = None,
) -> None:
    watch = _Watch(patience)
    listening = in_line.set(watch.in_line)
    try:
        stream = _pieces(model, list(messages), config, options or {})
        async with _closing(stream):
            async for piece in stream:
                watch.heard()
                if not (text := _note(piece, reply)):
                    continue
                reply.pieces += 1
                reply.last_at = watch.last
                if reply.first_at is None:
                    reply.first_at = watch.last
                reply.streamed = isinstance(piece, AIMessageChunk)
                if on_text(text):
                    reply.stopped = True
                    break
        watch.check()
    except asyncio.CancelledError as error:
        if watch.cancelled_by_others():
            raise
        if watch.expired:
            raise StalledError(watch.why()) from error
        # LangGraph would take it for the end of the run, and no node would be asked again.
        msg = "the model's client cancelled its own call"
        raise ConnectionAbortedError(msg) from error
    except Exception as error:
        if watch.expired and not watch.cancelled_by_others():
            raise StalledError(watch.why()) from error  # what the model made of our cancellation
        raise
    finally:
        in_line.reset(listening)
        watch.close()


class _Watch:
    """Cancels the task that made it when its patience ends; again if the task's cleanup hangs.

    Where `asyncio.timeout` sets a new timer for every piece, this one looks at the time of the last piece
    when its timer ends.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._cancels = 0
        self._in_line = 0
        """How many calls wait in their client's queue, which is no silence of the model."""
        self.last = self._loop.time()
        """When the last piece came; at first, when the watch began."""
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        if (ends := self._patience.ends(self.last)) is not None:
            self._timer = self._loop.call_at(ends, self._look)

    def in_line(self, more: int) -> None:
        """Take note that a call begins (1) or ends (-1) to wait in its client's queue."""
        self._in_line += more
        self.last = self._loop.time()

    def _look(self) -> None:
        if self._in_line:
            self.last = self._loop.time()
        ends = self._patience.ends(self.last)
        if not self.expired and ends is not None and self._loop.time() < ends:
            self._arm()
            return
        self._cancels += 1
        self._task.cancel()
        self._timer = self._loop.call_later(_CLEANUP_S, self._look)

    @property
    def expired(self) -> bool:
        """Whether the patience has ended."""
        return self._cancels > 0

    def why(self) -> str:
        """What to say of a patience that has ended."""
        until = self._patience.until
        if until is not None and self._loop.time() >= until:
            return TIME_USED_UP
        return f"nothing came for {self._patience.stall_s:g} s"

    def heard(self) -> None:
        """A piece came. Raises what the model swallowed, or what it gave the timer no turn for."""
        self.check()
        self.last = self._loop.time()
        until = self._patience.until
        if until is not None and self.last >= until:
            raise StalledError(TIME_USED_UP)

    def check(self) -> None:
        """Raise a cancellation that the model has swallowed."""
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError

    def cancelled_by_others(self) -> bool:
        """Whether somebody else wants the task to end."""
        return self._task.cancelling() - self._cancels > self._before

    def close(self) -> None:
        """Take back our own cancellations."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._cancels):
            self._task.uncancel()


def _pieces(
    model: Any,
    messages: list[BaseMessage],
    config: RunnableConfig,
    options: Mapping[str, Any],
) -> AsyncIterator[Any]:
    """What the model streams; a LangGraph graph, whose stream is no text, gives its last message."""
    inner = innermost(model)
    if hasattr(inner, "aget_state"):  # a graph, known by its looks, to import nothing for it
        if getattr(inner, "checkpointer", None) is not None:
            # Its memory would run from node to node; each call has a thread of its own.
            thread = {"thread_id": uuid4().hex}
            config = {**config, "configurable": {**config.get("configurable", {}), **thread}}
        return _last_message(model, messages, config, options)
    pieces: AsyncIterator[Any] = model.astream(messages, config, **options)
    return pieces


async def _last_message(
    graph: Any,
    messages: list[BaseMessage],
    config: RunnableConfig,
    options: Mapping[str, Any],
) -> AsyncGenerator[Any, None]:
    state: Any = None
    steps = graph.astream({"messages": messages}, config, stream_mode="values", **options)
    async with _closing(steps):
        async for step in steps:
            state = step
            yield ""  # a step is a sign of life
    if isinstance(state, Mapping) and state.get("__interrupt__"):
        msg = (
            "The tier's graph stopped for a human (interrupt), whom a part of an answer cannot reach;"
            " use a graph that does not interrupt, or interrupt around the SGDRunnable"
        )
        raise NoAnswerError(msg)
    yield _whole_answer(state["messages"]) if isinstance(state, Mapping) else state


def _whole_answer(messages: Sequence[BaseMessage]) -> BaseMessage:
    """An agent's last message, with the tokens of all its calls for this question.

    Raises:
        NoAnswerError: It ended on something that is no answer.
    """
    last = messages[-1] if messages else None
    if not isinstance(last, AIMessage):
        msg = f"The tier's graph ended on a {type(last).__name__}, not on an answer"
        raise NoAnswerError(msg)
    usage: UsageMetadata | None = None
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        usage = add_usage(getattr(message, "usage_metadata", None), usage)
    return last.model_copy(update={"usage_metadata": usage}) if usage else last


def _closing(stream: AsyncIterator[Any]) -> AbstractAsyncContextManager[Any]:
    """Closes the stream at the end, if it can be closed: that is what stops a server."""
    return aclosing(stream) if hasattr(stream, "aclose") else nullcontext()


def _note(piece: Any, reply: Reply) -> str:
    """The piece's text; its name, usage and ending go into the reply.

    Raises:
        NoAnswerError: The piece is neither text nor a message, or a whole message that asks for a tool.
    """
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, BaseMessage):
        msg = f"A tier must give text or a message; it gave {type(piece).__name__}"
        raise NoAnswerError(msg)
    if metadata := piece.response_metadata:
        _note_metadata(metadata, reply)
    if usage := getattr(piece, "usage_metadata", None):
        _note_usage(usage, reply, whole=not isinstance(piece, AIMessageChunk))
    content = piece.content
    if (not isinstance(content, str) and _has_more(content)) or (
        "reasoning_content" in piece.additional_kwargs
    ):
        _note_blocks(piece, reply)
    text = content if isinstance(content, str) else str(piece.text)
    if not text and not isinstance(piece, AIMessageChunk) and getattr(piece, "tool_calls", None):
        names = ", ".join(str(call.get("name")) for call in piece.tool_calls)  # type: ignore[attr-defined]
        msg = f"The tier asked for a tool ({names}) instead of answering"
        raise NoAnswerError(msg)
    return text


def _has_more(content: Sequence[Any]) -> bool:
    """Whether there is something beside plain text."""
    plain = {"type", "text", "index", "id"}
    return any(
        isinstance(block, dict) and (block.get("type") != "text" or not plain.issuperset(block))
        for block in content
    )


def _note_blocks(piece: BaseMessage, reply: Reply) -> None:
    """Thoughts and citations, whatever the provider calls them."""
    for block in piece.content_blocks:
        if block["type"] == "reasoning":
            reply.reasoning += block.get("reasoning") or ""
        elif block["type"] == "text":
            reply.annotations += cast("list[dict[str, Any]]", block.get("annotations") or [])


def _note_metadata(metadata: Mapping[str, Any], reply: Reply) -> None:
    """What a server says of itself; whatever has a wrong type there says nothing."""
    for name in ("model_name", "model"):
        if isinstance(value := metadata.get(name), str) and value:
            reply.model = value
            break
    if isinstance(report := metadata.get(REPORT_KEY), Mapping):
        reply.report = report
    reply.ending = worse(reply.ending, ending_of(metadata))
    if reply.first_logprob is None and "logprobs" in metadata:
        reply.first_logprob = _first_logprob(metadata["logprobs"])


def _first_logprob(said: Any) -> float | None:
    """Of the first token, in the form that OpenAI gave to them all."""
    tokens = said.get("content") if isinstance(said, Mapping) else None
    first = tokens[0] if isinstance(tokens, Sequence) and tokens else None
    value = first.get("logprob") if isinstance(first, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _note_usage(said: Any, reply: Reply, *, whole: bool) -> None:
    """Chunks carry increments, or, from some servers, the sum so far each time; a message carries the sum."""
    if not isinstance(said, Mapping):
        return
    read, written = said.get("input_token_details"), said.get("output_token_details")
    counted = Usage(
        input_tokens=_count(said.get("input_tokens")),
        output_tokens=_count(said.get("output_tokens")),
        cached_tokens=_detail(read, "cache_read"),
        cache_write_tokens=sum(_detail(read, name) for name in _CACHE_WRITES),
        reasoning_tokens=_detail(written, "reasoning"),
    )
    before, last = reply.usage, reply.last_usage
    reply.last_usage = counted
    if whole or before is None:
        reply.usage = counted
    elif last is not None and counted.input_tokens and counted.input_tokens == last.input_tokens:
        # A prompt is read once: a second count of it is the sum so far.
        most = {n: max(getattr(before, n), getattr(counted, n)) for n in Usage.model_fields}
        reply.usage = Usage(**{**most, "input_tokens": before.input_tokens})
    else:
        reply.usage = before + counted


def _detail(details: Any, name: str) -> int:
    return _count(details.get(name)) if isinstance(details, Mapping) else 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
