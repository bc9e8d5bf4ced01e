"""Until when something must have come from a server, and who says that it did not."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp

from langchain_sgd.tgi.errors import TGITimeoutError


class Due(NamedTuple):
    """Until when something must have come; the earlier is the smaller."""

    at: float
    """Loop time; infinity is no bound."""
    missed: str
    seconds: float
    endpoint: str

    def error(self) -> TGITimeoutError:
        """Say what did not come."""
        return TGITimeoutError(f"{self.missed} in {self.seconds:g} s", endpoint=self.endpoint)


@contextlib.asynccontextmanager
async def in_time(due: Due | None) -> AsyncIterator[None]:
    """Bound what is awaited inside; never put around a `yield` to callers.

    Raises:
        TGITimeoutError: The time is over. A timeout of another hand passes as it is.
    """
    at = None if due is None or due.at == math.inf else due.at
    try:
        async with asyncio.timeout_at(at) as timer:
            yield
    except TimeoutError:
        if due is None or not timer.expired():
            raise
        raise due.error() from None


class Reader:
    """Reads the bytes of a stream as they come, each of them in time.

    It has one timer for all its reads: `asyncio.timeout` around each would cost a third of the read.
    """

    def __init__(self, content: aiohttp.StreamReader, due: Due) -> None:
        self.due = due
        """Of the read in progress or the next one; it may be set to a later one."""
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None

    async def read(self) -> bytes:
        """Wait for the next bytes; none are the end.

        Raises:
            TGITimeoutError: The time is over.
        """
        self._reading = True
        if self._timer is None:
            self._set_timer()
        try:
            return await self._content.readany()
        finally:
            self._reading = False

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self.due.at != math.inf:
            self._timer = self._loop.call_at(self.due.at, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._reading:
            return  # whoever takes the events takes their time; the next read sets the timer again
        if self._loop.time() < self.due.at:
            self._set_timer()
        else:
            self._content.set_exception(self.due.error())
