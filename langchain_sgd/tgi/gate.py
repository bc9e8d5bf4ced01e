"""How many requests may be at one endpoint at a time."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from types import TracebackType

from langchain_sgd.limits import in_line


def _nobody(_: int) -> None:
    """Take what nobody wants to know."""


class Gate:
    """Lets at most `limit` callers in at a time, first come, first served; for one event loop.

    Unlike `asyncio.Semaphore` the limit may be learned later: TGI's `/info` tells it, and asking before
    the first request would cost every program a round trip.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int | None:
        """Callers that may be inside together; None lets everyone in."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._limit = limit
        self._admit()

    @property
    def inside(self) -> int:
        """Callers that are inside now."""
        return self._inside

    async def acquire(self) -> None:
        """Wait to be let in; whoever was must `release`."""
        if self._has_room() and not self._waiting:
            self._inside += 1
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        tell = in_line.get() or _nobody
        tell(1)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.release()  # let in and cancelled in the same turn of the loop
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(admitted)
            raise
        finally:
            tell(-1)

    def release(self) -> None:
        """Go out and let the next in."""
        self._inside -= 1
        self._admit()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _has_room(self) -> bool:
        return self._limit is None or self._inside < self._limit

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            admitted = self._waiting.popleft()
            if not admitted.done():
                self._inside += 1
                admitted.set_result(None)


_gates: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, weakref.WeakValueDictionary[str, Gate]
] = weakref.WeakKeyDictionary()


def shared_gate(endpoint: str) -> Gate:
    """Give the running loop's gate of an endpoint; all clients of one endpoint share it.

    The server counts requests, not clients, so two models on one URL must not fill it twice.
    """
    on_this_loop = _gates.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    return on_this_loop.setdefault(endpoint, Gate())
