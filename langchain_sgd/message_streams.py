"""An answer's chunks: of a run, as LangChain wants them of a chat model, and from and for its cache."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Self, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_sgd.caching import CachePlace
from langchain_sgd.report import REPORT_KEY, Report
from langchain_sgd.stops import StopFilter
from langchain_sgd.streams import Stream, Working
from langchain_sgd.telling import usage_metadata


class AnswerChunks:
    """A run's pieces of text as message chunks; the message's own data with the last one."""

    def __init__(self, items: Working[str | AIMessage]) -> None:
        self._items = items
        self._last: AIMessage | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AIMessageChunk:
        while self._last is None:
            # Adding chunks up is LangChain's dearest step, so what has piled up goes out as one.
            items = [await self._items.__anext__(), *self._items.waiting()]
            if isinstance(last := items[-1], AIMessage):
                self._last = last
            if text := "".join(item for item in items if isinstance(item, str)):
                return AIMessageChunk(content=text)
        if not self._ended:
            self._ended, message = True, self._last
            content = message.content
            return AIMessageChunk(
                # The text has been given; what else stands in the content comes last.
                content=""
                if isinstance(content, str)
                else [{**cast("dict[str, Any]", block), "text": ""} for block in content],
                additional_kwargs=message.additional_kwargs,
                response_metadata=message.response_metadata,
                usage_metadata=message.usage_metadata,
                id=message.id,
                chunk_position="last",
            )
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it and what it is made of."""
        await self._items.aclose()


def counted_as(message: AIMessage, *, counted: bool) -> dict[str, Any]:
    """The tokens that a message is to claim: none, or the total of the run that it reports."""
    if not counted:
        return {"usage_metadata": None}
    if REPORT_KEY not in message.response_metadata:
        return {}
    return {"usage_metadata": usage_metadata(Report.from_message(message).total_usage)}


class Generated:
    """An answer's chunks as LangChain wants them of a chat model, up to the first of the stop texts."""

    def __init__(
        self, answer: AsyncGenerator[AIMessageChunk], stops: Sequence[str], *, counted: bool
    ) -> None:
        self._answer = answer
        self._stops = StopFilter(stops)
        self._counted = counted
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatGenerationChunk:
        while not self._over:
            chunk = await self._answer.__anext__()
            last = chunk.chunk_position == "last"
            content = self._up_to_a_stop(chunk, last=last)
            if self._stops.found is not None:
                said = {"finish_reason": "stop", "stop_sequence": self._stops.found}
                await self.aclose()
                return ChatGenerationChunk(
                    message=AIMessageChunk(
                        content=content, response_metadata=said, chunk_position="last"
                    )
                )
            if content or last or _has_more(chunk):
                changes = {"content": content, "id": None}
                changes |= counted_as(chunk, counted=self._counted)
                return ChatGenerationChunk(message=chunk.model_copy(update=changes))
        raise StopAsyncIteration

    def _up_to_a_stop(self, chunk: AIMessageChunk, *, last: bool) -> Any:
        """What of a chunk's content may be told; nothing joins what is held back once a tool is called."""
        stops, ends = self._stops, last or bool(chunk.tool_call_chunks)
        if isinstance(chunk.content, str):
            return stops.feed(chunk.content, last=ends)
        told: list[str | dict[str, Any]] = []
        for block in chunk.content:
            if stops.found is not None:
                break
            if isinstance(block, str):
                told.append(stops.feed(block, last=False))
            elif block.get("type") == "text":
                told.append({**block, "text": stops.feed(block.get("text") or "", last=False)})
            else:
                told.append(block)
        if ends and stops.found is None and (held := stops.feed("", last=True)):
            told.append({"type": "text", "text": held})
        return told

    async def aclose(self) -> None:
        """End it and what it is made of."""
        self._over = True
        await self._answer.aclose()


def _has_more(chunk: AIMessageChunk) -> bool:
    """Whether a chunk without text says something all the same."""
    return bool(chunk.response_metadata or chunk.tool_call_chunks or chunk.usage_metadata)


class CachedStream:
    """A model's stream, or in one piece what the cache holds; what is streamed to its end is kept there."""

    def __init__(
        self,
        stream: AsyncIterator[AIMessageChunk],
        cached: Callable[[], Coroutine[Any, Any, AIMessage | None]],
        place: CachePlace | None,
        inside: Sequence[Stream[Any]],
    ) -> None:
        self._stream = stream
        self._cached = cached
        self._place = place
        self._inside = inside
        self._chunks: list[AIMessageChunk] = []
        self._begun = self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AIMessageChunk:
        if self._over:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            if (message := await self._cached()) is not None:
                self._over = True
                return as_chunk(message)
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self._over = True
            if self._place is not None:
                await self._place.akeep(self._chunks)
            raise
        if self._place is not None:
            self._chunks.append(chunk)
        return chunk

    async def aclose(self) -> None:
        """End it and what it is made of."""
        self._over = True
        if (close := getattr(self._stream, "aclose", None)) is not None:
            await close()
        for stream in self._inside:  # LangChain's generator leaves them to the garbage collector
            await stream.aclose()


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A whole message as the one chunk of its stream."""
    calls: list[tuple[Any, str | None]] = [
        *((call, json.dumps(call["args"])) for call in message.tool_calls),
        *((call, call["args"]) for call in message.invalid_tool_calls),
    ]
    return AIMessageChunk(
        content=message.content,
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        tool_call_chunks=[
            tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)
            for index, (call, args) in enumerate(calls)
        ],
        response_metadata=message.response_metadata,
        # Of a cached answer LangChain says only that it cost nothing.
        usage_metadata=message.usage_metadata
        if "total_tokens" in (message.usage_metadata or {})
        else None,
        chunk_position="last",
    )


def added(items: list[Any]) -> Any:
    """What a chain streamed into us, as one input; of what cannot be added the last, as LangChain does."""
    if not items:
        return ""
    total = items[0]
    for item in items[1:]:
        try:
            total = total + item
        except TypeError:
            total = item
    return total
