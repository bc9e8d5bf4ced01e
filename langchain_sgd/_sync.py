"""The one bridge from synchronous callers to the asynchronous code."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run_sync(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, also where a loop is already running (notebooks).

    Interrupting the wait (Ctrl-C, a notebook's stop button) cancels the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())

    async def once() -> AsyncGenerator[T, None]:
        yield await make()

    [result] = iterate_sync(once)
    return result


def iterate_sync(make: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """Iterate an asynchronous generator, which runs on a loop in a thread of its own.

    Closing the iterator cancels the generator and waits until it has cleaned up.
    """
    items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    started: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None]
    started = queue.SimpleQueue()

    async def pump() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - always runs as a task
        started.put((asyncio.get_running_loop(), task))
        async with aclosing(make()) as generator:
            async for item in generator:
                items.put(("item", item))

    def work() -> None:
        try:
            asyncio.run(pump())
        except asyncio.CancelledError:
            items.put(("end", None))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            items.put(("error", error))
        else:
            items.put(("end", None))
        finally:
            started.put(None)  # in case it never started

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="sgd-stream", daemon=True)
    try:
        thread.start()
        while True:
            kind, value = items.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        # Also after an interrupt, which may come at any line above.
        if thread.is_alive():
            if (running := started.get()) is not None:
                loop, task = running
                with suppress(RuntimeError):  # the loop may just have closed by itself
                    loop.call_soon_threadsafe(task.cancel)
            thread.join()
