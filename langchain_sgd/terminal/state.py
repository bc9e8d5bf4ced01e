"""What is known of a run while it goes on, gathered from its events; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from langchain_sgd.events import (
    PLAIN_ID,
    Discarded,
    Ended,
    Event,
    PlainChosen,
    PlanEnded,
    Planned,
    Started,
    Token,
    Voided,
)
from langchain_sgd.report import NodeStatus
from langchain_sgd.skeleton import Node, NodeId

_TAIL = 160
"""Characters of a node's text that are kept to be shown."""


@dataclass(slots=True)
class NodeState:
    """One node, or the one call of a plain run."""

    node: Node | None
    """None in a plain run."""
    status: Literal["waiting", "running"] | NodeStatus = "waiting"
    tier: str = ""
    attempt: int = 0
    pieces: int = 0
    """Pieces of text in this attempt: tokens, with most servers."""
    tail: str = ""
    """The end of its text."""
    started_s: float | None = None
    ended_s: float | None = None


@dataclass(slots=True)
class RunState:
    """Feed it a run's events."""

    nodes: dict[NodeId, NodeState] = field(default_factory=dict)
    """In the order of the answer."""
    planned_s: float | None = None
    """When planning ended."""
    plain: str | None = None
    """Why the run is plain."""

    def feed(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Token(node_id, text):
                node = self.nodes[node_id]
                node.pieces += 1
                node.tail = (node.tail + text)[-_TAIL:]
            case Planned(planned):
                self.nodes[planned.id] = NodeState(planned)
            case Voided():
                self.nodes.clear()
            case PlanEnded(at_s):
                self.planned_s = at_s
            case PlainChosen(reason, at_s):
                self.plain, self.planned_s = reason, at_s
                self.nodes = {PLAIN_ID: NodeState(None)}
            case Started(node_id, tier, attempt, at_s):
                node = self.nodes[node_id]
                node.status, node.tier, node.attempt = "running", tier, attempt
                node.pieces, node.tail = 0, ""
                node.started_s = at_s if node.started_s is None else node.started_s
            case Discarded(node_id):
                self.nodes[node_id].pieces, self.nodes[node_id].tail = 0, ""
            case Ended(node_id, status, _, at_s):
                node = self.nodes[node_id]
                node.status, node.ended_s = status, at_s

    def waits_for(self, state: NodeState) -> list[NodeId]:
        """The dependencies of a node that have not ended."""
        if state.node is None:
            return []
        return [d for d in state.node.dependencies if self.nodes[d].ended_s is None]

    def count(self, *statuses: str) -> int:
        """How many nodes are in one of these states."""
        return sum(node.status in statuses for node in self.nodes.values())
