"""Where every synchronous call of the process runs: one lasting event loop, in a thread of its own.

Pooled clients keep their connections for the loop that opened them. A new loop for each call would leave
them with dead connections, so there is one loop for all calls, from all threads, until the process ends. No
other loop will do, even if the models were used there: it may be blocked by the caller, or end before the
call. What can live on its own loop only, such as an asynchronous checkpointer, has the call run there.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_S = 1.0
"""How often a waiting caller looks whether its loop still runs."""


class Portal:
    """A loop in a daemon thread, started at the first call; a forked child starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._within: Portal | None = None
        """For calls that are made on this one's thread, which would wait for themselves."""

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; another one for a caller that is on it already."""
        if self._thread is threading.current_thread():
            self._within = self._within or Portal()
            return self._within.loop()
        with self._lock:
            if self._thread is not None and self._thread.is_alive() and self._loop is not None:
                return self._loop
            started: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_serve, args=(started,), name="sgd-portal", daemon=True
            )
            self._thread.start()
            self._loop = started.get()
            return self._loop

    def forget(self) -> None:
        """Start anew at the next call: in a forked child the thread is gone, and the lock may be held."""
        self.__init__()  # type: ignore[misc]


def _serve(started: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
    async def forever() -> None:
        started.put(asyncio.get_running_loop())
        await asyncio.Event().wait()

    asyncio.run(forever())


_PORTAL = Portal()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PORTAL.forget)


def run_sync(
    make: Callable[[], Coroutine[Any, Any, T]], *, on: asyncio.AbstractEventLoop | None = None
) -> T:
    """Run a coroutine to its end; also where a loop is running already, as in notebooks.

    Interrupting the wait (Ctrl-C, a notebook's stop button) cancels the coroutine.

    Args:
        make: Makes the coroutine; called on the loop, in a copy of the caller's context.
        on: A loop that runs in another thread, in place of the process's own.

    Raises:
        RuntimeError: That loop ended before the coroutine did.
    """

    async def once() -> AsyncIterator[T]:
        yield await make()

    [result] = iterate_sync(once, on=on)
    return result


def iterate_sync(
    make: Callable[[], AsyncIterator[T]], *, on: asyncio.AbstractEventLoop | None = None
) -> Iterator[T]:
    """Iterate an asynchronous iterator that runs on the loop.

    Closing the iterator cancels what runs there and waits until it has cleaned up.

    Args:
        make: Makes the iterator; called on the loop, in a copy of the caller's context.
        on: A loop that runs in another thread, in place of the process's own.

    Raises:
        RuntimeError: That loop ended before the iterator did.
    """
    call = _Call(make, on or _PORTAL.loop())
    over = False
    try:
        call.loop.call_soon_threadsafe(call.start)
        while True:
            kind, value = _next(call)
            if kind == "item":
                yield value
                continue
            over = True
            if kind == "error":
                raise value
            return
    finally:
        # Also after an interrupt, which may come at any line above.
        if not over and running_loop() is call.loop:
            call.stop()  # a forgotten iterator, collected on the loop's own thread: it cannot wait for itself
        elif not over:
            with suppress(RuntimeError):  # a loop that somebody else has closed meanwhile
                call.loop.call_soon_threadsafe(call.stop)
                while _next(call)[0] == "item":
                    pass


def _loop_ended() -> RuntimeError:
    return RuntimeError(
        "The event loop on which this call was running has ended before the call: let the loop on which"
        " the asynchronous checkpointer lives run as long as its users, or use ainvoke or astream on it"
    )


class _Call:
    """One iterator on the loop; its items, and how it ended, come through a queue."""

    def __init__(
        self, make: Callable[[], AsyncIterator[Any]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._make = make
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        if self._stopped:
            self.items.put(("end", None))
            return
        self._task = self.loop.create_task(self._pump(), context=self._context)
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _pump(self) -> None:
        iterator = self._make()
        try:
            async for item in iterator:
                self.items.put(("item", item))
        finally:
            if (close := getattr(iterator, "aclose", None)) is not None:
                await close()

    def _ended(self, done: asyncio.Task[None]) -> None:
        if done.cancelled():
            self.items.put(("end", None) if self._stopped else ("error", _loop_ended()))
        elif (error := done.exception()) is not None:
            self.items.put(("error", error))
        else:
            self.items.put(("end", None))


def _next(call: _Call) -> tuple[str, Any]:
    """The next item; a loop that no longer runs will never send one."""
    while True:
        try:
            return call.items.get(timeout=_LOOK_S)
        except queue.Empty:
            if not call.loop.is_running():
                return "error", _loop_ended()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def answers(loop: asyncio.AbstractEventLoop, within_s: float = 5.0) -> bool:
    """Whether a loop of another thread does its work: one that its own thread blocks does not."""
    heard = threading.Event()
    with suppress(RuntimeError):  # it has been closed
        loop.call_soon_threadsafe(heard.set)
    return heard.wait(within_s)
