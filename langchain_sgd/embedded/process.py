"""Local models served from a process of their own, with the engines' counters.

In the client's process the two would share an interpreter's lock, and each would wait for the other; a
server of real models is another process, too. What both spend is counted apart.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_sgd.embedded.engine import Statistics
from langchain_sgd.embedded.server import EmbeddedServer, ModelSource

__all__ = ["Served", "Snapshot", "served"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters of all models at one moment."""

    models: Mapping[str, Statistics] = field(default_factory=dict)
    cpu_s: float = 0.0
    """Processor time of the server's process."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    urls: Mapping[str, str]
    _ask: Callable[..., Awaitable[Any]]

    async def counts(self) -> Snapshot:
        """The engines' counters now."""
        snapshot: Snapshot = await self._ask(_counts)
        return snapshot

    async def forget(self) -> None:
        """Start the engines anew, so that a run finds nothing of the one before in their caches."""
        await self._ask(_forget)


@asynccontextmanager
async def served(models: Mapping[str, ModelSource], **options: Any) -> AsyncIterator[Served]:
    """Serve models while the block runs.

    Args:
        models: Files or engines by name.
        options: Further ones of `EmbeddedServer`.

    Raises:
        EngineError: A model cannot be loaded.
        BrokenProcessPool: The process died; its own error stands above.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _begin) as pool:
        ask = partial(asyncio.get_running_loop().run_in_executor, pool)
        try:
            yield Served(await ask(partial(_start, models, **options)), ask)
        finally:
            await ask(_stop)


# -- in the server's process

_servers: list[EmbeddedServer] = []


def _begin() -> None:
    # Interrupting the program in the terminal is the client's affair; its end is this process's, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_client, daemon=True).start()


def _end_with_client() -> None:
    client = multiprocessing.parent_process()
    if client is not None:
        client.join()
        os._exit(1)


def _start(models: Mapping[str, ModelSource], **options: Any) -> dict[str, str]:
    _servers.append(EmbeddedServer(models, **options).start())
    return dict(_servers[0].urls)


def _stop() -> None:
    for server in _servers:
        server.close()


def _counts() -> Snapshot:
    engines: Mapping[str, Any] = _servers[0].engines
    return Snapshot({name: each.statistics for name, each in engines.items()}, time.process_time())


def _forget() -> None:
    engines: Mapping[str, Any] = _servers[0].engines
    for each in engines.values():
        asyncio.run(each.forget())
