"""Clients of one endpoint, kept by event loop, and their pools of connections, which are closed with them."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel

from langchain_sgd.models.identify import Server

Loop = asyncio.AbstractEventLoop
Place = tuple[int, Loop | None]
"""A process and its event loop; None is the loop of synchronous calls."""


class Clients:
    """The clients of one `ChatEndpoint`; copies and pickles begin with none, and so do forked processes.

    Two processes that shared a connection would read each other's answers.
    """

    def __init__(self) -> None:
        self._made: dict[Place, tuple[Server, BaseChatModel]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Clients, ()

    def get(self, loop: Loop | None, server: Server) -> BaseChatModel | None:
        """The loop's client of this server."""
        found = self._made.get((os.getpid(), loop))
        return found[1] if found is not None and found[0] == server else None

    def keep(self, loop: Loop | None, server: Server, client: BaseChatModel) -> BaseChatModel:
        """Keep a client; if somebody else was faster, that one is given back."""
        if (faster := self.get(loop, server)) is not None:
            return faster
        for place in [p for p in self._made if p[1] is not None and p[1].is_closed()]:
            del self._made[place]
        self._made[os.getpid(), loop] = (server, client)
        return client


_Holder = AsyncGenerator[None, None]
_HELD: Final[WeakKeyDictionary[Loop, set[_Holder]]] = WeakKeyDictionary()
"""What closes pools with their loops, which close asynchronous generators when they end."""

_CLOSING: Final[set[asyncio.Task[None]]] = set()


async def close_after(client: BaseChatModel, pool: Any) -> None:
    """Close a pool of the running loop when its client is collected, or else with the loop.

    Not when the client is replaced: others may still read their answers from its connections.
    """

    async def hold() -> _Holder:
        try:
            yield
        finally:
            await pool.aclose()

    loop, holder = asyncio.get_running_loop(), hold()
    await anext(holder)
    _HELD.setdefault(loop, set()).add(holder)
    weakref.finalize(client, _let_go, weakref.ref(loop), holder, os.getpid()).atexit = False


def close_after_sync(client: BaseChatModel, pool: Any) -> None:
    """Close a synchronous pool when its client is collected, or at the end of this process."""
    weakref.finalize(client, _close, pool, os.getpid())


def held_pools(loop: Loop) -> int:
    """How many pools are open on a loop."""
    return len(_HELD.get(loop, ()))


def _let_go(place: weakref.ref[Loop], holder: _Holder, process: int) -> None:
    loop = place()
    if loop is None or process != os.getpid():
        return

    def close() -> None:
        _HELD.get(loop, set()).discard(holder)
        closing = loop.create_task(holder.aclose())
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)

    with suppress(RuntimeError):  # the loop has ended, and the pool with it
        loop.call_soon_threadsafe(close)


def _close(pool: Any, process: int) -> None:
    if process == os.getpid():  # in a forked child its lock may be held for ever
        pool.close()
