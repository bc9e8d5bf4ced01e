"""JSON objects of a planner's text as drafts of nodes, under the names that models give the fields."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from langchain_sgd.planning.drafts import Draft
from langchain_sgd.planning.lines import dependencies_of, difficulty_of

LIST_KEYS: Final = ("parts", "nodes", "skeleton", "plan")
_HEADING_KEYS = ("heading", "title", "summary", "name")
_SCOPE_KEYS = ("scope", "description", "covers")
_DEPENDENCY_KEYS = ("dependencies", "deps", "needed", "needs", "depends_on")
_ID = re.compile(r"\W*(?:[A-Za-z]+\s*)?(\d{1,4})\W*")
_OTHER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def parse_object(text: str) -> dict[str, Any]:
    """The object that a text spells; empty if it spells none."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def to_draft(value: dict[str, Any]) -> Draft | None:
    """The node that an object describes; None if it is something else."""
    heading, scope = _first(value, _HEADING_KEYS), _first(value, _SCOPE_KEYS)
    raw = _first(value, _DEPENDENCY_KEYS)
    difficulty = value.get("difficulty")
    if not isinstance(heading, str) or (scope, raw, difficulty, value.get("id")) == (None,) * 4:
        return None
    if isinstance(raw, str | int):
        raw = dependencies_of(str(raw)) or ()
    return Draft(
        id=_id_text(value.get("id", "")),
        heading=heading,
        scope=scope if isinstance(scope, str) else "",
        dependencies=tuple(
            filter(None, map(_id_text, raw if isinstance(raw, list | tuple) else ()))
        ),
        difficulty=None if difficulty is None else difficulty_of(str(difficulty)),
    )


def _first(value: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if key in value), None)


def _id_text(value: Any) -> str:
    """An id or a reference as a node's line would spell it: `"n1"` and `1` are the same."""
    text = str(value).strip()
    if match := _ID.fullmatch(text):
        return str(int(match[1]))
    if _OTHER_ID.fullmatch(text):
        return text
    match = re.search(r"\d{1,4}", text)
    return str(int(match[0])) if match else text
