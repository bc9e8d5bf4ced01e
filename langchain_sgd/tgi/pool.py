"""One pooled HTTP session for each event loop, closed when its loop ends.

An aiohttp session belongs to the loop it was made on, and complains when it is dropped open. Programs
call `asyncio.run(model.ainvoke(...))` again and again, or never end their loop, and should not have to
know. So each session is held by an asynchronous generator that has been started: asyncio closes those
when `asyncio.run` ends (`loop.shutdown_asyncgens`), and when they are collected while the loop still
runs. What that does not reach is closed here: sessions of loops that were closed without that step,
and of loops that are still open when the interpreter exits.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ssl
from collections.abc import AsyncGenerator

import aiohttp

from langchain_sgd.tgi.gate import Gate

_KEEPALIVE_S = 30.0
"""Seconds an idle connection is kept: less than the 60 s after which common proxies close theirs."""

_EXIT_S = 2.0
"""Seconds that closing a session in another thread's loop may take at exit."""


class LoopPool:
    """What one client owns on one event loop: a session with its connections, and a gate."""

    def __init__(self, session: aiohttp.ClientSession, gate: Gate) -> None:
        self.loop = asyncio.get_running_loop()
        self.session = session
        self.gate = gate
        self.asking = asyncio.Lock()
        """Held while one caller asks the server about itself, so that the others wait for its answer."""
        self.refusals = 0
        """Connections in a row that failed."""
        self.refused_until = 0.0
        """Loop time until which a failed health check counts."""
        self._holder = _hold(session)

    @classmethod
    async def open(
        cls, gate: Gate, *, connect_timeout_s: float, proxy: str | None, tls: ssl.SSLContext | bool
    ) -> LoopPool:
        """Make a pool on the running loop; the loop's end closes it."""
        _close_orphans()
        session = aiohttp.ClientSession(
            connector=_connector(tls=tls),
            # `total` would cut long streams that are alive.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
            auto_decompress=False,  # without a bound, a megabyte may unpack to gigabytes
        )
        pool = cls(session, gate)
        await anext(pool._holder)
        return pool

    @property
    def closed(self) -> bool:
        """Whether the session can no longer be used."""
        return self.session.closed or self.loop.is_closed()

    async def aclose(self) -> None:
        """Close the session and its connections; on the pool's own loop only."""
        await self._holder.aclose()


def _connector(*, tls: ssl.SSLContext | bool) -> aiohttp.BaseConnector:
    """Make what opens connections; it has no limit of its own, for the gate bounds them."""
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=tls)


_open_sessions: dict[aiohttp.ClientSession, asyncio.AbstractEventLoop] = {}
"""Sessions that nothing has closed yet: held here, so that none is collected open."""


async def _hold(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    _open_sessions[session] = asyncio.get_running_loop()
    try:
        yield
    finally:
        _open_sessions.pop(session, None)
        await session.close()


def _close_orphans() -> None:
    """Close sessions whose loop was closed before them: there is nothing left to wait for."""
    for session, loop in list(_open_sessions.items()):
        if loop.is_closed():
            _open_sessions.pop(session, None)
            with contextlib.suppress(StopIteration):
                session.close().send(None)


@atexit.register
def _close_all() -> None:
    _close_orphans()
    for session, loop in list(_open_sessions.items()):
        if loop.is_running():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(session.close(), loop).result(_EXIT_S)
        else:
            loop.run_until_complete(session.close())
