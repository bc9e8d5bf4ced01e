"""The skeleton: the directed acyclic graph of sub-problems that a planner writes.

Pure values, no I/O. A node may depend on *earlier* nodes only, so a cycle cannot be written down. After
Skeleton Graph Decoding (arXiv 2402.12280), which fixes the triple summary, dependencies, difficulty; our
`heading` and `scope` stand for its summary, and the scale 1-5 is our choice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NewType, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from langchain_sgd.errors import SkeletonError

NodeId = NewType("NodeId", str)

MIN_DIFFICULTY, MAX_DIFFICULTY = 1, 5
DEFAULT_DIFFICULTY = 2
"""Of a node whose planner marked nothing."""
HARD = 4
"""Of a node that the planner marked as hard."""

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"


class Node(BaseModel):
    """One sub-problem of a skeleton."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[NodeId, Field(pattern=ID_PATTERN)]
    """Unique in its skeleton; the planner counts 1, 2, 3."""
    heading: Annotated[str, Field(min_length=1)]
    """Title of the part of the answer that this node writes."""
    scope: str = ""
    """One line: what this node covers and what it leaves to others."""
    dependencies: tuple[NodeId, ...] = ()
    """Earlier nodes whose answers this node needs, each once."""
    difficulty: Annotated[int, Field(ge=MIN_DIFFICULTY, le=MAX_DIFFICULTY)] = DEFAULT_DIFFICULTY
    """The planner's estimate, 1 (easy) to 5 (hard)."""

    @field_validator("id", mode="before")
    @classmethod
    def _number_to_id(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("heading", "scope", mode="before")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        return " ".join(value.split()) if isinstance(value, str) else value

    @field_validator("dependencies", mode="before")
    @classmethod
    def _numbers_to_ids(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(cls._number_to_id(item) for item in value)
        return value

    @field_validator("dependencies", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        return tuple(dict.fromkeys(value))


class Skeleton(BaseModel):
    """Nodes in the order of the answer; every dependency names an earlier node.

    One without nodes is false, and stands for a question that was not split; it cannot be asked for.

    Raises:
        pydantic.ValidationError: An id twice, or a dependency that is not an earlier node. `Skeleton.parse`
            raises `SkeletonError` with a message for people instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[Node, ...]

    @model_validator(mode="after")
    def _earlier_dependencies_only(self) -> Self:
        seen: set[NodeId] = set()
        for node in self.nodes:
            if node.id in seen:
                msg = f"node {node.id!r} stands twice; ids must be unique"
                raise ValueError(msg)
            for dependency in node.dependencies:
                if dependency not in seen:
                    msg = (
                        f"node {node.id!r} depends on {dependency!r}, which is not an earlier node;"
                        f" earlier nodes: {', '.join(sorted(seen)) or 'none'}"
                    )
                    raise ValueError(msg)
            seen.add(node.id)
        return self

    @classmethod
    def parse(cls, value: Any) -> Skeleton:
        """Read a skeleton from a `Skeleton`, its `model_dump()`, or a list of nodes or mappings.

        Raises:
            SkeletonError: With the place and the reason of every fault, or without a node.
        """
        if isinstance(value, Skeleton) and value:
            return value
        if isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            value = {"nodes": tuple(value)}
        try:
            skeleton = cls.model_validate(value)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'skeleton'}:"
                f" {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False)
            )
            msg = f"Not a usable skeleton: {faults}"
            raise SkeletonError(msg) from None
        if not skeleton:
            msg = "Not a usable skeleton: nodes: at least 1 is needed; leave it out to have one planned"
            raise SkeletonError(msg)
        return skeleton

    def __getitem__(self, node_id: str) -> Node:
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    @property
    def depth(self) -> int:
        """Nodes of the longest chain: how many parts must be written one after another."""
        depth: dict[NodeId, int] = {}
        for node in self.nodes:
            depth[node.id] = 1 + max((depth[d] for d in node.dependencies), default=0)
        return max(depth.values(), default=0)

    def __len__(self) -> int:
        return len(self.nodes)

    def up_to(self, node: Node) -> tuple[Node, ...]:
        """The nodes up to and including `node`: what was planned when it could first start.

        Raises:
            ValueError: It is no node of this skeleton.
        """
        for count, other in enumerate(self.nodes, 1):
            if other.id == node.id:
                return self.nodes[:count]
        others = ", ".join(n.id for n in self.nodes) or "none"
        msg = f"this skeleton has no node {node.id!r}, only {others}"
        raise ValueError(msg)

    @property
    def roots(self) -> tuple[Node, ...]:
        """Nodes without dependencies."""
        return tuple(node for node in self.nodes if not node.dependencies)

    @property
    def sinks(self) -> tuple[Node, ...]:
        """Nodes without dependents."""
        needed = {dependency for node in self.nodes for dependency in node.dependencies}
        return tuple(node for node in self.nodes if node.id not in needed)

    @property
    def width(self) -> int:
        """Most nodes that can be in flight together: the largest antichain.

        By Dilworth's theorem it is the number of nodes less a maximum matching of the transitive
        closure. Cubic in the number of nodes at worst.
        """
        ancestors: dict[NodeId, set[NodeId]] = {}
        for node in self.nodes:
            ancestors[node.id] = set(node.dependencies).union(
                *(ancestors[dependency] for dependency in node.dependencies)
            )
        return len(self.nodes) - _matching(ancestors)

    def critical_path(
        self,
        seconds: Mapping[NodeId, float] | None = None,
        released: Mapping[NodeId, float] | None = None,
    ) -> tuple[tuple[NodeId, ...], float]:
        """The chain of dependent nodes that bounds the latency from below.

        Args:
            seconds: Decode time of each node; 1.0 each if not given.
            released: Time at which each node was planned; 0.0 each if not given.

        Returns:
            The ids of the chain, first to last, and the time at which its last node can end.
        """
        end: dict[NodeId, float] = {}
        before: dict[NodeId, NodeId | None] = {}
        for node in self.nodes:
            latest = max(node.dependencies, key=end.__getitem__, default=None)
            release = 0.0 if released is None else released[node.id]
            start = max(release, end[latest] if latest is not None else 0.0)
            end[node.id] = start + (1.0 if seconds is None else seconds[node.id])
            before[node.id] = latest if latest is not None and end[latest] >= release else None
        path: list[NodeId] = []
        step: NodeId | None = max(end, key=end.__getitem__, default=None)
        while step is not None:
            path.append(step)
            step = before[step]
        return tuple(reversed(path)), max(end.values(), default=0.0)

    def to_mermaid(self, tiers: Mapping[str, str] | None = None) -> str:
        """The graph as Mermaid source; `tiers` (node id to tier) adds a class per tier."""
        lines = ["graph TD"]
        names = {node.id: f"n{index}" for index, node in enumerate(self.nodes, 1)}
        for node in self.nodes:
            # "1. x" would be a Markdown list to Mermaid, which it refuses to draw.
            label = _mermaid_text(f"{node.id}: {node.heading} ({node.difficulty})")
            tier = f":::{_slug(tiers[node.id])}" if tiers and node.id in tiers else ""
            lines.append(f'    {names[node.id]}["{label}"]{tier}')
        lines.extend(
            f"    {names[dependency]} --> {names[node.id]}"
            for node in self.nodes
            for dependency in node.dependencies
        )
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        from langchain_sgd.drawing import skeleton_html  # noqa: PLC0415 - only notebooks draw

        return skeleton_html(self)


def _matching(options: Mapping[NodeId, set[NodeId]]) -> int:
    """Size of a maximum matching: each key with one of its options, no option twice."""
    key_of: dict[NodeId, NodeId] = {}
    option_of: dict[NodeId, NodeId] = {}
    for start in options:
        came_from: dict[NodeId, NodeId] = {}
        keys = deque([start])
        free: NodeId | None = None
        while keys and free is None:
            key = keys.popleft()
            for option in options[key]:
                if option in came_from:
                    continue
                came_from[option] = key
                if option not in key_of:
                    free = option
                    break
                keys.append(key_of[option])
        # Along the path found, every key takes the option by which it was left.
        while free is not None:
            key = came_from[free]
            key_of[free], option_of[key], free = key, free, option_of.get(key)
    return len(option_of)


def _mermaid_text(text: str) -> str:
    """Escape what Mermaid would read as markup inside a quoted label."""
    return "".join(c if c.isalnum() or c in " .,:()-'!?/" else f"#{ord(c)};" for c in text)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "tier"
