"""How many model calls may be in flight: for each tier, for a run, across a batch.

Limits are per process and per event loop. A call takes its slots after its dependencies have answered, so
a waiting node never holds one, and always in the same order, so calls cannot wait for each other.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Limit:
    """At most `size` holders at once on each event loop; None is no limit."""

    size: int | None
    _slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    def slot(self) -> asyncio.Semaphore | None:
        """The semaphore of the running loop; None without a limit.

        An `asyncio.Semaphore` that has had a waiter belongs to that waiter's loop for good, hence one
        for each loop.
        """
        if self.size is None:
            return None
        loop = asyncio.get_running_loop()
        if (semaphore := self._slots.get(loop)) is None:
            semaphore = self._slots[loop] = asyncio.Semaphore(self.size)
        return semaphore


@asynccontextmanager
async def slots(limits: Sequence[Limit]) -> AsyncIterator[None]:
    """Hold one slot of every limit, taken in the order given."""
    async with AsyncExitStack() as stack:
        for limit in limits:
            if (semaphore := limit.slot()) is not None:
                await stack.enter_async_context(semaphore)
        yield
