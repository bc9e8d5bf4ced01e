"""What an engine counts of its own work."""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an engine has done since it was started; differences of two give a period."""

    steps: int = 0
    """Batches computed, each one pass through the model."""
    generated_tokens: int = 0
    computed_prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Prompt tokens that were taken over from another sequence."""
    busy_s: float = 0.0
    """Seconds spent in the model; the rest of a step is the loop's own cost."""

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(*map(operator.sub, astuple(self), astuple(other)))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*map(operator.add, astuple(self), astuple(other)))
