"""What an engine counts of its own work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an engine has done since it was started; differences of two give a period."""

    steps: int = 0
    """Batches computed, each one pass through the model."""
    generated_tokens: int = 0
    computed_prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Prompt tokens that were taken over from another sequence."""
    forced_tokens: int = 0
    """Generated tokens that a grammar left no choice about: they cost no step of their own."""
    busy_s: float = 0.0
    """Seconds spent in the model; the rest of a step is the loop's own cost."""
    by_size: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    """Batches by their number of tokens: how many there were, and their seconds in the model."""

    def __sub__(self, other: Statistics) -> Statistics:
        values = {name: getattr(self, name) - getattr(other, name) for name in _TOTALS}
        return Statistics(**values, by_size=_sizes(self.by_size, other.by_size, -1))

    def __add__(self, other: Statistics) -> Statistics:
        values = {name: getattr(self, name) + getattr(other, name) for name in _TOTALS}
        return Statistics(**values, by_size=_sizes(self.by_size, other.by_size, 1))

    def to_json(self) -> dict[str, float]:
        """The totals, by name; what batches of each size took is left out."""
        return {name: getattr(self, name) for name in _TOTALS}


_TOTALS: Final = tuple(f.name for f in fields(Statistics) if f.name != "by_size")


def _sizes(
    first: Mapping[int, tuple[int, float]], second: Mapping[int, tuple[int, float]], sign: int
) -> dict[int, tuple[int, float]]:
    """The sum or the difference, size by size; sizes of which no batch is left are not in it."""
    found = {}
    for size in sorted({*first, *second}):
        (count, seconds), (other, other_s) = first.get(size, (0, 0.0)), second.get(size, (0, 0.0))
        if count + sign * other:
            found[size] = (count + sign * other, seconds + sign * other_s)
    return found
