"""One model call, streamed: its text piece by piece, and what it cost.

Every call streams, also where the caller wants the whole answer only: closing a stream is what stops the
work on the server, and first-token times exist only in streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.report import Usage

_TRUNCATED = frozenset({"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"})
TIME_USED_UP = "its time was used up"
_CLEANUP_S = 5.0
"""How long a cancelled model may clean up before it is cancelled again."""


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
class Outcome:
    """What is known of a call beside its text; filled while it runs."""

    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    first_at: float | None = None
    """Loop time of the first text."""

    @property
    def truncated(self) -> bool:
        """Whether a token limit cut the text."""
        return self.finish_reason in _TRUNCATED


class StalledError(TimeoutError):
    """A model sent nothing for too long, or took too long in all."""


async def call_model(
    model: Runnable[Any, Any],
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    on_text: Callable[[str], bool | None],
    outcome: Outcome,
    *,
    patience: Patience,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Stream one call's text into `on_text`, which may return True to stop it.

    Cancelling it, or `on_text` returning True, closes the model's stream. A model that swallows the
    cancellation is stopped at its next piece.

    Raises:
        StalledError: The patience ended.
        ConnectionAbortedError: The model's client cancelled its own call.
        Exception: Whatever the model raises.
    """
    watch = _Watch(patience)
    try:
        stream = _pieces(model, list(messages), config, options or {})
        async with _closing(stream):
            async for piece in stream:
                watch.heard()
                if not (text := _note(piece, outcome)):
                    continue
                if outcome.first_at is None:
                    outcome.first_at = watch.last
                if on_text(text):
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
        self.last = self._loop.time()
        """When the last piece came; at first, when the watch began."""
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        if (ends := self._patience.ends(self.last)) is not None:
            self._timer = self._loop.call_at(ends, self._look)

    def _look(self) -> None:
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
    model: Runnable[Any, Any],
    messages: list[BaseMessage],
    config: RunnableConfig,
    options: Mapping[str, Any],
) -> AsyncIterator[Any]:
    """What the model streams; a LangGraph graph, whose stream is no text, gives its last message."""
    if (graph := _graph_of(model)) is not None:
        if getattr(graph, "checkpointer", None) is not None:
            # Its memory would run from node to node; each call has a thread of its own.
            thread = {"thread_id": uuid4().hex}
            config = {**config, "configurable": {**config.get("configurable", {}), **thread}}
        return _last_message(model, messages, config, options)
    return model.astream(messages, config, **options)


async def _last_message(
    graph: Runnable[Any, Any],
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
    yield _whole_answer(state["messages"]) if isinstance(state, Mapping) else state


def _whole_answer(messages: Sequence[BaseMessage]) -> BaseMessage:
    """An agent's last message, with the tokens of all its calls for this question."""
    usage: UsageMetadata | None = None
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        usage = add_usage(getattr(message, "usage_metadata", None), usage)
    last = messages[-1]
    return last.model_copy(update={"usage_metadata": usage}) if usage else last


def _closing(stream: AsyncIterator[Any]) -> AbstractAsyncContextManager[Any]:
    """Closes the stream at the end, if it can be closed: that is what stops a server."""
    return aclosing(stream) if isinstance(stream, AsyncGenerator) else nullcontext()


def _graph_of(model: Any) -> Any:
    """The model as a LangGraph graph, if it is one; known by its looks, to import nothing for it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model if hasattr(model, "aget_state") else None


def _note(piece: Any, outcome: Outcome) -> str:
    """The piece's text; its name, usage and finish reason go into the outcome."""
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, BaseMessage):
        msg = f"A tier must give text or a message; it gave {type(piece).__name__}"
        raise InvalidInputError(msg)
    if metadata := piece.response_metadata:
        outcome.model = metadata.get("model_name") or metadata.get("model") or outcome.model
        outcome.finish_reason = (
            metadata.get("finish_reason")
            or metadata.get("stop_reason")
            or metadata.get("done_reason")
            or outcome.finish_reason
        )
    if usage := getattr(piece, "usage_metadata", None):
        details = usage.get("input_token_details") or {}
        counted = Usage(
            input_tokens=usage.get("input_tokens") or 0,
            output_tokens=usage.get("output_tokens") or 0,
            cached_tokens=details.get("cache_read") or 0,
        )
        # Chunks carry increments; a whole message carries the sum.
        before = outcome.usage if isinstance(piece, AIMessageChunk) else None
        outcome.usage = counted if before is None else before + counted
    content = piece.content
    return content if isinstance(content, str) else str(piece.text)
