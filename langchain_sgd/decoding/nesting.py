"""A part that is an answer of its own: planned, written in parts, told as one.

Whoever writes it is an `SGDRunnable`: one that is a tier, or, with `expand`, the run's own. It is called as
any model is, with its place in the caller's run beside the callbacks. So its calls count as the caller's,
end with it, are kept with its answers, and its report becomes a part of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_sgd.decoding.context import Within
from langchain_sgd.journal import Journal

_KEY = "__sgd_within"
"""In `configurable`; what begins with two underscores reaches no model and no trace."""


def placed(config: RunnableConfig, within: Within) -> RunnableConfig:
    """The config for a run within another one."""
    return {**config, "configurable": {**config.get("configurable", {}), _KEY: within}}


def place_in(config: RunnableConfig) -> Within | None:
    """The place that a run's caller gave it; None at the top."""
    within = (config.get("configurable") or {}).get(_KEY)
    return within if isinstance(within, Within) else None


@dataclass(frozen=True, slots=True)
class InnerJournal:
    """A part's own entries in the journal of the run around it."""

    outer: Journal
    prefix: str

    @property
    def kept(self) -> Mapping[str, Any]:
        """What an earlier life has kept, by key."""
        start = len(self.prefix)
        kept = self.outer.kept.items()
        return {key[start:]: value for key, value in kept if key.startswith(self.prefix)}

    def note(self, key: str, value: Any) -> None:
        """Keep a value before any that is kept later."""
        self.outer.note(f"{self.prefix}{key}", value)

    async def keep(self, key: str, value: Any) -> None:
        """Keep a value; it is safe once this returns."""
        await self.outer.keep(f"{self.prefix}{key}", value)

    def ask(self, pending: Mapping[str, Any]) -> Any:
        """A human's answer."""
        return self.outer.ask(pending)
