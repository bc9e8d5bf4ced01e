"""One model call: its slots, its stream, its repeats on stale connections.

Every call streams, also where the caller wants the whole answer only: closing a stream is what stops the
work on the server, and first-token times exist only in streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import RunnableConfig

from langchain_sgd.decoding.loops import disown, for_this_loop
from langchain_sgd.decoding.patience import TIME_USED_UP, Patience, StalledError, Watch
from langchain_sgd.decoding.reply import NoAnswerError, Reply, note_piece
from langchain_sgd.limits import Limit, Slots, in_line
from langchain_sgd.planning.wrappers import leaves_of
from langchain_sgd.tiers import Tier, innermost

_STALE = 20
"""How many connections of ended loops a client may have kept."""
_OTHER_LOOP = ("Event loop is closed", "different loop", "different event loop")


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
    on_start: Callable[[], Awaitable[float | None]] | None = None,
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
        on_start: Awaited when the slots are held, before the model is asked; gives a nearer end of the
            patience, or None.

    Raises:
        StalledError: The patience ended.
        ConnectionAbortedError: The model's client cancelled its own call.
        Exception: Whatever the model raises.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(patience.until) as waiting, Slots([*limits, *tier.limits]):
            waiting.reschedule(None)
            reply.began_at = loop.time()
            until = await on_start() if on_start is not None else None
            if until is not None:
                patience = Patience(patience.stall_s, until)
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
                    _check_ending(reply, tier)
                    break
                except Exception as error:
                    if not stale or reply.first_at is not None or not _is_of_another_loop(error):
                        raise
                    disown(tier.model, config)
    except BaseException as error:
        reply.error = error
        if reply.began_at is None and isinstance(error, TimeoutError):
            raise StalledError(TIME_USED_UP) from error
        raise
    finally:
        reply.ended_at = loop.time()


def _check_ending(reply: Reply, tier: Tier) -> None:
    """Take a stream that says nothing of its end for a broken one, if the model's others have said it.

    Of several models that may answer, such as a fallback's, nobody knows which one did.
    """
    if reply.ending is not None:
        tier.shared.tells_endings = True
    elif tier.shared.tells_endings and reply.streamed and not reply.stopped:
        leaves = leaves_of(tier.model)
        if len(leaves) == 1 and isinstance(leaves[0], BaseChatModel):
            reply.ending = "cut"


def _is_of_another_loop(error: BaseException | None) -> bool:
    """Whether a client took a kept connection that belongs to another loop, on which somebody else used it.

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
    watch = Watch(patience)
    listening = in_line.set(watch.in_line)
    try:
        stream = _pieces(model, list(messages), config, options or {})
        async with _closing(stream):
            async for piece in stream:
                watch.heard()
                if not (text := note_piece(piece, reply)):
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
    here = for_this_loop(model, config)
    pieces: AsyncIterator[Any] = here.astream(messages, config, **options)
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
