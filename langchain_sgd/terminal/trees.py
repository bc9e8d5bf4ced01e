"""A skeleton or a report as a tree with bars.

A tree shows a graph here: a node hangs under the dependency that it waited for last, so the critical path
runs from a root to a leaf; its other dependencies are named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from langchain_sgd.drawing.colors import STATUS_COLORS, STATUS_WORDS, tier_colors
from langchain_sgd.drawing.words import cost, one_unit
from langchain_sgd.events import PLAIN_ID
from langchain_sgd.report import Attempt, NodeReport, Report, Usage
from langchain_sgd.skeleton import MAX_DIFFICULTY, Node, NodeId, Skeleton
from langchain_sgd.terminal.safe import one_line

_WIDE = 64
"""Columns from which bars are shown."""
_WAITS = "╌"
_SEEN = 1 / 60
"""Of a bar's width: a shorter wait is mostly less than a character."""


def skeleton_tree(skeleton: Skeleton) -> RenderableType:
    """A skeleton with the scope of each node, its difficulty and all that it needs."""
    depth: dict[NodeId, int] = {}
    for node in skeleton.nodes:
        depth[node.id] = max((depth[d] + 1 for d in node.dependencies), default=0)
    width, count = skeleton.width, len(skeleton)
    head = Text.assemble(
        (f"{count} node{'s' if count != 1 else ''}", "bold"),
        f" · at most {width} at once · {max(depth.values(), default=-1) + 1} deep · ",
        (f"{_dots(1)} easy, {_dots(MAX_DIFFICULTY)} hard", "dim"),
    )
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(ratio=4, style="dim")
    for guide, node in _hung(skeleton, depth.__getitem__):
        level = Text(_dots(node.difficulty))
        table.add_row(_label(guide, node), level, Text(one_line(node.scope)))
    return _Ascii(Group(head, table))


def _dots(difficulty: int) -> str:
    return "●" * difficulty + "○" * (MAX_DIFFICULTY - difficulty)


def report_tree(report: Report) -> RenderableType:
    """A run: its outcome, and for each node its tier, when it waited and wrote, its time and tokens."""
    return _Ascii(_ReportTree(report))


def report_line(report: Report) -> str:
    """A run in one line of plain text."""
    say = one_unit(report.wall_s)
    parts = [report.status, say(report.wall_s)]
    if report.ttft_s is not None:
        parts.append(f"first text {say(report.ttft_s)}")
    if report.skeleton:
        count = len(report.nodes)
        flight = f"{report.decode_s / report.wall_s:.2f}" if report.wall_s > 0 else "?"
        parts.append(f"{count} node{'s' if count != 1 else ''}, {flight} in flight on average")
    tokens = [f"{name} {usage.output_tokens:,}" for name, usage in report.usage.items()]
    if tokens:
        parts.append(f"tokens: {', '.join(tokens)}")
    if paid := cost(report):
        parts.append(f"cost {paid}")
    return one_line(" · ".join(parts))


# -- the tree


def _hung(skeleton: Skeleton, weight: Callable[[NodeId], float]) -> Iterator[tuple[str, Node]]:
    """The nodes as the rows of a tree, each with the guide lines before it."""
    below: dict[NodeId | None, list[Node]] = {}
    for node in skeleton.nodes:
        above = max(node.dependencies, key=weight, default=None)
        below.setdefault(above, []).append(node)
    # Guides of the rows below, and the node; the next row last.
    stack = [("", node, not index) for index, node in enumerate(reversed(below.get(None, [])))]
    while stack:
        guide, node, is_last = stack.pop()
        yield guide + ("└─ " if is_last else "├─ "), node
        deeper = guide + ("   " if is_last else "│  ")
        children = below.get(node.id, [])
        stack += [(deeper, child, not index) for index, child in enumerate(reversed(children))]


def _label(guide: str, node: Node, *, strong: bool = False) -> Text:
    label = Text(guide, style="dim")
    if strong:
        label.append("◆ ", style="not dim")
    label.append(f"{node.id} ", style="bold not dim")
    label.append(one_line(node.heading), style="bold not dim" if strong else "not dim")
    if len(node.dependencies) > 1:
        label.append(f"  needs {', '.join(node.dependencies)}")
    return label


# -- the report


