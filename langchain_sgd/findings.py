"""What a check of models came to: findings, speeds, and what is expected of SGD from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from langchain_sgd.skeleton import Skeleton

State = Literal["ok", "note", "failed"]
"""`note`: it works, but not as well as it could."""

_WORTH_IT, _HELPS = 1.25, 1.05
BATCHES: Final = 1.5
"""Tokens a second of four streams for one's, below which a server does not batch."""
STREAMS: Final = 4
"""How many streams a model's speed is measured with, beside one alone."""
ANSWER_TOKENS: Final = 300
"""The length of answer for which the speedup is estimated."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    """What to do about it; empty where nothing needs doing."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model writes."""

    first_token_s: float
    alone: float
    """Tokens a second of one stream."""
    together: float
    """Tokens a second of four streams, in sum."""

    @property
    def batching(self) -> float:
        """How much more four streams bring than one."""
        return self.together / self.alone


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check came to."""

    findings: tuple[Finding, ...]
    summary: str
    """What to think of it, in a sentence or two."""
    ok: bool
    """Whether SGD works there, worth it or not."""
    speedup: float | None = None
    """Expected wall time of plain decoding over that of SGD; None where it could not be estimated."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Suggested options of `SGDRunnable`; `planner="small"` stands for the small model."""
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    """By tier."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{f.state:<6} {f.name}: {f.detail}" for f in self.findings]
        return "\n".join([*lines, self.summary])


@dataclass(slots=True)
class Planned:
    """One planned question."""

    question: str
    should_split: bool
    seconds: float
    skeleton: Skeleton | None
    plain: str
    prompt_tokens: int


def parallelism(skeleton: Skeleton) -> float:
    """Parts for each step of the longest chain."""
    return len(skeleton) / skeleton.depth


@dataclass(frozen=True, slots=True)
class Estimate:
    """What to expect of SGD on models of such speeds, with such plans."""

    speeds: Mapping[str, Speed]
    """By tier."""
    planned: Sequence[Planned]
    """Questions that were split."""

    def in_words(self, speedup: float) -> str:
        """What to think of that speedup, and what would raise it."""
        gain = f"about {speedup:.1f} times as fast as plain decoding on answers of {ANSWER_TOKENS} tokens"
        if speedup >= _WORTH_IT:
            return f"SGD is worth it here: expected {gain}, planning included."
        if speedup >= _HELPS:
            return f"SGD helps a little here: expected {gain}, planning included. {self._why()}"
        return f"SGD does not pay here: expected {gain}, planning included. {self._why()}"

    def _why(self) -> str:
        large = self.speeds["large"]
        if large.batching < BATCHES:
            return (
                f"The server writes four streams only {large.batching:.1f} times as fast as one: use one"
                " that batches."
            )
        if self.plans_slowly:
            return "Planning takes long: let the small model plan (planner=), or a faster one."
        return "The plans have few parts that can be written at once: try a larger planner."

    @property
    def plans_slowly(self) -> bool:
        """Whether planning takes more than a quarter of the time of a plain answer."""
        if "large" not in self.speeds or not self.planned:
            return False
        return statistics.median(p.seconds for p in self.planned) > 0.25 * self._plain_s

    @property
    def _plain_s(self) -> float:
        large = self.speeds["large"]
        return large.first_token_s + ANSWER_TOKENS / large.alone

    @property
    def speedup(self) -> float | None:
        """From the plans and speeds: the longest chain's parts, each beside up to three others."""
        if "large" not in self.speeds or not self.planned:
            return None
        ratios = []
        for planned in self.planned:
            skeleton = planned.skeleton
            assert skeleton is not None  # noqa: S101 - those without were left out
            part_tokens = ANSWER_TOKENS / len(skeleton)
            streams = min(STREAMS, max(1.0, parallelism(skeleton)))
            # Whether the small model writes a part is the router's business: count the large one.
            large = self.speeds["large"]
            share = (streams - 1) / (STREAMS - 1)
            rate = large.alone + share * (large.together / STREAMS - large.alone)
            parts_s = skeleton.depth * (large.first_token_s + part_tokens / rate)
            ratios.append(self._plain_s / (planned.seconds + parts_s))
        return statistics.median(ratios)
