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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded.engine import Engine, EngineError

EngineName = Literal["xllamacpp", "openvino"]

_START_TIMEOUT_S: Final = 120.0
_KEPT_AT_MOST: Final = 16
"""More sequences than an engine keeps, so that asking for so many leaves nothing of what was before."""


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
        """Empty the engines' prefix caches, so that a run finds nothing of the one before."""
        await self._ask("forget")

    async def _ask(self, what: str) -> Any:
        async with self._asking:
            self._pipe.send(what)
            return await asyncio.to_thread(self._pipe.recv)


@asynccontextmanager
async def served(
    models: Mapping[str, str | os.PathLike[str]],
    *,
    engine: EngineName = "xllamacpp",
    slots: int = 8,
    context: int = 1024,
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
    pipe: Connection, files: Mapping[str, str], engine: EngineName, slots: int, context: int
) -> None:
    # Interrupting the program in the terminal is the client's affair; it ends this process, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(_serving(pipe, files, engine, slots, context))
    except EngineError as error:
        pipe.send(error)


async def _serving(
    pipe: Connection, files: Mapping[str, str], engine: EngineName, slots: int, context: int
) -> None:
    from langchain_sgd.embedded.app import make_app, serving  # noqa: PLC0415 - the server's process only

    async with AsyncExitStack() as stack:
        engines: dict[str, Any] = {}
        for name, file in files.items():
            engines[name] = _engine(engine, file, slots=slots, context=context)
            stack.push_async_callback(engines[name].aclose)
        url = await stack.enter_async_context(serving(make_app(engines)))
        pipe.send({name: f"{url}/{name}" for name in engines})
        while (asked := await asyncio.to_thread(_next, pipe)) is not None:
            if asked == "forget":
                for each in engines.values():
                    await _forget(each)
                pipe.send(None)
            else:
                counts = {name: each.statistics for name, each in engines.items()}
                pipe.send((counts, time.process_time()))


def _engine(engine: EngineName, file: str, *, slots: int, context: int) -> Engine:
    if engine == "openvino":
        from langchain_sgd.embedded.openvino import OpenVINOEngine  # noqa: PLC0415 - an extra

        return OpenVINOEngine(file, slots=slots, context=context)
    from langchain_sgd.embedded.xllamacpp import XLlamaCppEngine  # noqa: PLC0415 - an extra

    return XLlamaCppEngine(file, slots=slots, context=context)


def _next(pipe: Connection) -> str | None:
    """What is asked next; None when the other side has gone."""
    try:
        return str(pipe.recv())
    except (EOFError, OSError):
        return None


async def _forget(engine: Engine) -> None:
    # They begin alike, so that each builds on the one before. If they shared no more than the first token
    # of all texts, each would build on the oldest that is kept, and so keep it from being forgotten.
    for number in range(_KEPT_AT_MOST):
        await engine.share_prefix("qqqq" + chr(ord("a") + number))
