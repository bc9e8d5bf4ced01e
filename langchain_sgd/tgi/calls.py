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
        self._last_is_empty = False

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, calls: Iterable[Mapping[str, Any]]) -> list[ToolCallChunk]:
        """Take the calls of one event, and give their chunks.

        Old servers name a call in each of its parts, and LangChain adds up what parts say.
        """
        chunks: list[ToolCallChunk] = []
        for call in calls:
            chunk, index = call_chunk(call), _index(call)
            if chunk["name"] is not None and chunk["name"] == self._names.get(index):
                chunk = tool_call_chunk(name=None, args=chunk["args"], id=None, index=index)
            elif chunk["name"] is not None:
                self._names[index] = chunk["name"]
            chunks.append(chunk)
            part = _arguments(mapping(call.get("function")).get("arguments")) or ""
            self._parts.setdefault(_index(call), []).append(part)
            self._last_is_empty = not part
        return chunks

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
