"""A bench's results as one page that needs nothing else: pictures are SVG, in the style of `drawing`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from langchain_sgd.bench._measure import rounded
from langchain_sgd.bench._output import environment
from langchain_sgd.drawing.colors import NEUTRAL
from langchain_sgd.drawing.markup import FONT, element, number, svg, to_text
from langchain_sgd.drawing.timeline import draw_timeline
from langchain_sgd.drawing.words import one_unit
from langchain_sgd.report import Report

_LABELS, _BARS, _NOTES = 210.0, 460.0, 150.0
"""Widths of a chart's columns."""
_ROW, _BAR, _TOP = 26.0, 13.0, 26.0
_COLORS: Final = ("#e07b2e", "#17a08c", "#8d66d6", "#3f86dc", "#cc4f85", "#8a9a1f")
_STYLE: Final = f"""
body{{font-family:{FONT};font-size:14px;line-height:1.5;margin:32px auto;max-width:980px;padding:0 20px;
color:#1d2430;background:#fff}}
h1{{font-size:24px;margin:0 0 4px}} h2{{font-size:17px;margin:36px 0 6px}}
h3{{font-size:14px;margin:20px 0 2px}}
p{{margin:4px 0 10px;max-width:76ch}} .quiet{{opacity:.7;font-size:13px}}
table{{border-collapse:collapse;font-size:13px;margin:8px 0}}
th{{text-align:right;font-weight:600;opacity:.7}} td{{text-align:right}}
th,td{{padding:3px 0 3px 18px;vertical-align:top;white-space:nowrap;
border-bottom:1px solid #8884}}
th:first-child,td:first-child{{text-align:left;padding-left:0}}
.scroll{{overflow-x:auto}} code{{font-size:12.5px}}
@media(prefers-color-scheme:dark){{body{{color:#dfe4ec;background:#14181f}}}}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval; what is NaN is not drawn."""

    label: str
    value: float
    low: float
    high: float
    color: str = _COLORS[0]
    chance: float | None = None
    """What guessing gives; a mark on the bar."""


def color(index: int) -> str:
    """A color for the n-th of several things."""
    return _COLORS[index % len(_COLORS)]


def chart(
    title: str,
    bars: Sequence[Bar],
    *,
    unit: str = "",
    line: float | None = None,
    top: float | None = None,
) -> Element:
    """Horizontal bars with their 95 % intervals.

    Args:
        title: What is shown, for those who cannot see it.
        bars: From top to bottom; a value that is NaN stands as a dash.
        unit: Behind every figure.
        line: Where a line stands, such as 1 for "as fast".
        top: The value at the right end; as the bars need it if not given.
    """
    if top is None:
        ends = [end for bar in bars for end in (bar.value, bar.high) if math.isfinite(end)]
        top = _nice(max([*ends, line or 0.0]) * 1.02)
    end = top
    height = _TOP + _ROW * len(bars) + 6

    def x(value: float) -> float:
        return _LABELS + _BARS * min(max(value / end, 0.0), 1.0)

    parts = []
    for index in range(5):
        at = end * index / 4
        parts += [
            _text(f"{at:g}{unit}", x(at), 12, anchor="middle", size=10.5, opacity=0.7),
            _line(x(at), 18, x(at), height - 6, stroke_opacity=0.13),
        ]
    if line is not None:
        parts.append(_line(x(line), 18, x(line), height - 6, stroke_dasharray="3 3"))
    for index, bar in enumerate(bars):
        parts.append(_bar(bar, _TOP + _ROW * (index + 0.5), x, unit))
    told = "; ".join(f"{bar.label}: {rounded(bar.value, 2, unit)}" for bar in bars)
    return svg(title, told, (_LABELS + _BARS + _NOTES, height), *parts)


