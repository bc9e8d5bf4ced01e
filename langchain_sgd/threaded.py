"""A synchronous iterator read in a thread of its own, for a coroutine that must never wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class InThread(Generic[T]):
    """The items of an iterator that is made and read in a daemon thread, in the maker's context.

    Leaving it, or closing it, waits for nothing: the thread closes the iterator when that gives its next
    item. Neither a loop's end nor the interpreter's waits for the thread.

    Args:
        make: Makes the iterator; called in the thread, at the first item.
    """

    def __init__(self, make: Callable[[], Iterator[T]]) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._come = asyncio.Event()
        """There are items, or the thread has ended."""
        self._begun = self._over = self._left = False
        self._error: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._begun and not self._left:
            self._begun = True
            work = contextvars.copy_context().run
            threading.Thread(target=work, args=(self._read,), name="sgd-call", daemon=True).start()
        while not (self._items or self._over or self._left):
            self._come.clear()
            await self._come.wait()
        if self._items:
            return self._items.popleft()
        if self._error is not None and not self._left:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Read no more; the iterator is closed in its thread, at its next item."""
        self._left = True
        self._items.clear()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            iterator = self._make()
            try:
                for item in iterator:
                    if self._left or not self._tell(self._give, item):
                        break
            finally:
                if (close := getattr(iterator, "close", None)) is not None:
                    close()
        except StopIteration as stopped:  # no coroutine can raise it
            error = RuntimeError("the iterator raised StopIteration")
            error.__cause__ = stopped
        except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
            error = raised
        self._tell(self._end, error)

    def _tell(self, take: Callable[[Any], None], value: Any) -> bool:
        """Hand something to the loop; whether there still is one."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(take, value)
            return True
        return False

    def _give(self, item: T) -> None:
        if not self._left:
            self._items.append(item)
            self._come.set()

    def _end(self, error: BaseException | None) -> None:
        self._over, self._error = True, error
        self._come.set()
