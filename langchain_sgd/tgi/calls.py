"""Tool calls as TGI tells them, whole or in parts, in LangChain's form."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

from langchain_sgd.tgi.answers import mapping


class CallParts:
    """The arguments of a stream's tool calls, as far as they have come."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._names: dict[int, str] = {}
        self._places: dict[int, int] = {}
        """Of the call that a server's index stands for: some give several the same, or none."""
        self._last_is_empty = False

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, calls: Iterable[Mapping[str, Any]]) -> list[ToolCallChunk]:
        """Take the calls of one event, and give their chunks.

        Old servers name a call in each of its parts, and LangChain adds up what parts say. Calls that
        come whole under one index are given indices of their own, lest they be added up.
        """
        chunks: list[ToolCallChunk] = []
        for call in calls:
            chunk = call_chunk(call)
            name, part = chunk["name"], chunk["args"] or ""
            place = self._place(_index(call), name, part)
            if name is not None and name == self._names.get(place):
                chunk["name"] = chunk["id"] = None
            elif name is not None:
                self._names[place] = name
            chunk["index"] = place
            chunks.append(chunk)
            self._parts.setdefault(place, []).append(part)
            self._last_is_empty = not part
        return chunks

    def _place(self, index: int, name: str | None, part: str) -> int:
        """The index of the call that a part belongs to."""
        place = self._places.get(index)
        if place is None or self._is_another(place, name, part):
            place = max(self._parts) + 1 if index in self._parts else index
            self._places[index] = place
        return place

    def _is_another(self, place: int, name: str | None, part: str) -> bool:
        """Whether a part begins another call than the one that stands there."""
        known = self._names.get(place)
        if name is None or known is None:
            return False
        # Behind a whole object nothing of it can come, and what begins one is another call's.
        is_begun = part.lstrip().startswith("{")
        return name != known or (is_begun and _is_object("".join(self._parts[place])))

    @property
    def ended(self) -> bool:
        """Whether the model ended them: an empty part, or nothing is missing."""
        return self._last_is_empty or not self.broken

    @property
    def broken(self) -> dict[int, str]:
        """By index, arguments that are no JSON object."""
        whole = {index: "".join(parts) for index, parts in self._parts.items()}
        return {index: text for index, text in whole.items() if not _is_object(text)}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def spoiler(arguments: str) -> str:
    """Give what makes incomplete arguments unreadable: LangChain would guess their end otherwise.

    It is a bracket that closes nothing, behind the quotation mark of an open string.
    """
    inside = escaped = False
    stack = []
    for character in arguments:
        if escaped:
            escaped = False
        elif inside:
            escaped = character == "\\"
            inside = character != '"'
        elif character == '"':
            inside = True
        elif character in "{[":
            stack.append(character)
        elif character in "}]" and stack:
            stack.pop()
    quotation = '"' * (inside + escaped)
    return quotation + ("]" if stack[-1:] == ["{"] else "}")


def with_id(call: Mapping[str, Any]) -> dict[str, Any]:
    """Give a call an id of its own, for TGI calls every call "0", and its arguments as text."""
    function = dict(mapping(call.get("function")))
    function["name"] = str(function.get("name") or "")
    function["arguments"] = _arguments(function.get("arguments")) or "{}"
    return {**call, "id": f"call_{uuid.uuid4().hex}", "function": function}


def call_chunk(call: Mapping[str, Any]) -> ToolCallChunk:
    """Make the chunk of a part of a call; the part with the name gives it its id."""
    function = mapping(call.get("function"))
    name = function.get("name") or None
    return tool_call_chunk(
        name=name if isinstance(name, str) else None,
        args=_arguments(function.get("arguments")),
        id=f"call_{uuid.uuid4().hex}" if name else None,
        index=_index(call),
    )


def _arguments(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value)


def _index(call: Mapping[str, Any]) -> int:
    index = call.get("index")
    return index if isinstance(index, int) else 0
