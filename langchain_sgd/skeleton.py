"""The skeleton: the directed acyclic graph of sub-problems that a planner writes.

Pure values, no I/O. A node may depend on *earlier* nodes only, so a cycle cannot be written down. After
Skeleton Graph Decoding (arXiv 2402.12280), which fixes the triple summary, dependencies, difficulty; our
`heading` and `scope` stand for its summary, and the scale 1-5 is our choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NewType, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from langchain_sgd.errors import SkeletonError

NodeId = NewType("NodeId", str)

MIN_DIFFICULTY, MAX_DIFFICULTY = 1, 5
DEFAULT_DIFFICULTY = 3

_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"


class Node(BaseModel):
    """One sub-problem of a skeleton."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[NodeId, Field(pattern=_ID_PATTERN)]
    """Unique in its skeleton; the planner counts 1, 2, 3."""
    heading: Annotated[str, Field(min_length=1)]
    """Title of the part of the answer that this node writes."""
    scope: str = ""
    """One line: what this node covers and what it leaves to others."""
    dependencies: tuple[NodeId, ...] = ()
    """Earlier nodes whose answers this node needs."""
    difficulty: Annotated[int, Field(ge=MIN_DIFFICULTY, le=MAX_DIFFICULTY)] = DEFAULT_DIFFICULTY
    """The planner's estimate, 1 (easy) to 5 (hard)."""

    @field_validator("id", mode="before")
    @classmethod
    def _number_to_id(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("dependencies", mode="before")
    @classmethod
    def _numbers_to_ids(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(cls._number_to_id(item) for item in value)
        return value


class Skeleton(BaseModel):
    """Nodes in the order of the answer; every dependency names an earlier node.

    Raises:
        pydantic.ValidationError: Empty, an id twice, or a dependency that is not an earlier node.
            `Skeleton.parse` raises `SkeletonError` with a message for people instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]

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
            SkeletonError: With the place and the reason of every fault.
        """
        if isinstance(value, Skeleton):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = {"nodes": value}
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'skeleton'}:"
                f" {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False)
            )
            msg = f"Not a usable skeleton: {faults}"
            raise SkeletonError(msg) from None

    def __getitem__(self, node_id: str) -> Node:
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def __len__(self) -> int:
        return len(self.nodes)

    def up_to(self, node: Node) -> tuple[Node, ...]:
        """The nodes up to and including `node`: what was planned when it could first start."""
        return self.nodes[: self.nodes.index(node) + 1]

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
        closure. Cubic in the number of nodes.
        """
        ancestors: dict[NodeId, set[NodeId]] = {}
        for node in self.nodes:
            ancestors[node.id] = set(node.dependencies).union(
                *(ancestors[dependency] for dependency in node.dependencies)
            )
        matched: dict[NodeId, NodeId] = {}

        def augment(node_id: NodeId, visited: set[NodeId]) -> bool:
            for ancestor in ancestors[node_id] - visited:
                visited.add(ancestor)
                if ancestor not in matched or augment(matched[ancestor], visited):
                    matched[ancestor] = node_id
                    return True
            return False

        return len(self.nodes) - sum(augment(node.id, set()) for node in self.nodes)

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
        step: NodeId | None = max(end, key=end.__getitem__)
        while step is not None:
            path.append(step)
            step = before[step]
        return tuple(reversed(path)), max(end.values())

    def to_mermaid(self, tiers: Mapping[str, str] | None = None) -> str:
        """The graph as Mermaid source; `tiers` (node id to tier) adds a class per tier."""
        lines = ["graph TD"]
        names = {node.id: f"n{index}" for index, node in enumerate(self.nodes, 1)}
        for node in self.nodes:
            label = _mermaid_text(f"{node.id}. {node.heading} ({node.difficulty})")
            tier = f":::{_slug(tiers[node.id])}" if tiers and node.id in tiers else ""
            lines.append(f'    {names[node.id]}["{label}"]{tier}')
        lines.extend(
            f"    {names[dependency]} --> {names[node.id]}"
            for node in self.nodes
            for dependency in node.dependencies
        )
        return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Escape what Mermaid would read as markup inside a quoted label."""
    return "".join(
        c if c.isalnum() or c in " .,:()-'!?/" else f"#{ord(c)};" for c in " ".join(text.split())
    )


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text) or "tier"


@dataclass(frozen=True, slots=True)
class Draft:
    """A node as the planner wrote it, before anything was checked."""

    id: str
    heading: str
    scope: str = ""
    dependencies: tuple[str, ...] = ()
    difficulty: int | None = None


@dataclass(slots=True)
class Repairer:
    """Turns drafts into nodes one by one, as they arrive, and says what it had to mend.

    Nothing raises: a bad reference is dropped, a bad id renumbered, a difficulty clamped, nodes over
    the limit are left out; each becomes one line in `warnings`.
    """

    max_nodes: int
    nodes: list[Node] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the limit is reached: later drafts are left out."""
        return len(self.nodes) >= self.max_nodes

    def admit(self, draft: Draft) -> Node | None:
        """The node this draft becomes; None if it is left out."""
        heading = " ".join(draft.heading.split()) or " ".join(draft.scope.split())[:60]
        if self.full:
            self._warn(f"left out node {draft.id!r} ({heading!r}): the limit is {self.max_nodes}")
            return None
        scope = " ".join(draft.scope.split())
        for node in self.nodes:
            if (node.heading.casefold(), node.scope) == (heading.casefold(), scope):
                self._warn(f"left out node {draft.id!r} ({heading!r}): it repeats node {node.id}")
                return None
        taken = {node.id for node in self.nodes}
        node_id = draft.id.strip()
        if node_id in taken or not re.match(_ID_PATTERN, node_id):
            node_id = next(str(n) for n in range(1, len(taken) + 2) if str(n) not in taken)
            reason = "stands twice" if draft.id.strip() in taken else "is no usable id"
            self._warn(f"renumbered a node to {node_id}: {draft.id!r} {reason}")
        if not heading:
            heading = f"Part {node_id}"
            self._warn(f"node {node_id} has no heading")
        dependencies: list[NodeId] = []
        for dependency in draft.dependencies:
            if dependency == draft.id:
                self._warn(f"dropped a dependency of node {node_id} on itself")
            elif dependency not in taken:
                self._warn(
                    f"dropped a dependency of node {node_id} on {dependency!r},"
                    " which is not an earlier node"
                )
            elif dependency not in dependencies:
                dependencies.append(NodeId(dependency))
        difficulty = draft.difficulty
        if difficulty is None:
            difficulty = DEFAULT_DIFFICULTY
            self._warn(f"node {node_id} has no difficulty; {difficulty} is assumed")
        elif not MIN_DIFFICULTY <= difficulty <= MAX_DIFFICULTY:
            clamped = min(max(difficulty, MIN_DIFFICULTY), MAX_DIFFICULTY)
            self._warn(f"node {node_id} has difficulty {difficulty}; {clamped} is taken")
            difficulty = clamped
        node = Node(
            id=NodeId(node_id),
            heading=heading,
            scope=scope,
            dependencies=tuple(dependencies),
            difficulty=difficulty,
        )
        self.nodes.append(node)
        return node

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