@dataclass(frozen=True, slots=True)
class _ReportTree:
    report: Report

    def _say(self, duration_s: float) -> str:
        return one_unit(self.report.wall_s)(duration_s)

    @property
    def _span(self) -> float:
        """The seconds that the whole width stands for."""
        return max([self.report.wall_s, *(node.ended_s for node in self.report.nodes)])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report = self.report
        color = STATUS_COLORS[report.status]
        line = report_line(report).removeprefix(report.status)
        yield Text.assemble((report.status, f"bold {color}"), line)
        if report.reason is not None:
            yield Text(f"Answered undivided: {one_line(report.reason)}.")
        bars = options.max_width >= _WIDE
        yield self._table(bars=bars)
        if bars:
            yield self._legend()
        for warning in report.warnings:
            yield Text.assemble(("! ", f"bold {STATUS_COLORS['partial']}"), one_line(warning))

    def _table(self, *, bars: bool) -> Table:
        report = self.report
        attempts = [attempt for node in report.nodes for attempt in node.attempts]
        colors = tier_colors([a.tier for a in attempts] + [node.tier for node in report.nodes])
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=5, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, max_width=12, overflow="ellipsis")
        if bars:
            table.add_column(ratio=5)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right")
        span = self._span
        head: list[RenderableType] = [Text("part"), Text("tier"), Text("took"), Text("tokens")]
        if bars:
            head.insert(2, _Axis(self._say(span)))
        table.add_row(*head, style="dim")
        for row in self._rows(colors):
            bar = [_Bar(row.marks, span)] if bars else []
            tier = Text(one_line(row.tier), style=colors[row.tier])
            table.add_row(row.label, tier, *bar, row.note, Text(row.tokens))
        return table

    def _legend(self) -> Text:
        """What the signs of the bars mean; colors are explained by the tiers' names beside them."""
        report = self.report
        attempts = [attempt for node in report.nodes for attempt in node.attempts]
        seen_s = self._span * _SEEN
        signs = []
        if report.skeleton and any(node.ready_s - node.planned_s > seen_s for node in report.nodes):
            signs.append(f"{_WAITS} waits for other parts")
        if any(node.queued_s > seen_s for node in report.nodes):
            signs.append(f"{_WAITS} colored: waits for a free place")
        signs += ["─ waits for a token", "━ writes"]
        if any(attempt.error is not None for attempt in attempts):
            signs.append("✕ not taken")
        if report.critical_path:
            signs.append("◆ critical path")
        return Text("  ".join(signs), style="dim")

    def _rows(self, colors: Mapping[str, str]) -> Iterator[_Row]:
        report = self.report
        if report.planner is not None and report.planner.attempts:
            asked = [a.model_copy(update={"tier": "planner"}) for a in report.planner.attempts]
            usage = sum((a.usage for a in asked if a.usage), Usage())
            took = max(a.ended_s for a in asked) - asked[0].started_s
            marks = [mark for a in asked for mark in _written(a, colors)]
            yield _Row(Text("planner"), "planner", marks, Text(self._say(took)), _tokens(usage))
        if not report.skeleton:
            for node in report.nodes:
                name = "undivided answer" if node.id == PLAIN_ID else node.id
                yield self._row(Text(name), node, colors)
            return
        ends = {node.id: node.ended_s for node in report.nodes}
        for guide, planned in _hung(report.skeleton, ends.__getitem__):
            strong = planned.id in report.critical_path
            label = _label(guide, planned, strong=strong)
            yield self._row(label, report[planned.id], colors)

    def _row(self, label: Text, node: NodeReport, colors: Mapping[str, str]) -> _Row:
        marks: list[_Mark] = []
        if self.report.skeleton:
            marks.append(_Mark(node.planned_s, node.ready_s, _WAITS, "dim"))
        marks.append(_Mark(node.ready_s, node.started_s, _WAITS, colors[node.tier]))
        for attempt in node.attempts:
            kept = attempt.error is None or (
                node.status == "truncated" and attempt is node.attempts[-1]
            )
            marks += _written(attempt, colors, kept=kept)
        return _Row(label, node.tier, marks, self._note(node), _tokens(node.usage))

    def _note(self, node: NodeReport) -> Text:
        if node.restored:
            return Text("restored")
        took = self._say(node.ended_s - node.started_s)
        if node.status == "complete":
            return Text(took)
        word = STATUS_WORDS[node.status]
        text = f"{word} · {took}" if node.attempts else word
        return Text(text, style=f"bold {STATUS_COLORS[node.status]}")


@dataclass(frozen=True, slots=True)
class _Row:
    label: Text
    tier: str
    marks: Sequence[_Mark]
    note: Text
    tokens: str


def _tokens(usage: Usage) -> str:
    return f"{usage.output_tokens:,}" if usage.output_tokens else ""


# -- bars


@dataclass(frozen=True, slots=True)
class _Mark:
    """A stretch of a bar."""

    begin_s: float
    end_s: float
    char: str
    style: str


def _written(attempt: Attempt, colors: Mapping[str, str], *, kept: bool = True) -> list[_Mark]:
    begin, end, first = attempt.started_s, attempt.ended_s, attempt.first_token_s
    if not kept:
        return [_Mark(begin, end, "✕", STATUS_COLORS["failed"])]
    color = colors[attempt.tier]
    waited = _Mark(begin, end if first is None else first, "─", color)
    return [waited] if first is None else [waited, _Mark(first, end, "━", f"bold {color}")]


@dataclass(frozen=True, slots=True)
class _Bar:
    marks: Sequence[_Mark]
    span_s: float

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(12, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        cells: list[tuple[str, str]] = [(" ", "")] * width
        for mark in self.marks:
            begin, end = self._cell(mark.begin_s, width), self._cell(mark.end_s, width)
            if mark.char in "━✕" and mark.end_s >= mark.begin_s:
                # What was written shows, however short it was.
                begin, end = min(begin, width - 1), max(end, min(begin, width - 1) + 1)
            for index in range(begin, end):
                cells[index] = (mark.char, mark.style)
        for style, run in groupby(cells, key=itemgetter(1)):
            yield Segment("".join(char for char, _ in run), Style.parse(style) if style else None)
        yield Segment.line()

    def _cell(self, at_s: float, width: int) -> int:
        share = at_s / self.span_s if self.span_s > 0 and math.isfinite(at_s) else 0.0
        return min(max(round(share * width), 0), width)


@dataclass(frozen=True, slots=True)
class _Axis:
    """What the whole width of the bars stands for."""

    span: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(12, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(f"0{self.span:>{max(options.max_width - 1, 0)}}"[: options.max_width])
        yield Segment.line()


# -- terminals without Unicode

_TO_ASCII = str.maketrans("├└│─━·╌●○◆✂✕∅…", "|`|-=.~*.*!x-.")


@dataclass(frozen=True, slots=True)
class _Ascii:
    """Its content, with signs that every terminal has where Unicode cannot be shown."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments = console.render(self.content, options)
        if not options.ascii_only:
            yield from segments
            return
        for segment in segments:
            text = segment.text.translate(_TO_ASCII)
            yield Segment(text.encode("ascii", "replace").decode(), segment.style, segment.control)
