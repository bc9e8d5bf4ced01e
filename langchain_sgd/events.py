"""What happens in a run, as frozen values: the one stream from which text, live view and report are made.

Times are seconds since the run began, on the event loop's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_sgd.report import Attempt, NodeReport, NodeStatus, Source
from langchain_sgd.skeleton import Node, NodeId

PLAIN_ID = NodeId("@plain")
"""The id under which an undivided answer appears; no node of a skeleton can have it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner closed a node's line, or a given skeleton holds it."""

    node: Node
    at_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A piece of the answer's opening, which stands before all parts; only with `opening=True`.

    An undivided answer that follows begins with the same text, and says it again in its own tokens.
    """

    text: str
    at_s: float
    last: bool = False
    """Nothing more of it comes: the parts go on."""


@dataclass(frozen=True, slots=True)
class Voided:
    """All nodes planned so far count no longer, nor their texts: they were part of a thought."""

    at_s: float


@dataclass(frozen=True, slots=True)
class PlannerCalled:
    """A call of the planner's model has ended."""

    attempt: Attempt
    at_s: float


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """No more nodes will come."""

    at_s: float
    cut: bool = False
    """The planner failed half-way; the answer may lack parts."""
    source: Source = "planner"


@dataclass(frozen=True, slots=True)
class PlainChosen:
    """The question is answered undivided, by one model."""

    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """A model was asked for a node; `attempt` counts from 1 over all tiers."""

    node_id: NodeId
    tier: str
    attempt: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a node's answer, as a model wrote it."""

    node_id: NodeId
    text: str
    """Empty where the answer has begun, and what has come may still be its heading again."""
    at_s: float


@dataclass(frozen=True, slots=True)
class Discarded:
    """The text of the node's last attempt counts no longer; the next attempt starts anew."""

    node_id: NodeId
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A node has its answer, or never will."""

    node_id: NodeId
    status: NodeStatus
    text: str
    at_s: float
    report: NodeReport | None = None
    """All that is known of it; None only in events made by hand."""


@dataclass(frozen=True, slots=True)
class HedgeDropped:
    """The plain answer that was begun beside the planner is not wanted, or no longer."""

    attempt: Attempt
    at_s: float


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the answer lacks, or cost more."""

    text: str
    at_s: float


Event = (
    Opened
    | Planned
    | Voided
    | PlannerCalled
    | PlanEnded
    | PlainChosen
    | Started
    | Token
    | Discarded
    | Ended
    | HedgeDropped
    | Warned
)

Emit = Callable[[Event], None]
"""Takes note of an event, at once."""


def progress_of(event: Event, place: str = "") -> dict[str, Any] | None:
    """What a progress display is told of an event, as plain JSON types; None for what is no progress.

    Args:
        event: The event.
        place: What stands before ids in a part that is written in parts itself: `3.` makes `3.1` of `1`.
    """
    match event:
        case Planned(node, at_s):
            return {
                "event": "planned",
                "id": f"{place}{node.id}",
                "heading": node.heading,
                "dependencies": [f"{place}{dependency}" for dependency in node.dependencies],
                "at_s": at_s,
            }
        case PlainChosen(reason, at_s):
            return {"event": "plain", "reason": reason, "at_s": at_s}
        case Started(node_id, tier, attempt, at_s):
            told = {"event": "started", "id": f"{place}{node_id}", "tier": tier}
            return {**told, "attempt": attempt, "at_s": at_s}
        case Ended(node_id, status, _, at_s):
            return {"event": "ended", "id": f"{place}{node_id}", "status": status, "at_s": at_s}
        case _:
            return None
