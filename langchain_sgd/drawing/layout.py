"""Where the nodes of a skeleton stand when it is drawn from left to right; pure geometry.

After Sugiyama, Tagawa and Toda (1981): a node's column is the length of the longest chain before it,
barycenter sweeps order each column so that few lines cross, and least squares under a minimal distance
pull lines straight, which pooling adjacent violators solves exactly, so boxes cannot overlap. Lines from
one node that pass over a column share one place in it, so the work stays quadratic.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from langchain_sgd.skeleton import Node, NodeId, Skeleton


class Point(NamedTuple):
    """A place in pixels, from the upper left corner."""

    x: float
    y: float


class Box(NamedTuple):
    """A node's place."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pixels of what is laid out."""

    box_width: float = 184.0
    box_height: float = 66.0
    column_gap: float = 52.0
    row_gap: float = 18.0
    lane_gap: float = 14.0
    """Between a line that passes over a column and what is beside it."""

    def left(self, column: int) -> float:
        """Where a column begins."""
        return column * (self.box_width + self.column_gap)

    def right(self, column: int) -> float:
        """Where a column ends."""
        return self.left(column) + self.box_width


Stroke = tuple[Point, Point]
"""A piece of a line: across the gap between two columns, or straight over one column."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of all boxes, and of the lines between them."""

    boxes: Mapping[NodeId, Box]
    strokes: Mapping[NodeId, Sequence[Stroke]]
    """All lines that leave a node, each piece once, where they run together too."""
    width: float
    height: float
    _middles: Mapping[_Vertex, float]
    """The height of each node, and of its lines, in each column."""
    _columns: Mapping[NodeId, int]
    _sizes: Sizes

    def line(self, dependency: NodeId, dependent: NodeId) -> list[Stroke]:
        """One line from box to box."""
        first, last = self._columns[dependency], self._columns[dependent]
        points = []
        for column in range(first, last + 1):
            y = self._middles[_Vertex(dependency if column < last else dependent, column)]
            points += [Point(self._sizes.left(column), y), Point(self._sizes.right(column), y)]
        return list(pairwise(points[1:-1]))


class _Vertex(NamedTuple):
    """A node in its own column, or the line from it where it passes over a later one."""

    node_id: NodeId
    column: int


@dataclass(slots=True)
class _Graph:
    columns: list[list[_Vertex]]
    own: dict[NodeId, int]
    """Each node's column."""
    before: dict[_Vertex, list[_Vertex]] = field(default_factory=lambda: defaultdict(list))
    after: dict[_Vertex, list[_Vertex]] = field(default_factory=lambda: defaultdict(list))

    def is_lane(self, vertex: _Vertex) -> bool:
        return self.own[vertex.node_id] != vertex.column


def layout(skeleton: Skeleton, sizes: Sizes = Sizes()) -> Layout:
    """Lay a skeleton out: milliseconds for a dozen nodes, a second for hundreds of dense ones."""
    columns: dict[NodeId, int] = {}
    middle: dict[_Vertex, float] = {}
    after: dict[_Vertex, list[_Vertex]] = {}
    height = 0.0
    for nodes in _components(skeleton):
        graph = _layered(nodes)
        _uncross(graph)
        top = height + sizes.row_gap if height else 0.0
        found = {vertex: top + y for vertex, y in _middles(graph, sizes).items()}
        columns |= graph.own
        middle |= found
        after |= {vertex: graph.after[vertex] for vertex in found}
        height = max(
            y + (0.0 if graph.is_lane(vertex) else sizes.box_height / 2)
            for vertex, y in found.items()
        )

    boxes: dict[NodeId, Box] = {}
    strokes: dict[NodeId, list[Stroke]] = {node.id: [] for node in skeleton.nodes}
    for vertex, y in middle.items():
        left, right = sizes.left(vertex.column), Point(sizes.right(vertex.column), y)
        if vertex.column == columns[vertex.node_id]:
            size = (sizes.box_width, sizes.box_height)
            boxes[vertex.node_id] = Box(left, y - sizes.box_height / 2, *size)
        else:
            strokes[vertex.node_id].append((Point(left, y), right))
        for end in after[vertex]:
            strokes[vertex.node_id].append((right, Point(sizes.left(end.column), middle[end])))
    width = sizes.right(max(columns.values(), default=0))
    return Layout(boxes, strokes, width, height, middle, columns, sizes)


