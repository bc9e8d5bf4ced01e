"""What decides how a question is decoded, beside the question: models, prompts, options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from langchain_sgd.costs import Price
from langchain_sgd.decoding.retry import Backoff
from langchain_sgd.decoding.routing import Router, Tier
from langchain_sgd.planning.planner import Mode, ReadLine
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node

Accept = Callable[[Node, str], bool]
"""The user's own test of a node's answer; False sends the node to the next larger tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a run does not find in its question; made and checked once by `SGDRunnable`."""

    tiers: tuple[Tier, ...]
    """From the smallest to the largest; the last one plans by default and answers plain runs."""
    planner: Tier
    router: Router
    prompts: Prompts = field(default_factory=Prompts)
    mode: Mode = "auto"
    busy: int | Callable[[], bool] | None = None
    """From how many calls in flight on a question is not split, or the user's own test of that."""
    hedge: bool = False
    """Begin the plain answer beside the planner."""
    execution: Literal["pipelined", "planned", "superstep"] = "pipelined"
    max_nodes: int = 12
    retries: int = 2
    backoff: Backoff = field(default_factory=Backoff)
    stall_timeout_s: float | None = 120.0
    node_timeout_s: float | None = None
    deadline_s: float | None = None
    on_node_error: Literal["partial", "raise"] = "partial"
    accept: Accept | None = None
    headings: bool | Literal["early"] = True
    seed: int | None = None
    approve: bool = False
    constrain: bool = True
    warnings: tuple[str, ...] = ()
    """What every report must say of these settings."""
    read_line: ReadLine | None = None
    """How the planner's lines are read; the wire format if not given."""
    whole_outline: bool = False
    """Show every node all that is planned, not only what is planned before it."""
    prices: Mapping[str, Price] | None = None
    """For every tier and the planner."""

    @property
    def largest(self) -> Tier:
        """The tier of plain runs."""
        return self.tiers[-1]

    def is_busy(self) -> bool:
        """Whether a run that begins now should not be split for the load's sake."""
        if self.busy is None or callable(self.busy):
            return self.busy is not None and self.busy()
        limits = {self.planner.limit, self.largest.limit}
        return sum(limit.in_flight for limit in limits) >= self.busy
