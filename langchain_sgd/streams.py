"""Asynchronous iterators that can be closed from anywhere, and calls that end together.

A stream of a run passes several hands. Were each an asynchronous generator, an event loop that ends while one
is half read would close all of them at once, each while another is being closed. So only LangChain's own is a
generator; ours are plain iterators.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar, cast

from langchain_sgd.owner import Owner, cancel_all

T = TypeVar("T")


class Stream(Generic[T]):
    """Another iterator, with the caller's ways to end it."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self._source.__anext__()

    async def asend(self, value: Any) -> T:
        """As of a generator; the value is for nobody."""
        del value
        return await self.__anext__()

    async def athrow(self, error: Any, *_: Any) -> T:
        """As of a generator: the stream is closed, and the error leaves."""
        await self.aclose()
        raise error

    async def aclose(self) -> None:
        """End it; what is still being worked on for it is cancelled."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


class Working(Generic[T]):
    """Items that a task gives while it works; the task lives no longer than the iterator.

    The items lie in a list: a reader is woken once, however many come before its turn.

    Args:
        make: Makes the work, which is given the function that takes an item. Started at the first item.
    """

    def __init__(self, make: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> None:
        self._make = make
        self._items: deque[T] = deque()
        self._come = asyncio.Event()
        """There are items, or the work has ended."""
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._make(self._give))
            self._task.add_done_callback(self._ended)
        while not self._items and not self._task.done():
            self._come.clear()
            try:
                await self._come.wait()
            except BaseException:
                await self.aclose()
                raise
        if self._items:
            return self._items.popleft()
        self._over = True
        self._task.result()
        raise StopAsyncIteration

    def _give(self, item: T) -> None:
        self._items.append(item)
        if not self._come.is_set():
            self._come.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._come.set()
        if not task.cancelled():
            task.exception()  # seen: the reader is told of it, if there still is one

    def waiting(self) -> list[T]:
        """The items that have come and not been read yet."""
        items = list(self._items)
        self._items.clear()
        return items

    async def aclose(self) -> None:
        """Cancel the work and wait for its end."""
        self._over = True
        if self._task is not None and not self._task.done():
            await cancel_all([self._task])

    def __del__(self) -> None:
        if self._task is not None and not self._task.done():
            loop = self._task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._task.cancel)


async def all_of(
    make: Callable[[int], Coroutine[Any, Any, T]], count: int, *, return_exceptions: bool
) -> list[T | Exception]:
    """The results of all calls, in order; the first failure ends the others, unless it is a result too."""
    results: list[Any] = [None] * count
    done = as_completed(make, count, return_exceptions=return_exceptions)
    try:
        async for index, result in done:
            results[index] = result
    finally:
        await done.aclose()
    return results


def as_completed(
    make: Callable[[int], Coroutine[Any, Any, T]], count: int, *, return_exceptions: bool
) -> AsyncGenerator[tuple[int, T | Exception]]:
    """Each call's index and result when it is done; closing it ends the others."""

    async def one(index: int, give: Callable[[tuple[int, Any]], None]) -> None:
        try:
            result: Any = await make(index)
        except Exception as error:
            if not return_exceptions:
                raise
            result = error
        give((index, result))

    async def work(give: Callable[[tuple[int, Any]], None]) -> None:
        async with Owner() as owner:
            pending = {owner.start(one(index, give)) for index in range(count)}
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()

    return cast("AsyncGenerator[tuple[int, T | Exception]]", Stream(Working(work)))
