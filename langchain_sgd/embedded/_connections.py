"""Who may connect, and how many at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

_MOST: Final = 1000
_LEAST: Final = 8
_LOOPBACK: Final = re.compile(r"localhost|127(\.\d+){3}|::1", re.IGNORECASE)
_LOOPBACK_NAMES: Final = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def most_connections() -> int:
    """How many are kept open: well within the descriptors that the process may have."""
    if sys.platform == "win32":
        return _MOST
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(_LEAST, min(_MOST, soft // 2))


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
    """Keeps connections few: where there are too many, those without a request give way.

    First those that have been so for longest. A request counts once all of it has come, its body, too.
    """

    def __init__(self) -> None:
        self._most = most_connections()
        self._answering: dict[Any, web.Request] = {}
        self._known: dict[Any, None] = {}
        """By when they came or were last answered, the longest ago first."""

    @web.middleware
    async def watch(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Note which connections work."""
        protocol = request.protocol
        self._answering[protocol] = request
        try:
            return await handler(request)
        finally:
            del self._answering[protocol]
            self._known.pop(protocol, None)
            self._known[protocol] = None

    def _works(self, protocol: Any) -> bool:
        request = self._answering.get(protocol)
        return request is not None and request.content.is_eof()

    def accepting(self, server: web.Server) -> Callable[[], Any]:
        """What makes the server's end of a new connection, once there is room for it."""

        def accepted() -> Any:
            open_now = dict.fromkeys(server.connections)
            self._known = dict.fromkeys(filter(open_now.__contains__, self._known)) | open_now
            quiet = [each for each in self._known if not self._works(each)]
            for protocol in quiet[: max(0, len(open_now) - self._most + 1)]:
                if protocol.transport is not None:  # it is not lost yet
                    protocol.transport.abort()
            return server()

        return accepted