def _components(skeleton: Skeleton) -> list[list[Node]]:
    """The parts that share no line, in the order of their first nodes."""
    part_of: dict[NodeId, list[Node]] = {}
    for node in skeleton.nodes:
        whole = [node]
        for part in {id(p): p for p in (part_of[d] for d in node.dependencies)}.values():
            whole = part + whole
        for member in whole:
            part_of[member.id] = whole
    order = {node.id: index for index, node in enumerate(skeleton.nodes)}
    parts = {id(part): part for part in part_of.values()}.values()
    return [sorted(part, key=lambda node: order[node.id]) for part in parts]


def _layered(nodes: Sequence[Node]) -> _Graph:
    own: dict[NodeId, int] = {}
    for node in nodes:
        own[node.id] = max((own[d] + 1 for d in node.dependencies), default=0)
    graph = _Graph([[] for _ in range(max(own.values()) + 1)], own)
    for node in nodes:
        graph.columns[own[node.id]].append(_Vertex(node.id, own[node.id]))
    for node in nodes:
        for dependency in dict.fromkeys(node.dependencies):
            end = _Vertex(node.id, own[node.id])
            # Back to the nearest lane that this dependency already has.
            for column in range(end.column - 1, own[dependency] - 1, -1):
                begin = _Vertex(dependency, column)
                is_new = graph.is_lane(begin) and not graph.after[begin]
                graph.after[begin].append(end)
                graph.before[end].append(begin)
                if is_new:
                    graph.columns[column].append(begin)
                    end = begin
                else:
                    break
    return graph


def _uncross(graph: _Graph) -> None:
    """Order the columns by the mean place of their neighbors, forth and back; keep the best."""
    size = sum(map(len, graph.after.values()))
    best, fewest = [list(column) for column in graph.columns], _crossings(graph)
    for sweep in range(12 if size < 1000 else 2):
        if not fewest:
            break
        forth = sweep % 2 == 0
        columns = graph.columns if forth else graph.columns[::-1]
        beside = graph.before if forth else graph.after
        for fixed, column in pairwise(columns):
            place = {vertex: index for index, vertex in enumerate(fixed)}
            at = {
                vertex: _mean([place[n] for n in beside[vertex]], index)
                for index, vertex in enumerate(column)
            }
            column.sort(key=at.__getitem__)
        if (crossings := _crossings(graph)) < fewest:
            best, fewest = [list(column) for column in graph.columns], crossings
    graph.columns = best


def _crossings(graph: _Graph) -> int:
    count = 0
    for column, following in pairwise(graph.columns):
        place = {vertex: index for index, vertex in enumerate(following)}
        seen: list[int] = []
        for vertex in column:
            ends = sorted(place[end] for end in graph.after[vertex])
            count += sum(len(seen) - bisect(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _middles(graph: _Graph, sizes: Sizes) -> dict[_Vertex, float]:
    """The height of every vertex's middle; the topmost edge is at 0."""

    def reach(vertex: _Vertex) -> float:
        return 0.0 if graph.is_lane(vertex) else sizes.box_height / 2

    def apart(upper: _Vertex, lower: _Vertex) -> float:
        lanes = graph.is_lane(upper) or graph.is_lane(lower)
        return reach(upper) + reach(lower) + (sizes.lane_gap if lanes else sizes.row_gap)

    middle: dict[_Vertex, float] = {}
    for column in graph.columns:
        y = 0.0
        for index, vertex in enumerate(column):
            y += apart(column[index - 1], vertex) if index else 0.0
            middle[vertex] = y
    for sweep in range(16 if len(middle) < 1000 else 2):
        for column in graph.columns if sweep % 2 else graph.columns[::-1]:
            # Lanes weigh more, so that long lines run straight.
            weights = [4.0 if graph.is_lane(vertex) else 1.0 for vertex in column]
            wanted = [
                _mean([middle[n] for n in graph.before[v] + graph.after[v]], middle[v])
                for v in column
            ]
            gaps = [apart(a, b) for a, b in pairwise(column)]
            middle.update(zip(column, _spaced(wanted, weights, gaps), strict=True))
    top = min(y - reach(vertex) for vertex, y in middle.items())
    return {vertex: float(round(y - top)) for vertex, y in middle.items()}


def _spaced(
    wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]
) -> list[float]:
    """The places nearest to those wanted, by weighted squares, that keep order and gaps."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # weighted sum, weight, size
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        total, mass, size = (want - offset) * weight, weight, 1
        while pools and pools[-1][0] / pools[-1][1] > total / mass:
            pooled = pools.pop()
            total, mass, size = total + pooled[0], mass + pooled[1], size + pooled[2]
        pools.append((total, mass, size))
    levels = [total / mass for total, mass, size in pools for _ in range(size)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
