"""The port to durability: what a run has found out, kept for another life of the run.

A key says everything that a value depends on, so a value is found only where it belongs, in whatever order
things happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Journal(Protocol):
    """Kept values of one question: plain JSON types, or a pydantic value, which is found again as those."""

    @property
    def kept(self) -> Mapping[str, Any]:
        """What an earlier life has kept, by key."""
        ...

    def note(self, key: str, value: Any) -> None:
        """Keep a value before any that is kept later."""
        ...

    async def keep(self, key: str, value: Any) -> None:
        """Keep a value; it is safe once this returns."""
        ...

    def ask(self, pending: Mapping[str, Any]) -> Any:
        """A human's answer to what is pending; leaves the run if there is none yet."""
        ...


class Forgetful:
    """Keeps nothing: of a run that nobody can resume."""

    kept: Mapping[str, Any] = {}

    def note(self, key: str, value: Any) -> None:
        """Nothing to do."""

    async def keep(self, key: str, value: Any) -> None:
        """Nothing to do."""

    def ask(self, pending: Mapping[str, Any]) -> Any:
        """There is nobody to ask."""
        del pending
        msg = "approve=True needs a saved run, which can wait for a human"
        raise RuntimeError(msg)
