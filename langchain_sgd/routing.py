"""Which tier decodes a node.

A router sees one node and names a tier: the skeleton is still arriving when the first nodes are routed, so
there is nothing else to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.skeleton import MAX_DIFFICULTY, MIN_DIFFICULTY, Node
from langchain_sgd.tiers import Tier


class Router(Protocol):
    """Chooses the tier that decodes a node, by name."""

    def __call__(self, node: Node, /) -> str:
        """The tier's name."""
        ...


@dataclass(frozen=True, slots=True)
class ThresholdRouter:
    """Difficulty `threshold` and above goes up: with two tiers, to the large one.

    With more tiers, the difficulties below the threshold belong to the first tier and those from it on
    are shared evenly among the others.
    """

    tiers: Sequence[str]
    threshold: int

    def __call__(self, node: Node, /) -> str:
        """The tier for the node's difficulty."""
        if node.difficulty < self.threshold or len(self.tiers) == 1:
            return self.tiers[0]
        upper = self.tiers[1:]
        levels = MAX_DIFFICULTY - self.threshold + 1
        return upper[(node.difficulty - self.threshold) * len(upper) // levels]


@dataclass(slots=True)
class ShareRouter:
    """Sends about `share` of the nodes to the largest tier, the hardest first; the rest to the first.

    After RouteLLM's calibrated threshold (arXiv 2406.18665): the threshold follows the difficulties
    seen so far, and nodes exactly at it are split so that the share comes out. It keeps counts, so one
    instance serves one stream of questions.
    """

    tiers: Sequence[str]
    share: float
    _seen: list[float] = field(default_factory=lambda: [0.0] * (MAX_DIFFICULTY + 1))
    _owed: float = 0.0
    """Part of a node at the threshold that should have gone up and has not yet."""

    def __call__(self, node: Node, /) -> str:
        """The largest tier, or the first."""
        self._seen[node.difficulty] += 1
        total = sum(self._seen)
        above = 0.0
        for level in range(MAX_DIFFICULTY, MIN_DIFFICULTY - 1, -1):
            here = self._seen[level] / total
            if above + here >= self.share or level == MIN_DIFFICULTY:
                break
            above += here
        if node.difficulty != level:
            return self.tiers[-1] if node.difficulty > level else self.tiers[0]
        self._owed += min(1.0, (self.share - above) / here) if here else 0.0
        if self._owed >= 1.0 - 1e-9:
            self._owed -= 1.0
            return self.tiers[-1]
        return self.tiers[0]


def path_up(tiers: Sequence[Tier], name: str, node: Node) -> Sequence[Tier]:
    """The chosen tier and the larger ones, which are tried in turn when it fails.

    Raises:
        InvalidInputError: The router named a tier that does not exist.
    """
    for index, tier in enumerate(tiers):
        if tier.name == name:
            return tiers[index:]
    msg = (
        f"The router chose {name!r} for node {node.id} ({node.heading!r});"
        f" the tiers are {', '.join(repr(tier.name) for tier in tiers)}"
    )
    raise InvalidInputError(msg)
