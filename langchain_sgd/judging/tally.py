"""What outcomes come to: shares with intervals, by category, and with the answers' lengths alike. Pure.

Judges like long answers. So every tally also counts the pairs apart whose answers differ by at most 20 %
in length, and those where the method's answer is shorter or longer than that. This is stratification and
nothing more: no model of the judge's taste is fitted, the strata shrink the sample, and a method whose
answers are rarely of like length leaves little to compare.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from langchain_sgd.judging.verdicts import Outcome, Verdict

LIKE_LENGTH: Final = 1.2
"""Answers are alike in length if the longer one has at most so many times the other's characters."""

_Z: Final = 1.959964

DecidedBy = Literal["judge", "identity", "failure"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair of answers and what became of it."""

    method: str
    against: str
    question_id: str
    category: str
    outcome: Outcome
    """From the method's side."""
    decided_by: DecidedBy = "judge"
    """Answers that are the same text are a tie, and one that is missing loses; no judge is asked."""
    length_ratio: float | None = None
    """Characters of the method's answer over the other's; None if one is missing."""
    verdicts: tuple[Verdict | None, Verdict | None] | None = None
    """The judge's words in both orders, the method's answer first in the first; None is unusable."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Rounded."""
        return {
            "value": round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
        }


def wilson(successes: int, trials: int) -> Interval | None:
    """A share with Wilson's score interval; None without trials."""
    if not trials:
        return None
    share, z2 = successes / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    reach = _Z * spread / (1 + z2 / trials)
    return Interval(
        share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))
    )


def net_rate(wins: int, losses: int, trials: int) -> Interval | None:
    """(wins - losses) / trials, ties counted in the trials; None without trials.

    The interval is Bonett and Price's for a difference of paired proportions (2012): Wald's after one
    more win and one more loss, cut at -1 and 1. Unlike Wald's it is no single point when all outcomes
    are the same.
    """
    if not trials:
        return None
    win, lose = (wins + 1) / (trials + 2), (losses + 1) / (trials + 2)
    middle = win - lose
    reach = _Z * math.sqrt((win + lose - middle * middle) / (trials + 2))
    return Interval((wins - losses) / trials, max(-1.0, middle - reach), min(1.0, middle + reach))


@dataclass(frozen=True, slots=True)
class Rates:
    """Outcomes counted."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def of(cls, judged: Iterable[Judged]) -> Self:
        """Count them."""
        counts = Counter(each.outcome for each in judged)
        return cls(counts["win"], counts["tie"], counts["lose"])

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.wins + self.ties + self.losses

    @property
    def win(self) -> Interval | None:
        """The share of wins."""
        return wilson(self.wins, self.pairs)

    @property
    def lose(self) -> Interval | None:
        """The share of losses."""
        return wilson(self.losses, self.pairs)

    @property
    def net(self) -> Interval | None:
        """The net win rate."""
        return net_rate(self.wins, self.losses, self.pairs)

    def to_json(self) -> dict[str, Any]:
        """Counts, shares, intervals."""
        shares = {"win": self.win, "lose": self.lose, "net": self.net}
        return {
            "pairs": self.pairs,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            **{name: share and share.to_json() for name, share in shares.items()},
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """What the outcomes of a method against another come to."""

    rates: Rates
    alike: Rates
    """Of pairs whose lengths differ by at most 20 %: the length-controlled figures."""
    shorter: Rates
    """Of pairs where the method's answer is shorter than that."""
    longer: Rates
    length_ratio: float | None
    """Median of the method's characters over the other's."""
    agreement: float | None
    """Share of judged pairs where both orders gave one outcome; None if the judge was not asked."""
    first_place: float | None
    """Share of the verdicts for a side that went to the answer shown first; 0.5 is an even judge."""
    unusable: int
    """Verdicts that could not be used, even when asked for again; they count as ties."""
    identical: int
    """Ties because the answers were the same text."""
    missing: int
    """Pairs decided because an answer was missing."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            **self.rates.to_json(),
            "like_length": self.alike.to_json(),
            "shorter": self.shorter.to_json(),
            "longer": self.longer.to_json(),
            "length_ratio": self.length_ratio and round(self.length_ratio, 4),
            "agreement": _rounded(self.agreement),
            "first_place": _rounded(self.first_place),
            "unusable": self.unusable,
            "identical": self.identical,
            "missing": self.missing,
        }


def tally(judged: Sequence[Judged]) -> Tally:
    """Sum up pairs of one method against another."""
    measured = [(each, each.length_ratio) for each in judged if each.length_ratio is not None]
    pairs = [each.verdicts for each in judged if each.verdicts is not None]
    said = [verdict for pair in pairs for verdict in pair]
    sides = [verdict for verdict in said if verdict in {"A", "B"}]
    agreed = [pair for pair in pairs if pair in {("A", "B"), ("B", "A"), ("tie", "tie")}]
    return Tally(
        rates=Rates.of(judged),
        alike=Rates.of(e for e, ratio in measured if 1 / LIKE_LENGTH <= ratio <= LIKE_LENGTH),
        shorter=Rates.of(e for e, ratio in measured if ratio < 1 / LIKE_LENGTH),
        longer=Rates.of(e for e, ratio in measured if ratio > LIKE_LENGTH),
        length_ratio=statistics.median(ratio for _, ratio in measured) if measured else None,
        agreement=len(agreed) / len(pairs) if pairs else None,
        first_place=sides.count("A") / len(sides) if sides else None,
        unusable=said.count(None),
        identical=sum(each.decided_by == "identity" for each in judged),
        missing=sum(each.decided_by == "failure" for each in judged),
    )


def by_method(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    """In groups, in the order in which the methods came."""
    groups: dict[str, list[Judged]] = {}
    for each in judged:
        groups.setdefault(each.method, []).append(each)
    return groups


def by_category(judged: Iterable[Judged]) -> dict[str, Tally]:
    """The tally of every category, in the order in which they came."""
    groups: dict[str, list[Judged]] = {}
    for each in judged:
        groups.setdefault(each.category, []).append(each)
    return {category: tally(group) for category, group in groups.items()}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
