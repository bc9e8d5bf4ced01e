"""A skeleton as a graph of boxes and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

from langchain_sgd.drawing.colors import STATUS_COLORS, STATUS_WORDS, tier_colors
from langchain_sgd.drawing.layout import Box, Point, Stroke, layout
from langchain_sgd.drawing.markup import element, fitted, number, svg, wrapped
from langchain_sgd.drawing.words import node_hint, sentence
from langchain_sgd.events import NodeStatus
from langchain_sgd.skeleton import MAX_DIFFICULTY, Node, NodeId, Skeleton

_HEADING, _FOOT = 12.5, 10.5


def draw_graph(
    skeleton: Skeleton,
    tiers: Mapping[Any, str],
    statuses: Mapping[NodeId, NodeStatus] | None = None,
    critical: Sequence[NodeId] = (),
) -> Element:
    """The picture; boxes are colored by tier, nodes on the critical path are drawn stronger."""
    statuses = statuses or {}
    places = layout(skeleton)
    colors = tier_colors(tiers.values())
    said, boxes = [], []
    for node in skeleton.nodes:
        tier, status = tiers.get(node.id, ""), statuses.get(node.id, "complete")
        color = STATUS_COLORS[status] if status != "complete" else colors[tier]
        box = places.boxes[node.id]
        broken = status in {"failed", "skipped"}
        frame = element(
            "rect",
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
            rx=10,
            fill=colors[tier],
            fill_opacity=0.04 if broken else 0.15,
            stroke=color,
            stroke_width=2.6 if node.id in critical else 1.4,
            stroke_dasharray="5 4" if broken else None,
            class_="sgd-node",
        )
        hint = node_hint(node, tier, status)
        foot = [fitted(tier, 60, _FOOT), STATUS_WORDS[status]]
        texts = _texts(node, box, color, " · ".join(filter(None, foot)))
        boxes.append(element("g", element("title", hint), frame, *texts))
        said.append(sentence(hint))
    pen = {"fill": "none", "stroke": "currentColor", "stroke_linejoin": "round"}
    lines = [_path(strokes) for strokes in places.strokes.values() if strokes]
    heads = [_head(places.boxes[node.id]) for node in skeleton.nodes if node.dependencies]
    marked = [_path(places.line(*ends)) for ends in pairwise(critical)]
    marked += [_head(places.boxes[node_id]) for node_id in critical[1:]]
    return svg(
        "Skeleton of the answer",
        f"{len(skeleton)} nodes. {' '.join(said)}",
        (places.width, places.height),
        element("g", *lines, stroke_width=1.4, stroke_opacity=0.38, **pen),
        element("g", *heads, stroke_width=1.4, stroke_opacity=0.6, **pen),
        element("g", *marked, stroke_width=2.2, **pen),
        *boxes,
    )


def _texts(node: Node, box: Box, color: str, foot: str) -> list[Element]:
    """What stands in a box: id and heading, the difficulty as dots, the tier."""
    name = f"{node.id} {node.heading}" if len(node.id) <= 4 else node.heading
    bottom = box.y + box.height
    lines = [
        element("text", line, x=box.x + 20, y=box.y + 24 + 16 * index, font_size=_HEADING)
        for index, line in enumerate(wrapped(name, box.width - 32, _HEADING * 1.05, 2))
    ]
    dots = [
        element(
            "circle",
            cx=box.x + 23 + 8 * level,
            cy=bottom - 12,
            r=2.5,
            fill_opacity=0.75 if level < node.difficulty else 0.2,
        )
        for level in range(MAX_DIFFICULTY)
    ]
    stripe = {"x": box.x + 8, "y": box.y + 11, "width": 3.5, "height": box.height - 22}
    place = {"x": box.x + box.width - 12, "y": bottom - 8.5, "text_anchor": "end"}
    return [
        element("rect", rx=1.75, fill=color, **stripe),
        element("g", *lines, font_weight=600),
        *dots,
        element("text", foot, font_size=_FOOT, opacity=0.8, **place),
    ]


def _path(strokes: Iterable[Stroke]) -> Element:
    return element("path", d=path_data(strokes))


def path_data(strokes: Iterable[Stroke]) -> str:
    """A line's strokes in SVG's words."""
    steps = []
    at: Point | None = None
    for start, end in strokes:
        if start != at:
            steps.append(f"M{number(start.x)} {number(start.y)}")
        if start.y == end.y:
            steps.append(f"H{number(end.x)}")
        else:
            middle = number((start.x + end.x) / 2)
            steps.append(
                f"C{middle} {number(start.y)} {middle} {number(end.y)}"
                f" {number(end.x)} {number(end.y)}"
            )
        at = end
    return "".join(steps)


def _head(box: Box) -> Element:
    """The arrow's head at a box that lines lead to."""
    x, y = box.x - 1, box.y + box.height / 2
    back, up, down = number(x - 6), number(y - 4), number(y + 4)
    return element("path", d=f"M{back} {up}L{number(x)} {number(y)}L{back} {down}")
