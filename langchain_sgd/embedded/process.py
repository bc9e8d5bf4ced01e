"""Local models served from a process of their own, with the engines' counters.

In the client's process the two would share an interpreter's lock, and each would wait for the other; a
server of real models is another process, too. What both spend is counted apart.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded.engine import EngineError
from langchain_sgd.embedded.load import EngineName

__all__ = ["EngineName", "Served", "Snapshot", "served", "spawned"]

_START_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters of all models at one moment."""

    models: Mapping[str, Statistics] = field(default_factory=dict)
    cpu_s: float = 0.0
    """Processor time of the server's process."""


class Served:
    """A running server."""

    def __init__(self, urls: Mapping[str, str], pipe: Connection) -> None:
        self.urls = urls
        self._pipe = pipe
        self._asking = asyncio.Lock()

    async def counts(self) -> Snapshot:
        """The engines' counters now."""
        models, cpu_s = await self._ask("counts")
        return Snapshot(models, cpu_s)

    async def forget(self) -> None:
        """Start the engines anew, so that a run finds nothing of the one before in their caches."""
        await self._ask("forget")

    async def _ask(self, what: str) -> Any:
        async with self._asking:
            self._pipe.send(what)
            return await asyncio.to_thread(self._pipe.recv)


@asynccontextmanager
async def served(
    models: Mapping[str, str | os.PathLike[str]],
    *,
    engine: EngineName = "auto",
    slots: int = 8,
    context: int | None = None,
) -> AsyncIterator[Served]:
    """Serve GGUF files while the block runs.

    Args:
        models: Files by name.
        engine: What runs them.
        slots: Requests that a model decodes together.
        context: Most tokens of a request.

    Raises:
        EngineError: A model cannot be loaded.
        RuntimeError: The server did not start; its own error stands above.
    """
    files = {name: os.fspath(path) for name, path in models.items()}
    async with spawned(_serve, files, engine, slots, context) as (answer, pipe):
        if isinstance(answer, EngineError):
            raise answer
        yield Served(answer, pipe)


@asynccontextmanager
async def spawned(serve: Callable[..., None], *args: Any) -> AsyncIterator[tuple[Any, Connection]]:
    """Run `serve(pipe, *args)` in a process of its own while the block runs.

    The end of the pipe tells it to end.

    Yields:
        The first thing that it sent, which says that it is ready, and the other end of its pipe.

    Raises:
        RuntimeError: It sent nothing; its own error stands above.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        if not await asyncio.to_thread(ours.poll, _START_TIMEOUT_S):
            msg = f"the server did not start in {_START_TIMEOUT_S:g} s"
            raise RuntimeError(msg)
        try:
            answer = await asyncio.to_thread(ours.recv)
        except EOFError:
            msg = "the server ended before it was ready; its error stands above"
            raise RuntimeError(msg) from None
        yield answer, ours
    finally:
        ours.close()
        await asyncio.to_thread(process.join, 10)
        process.kill()


def _serve(
    pipe: Connection,
    files: Mapping[str, str],
    engine: EngineName,
    slots: int,
    context: int | None,
) -> None:
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415 - the server's process only

    # Interrupting the program in the terminal is the client's affair; it ends this process, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with EmbeddedServer(files, engine=engine, slots=slots, context=context) as server:
            pipe.send(dict(server.urls))
            engines: Any = server.engines
            # The end of the pipe ends the server.
            with suppress(EOFError, OSError):
                while True:
                    if pipe.recv() == "forget":
                        for each in engines.values():
                            asyncio.run(each.forget())
                        pipe.send(None)
                    else:
                        counts = {name: each.statistics for name, each in engines.items()}
                        pipe.send((counts, time.process_time()))
    except EngineError as error:
        pipe.send(error)
