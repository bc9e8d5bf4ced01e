"""An event loop whose clock moves only when nothing is left to do: exact, repeatable schedules.

A run of minutes takes milliseconds, and what is measured is structure, not the machine. Only for work on
the loop itself: the clock does not wait for threads or sockets.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            if not (events := super().select(self._patience_s)):
                msg = f"nothing is scheduled and nothing happened for {self._patience_s:g} s: it hangs"
                raise RuntimeError(msg)
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Sleeps take no time: when nothing is ready, `time()` jumps to the next timer.

    Raises:
        RuntimeError: There is nothing to wait for, not even a timer, for `patience_s` real seconds.
    """

    def __init__(self, patience_s: float = 5.0) -> None:
        self._jumping = _JumpingSelector(patience_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._jumping.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait for threads as long as they take: their time is real, and a timeout here is not."""
        del timeout  # given from Python 3.12 on
        await super().shutdown_default_executor()


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a virtual-time loop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
