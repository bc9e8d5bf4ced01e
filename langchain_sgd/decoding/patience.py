"""How long a model call may take, and who ends it then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

TIME_USED_UP = "its time was used up"
_CLEANUP_S = 5.0
"""How long a cancelled model may clean up before it is cancelled again."""


class StalledError(TimeoutError):
    """A model sent nothing for too long, or took too long in all."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take; None is no bound."""

    stall_s: float | None = None
    """Between two pieces of text, and before the first."""
    until: float | None = None
    """Loop time at which it must have ended."""

    def ends(self, now: float) -> float | None:
        """When it ends if nothing comes from `now` on."""
        if self.stall_s is None:
            return self.until
        stalled = now + self.stall_s
        return stalled if self.until is None else min(stalled, self.until)


class Watch:
    """Cancels the task that made it when its patience ends; again if the task's cleanup hangs.

    Where `asyncio.timeout` sets a new timer for every piece, this one looks at the time of the last piece
    when its timer ends.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._cancels = 0
        self._in_line = 0
        """How many calls wait in their client's queue, which is no silence of the model."""
        self.last = self._loop.time()
        """When the last piece came; at first, when the watch began."""
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        if (ends := self._patience.ends(self.last)) is not None:
            self._timer = self._loop.call_at(ends, self._look)

    def in_line(self, more: int) -> None:
        """Take note that a call begins (1) or ends (-1) to wait in its client's queue."""
        self._in_line += more
        self.last = self._loop.time()

    def _look(self) -> None:
        if self._in_line:
            self.last = self._loop.time()
        ends = self._patience.ends(self.last)
        if not self.expired and ends is not None and self._loop.time() < ends:
            self._arm()
            return
        self._cancels += 1
        self._task.cancel()
        self._timer = self._loop.call_later(_CLEANUP_S, self._look)

    @property
    def expired(self) -> bool:
        """Whether the patience has ended."""
        return self._cancels > 0

    def why(self) -> str:
        """What to say of a patience that has ended."""
        until = self._patience.until
        if until is not None and self._loop.time() >= until:
            return TIME_USED_UP
        return f"nothing came for {self._patience.stall_s:g} s"

    def heard(self) -> None:
        """A piece came. Raises what the model swallowed, or what it gave the timer no turn for."""
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError
        self.last = self._loop.time()
        until = self._patience.until
        if until is not None and self.last >= until:
            raise StalledError(TIME_USED_UP)

    def check(self) -> None:
        """Raise a cancellation that the model has swallowed."""
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError

    def cancelled_by_others(self) -> bool:
        """Whether somebody else wants the task to end."""
        return self._task.cancelling() - self._cancels > self._before

    def close(self) -> None:
        """Take back our own cancellations."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._cancels):
            self._task.uncancel()
