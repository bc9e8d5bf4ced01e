"""What an engine counts of its own work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


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
        return self._with(other, -1)

    def __add__(self, other: Statistics) -> Statistics:
        return self._with(other, 1)

    def _with(self, other: Statistics, sign: int) -> Statistics:
        names = [each.name for each in fields(self)]
        return Statistics(*(getattr(self, name) + sign * getattr(other, name) for name in names))

    def to_json(self) -> dict[str, float]:
        """The figures, by name."""
        return asdict(self)
