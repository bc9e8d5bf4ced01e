"""Who may connect, how many, and how long without asking for anything."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiohttp import web

_PATIENCE_S: Final = 20.0
"""For a client to send the headers of a request in, the first one or the next."""
_LOOK_S: Final = 1.0
_MOST: Final = 1000
_LOOPBACK: Final = re.compile(r"localhost|127(\.\d+){3}|::1", re.IGNORECASE)
_LOOPBACK_NAMES: Final = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def most_connections() -> int:
    """How many are kept open: well within the descriptors that the process may have."""
    if sys.platform == "win32":
        return _MOST
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(8, min(_MOST, soft // 2))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return _LOOPBACK.fullmatch(host) is not None


@web.middleware
async def only_loopback_names(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse requests by another name: a web page whose name was made to point here sends such."""
    if _LOOPBACK_NAMES.fullmatch(request.host) is None:
        return web.Response(
            status=403, text=f"This server answers on loopback only, not as {request.host}"
        )
    return await handler(request)


class Connections:
    """Closes connections that ask for nothing: in time, and the oldest first where there are too many.

    Args:
        patience_s: How long a connection may be without a request.
        most: How many are kept.
    """

    def __init__(self, *, patience_s: float = _PATIENCE_S, most: int | None = None) -> None:
        self._patience_s = patience_s
        self._most = most_connections() if most is None else most
        self._working: dict[Any, int] = {}
        self._quiet_since: dict[Any, float] = {}
        self._server: Any = None
        self._timer: asyncio.TimerHandle | None = None

    @web.middleware
    async def watch(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Note which connections work."""
        protocol = request.protocol
        self._working[protocol] = self._working.get(protocol, 0) + 1
        try:
            return await handler(request)
        finally:
            self._working[protocol] -= 1
            if not self._working[protocol]:
                del self._working[protocol]
                self._quiet_since[protocol] = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def listening(self, server: web.Server, host: str, port: int) -> AsyncIterator[int]:
        """Listen while the block runs; yields the port.

        Raises:
            OSError: The address cannot be bound.
        """
        self._server = server

        def accepted() -> Any:
            self.close_quiet()
            return server()

        loop = asyncio.get_running_loop()
        listener = await loop.create_server(accepted, host, port, reuse_address=True)
        self._look_again(loop)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            if self._timer is not None:
                self._timer.cancel()

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close_quiet()
        wait_s = min(_LOOK_S, self._patience_s)
        self._timer = loop.call_later(wait_s, self._look_again, loop)

    def close_quiet(self) -> None:
        """Close what has been quiet for too long, and what there is too much of."""
        now = asyncio.get_running_loop().time()
        open_now = self._server.connections
        since = {
            each: self._quiet_since.get(each, now) for each in open_now if each not in self._working
        }
        self._quiet_since = since
        # Room for the one that is coming.
        too_many = len(open_now) - self._most + 1
        for place, (protocol, quiet) in enumerate(sorted(since.items(), key=lambda item: item[1])):
            if place < too_many or now - quiet > self._patience_s:
                with suppress(AttributeError):  # it was lost meanwhile
                    protocol.transport.abort()
