"""One answer on its way to a client, whole or streamed, whatever the protocol's form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Send

from langchain_sgd.proxy.engine import PLAIN, Finished, Piece
from langchain_sgd.proxy.errors import ProxyError, as_proxy_error
from langchain_sgd.proxy.history import Record
from langchain_sgd.proxy.streaming import EventStream, Failed, Feed
from langchain_sgd.proxy.wire import ChatRequest

_PATIENCE_S: Final = 5.0
"""How long an error may still become a status instead of a piece of the stream."""
_HTTP: Final = {"type": "http"}

Noted = tuple[Piece, str]
"""A piece, and the same as JSON for the page."""


class Reply(ABC):
    """The answer to one request; its form is a subclass's.

    Args:
        asked: The request, as a chat's.
        record: The run.
        undivided: Why the large model is asked directly, if it is.
    """

    def __init__(self, asked: ChatRequest, record: Record, undivided: str | None) -> None:
        self._asked = asked
        self._record = record
        self._undivided = undivided

    # -- the form

    @abstractmethod
    def _whole(self, finished: Finished, before: Sequence[Piece]) -> dict[str, Any]:
        """The body of a whole answer, which these pieces came before."""

    @abstractmethod
    def _piece(self, piece: Piece) -> Sequence[bytes]:
        """What a stream holds of a piece."""

    @abstractmethod
    def _last(self, finished: Finished) -> Sequence[bytes]:
        """How a stream ends."""

    @abstractmethod
    def _broken(self, error: ProxyError) -> Sequence[bytes]:
        """How a stream ends that had begun."""

    # -- the way

    @property
    def headers(self) -> dict[str, str]:
        """What a client can see without reading the body."""
        found = {"X-SGD-Run": self._record.id}
        if self._undivided is not None:
            found["X-SGD-Undivided"] = self._undivided
        return found

    async def whole(self, feed: Feed[Noted], receive: Receive, send: Send) -> ProxyError | None:
        """Answer in one piece; gives the error if it is one."""
        before: list[Piece] = []
        while True:
            item = await feed.next()
            if item is None or isinstance(item, Failed):
                return await self._refuse(item, receive, send)
            piece, _ = item
            if isinstance(piece, Finished):
                response = JSONResponse(self._whole(piece, before), headers=self.headers)
                await response(_HTTP, receive, send)
                return None
            before.append(piece)

    async def stream(self, feed: Feed[Noted], receive: Receive, send: Send) -> ProxyError | None:
        """Answer piece by piece; gives the error if it ends in one.

        The head waits a moment for the first piece to be sent, so that an early error has its own status.
        """
        stream = EventStream(send, self.headers, patience_s=_PATIENCE_S)
        while True:
            item = await stream.next_of(feed)
            if item is None or isinstance(item, Failed):
                if not stream.begun:
                    return await self._refuse(item, receive, send)
                error = _error_of(item)
                await stream.send(*self._broken(error))
                await stream.end()
                return error
            piece, _ = item
            if isinstance(piece, Finished):
                await stream.send(*self._last(piece))
                await stream.end()
                return None
            if events := self._piece(piece):
                await stream.send(*events)

    def _told(self, finished: Finished) -> dict[str, Any]:
        """What became of the run, beside the protocol's own fields."""
        report = finished.report
        return {
            "run": self._record.id,
            "status": self._record.status,
            "nodes": len(report.skeleton) if report else 0,
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


def _error_of(item: Failed | None) -> ProxyError:
    if item is None:
        return ProxyError(502, "The run ended without an answer.")
    return as_proxy_error(item.error)
