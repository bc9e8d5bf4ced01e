"""How many model calls may be in flight: for each tier, for a run, across a batch.

Limits are per process and per event loop. A call takes its slots after its dependencies have answered, so
a waiting node never holds one, and always in the same order, so calls cannot wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_sgd.errors import InvalidInputError

in_line: ContextVar[Callable[[int], None] | None] = ContextVar("in_line", default=None)
"""Is told 1 when a model's client begins to wait for its turn in a queue of its own, and -1 at the end."""


@dataclass(eq=False, slots=True)
class Limit:
    """At most `size` holders at once on each event loop; None is no limit.

    Raises:
        InvalidInputError: The size is less than 1, so that nothing could ever start.
    """

    size: int | None
    in_flight: int = field(default=0, init=False)
    """Holders, and those who wait for a slot, on all loops of this process."""
    _slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = field(
        default_factory=weakref.WeakKeyDictionary, init=False, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            msg = f"A limit must be a whole number from 1 on, or None, not {self.size!r}"
            raise InvalidInputError(msg)

    def __deepcopy__(self, _: object) -> Limit:
        """Itself: a copied model still shares its slots."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """A limit of the same size: slots are no matter of another process."""
        return Limit, (self.size,)

    def begin(self) -> None:
        """One more holds a slot, or waits for one."""
        with self._lock:
            self.in_flight += 1

    def end(self) -> None:
        """One less does."""
        with self._lock:
            self.in_flight -= 1

    def has_room(self) -> bool:
        """Whether a slot can be had on the running loop without waiting for it."""
        semaphore = self.slot()
        return semaphore is None or not semaphore.locked()

    def slot(self) -> asyncio.Semaphore | None:
        """The semaphore of the running loop; None without a limit.

        An `asyncio.Semaphore` that has had a waiter belongs to that waiter's loop for good, hence one
        for each loop.
        """
        if self.size is None:
            return None
        loop = asyncio.get_running_loop()
        with self._lock:
            if (semaphore := self._slots.get(loop)) is None:
                # A semaphore that had waiters holds its loop, so the weak key alone never frees it.
                for other in [known for known in self._slots if known.is_closed()]:
                    del self._slots[other]
                semaphore = self._slots[loop] = asyncio.Semaphore(self.size)
        return semaphore


class Slots:
    """Holds one slot of every limit, taken in the order given; a limit given twice counts once."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = dict.fromkeys(limits)
        self._counted: list[Limit] = []
        self._taken: list[asyncio.Semaphore] = []

    async def __aenter__(self) -> None:
        try:
            for limit in self._limits:
                limit.begin()
                self._counted.append(limit)
                if (semaphore := limit.slot()) is not None:
                    await semaphore.acquire()
                    self._taken.append(semaphore)
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        for semaphore in reversed(self._taken):
            semaphore.release()
        for limit in self._counted:
            limit.end()
