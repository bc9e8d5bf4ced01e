"""Tasks that do not outlive the block that started them, whatever the host does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

CLEANUP_S = 5.0
"""How long cancelled work may take to clean up before it is cancelled again."""
TRIES = 2
"""How often it is cancelled before it is left to itself."""


class Owner:
    """Starts tasks and, when its block is left, cancels those that still run and waits for their ends.

    Where `asyncio.TaskGroup` cancels all for one that fails, here each task's result is its own affair. A
    host that cancels again and again while it is left, as AnyIO's scopes do, changes nothing.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await cancel_all(self._tasks)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task; an exception that nobody asks for is no news."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._seen)
        return task

    def _seen(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not log it as lost


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, or have had their time to clean up.

    A cancellation of the waiter meanwhile is raised in the end.
    """
    pending = {task for task in tasks if not task.done()}
    loop = asyncio.get_running_loop()
    cancelled: asyncio.CancelledError | None = None
    for _ in range(TRIES):
        for task in pending:
            task.cancel()  # also those whose cleanup has hung
        ends = loop.time() + CLEANUP_S
        while pending and (left := ends - loop.time()) > 0:
            try:
                _, pending = await asyncio.wait(pending, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                pending = {task for task in pending if not task.done()}
    if cancelled is not None:
        raise cancelled