def _bar(bar: Bar, y: float, x: Any, unit: str) -> Element:
    label = _text(bar.label, _LABELS - 10, y + 4, anchor="end", size=12)
    if not math.isfinite(bar.value):
        return element("g", label, _text("-", _LABELS + 6, y + 4, size=12))
    start = x(0.0)
    rect = element(
        "rect",
        x=start,
        y=y - _BAR / 2,
        width=max(x(bar.value) - start, 1.5),
        height=_BAR,
        rx=3,
        fill=bar.color,
    )
    parts, note = [label, rect], f"{bar.value:.3g}{unit}"
    if math.isfinite(bar.low) and math.isfinite(bar.high):
        low, high = x(bar.low), x(bar.high)
        parts += [
            _line(low, y, high, y, stroke_width=1.4),
            _line(low, y - 4, low, y + 4, stroke_width=1.4),
            _line(high, y - 4, high, y + 4, stroke_width=1.4),
        ]
        note += f"  [{bar.low:.3g}, {bar.high:.3g}]"
    if bar.chance is not None:
        parts.append(
            _line(x(bar.chance), y - 8, x(bar.chance), y + 8, stroke=NEUTRAL, stroke_width=2.5)
        )
    parts.append(_text(note, _LABELS + _BARS + 14, y + 4, size=11, opacity=0.85))
    return element("g", *parts)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Element:
    """Rows of text; the first column is on the left."""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *[element("th", name, scope="col") for name in head])),
            element(
                "tbody",
                *[element("tr", *[element("td", str(cell)) for cell in row]) for row in rows],
            ),
        ),
        class_="scroll",
    )


def timelines(reports: Mapping[str, Any]) -> list[Element]:
    """One run of every method, all on one scale of seconds."""
    out: list[Element] = []
    for title, drawn in _drawn(reports):
        out += [element("h3", title), element("div", drawn, class_="scroll")]
    return out


def picture(title: str, reports: Mapping[str, Any]) -> str:
    """The timelines as one picture, a file of its own."""
    parts: list[Element] = []
    width = height = 0.0
    for name, drawn in _drawn(reports):
        parts.append(_text(name, 0, height + _TOP / 2, size=14))
        drawn.set("y", number(height + _TOP))
        parts.append(drawn)
        width = max(width, float(drawn.attrib["width"]))
        height += 2 * _TOP + float(drawn.attrib["height"])
    # A page shows it on whatever ground it has; the colors are made for a light one.
    ground = element("rect", x=-_TOP, y=-_TOP, width="200%", height="200%", fill="#fff")
    told = "; ".join(part.text or "" for part in parts if part.tag == "text")
    root = svg(title, told, (width, height), ground, *parts)
    root.set("color", "#1d2430")
    return to_text(root) + "\n"


def _drawn(reports: Mapping[str, Any]) -> list[tuple[str, Element]]:
    read = {name: Report.model_validate(report) for name, report in reports.items()}
    span_s = max((report.wall_s for report in read.values()), default=0.0)
    say = one_unit(span_s)  # as the timelines have it
    return [
        (f"{name}: {say(report.wall_s)}", draw_timeline(report, span_s=span_s))
        for name, report in read.items()
    ]


def section(title: str, *parts: Element, told: str = "") -> list[Element]:
    """A heading, what is to be known beforehand, and the rest."""
    return [element("h2", title), *([element("p", told)] if told else []), *parts]


def page(title: str, command: str, parts: Iterable[Element]) -> str:
    """The whole page."""
    found = environment()
    where = f"{found['date']} · {found['machine']} · Python {found['python']}"
    root = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width"),
            element("title", title),
            element("style", _STYLE),
        ),
        element(
            "body",
            element("h1", title),
            element("p", where, class_="quiet"),
            element("p", element("code", command)),
            *parts,
        ),
        lang="en",
    )
    return f"<!doctype html>\n{to_text(root).replace('</meta>', '')}\n"


def _text(
    text: str, x: float, y: float, *, size: float, anchor: str | None = None, opacity: float = 1.0
) -> Element:
    return element("text", text, x=x, y=y, font_size=size, text_anchor=anchor, opacity=opacity)


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Element:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"stroke": "currentColor", **attributes})


def _nice(value: float) -> float:
    """The next larger of 1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    factors = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
    return next(power * f for f in factors if power * f >= value * (1 - 1e-9))
