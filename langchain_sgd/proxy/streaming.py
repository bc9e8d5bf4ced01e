"""Work that ends when its client has gone, and items that do not keep one waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
PING_S: Final = 10.0
"""Of silence, before a comment is sent."""
_PING: Final = b": waiting\n\n"
"""A comment, so that nobody between takes the connection for dead."""
_EVENT_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; if the client goes away first, the work is cancelled and gives None.

    The request's body must have been read.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with asyncio.TaskGroup() as group:
        working, leaving = group.create_task(work), group.create_task(gone())
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        leaving.cancel()
    return None if working.cancelled() else working.result()


class EventStream:
    """Server-sent events as an answer; comments keep the connection open while there are none.

    Args:
        send: As ASGI has it.
        headers: Of the answer.
        patience_s: How long the status may wait for the first event.
    """

    def __init__(self, send: Send, headers: Mapping[str, str], patience_s: float = 0.0) -> None:
        self._send = send
        self._headers = {**_EVENT_HEADERS, **headers}
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + patience_s
        """When a comment must be sent if nothing else is."""
        self.begun = False
        """The status was sent."""

    async def begin(self) -> None:
        """Send status and headers, once."""
        if not self.begun:
            self.begun = True
            head = Response(headers=self._headers)
            del head.headers["content-length"]
            start = {"type": "http.response.start", "status": 200, "headers": head.raw_headers}
            await self._send(start)

    async def send(self, *events: bytes) -> None:
        """Send events in one go."""
        await self.begin()
        await self._send(
            {"type": "http.response.body", "body": b"".join(events), "more_body": True}
        )
        self._due = self._loop.time() + PING_S

    async def next_of(self, feed: Feed[T]) -> T | Failed | None:
        """The next item of a feed; comments are sent meanwhile, also between items that send nothing."""
        while True:
            if self._loop.time() >= self._due:
                await self.send(_PING)
            try:
                async with asyncio.timeout_at(self._due):
                    return await feed.next()
            except TimeoutError:
                continue

    async def end(self) -> None:
        """No more events."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True, slots=True)
class Failed:
    """The source broke off."""

    error: Exception


class Feed(Generic[T]):
    """What a source has given so far and nobody has taken yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | Failed | None] = asyncio.Queue()
        self.put = self._queue.put_nowait

    async def next(self) -> T | Failed | None:
        """The next item; `None` after the last."""
        return await self._queue.get()


@asynccontextmanager
async def feeding(source: AsyncIterator[T], *, timeout_s: float) -> AsyncIterator[Feed[T]]:
    """A feed of the source's items while the block runs; then the source is closed."""
    feed: Feed[T] = Feed()

    async def pump() -> None:
        try:
            async with asyncio.timeout(timeout_s), aclosing(cast("Any", source)):
                async for item in source:
                    feed.put(item)
        except Exception as error:  # noqa: BLE001 - given to whoever takes the items
            feed.put(Failed(error))
        else:
            feed.put(None)

    # No TaskGroup: it would wrap what the block raises.
    pumping = asyncio.get_running_loop().create_task(pump())
    try:
        yield feed
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


class Sending:
    """A route that sends its answer itself, and knows when its client has gone."""

    def __init__(self, handle: Callable[[Request, Send], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        await self._handle(Request(scope, receive, send), send)
