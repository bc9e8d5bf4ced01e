"""Model text made safe for terminals."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """The text with every control character made visible; line feeds and tabs stay, carriage returns go.

    Among them is escape, which begins what colors, moves and renames; and the characters that reverse the
    direction of what follows.
    """
    return _CONTROLS.sub("\ufffd", text.replace("\r", ""))


def one_line(text: str) -> str:
    """The same, for a place of one line."""
    return safe(" ".join(text.split()))
