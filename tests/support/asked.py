"""Which part of an answer a request asks for, in whichever of the two ways."""

from __future__ import annotations

import json
import re
from typing import Any

_TOLD = re.compile(r"Write only part (\d+)")
"""In words, as `Prompts.node` has it."""


def asks_for(request: Any, part: int | str | None = None) -> bool:
    """Whether a prompt or a request's body asks a writer for a part; for this one, if it is given.

    Args:
        request: The prompt, or what JSON it was sent as.
        part: The part's id.
    """
    text = request if isinstance(request, str) else json.dumps(request)
    number = r"\d+" if part is None else re.escape(str(part))
    return bool(
        re.search(rf"Write only part {number}\b|(?<!\d){number}\. \*\*[^*]+\*\*( \(.*?\))?:", text)
    )


def holds(prompt: str, words: str) -> bool:
    """Whether a prompt holds some words, or asks for the part that they ask for."""
    told = _TOLD.match(words)
    return asks_for(prompt, told[1]) if told else words in prompt
