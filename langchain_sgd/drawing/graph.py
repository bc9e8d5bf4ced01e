"""A skeleton as a graph of boxes and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

from langchain_sgd.drawing.colors import STATUS_COLORS, STATUS_WORDS, tier_colors
from langchain_sgd.drawing.layout import Box, Point, Stroke, layout
from langchain_sgd.drawing.legend import (
    Sign,
    difficulty,
    dots,
    draw_legend,
    legend_width,
    square,
)
from langchain_sgd.drawing.markup import element, fitted, number, svg, wrapped
from langchain_sgd.drawing.words import node_hint, sentence
from langchain_sgd.report import NodeStatus
from langchain_sgd.skeleton import Node, NodeId, Skeleton

_HEADING, _FOOT = 12.5, 10.5
_LEAST_WIDTH = 430.0
"""Where the graph is narrower, for its legend's sake."""


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
            stroke=colors[tier],
            stroke_opacity=0.5 if broken else 1,
            stroke_width=2.6 if node.id in critical else 1.4,
            class_="sgd-node",
        )
        hint = node_hint(node, tier, status)
        texts = _texts(node, box, colors[tier], tier, status)
        boxes.append(element("g", element("title", hint), frame, *texts))
        said.append(sentence(hint))
    pen = {"fill": "none", "stroke": "currentColor", "stroke_linejoin": "round"}
    lines = [_path(strokes) for strokes in places.strokes.values() if strokes]
    heads = [_head(places.boxes[node.id]) for node in skeleton.nodes if node.dependencies]
    marked = [_path(places.line(*ends)) for ends in pairwise(critical)]
    marked += [_head(places.boxes[node_id]) for node_id in critical[1:]]
    signs = _signs(tiers, colors, skeleton, critical)
    width = max(places.width, min(legend_width(signs), _LEAST_WIDTH))
    legend, height = draw_legend(signs, 2, places.height + 24, width)
    return svg(
        "Skeleton of the answer",
        f"{len(skeleton)} nodes. {' '.join(said)}",
        (width, height),
        element("g", *lines, stroke_width=1.4, stroke_opacity=0.38, **pen),
        element("g", *heads, stroke_width=1.4, stroke_opacity=0.6, **pen),
        element("g", *marked, stroke_width=2.2, **pen),
        *boxes,
        legend,
    )


def _signs(
    tiers: Mapping[Any, str],
    colors: Mapping[str, str],
    skeleton: Skeleton,
    critical: Sequence[NodeId],
) -> list[Sign]:
    """What the legend explains: what is there to be seen."""
    signs = [square(colors[tier], tier) for tier in dict.fromkeys(tiers.values()) if tier]
    signs.append(difficulty("difficulty, 1 to 5"))
    if any(node.dependencies for node in skeleton.nodes):
        signs.append(_arrow("its text is needed", stroke_width=1.4, stroke_opacity=0.6))
    if len(critical) > 1:
        signs.append(_arrow("critical path", stroke_width=2.4))
    return signs


def _arrow(meaning: str, **pen: Any) -> Sign:
    path = element("path", d="M0 0H18M13 -4L18 0L13 4", fill="none", stroke="currentColor", **pen)
    return Sign(path, 20, meaning)


def _texts(node: Node, box: Box, color: str, tier: str, status: NodeStatus) -> list[Element]:
    """What stands in a box: id and heading, the difficulty as dots, the tier."""
    name = f"{node.id} {node.heading}" if len(node.id) <= 4 else node.heading
    bottom = box.y + box.height
    lines = [
        element("text", line, x=box.x + 20, y=box.y + 24 + 16 * index, font_size=_HEADING)
        for index, line in enumerate(wrapped(name, box.width - 32, _HEADING * 1.05, 2))
    ]
    foot: list[Element | str] = [element("tspan", fitted(tier, 60, _FOOT), fill_opacity=0.8)]
    if status != "complete":
        word = f"{' · ' if tier else ''}{STATUS_WORDS[status]}"
        foot.append(element("tspan", word, fill=STATUS_COLORS[status], font_weight=700))
    stripe = {"x": box.x + 8, "y": box.y + 11, "width": 3.5, "height": box.height - 22}
    place = {"x": box.x + box.width - 12, "y": bottom - 8.5, "text_anchor": "end"}
    return [
        element("rect", rx=1.75, fill=color, **stripe),
        element("g", *lines, font_weight=600),
        *dots(box.x + 23, bottom - 12, node.difficulty),
        element("text", *foot, font_size=_FOOT, **place),
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
