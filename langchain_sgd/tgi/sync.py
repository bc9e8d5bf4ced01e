"""The one thread on which synchronous callers' requests run.

`asyncio.run` for each call would open a session and a connection for each call, and fails where a loop
runs already, as in notebooks. One loop in a thread of our own keeps the pool and serves every caller.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started at its first use and again after a fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end in the thread; an interrupt here cancels it there.

        Raises:
            RuntimeError: The interpreter is ending: its threads no longer run.
        """
        if sys.is_finalizing():
            work.close()
            msg = "the interpreter is ending"
            raise RuntimeError(msg)
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncGenerator[T]) -> Generator[T]:
        """Pull from an asynchronous generator item by item; closing this closes it."""
        try:
            while True:
                try:
                    item = self.run(_next(source))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if not sys.is_finalizing():  # then the process's end closes the connection
                self.run(_close(source))

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop


async def _next(source: AsyncGenerator[T]) -> T:
    return await anext(source)


async def _close(source: AsyncGenerator[Any]) -> None:
    await source.aclose()


tgi_thread = LoopThread("langchain-sgd-tgi")
"""Where `ChatTGI` runs its synchronous methods."""
