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
    loop = asyncio.get_running_loop()
    until = patience.until
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    cancellations = task.cancelling()

    def listen(piece: Any) -> bool | None:
        now = loop.time()
        if until is not None and now >= until:
            # A stream that never waits gives the timer no turn.
            raise StalledError(TIME_USED_UP)
        text = _note(piece, outcome)
        if patience.stall_s is not None:
            timeout.reschedule(patience.ends(now))
        if not text:
            return None
        if outcome.first_at is None:
            outcome.first_at = now
        return on_text(text)

    try:
        async with asyncio.timeout_at(patience.ends(loop.time())) as timeout:
            stream = _pieces(model, list(messages), config, options or {})
            async with _closing(stream):
                async for piece in stream:
                    if task.cancelling() > cancellations or listen(piece):
                        break
            if task.cancelling() > cancellations:
                raise asyncio.CancelledError  # noqa: TRY301 - once more: the model swallowed it
    except TimeoutError as error:
        if not timeout.expired():
            raise
        late = until is not None and loop.time() >= until
        msg = TIME_USED_UP if late else f"nothing came for {patience.stall_s:g} s"
        raise StalledError(msg) from error
    except asyncio.CancelledError as error:
        if task.cancelling() > cancellations:
            raise
        # LangGraph would take it for the end of the run, and no node would be asked again.
        msg = "the model's client cancelled its own call"
        raise ConnectionAbortedError(msg) from error


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
