"""Texts of models and servers made safe for terminals, and for JSON that is shown in one."""

from __future__ import annotations

import json
import re
from typing import Any

_STEERING = "\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""What JSON leaves as it is: the second set of controls, reversed directions, halves of characters."""
_CONTROLS = re.compile(f"[\x00-\x08\x0b-\x1f{_STEERING}]")
_NOT_ESCAPED = re.compile(f"[{_STEERING}]")


def safe(text: str) -> str:
    """The text with every control character made visible; line feeds and tabs stay, carriage returns go.

    Among them is escape, which begins what colors, moves and renames; and the characters that reverse the
    direction of what follows.
    """
    return _CONTROLS.sub("\ufffd", text.replace("\r", ""))


def one_line(text: str) -> str:
    """The same, for a place of one line."""
    return safe(" ".join(text.split()))


def json_text(value: Any) -> str:
    """JSON, indented, in which what could steer a terminal is escaped; it reads back as it was."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return _NOT_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"
