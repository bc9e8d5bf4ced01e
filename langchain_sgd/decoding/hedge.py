"""A call that begins before it is known whether its text is wanted (a hedged request)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_CLEANUP_S: Final = 5.0
"""How long a call that was thrown away may take to end."""


class HeadStart:
    """Runs a streaming call at once and holds its text back until somebody follows it.

    Whoever makes one must `close` it in the end: no task outlives its run.

    Args:
        call: Streams its text into the function that it is given, which may return True to stop it.
    """

    def __init__(self, call: Callable[[Callable[[str], bool | None]], Awaitable[None]]) -> None:
        self._held: list[str] = []
        self._follower: Callable[[str], bool | None] | None = None

        async def run() -> Exception | None:
            try:
                await call(self._feed)
            except Exception as error:  # noqa: BLE001 - raised where the call is followed
                return error
            return None

        self._task = asyncio.get_running_loop().create_task(run())

    def _feed(self, text: str) -> bool | None:
        if self._follower is not None:
            return self._follower(text)
        self._held.append(text)
        return None

    async def follow(self, on_text: Callable[[str], bool | None]) -> None:
        """Take what came so far, and then the rest as it comes; cancelling this cancels the call.

        Raises:
            Exception: What the call raised.
        """
        for text in self._held:
            on_text(text)
        self._held.clear()
        self._follower = on_text
        if (error := await self._task) is not None:
            raise error

    def drop(self) -> None:
        """The text is not wanted: stop the call, without waiting for its end."""
        self._task.cancel()

    async def close(self) -> None:
        """Stop the call, and wait for its end as long as it may take to clean up."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_CLEANUP_S)
