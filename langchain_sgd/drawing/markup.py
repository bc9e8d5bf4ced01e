"""Elements for SVG and HTML that are escaped by construction and well-formed in both."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any
from xml.etree.ElementTree import Element, tostring

FONT = (
    "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial,"
    " 'DejaVu Sans', sans-serif"
)
_MARGIN = 4
_NOT_SHOWN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""What XML does not take, controls, and what reverses the direction of the text behind it."""
_WIDE, _BROAD, _NARROW = (
    set("mwMW@%—…"),
    re.compile(r"[A-Z0-9#&<>=+~?]"),
    set("fijltrI.,:;|!'`()[]/ -"),
)


def element(tag: str, /, *children: Element | str | None, **attributes: Any) -> Element:
    """An element; `stroke_width=1` becomes `stroke-width="1"`, None leaves an attribute out."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            text = clean(value) if isinstance(value, str) else number(value)
            made.set(name.rstrip("_").replace("_", "-"), text)
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child:
            _append_text(made, clean(child))
    return made


def svg(title: str, told: str, size: tuple[float, float], *parts: Element) -> Element:
    """A picture that says what it shows; `told` is all of it in words."""
    width, height = size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN
    # By content: a page may hold many pictures, and ids must not clash.
    name = hashlib.sha256(f"{title}{told}".encode(errors="replace")).hexdigest()[:10]
    return element(
        "svg",
        element("title", title, id=f"sgd-{name}-title"),
        element("desc", told, id=f"sgd-{name}-desc"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"{-_MARGIN} {-_MARGIN} {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"sgd-{name}-title sgd-{name}-desc",
        font_family=FONT,
        fill="currentColor",
        style="display:block;max-width:none",
    )


def to_text(root: Element) -> str:
    """The markup. No tag closes itself, because HTML does not know `<td/>`."""
    return tostring(root, encoding="unicode", short_empty_elements=False)


def number(value: float) -> str:
    """A coordinate with as few digits as it needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text_width(text: str, size: float) -> float:
    """About how wide a text is in a broad sans-serif font, in pixels; rather too much than too little."""
    return size * sum(_em(char) for char in text)


def fitted(text: str, width: float, size: float) -> str:
    """The text, cut with an ellipsis if it is wider than `width`."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    return text[: _room(text, width - text_width("…", size), size)].rstrip() + "…"


def wrapped(text: str, width: float, size: float, lines: int) -> list[str]:
    """The text in at most so many lines, cut with an ellipsis.

    Broken between words, and inside a word that is too long for a line of its own (Chinese has no spaces).
    """
    rest = " ".join(text.split())
    out: list[str] = []
    while rest and len(out) < lines - 1:
        end = _room(rest, width, size)
        if end < len(rest):
            space = rest.rfind(" ", 0, end + 1)
            end = space if space > end / 3 else end
        out.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*out, fitted(rest, width, size)] if rest else out


def _room(text: str, width: float, size: float) -> int:
    """How many characters fit; at least one."""
    for end, char in enumerate(text):
        width -= size * _em(char)
        if width < 0:
            return max(end, 1)
    return len(text)


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def clean(text: str) -> str:
    """The text without controls, and without what would reverse the direction of the text behind it."""
    return _NOT_SHOWN.sub("\ufffd", text)


def _em(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF" or char in _WIDE:
        return 1.0
    if _BROAD.match(char):
        return 0.72
    return 0.38 if char in _NARROW else 0.63
