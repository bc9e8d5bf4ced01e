"""Conversations as clients send them, as messages of LangChain, whose own reader refuses some of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, convert_to_messages
from langchain_core.messages.tool import invalid_tool_call

_ASSISTANT: Final = frozenset({"assistant", "ai"})


def messages_of(values: Iterable[Any]) -> list[BaseMessage]:
    """Messages of whatever LangChain takes for them.

    An assistant's message may lack `content`, as clients write it that leave empty fields out. A tool call
    without arguments has none, and one whose arguments are no JSON object, a cut one, is an invalid call.

    Raises:
        ValueError: It is no message.
    """
    plain, invalid = [], {}
    for number, value in enumerate(values):
        if isinstance(value, Mapping) and _role_of(value) in _ASSISTANT:
            value, invalid[number] = _read(value)  # noqa: PLW2901
        plain.append(value)
    try:
        messages = list(convert_to_messages(plain))
    except (NotImplementedError, TypeError, KeyError, AttributeError) as error:
        # LangChain's reader says so in whatever way the value happens to fail.
        raise ValueError(str(error)) from error
    for number, calls in invalid.items():
        if calls and isinstance(message := messages[number], AIMessage):
            calls = [*message.invalid_tool_calls, *calls]  # noqa: PLW2901
            messages[number] = message.model_copy(update={"invalid_tool_calls": calls})
    return messages


def _role_of(message: Mapping[str, Any]) -> str:
    role = message.get("role", message.get("type"))
    return role if isinstance(role, str) else ""


def _read(message: Mapping[str, Any]) -> tuple[dict[str, Any], list[InvalidToolCall]]:
    """An assistant's message in LangChain's own form, and its calls that cannot be read."""
    found = {"content": "", **message} if "role" in message else dict(message)
    given = message.get("tool_calls")
    if not isinstance(given, list):
        return found, []
    calls: list[Any] = []
    invalid: list[InvalidToolCall] = []
    for call in given:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            calls.append(call)
            continue
        arguments = function.get("arguments")
        read = _arguments(arguments)
        name, call_id = function.get("name"), call.get("id")
        if read is not None:
            calls.append({"name": name, "args": read, "id": call_id, "type": "tool_call"})
            continue
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
        invalid.append(invalid_tool_call(name=name, args=text, id=call_id))
    return {**found, "tool_calls": calls}, invalid


def _arguments(given: Any) -> Mapping[str, Any] | None:
    """A call's arguments; None if they cannot be read."""
    if isinstance(given, str):
        try:
            given = json.loads(given, strict=False) if given.strip() else None
        except (ValueError, RecursionError):
            return None
    if given is None or given == "":
        return {}
    return given if isinstance(given, Mapping) else None
