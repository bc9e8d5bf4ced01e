"""When each part of a run waited, got its first token and wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from langchain_sgd.drawing.colors import NEUTRAL, STATUS_COLORS, STATUS_WORDS, tier_colors
from langchain_sgd.drawing.legend import (
    DASHES,
    SMALL,
    Sign,
    bar,
    cross,
    draw_legend,
    line,
    lost,
    square,
    stroke,
)
from langchain_sgd.drawing.markup import element, fitted, number, svg, text_width
from langchain_sgd.drawing.words import name_of, one_unit, sentence, spent
from langchain_sgd.report import Attempt, NodeStatus, Report, Usage

_LABELS, _BARS, _NOTES = 220.0, 500.0, 172.0
"""Widths of the three columns."""
_TOP, _ROW, _BAR = 30.0, 27.0, 13.0
_LEAST = 2.5
"""Width of a bar for a moment."""


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    tier: str
    attempts: Sequence[Attempt]
    planned_s: float
    ready_s: float
    ended_s: float
    status: NodeStatus = "complete"
    note: str = ""
    is_critical: bool = False

    @property
    def waits(self) -> tuple[float, float, float]:
        """When it was planned, when it was ready, and when it began."""
        began = self.attempts[0].started_s if self.attempts else self.ended_s
        return self.planned_s, self.ready_s, began

    def hint(self, say: Callable[[float], str]) -> str:
        """All about the row, a line each."""
        moments = {"planned": self.planned_s, "ready": self.ready_s, "ended": self.ended_s}
        lines = [
            f"{self.label}{' (critical path)' if self.is_critical else ''}",
            ", ".join(f"{what} at {say(at)}" for what, at in moments.items()),
            *(_attempt_hint(*each, say) for each in enumerate(self.attempts, 1)),
            STATUS_WORDS[self.status],
        ]
        return "\n".join(line for line in lines if line)


def draw_timeline(report: Report, *, span_s: float | None = None) -> Element:
    """The picture: one row for the planner, one for each node, over one scale of seconds.

    Args:
        report: What to draw.
        span_s: The seconds that the whole width stands for, to compare runs; the run's own if not given.
    """
    return _Timeline(report, span_s).draw()


class _Timeline:
    def __init__(self, report: Report, span_s: float | None) -> None:
        self.report = report
        ends = [node.ended_s for node in report.nodes] + [report.wall_s]
        if report.planner is not None:
            ends += [attempt.ended_s for attempt in report.planner.attempts]
        self.span = span_s or max((end for end in ends if math.isfinite(end)), default=0.0)
        if self.span <= 0:
            self.span = 1.0
        self.say = one_unit(self.span)
        self.rows = list(_rows(report, self.say))
        self.first_node = len(self.rows) - len(report.nodes)
        self.colors = tier_colors(a.tier for row in self.rows for a in row.attempts)
        self.bottom = _TOP + _ROW * len(self.rows)

    def x(self, at_s: float) -> float:
        share = at_s / self.span if math.isfinite(at_s) else 0.0
        return _LABELS + _BARS * min(max(share, 0.0), 1.0)

    def middle(self, row: int) -> float:
        return _TOP + _ROW * (row + 0.5)

    def draw(self) -> Element:
        legend, height = self.legend()
        parts = [self.axis(), *self.first_text(), *self.critical_path()]
        parts += [self.row(index, row) for index, row in enumerate(self.rows)]
        return svg(
            "Timeline of the run",
            " ".join(sentence(row.hint(self.say)) for row in self.rows),
            (_LABELS + _BARS + _NOTES, height),
            *parts,
            *self.closings(),
            legend,
        )

    def axis(self) -> Element:
        step = _nice(self.span / 5)
        unit, name = (1000, "ms") if self.span < 1 else (1, "s")  # as `one_unit` has it
        style = {"text_anchor": "middle", "font_size": SMALL, "opacity": 0.7}
        marks: list[Element] = []
        for index in range(int(self.span / step * (1 + 1e-9)) + 1):
            x = self.x(index * step)
            text = f"{index * step * unit:.6g} {name}" if index else "0"
            marks.append(element("text", text, x=x, y=_TOP - 12, **style))
            marks.append(line(x, _TOP - 6, x, self.bottom, stroke_opacity=0.13))
        return element("g", *marks)

    def first_text(self) -> Iterator[Element]:
        first = self.report.ttft_s
        if first is None:
            return
        text, x = f"first text {self.say(first)}", self.x(first)
        right = x + text_width(text, SMALL) < _LABELS + _BARS
        place = {"x": x + (4 if right else -4), "text_anchor": "start" if right else "end"}
        yield line(x, _TOP - 6, x, self.bottom + 16, stroke_opacity=0.45)
        yield element("text", text, y=self.bottom + 14, font_size=SMALL, opacity=0.8, **place)

    def critical_path(self) -> Iterator[Element]:
        """From the end of each node on the critical path to the beginning of the next."""
        index = {node.id: self.first_node + i for i, node in enumerate(self.report.nodes)}
        steps = []
        for before, after in pairwise(self.report.critical_path):
            x, start = self.x(self.report[before].ended_s), self.x(self.report[after].started_s)
            top, low = self.middle(index[before]), self.middle(index[after])
            steps.append(f"M{number(x)} {number(top)}V{number(low)}H{number(start)}")
        if steps:
            pen = {"stroke": "currentColor", "stroke_width": 1.6, "stroke_opacity": 0.85}
            yield element("path", d="".join(steps), fill="none", **pen)

    def row(self, index: int, row: _Row) -> Element:
        y = self.middle(index)
        mark = "◆ " if row.is_critical else ""
        room = _LABELS - 14 - text_width(mark, 12)
        label = element(
            "text",
            mark + fitted(row.label, room, 12.6 if row.is_critical else 12),
            x=_LABELS - 10,
            y=y + 4,
            text_anchor="end",
            font_size=12,
            font_weight=700 if row.is_critical else None,
        )
        whole = row.status == "complete"
        note = element(
            "text",
            fitted(row.note, _NOTES - 12, 11),
            x=_LABELS + _BARS + 12,
            y=y + 4,
            font_size=11,
            font_weight=None if whole else 700,
            fill=None if whole else STATUS_COLORS[row.status],
            opacity=0.85 if whole else None,
        )
        bars = [*self.waits(y, row)]
        for attempt in row.attempts:
            is_cut = row.status == "truncated" and attempt is row.attempts[-1]
            bars += self.attempt(y, attempt, kept=attempt.error is None or is_cut)
        if row.status == "truncated":
            x, color = self.x(row.ended_s), STATUS_COLORS["truncated"]
            bars.append(line(x, y - 10, x, y + 10, stroke=color, stroke_width=3))
        return element("g", element("title", row.hint(self.say)), label, *bars, note)

    def shown_waits(self, row: _Row) -> tuple[bool, bool]:
        """Whether a row's waits for other parts, and for a free place, are long enough to be seen."""
        begin, ready, start = map(self.x, row.waits)
        return ready - begin > 1 and bool(self.report.skeleton), start - ready > 1

    def waits_for_token(self, attempt: Attempt) -> bool:
        """Whether its wait for a first token is long enough to be seen."""
        first = attempt.ended_s if attempt.first_token_s is None else attempt.first_token_s
        return self.x(first) - self.x(attempt.started_s) > 1

    def waits(self, y: float, row: _Row) -> Iterator[Element]:
        begin, ready, start = map(self.x, row.waits)
        for_parts, for_place = self.shown_waits(row)
        if for_parts:
            yield line(begin, y, ready, y, stroke_opacity=0.55, **DASHES)
        if for_place:
            color = self.colors.get(row.tier, NEUTRAL)
            yield line(ready, y, start, y, **{**DASHES, "stroke": color, "stroke_width": 3})

    def attempt(self, y: float, attempt: Attempt, *, kept: bool) -> Iterator[Element]:
        start, end = self.x(attempt.started_s), self.x(attempt.ended_s)
        shape = {"y": y - _BAR / 2, "height": _BAR, "rx": 3.5}
        whole = max(end - start, _LEAST)
        color = self.colors[attempt.tier]
        if not kept:
            failed = STATUS_COLORS["failed"]
            yield element("rect", x=start, width=whole, fill=failed, fill_opacity=0.2, **shape)
            yield cross(start + whole - 7, y, failed)
            return
        yield element("rect", x=start, width=whole, fill=color, fill_opacity=0.3, **shape)
        if attempt.first_token_s is not None:
            first = self.x(attempt.first_token_s)
            yield element("rect", x=first, width=max(end - first, _LEAST), fill=color, **shape)

    def closings(self) -> Iterator[Element]:
        """Ticks on the planner's bar, where it closed the line of a node."""
        if self.first_node and self.report.skeleton:
            y = self.middle(0)
            moments = {self.x(n.planned_s) for n in self.report.nodes if not n.restored}
            ticks = [line(x, y - 9, x, y + 9, stroke_opacity=0.9) for x in sorted(moments)]
            yield element("g", *ticks, stroke_width=1.2)

    def legend(self) -> tuple[Element, float]:
        """What is to be seen and what it means, and the height of all."""
        attempts = [attempt for row in self.rows for attempt in row.attempts]
        signs = [square(self.colors[t], t) for t in dict.fromkeys(a.tier for a in attempts)]
        waits = [self.shown_waits(row) for row in self.rows]
        if self.report.skeleton:
            signs.append(Sign(line(3, -7, 3, 7, stroke_width=1.2), 4, "a part is planned"))
        if any(for_parts for for_parts, _ in waits):
            signs.append(stroke("waits for other parts", stroke_opacity=0.55, **DASHES))
        if any(for_place for _, for_place in waits):
            signs.append(stroke("waits for a free place", **{**DASHES, "stroke_width": 3}))
        if any(self.waits_for_token(attempt) for attempt in attempts):
            signs.append(bar("waits for a token", 0.3))
        if any(attempt.first_token_s is not None for attempt in attempts):
            signs.append(bar("writes", 0.75))
        if any(attempt.error is not None for attempt in attempts):
            signs.append(lost("not taken"))
        if self.report.critical_path:
            signs.append(Sign(None, -6, "◆ critical path"))
        return draw_legend(signs, 2, self.bottom + 38, _LABELS + _BARS + _NOTES)


