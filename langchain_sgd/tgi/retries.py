"""How long a call waits, how often it is repeated, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from langchain_sgd.tgi.due import Due
from langchain_sgd.tgi.errors import (
    TGIError,
    TGIGenerationError,
    TGIOverloadedError,
    TGIStreamBrokenError,
    TGIUnavailableError,
)

_SCALING: Final = 503
"""What a gateway answers while an endpoint that was scaled to zero starts."""
_LEAST_WHILE_SCALING_S: Final = 1.0
"""Seconds between such attempts: nothing bounds their number but the time."""
_LONGEST_BACKOFF_S: Final = 8.0
_MOST_DOUBLINGS: Final = 32
"""Beyond any that the longest wait allows; a number may not hold many more."""
_LONGEST_RETRY_AFTER_S: Final = 300.0
"""Seconds that are waited on a server's word where no deadline says when waiting is in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait and how often to try again."""

    connect_timeout_s: float = 5.0
    """For a TCP connection."""
    timeout_s: float | None = 600.0
    """For a whole call: waiting for its turn, retries and, in streams, the last token."""
    stall_timeout_s: float | None = 60.0
    """That a stream may go without an event; keepalives are none."""
    max_retries: int = 2
    """How often a request that was not begun is repeated."""
    backoff_s: float = 0.25
    """Longest wait before the first repetition; it doubles with each."""
    scale_up_timeout_s: float | None = None
    """How long a server may answer 503 while it starts; sent as `X-Scale-Up-Timeout`, too."""


class Retries:
    """Decides for one call whether, and when, a failed attempt is repeated."""

    def __init__(
        self, patience: Patience, deadline: Due, learn: Callable[[], Awaitable[None]]
    ) -> None:
        self._patience = patience
        self._deadline = deadline
        self._learn = learn
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._attempt = 0
        self._scaling = 0

    async def wait_after(self, error: TGIError) -> None:
        """Wait before the next attempt, or raise the error if there shall be none."""
        now = self._loop.time()
        scale_up_s = self._patience.scale_up_timeout_s
        least_s = 0.0
        if error.status == _SCALING and scale_up_s is not None and now < self._began + scale_up_s:
            least_s = _LEAST_WHILE_SCALING_S
            attempt, self._scaling = self._scaling, self._scaling + 1
        elif self._attempt < self._allowed(error):
            attempt, self._attempt = self._attempt, self._attempt + 1
        else:
            raise error
        chance = random.random()  # noqa: S311
        wait_s = max(
            least_s,
            backoff_wait_s(attempt, self._patience.backoff_s, error.retry_after_s, chance),
        )
        if wait_s > min(self._deadline.at - now, _LONGEST_RETRY_AFTER_S):
            raise error  # whoever waited would come too late
        if isinstance(error, TGIOverloadedError):
            await self._learn()
        await asyncio.sleep(wait_s)

    def _allowed(self, error: TGIError) -> int:
        if isinstance(error, TGIGenerationError):
            return min(1, self._patience.max_retries)
        passing = isinstance(error, (TGIOverloadedError, TGIUnavailableError, TGIStreamBrokenError))
        return self._patience.max_retries if passing else 0


def backoff_wait_s(
    attempt: int, base_s: float, retry_after_s: float | None, chance: float
) -> float:
    """Seconds to wait after the failed attempt with this number, counted from 0.

    Full jitter: a share `chance` (0 to 1) of a bound that doubles with each attempt, so that clients
    which failed together do not come back together. It is never less than what the server asked for,
    and never less for its asking: a server that says 0 would be asked without a pause.
    """
    bound = min(_LONGEST_BACKOFF_S, base_s * 2.0 ** min(attempt, _MOST_DOUBLINGS))
    return max(retry_after_s or 0.0, bound * chance)
