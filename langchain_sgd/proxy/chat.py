"""One answer in OpenAI's form, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Send

from langchain_sgd.proxy.engine import PLAIN, Finished, Piece, Text, ToolCalls
from langchain_sgd.proxy.errors import ProxyError, as_proxy_error
from langchain_sgd.proxy.history import Record
from langchain_sgd.proxy.progress import told
from langchain_sgd.proxy.streaming import EventStream, Failed, Feed
from langchain_sgd.proxy.wire import ChatRequest, Completion, Progress, sse, tool_call_json

_PATIENCE_S: Final = 5.0
"""How long an error may still become a status instead of a piece of the stream."""
_PING_S: Final = 10.0
"""Of silence, before a comment keeps the connection open."""

Noted = tuple[Piece, str]
"""A piece, and the same as JSON for the page."""


class Chat:
    """The answer to one request.

    Args:
        asked: The request.
        record: The run.
        undivided: Why the large model is asked directly, if it is.
        progress: Where the run's progress goes.
    """

    def __init__(
        self, asked: ChatRequest, record: Record, undivided: str | None, progress: Progress
    ) -> None:
        self._asked = asked
        self._record = record
        self._undivided = undivided
        self._progress = progress
        self._completion = Completion(asked, record.id, int(record.created))
        self._thinking = False
        self._begun = False

    @property
    def headers(self) -> dict[str, str]:
        """What a client can see without reading the body."""
        found = {"X-SGD-Run": self._record.id}
        if self._undivided is not None:
            found["X-SGD-Undivided"] = self._undivided
        return found

    async def whole(self, feed: Feed[Noted], receive: Receive, send: Send) -> ProxyError | None:
        """Answer in one piece; gives the error if it is one."""
        thoughts: list[str] = []
        finished: Finished | None = None
        while finished is None:
            item = await feed.next()
            if item is None or isinstance(item, Failed):
                return await self._refuse(item, receive, send)
            piece, _ = item
            if self._progress != "off":
                thoughts.append(told(piece))
            if isinstance(piece, Finished):
                finished = piece
        body = self._completion.whole(
            self._message(finished, "".join(thoughts)),
            finished.finish,
            finished.usage,
            self._told(finished),
        )
        await JSONResponse(body, headers=self.headers)(_HTTP, receive, send)
        return None

    def _message(self, finished: Finished, thoughts: str) -> dict[str, Any]:
        text = finished.text
        message: dict[str, Any] = {"content": text or None}
        if finished.tool_calls:
            calls = [tool_call_json(call) for call in finished.tool_calls]
            message["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
        if thoughts and self._progress == "think":
            message["content"] = f"<think>\n{thoughts}</think>\n\n{text}"
        elif thoughts:
            message["reasoning_content"] = thoughts
        return message

    async def stream(self, feed: Feed[Noted], receive: Receive, send: Send) -> ProxyError | None:
        """Answer piece by piece; gives the error if it ends in one.

        The head waits a moment for the first piece to be sent, so that an early error has its own status.
        """
        stream = EventStream(send, self.headers)
        wait = _PATIENCE_S
        while True:
            try:
                item = await feed.next(wait)
            except TimeoutError:
                await stream.begin()
                await stream.ping()
                wait = _PING_S
                continue
            if item is None or isinstance(item, Failed):
                if not stream.begun:
                    return await self._refuse(item, receive, send)
                error = _error_of(item)
                await stream.send(sse(error.body()), sse("[DONE]"))
                await stream.end()
                return error
            piece, _ = item
            if isinstance(piece, Finished):
                await stream.send(*map(sse, self._last(piece)), sse("[DONE]"))
                await stream.end()
                return None
            deltas = list(self._deltas(piece))
            if deltas:
                await stream.send(*(sse(self._completion.chunk(delta)) for delta in deltas))
                wait = _PING_S

    def _deltas(self, piece: Piece) -> Iterator[dict[str, Any]]:
        deltas = list(self._contents(piece))
        if deltas and not self._begun:
            self._begun = True
            deltas[0] = {"role": "assistant", **deltas[0]}
        yield from deltas

    def _contents(self, piece: Piece) -> Iterator[dict[str, Any]]:
        match piece:
            case Text(text):
                closing = "</think>\n\n" if self._thinking else ""
                self._thinking = False
                self._is_answering = True
                yield {"content": closing + text}
            case ToolCalls(chunks):
                yield {"tool_calls": [tool_call_json(chunk) for chunk in chunks]}
            case _:
                line = told(piece) if self._progress != "off" else ""
                if line and self._progress == "reasoning":
                    yield {"reasoning_content": line}
                elif line and not self._is_answering:
                    opening = "" if self._thinking else "<think>\n"
                    self._thinking = True
                    yield {"content": opening + line}

    _is_answering = False
    """Text was sent: thoughts that come later have no place in it."""

    def _last(self, finished: Finished) -> Iterator[dict[str, Any]]:
        if not self._begun:
            yield self._completion.chunk({"role": "assistant", "content": ""})
        yield self._completion.last_chunk(finished.finish, self._told(finished))
        if self._asked.wants_usage:
            yield self._completion.usage_chunk(finished.usage)

    def _told(self, finished: Finished) -> dict[str, Any]:
        report = finished.report
        return {
            "run": self._record.id,
            "status": self._record.status,
            "nodes": len(report.skeleton) if report and report.skeleton else 0,
            "undivided": self._undivided,
            "reason": report.reason if report and self._asked.model != PLAIN else None,
            "warnings": list(report.warnings) if report else [],
            "ignored": self._asked.ignored,
        }

    async def _refuse(self, item: Failed | None, receive: Receive, send: Send) -> ProxyError:
        error = _error_of(item)
        response = error.response()
        response.headers.update(self.headers)
        await response(_HTTP, receive, send)
        return error


_HTTP: Final = {"type": "http"}


def _error_of(item: Failed | None) -> ProxyError:
    if item is None:
        return ProxyError(502, "The run ended without an answer.")
    return as_proxy_error(item.error)