def _rows(report: Report, say: Callable[[float], str]) -> Iterator[_Row]:
    if report.planner is not None and report.planner.attempts:
        asked = [a.model_copy(update={"tier": "planner"}) for a in report.planner.attempts]
        usage = sum((a.usage for a in asked if a.usage), Usage())
        begun, ended = asked[0].started_s, max(a.ended_s for a in asked)
        note = spent(say(ended - begun), usage)
        yield _Row("planner", "planner", asked, begun, begun, ended, note=note)
    if report.opening and report.planner is not None and (opened := report.planner.hedge):
        note = say(opened.ended_s - opened.started_s)
        begun = opened.started_s
        shown = opened.model_copy(update={"error": None})  # it was stopped on purpose
        yield _Row("opening", opened.tier, [shown], begun, begun, opened.ended_s, note=note)
    for node in report.nodes:
        took = node.ended_s - node.started_s
        if node.restored:
            note = "from a checkpoint"
        elif node.status == "complete":
            note = spent(say(took), node.usage)
        else:
            word = STATUS_WORDS[node.status]
            note = f"{word} · {say(took)}" if node.attempts else word
        yield _Row(
            name_of(report, node.id),
            node.tier,
            node.attempts,
            node.planned_s,
            node.ready_s,
            node.ended_s,
            node.status,
            note,
            node.id in report.critical_path,
        )


def _attempt_hint(count: int, attempt: Attempt, say: Callable[[float], str]) -> str:
    first = attempt.first_token_s
    where = f"{attempt.tier} ({attempt.model})" if attempt.model else attempt.tier
    when = f"{say(attempt.started_s)} to {say(attempt.ended_s)}"
    parts = [
        f"attempt {count} on {where}: {when}",
        "no token" if first is None else f"first token at {say(first)}",
        f"{attempt.usage.output_tokens} tokens" if attempt.usage else "",
        f"not taken: {attempt.error}" if attempt.error else "",
    ]
    return ", ".join(part for part in parts if part)


def _nice(step: float) -> float:
    """The next larger of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * f for f in (1.0, 2.0, 5.0, 10.0) if power * f >= step * (1 - 1e-9))
