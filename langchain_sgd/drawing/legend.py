"""What the signs of a picture mean, in the picture.

One language everywhere, in terminals too: a color is a tier, dots are difficulty, dashes are waiting, pale
is the time to a first token, full is writing, a cross is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from langchain_sgd.drawing.colors import STATUS_COLORS
from langchain_sgd.drawing.markup import element, fitted, number, text_width
from langchain_sgd.skeleton import MAX_DIFFICULTY

SMALL = 10.5
"""Size of what stands beside a picture's matter."""
DASHES: dict[str, Any] = {"stroke_dasharray": "4 3", "stroke_width": 1.6}
_LINE, _GAP = 17.0, 14.0
_LONGEST = 160.0
_DOT_STEP = 7.0


class Sign(NamedTuple):
    """One sign, drawn from (0, 0) to the right, and its meaning."""

    drawn: Element | None
    width: float
    meaning: str


def square(color: str, meaning: str) -> Sign:
    """A tier's color."""
    return Sign(element("rect", y=-5, width=10, height=10, rx=2.5, fill=color), 10, meaning)


def stroke(meaning: str, **pen: Any) -> Sign:
    """A line."""
    return Sign(line(0, 0, 18, 0, **pen), 18, meaning)


def bar(meaning: str, opacity: float) -> Sign:
    """A piece of a row."""
    made = element("rect", y=-5, width=16, height=10, rx=2.5, fill="currentColor", opacity=opacity)
    return Sign(made, 16, meaning)


def lost(meaning: str) -> Sign:
    """What was not taken."""
    color = STATUS_COLORS["failed"]
    box = element("rect", y=-5, width=16, height=10, rx=2.5, fill=color, fill_opacity=0.2)
    return Sign(element("g", box, cross(5, 0, color)), 16, meaning)


def difficulty(meaning: str) -> Sign:
    """As many dots as a node has at most."""
    made = element("g", *dots(2.5, 0, 3))
    return Sign(made, _DOT_STEP * MAX_DIFFICULTY - 1, meaning)


def dots(x: float, y: float, level: int) -> list[Element]:
    """A difficulty."""
    return [
        element(
            "circle",
            cx=x + _DOT_STEP * index,
            cy=y,
            r=2.5,
            fill_opacity=0.75 if index < level else 0.2,
        )
        for index in range(MAX_DIFFICULTY)
    ]


def cross(x: float, y: float, color: str) -> Element:
    """From `x` on, around `y`."""
    path = f"M{number(x)} {number(y - 3)}l6 6m0 -6l-6 6"
    return element("path", d=path, stroke=color, stroke_width=1.8, fill="none")


def line(x1: float, y1: float, x2: float, y2: float, **pen: Any) -> Element:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"stroke": "currentColor", **pen})


def draw_legend(
    signs: Sequence[Sign], left: float, top: float, width: float
) -> tuple[Element, float]:
    """The signs in lines of this width, and the height of all that is above their lower edge."""
    x, y = left, top
    parts: list[Element] = []
    for sign in signs:
        text = fitted(sign.meaning, _LONGEST, SMALL)
        needed = _width(sign, text)
        if x > left and x + needed - _GAP > left + width:
            x, y = left, y + _LINE
        label = element("text", text, x=sign.width + 6, y=3.8, font_size=SMALL, opacity=0.85)
        place = f"translate({number(x)} {number(y)})"
        parts.append(element("g", sign.drawn, label, transform=place))
        x += needed
    return element("g", *parts, class_="sgd-legend"), y + 10


def legend_width(signs: Iterable[Sign]) -> float:
    """The width of all signs in one line."""
    return sum(_width(sign, fitted(sign.meaning, _LONGEST, SMALL)) for sign in signs) - _GAP


def _width(sign: Sign, text: str) -> float:
    return sign.width + 6 + text_width(text, SMALL) + _GAP
