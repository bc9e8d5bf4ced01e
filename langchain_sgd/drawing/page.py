"""The public pictures, and the HTML around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from xml.etree.ElementTree import Element

from langchain_sgd.drawing.colors import STATUS_COLORS, tier_colors
from langchain_sgd.drawing.graph import draw_graph
from langchain_sgd.drawing.markup import FONT, element, to_text
from langchain_sgd.drawing.timeline import draw_timeline
from langchain_sgd.drawing.words import cost, name_of, one_unit
from langchain_sgd.report import Attempt, Report, Usage
from langchain_sgd.skeleton import Skeleton

_COLUMNS = (
    "node",
    "status",
    "tier",
    "model",
    "planned",
    "ready",
    "started",
    "first token",
    "ended",
    "tokens in",
    "cached",
    "tokens out",
    "attempts",
    "what went wrong",
)
_CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top;white-space:nowrap"


def skeleton_svg(skeleton: Skeleton, tiers: Mapping[str, str] | None = None) -> str:
    """The graph of a skeleton, from left to right: a node stands after all that it needs.

    Args:
        skeleton: What to draw.
        tiers: Node id to tier, to color the boxes.
    """
    return to_text(draw_graph(skeleton, tiers or {}))


def timeline_svg(report: Report) -> str:
    """When each part of a run waited, got its first token and wrote; one row a node.

    Marked are the critical path, the attempts that were not taken, the moments at which the planner
    closed a node's line, and the first text of the answer.
    """
    return to_text(draw_timeline(report))


def skeleton_html(skeleton: Skeleton) -> str:
    """What a notebook shows for a skeleton."""
    return to_text(_page(_scrolled(draw_graph(skeleton, {}))))


def report_html(report: Report, *, span_s: float | None = None) -> str:
    """What a notebook shows for a report: outcome, graph, timeline, warnings, all numbers.

    Args:
        report: What to show.
        span_s: The seconds that the timeline's width stands for, to compare runs.
    """
    parts = [_summary(report)]
    if report.reason is not None:
        parts.append(element("div", f"Answered undivided: {report.reason}."))
    if report.skeleton:
        tiers = {node.id: node.tier for node in report.nodes}
        statuses = {node.id: node.status for node in report.nodes}
        graph = draw_graph(report.skeleton, tiers, statuses, report.critical_path)
        parts.append(_scrolled(graph))
    parts.append(_scrolled(draw_timeline(report, span_s=span_s)))
    if report.warnings:
        items = [element("li", warning) for warning in report.warnings]
        parts.append(element("div", "Warnings", style="font-weight:600"))
        parts.append(element("ul", *items, style="margin:4px 0 10px"))
    parts.append(_table(report))
    return to_text(_page(*parts))


def _summary(report: Report) -> Element:
    color, say = STATUS_COLORS[report.status], one_unit(report.wall_s)
    chip = element(
        "span",
        report.status,
        style=f"border:1.5px solid {color};background:{color}26;border-radius:999px;"
        "padding:2px 12px;font-weight:600;align-self:center",
    )
    tiles = [_tile("wall time", say(report.wall_s))]
    if report.ttft_s is not None:
        tiles.append(_tile("first text", say(report.ttft_s)))
    if report.skeleton:
        tiles.append(_tile("nodes", str(len(report.skeleton))))
        if report.wall_s > 0:
            tiles.append(_tile("in flight", f"{report.decode_s / report.wall_s:.2f} on average"))
    if paid := cost(report):
        tiles.append(_tile("cost", paid))
    colors = tier_colors(report.usage)
    tiles += [
        _tile(f"{name} tokens", f"{usage.output_tokens:,}", colors[name])
        for name, usage in report.usage.items()
    ]
    style = "display:flex;flex-wrap:wrap;gap:6px 22px;margin:4px 0 12px"
    return element("div", chip, *tiles, style=style)


def _tile(name: str, value: str, color: str | None = None) -> Element:
    return element(
        "div",
        element("div", name, style="font-size:11px;opacity:.7"),
        element("div", value, style="font-size:15px;font-weight:600"),
        style=f"border-left:3px solid {color};padding-left:8px" if color else None,
    )


def _table(report: Report) -> Element:
    """The pictures' text alternative."""
    rows = []
    say = one_unit(report.wall_s)
    if report.planner is not None and report.planner.attempts:
        asked = report.planner.attempts
        start = say(asked[0].started_s)
        times = ["", start, start, say(report.planner.ended_s)]
        rows.append(_cells(["planner", "", "planner"], times, asked, None, say))
    for node in report.nodes:
        status = f"{node.status} (from a checkpoint)" if node.restored else node.status
        started = say(node.started_s) if node.attempts else ""
        times = [say(node.planned_s), say(node.ready_s), started, say(node.ended_s)]
        names = [name_of(report, node.id), status, node.tier]
        rows.append(_cells(names, times, node.attempts, node.error, say))
    head = [
        element("th", name, scope="col", style=f"{_CELL};opacity:.7;font-weight:600")
        for name in _COLUMNS
    ]
    body = [element("tr", *[element("td", text, style=_CELL) for text in row]) for row in rows]
    table = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *body),
        style="border-collapse:collapse;font-size:12px;margin:6px 0",
    )
    return element(
        "details",
        element("summary", "All numbers", style="cursor:pointer"),
        element("div", table, style="overflow-x:auto"),
    )


def _cells(
    names: Sequence[str],
    times: Sequence[str],
    attempts: Sequence[Attempt],
    error: str | None,
    say: Callable[[float], str],
) -> list[str]:
    *before, ended = times
    last = attempts[-1] if attempts else None
    first = last.first_token_s if last is not None else None
    usage = sum((a.usage for a in attempts if a.usage), Usage())
    return [
        *names,
        (last.model if last is not None else None) or "",
        *before,
        "" if first is None else say(first),
        ended,
        f"{usage.input_tokens:,}",
        f"{usage.cached_tokens:,}",
        f"{usage.output_tokens:,}",
        str(len(attempts)),
        error or "; ".join(a.error for a in attempts if a.error),
    ]


def _page(*parts: Element) -> Element:
    style = f"font-family:{FONT};font-size:13px;line-height:1.45"
    return element("div", *parts, class_="langchain-sgd", style=style)


def _scrolled(picture: Element) -> Element:
    return element("div", picture, style="overflow-x:auto;padding:2px 0 10px")
