"""Function calling the way TGI does it: a grammar that makes the model write one call as JSON.

The grammar's language is `{"function": {"_name": "<function>", <arguments>}}`. With the choice left
to the model there is one more function, `no_tool`; a model that picks it is asked again, freely.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_sgd.embedded._bodies import Tool, ToolChoice
from langchain_sgd.embedded._errors import Kind, ProtocolError

_NO_TOOL: Final = "no_tool"

_DEFAULT_PROMPT: Final = (
    "Answer with one JSON call of a function from the list above, with arguments that fit the "
    "request: {function: {_name: name of the function, name of an argument: its value}}."
)
_BEGUN: Final = re.compile(
    r'\s*\{\s*"function"\s*:\s*\{\s*"_name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,?\s*(.*)', re.DOTALL
)
_FREE: Final = re.compile(r"\s*(?:<tool_call>)?\s*(\{.*\})\s*(?:</tool_call>)?\s*", re.DOTALL)


def selected_tools(tools: Sequence[Tool] | None, choice: ToolChoice) -> tuple[Tool, ...]:
    """The functions the model may choose from; none where it must write text.

    Raises:
        ProtocolError: The function that must be called does not exist.
    """
    if tools is None or choice.mode == "none":
        return ()
    if choice.mode == "required":
        return tuple(tools)
    if choice.mode == "auto":
        description = "Open ended response with no specific tool selected"
        return (*tools, Tool(_NO_TOOL, description, {"type": "object"}))

    found = next((tool for tool in tools if tool.name == choice.name), None)
    if found is None:
        msg = f"Tool with name {choice.name} not found"
        raise ProtocolError(Kind.TOOL, msg)
    return (found,)


def tool_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of one call of any of the functions.

    As in TGI, of a function's schema only the properties count and which of them are required.

    Raises:
        ProtocolError: A function's name is none by which TGI can refer to its schema.
    """
    functions = [_function_schema(tool) for tool in tools]
    return {
        "type": "object",
        "properties": {"function": functions[0] if len(functions) == 1 else {"anyOf": functions}},
        "required": ["function"],
    }


def _function_schema(tool: Tool) -> dict[str, Any]:
    if not tool.name or "/" in tool.name or "#" in tool.name:
        msg = f"cannot compile regex from schema: invalid reference #/$functions/{tool.name}"
        raise ProtocolError(Kind.VALIDATION, msg)
    given = tool.parameters if isinstance(tool.parameters, Mapping) else {}
    properties, required = given.get("properties"), given.get("required")
    named = required if isinstance(required, list) else []
    return {
        "type": "object",
        "properties": {
            "_name": {"type": "string", "const": tool.name},
            **(properties if isinstance(properties, Mapping) else {}),
        },
        "required": ["_name", *(each for each in named if isinstance(each, str))],
        "additionalProperties": False,
    }


def with_tools(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Tool],
    tool_prompt: str | None,
    *,
    template_uses_tools: bool,
) -> list[Mapping[str, Any]]:
    """The messages with the functions and the prompt that asks for a call, in the last one.

    In the user's last one where a tool's answer follows, whose words they are not.
    """
    listed = json.dumps([tool.as_json() for tool in tools], ensure_ascii=False)
    shown = "" if template_uses_tools else f"{listed}\n"
    text = f"\n---\n{shown}{tool_prompt or _DEFAULT_PROMPT}"
    said = [place for place, message in enumerate(messages) if message["role"] == "user"]
    last = len(messages) - 1
    if said and messages[last]["role"] in ("tool", "assistant"):
        last = said[-1]
    return [
        {**message, "content": f"{message.get('content', '')}{text}"} if place == last else message
        for place, message in enumerate(messages)
    ]


@dataclass(frozen=True, slots=True)
class Call:
    """One function call, as the model wrote it."""

    name: str
    arguments: str
    """A JSON object."""


def parse_call(text: str) -> Call | None:
    """Read a complete call; None is the choice of no function.

    Raises:
        ProtocolError: The text is no call; a model without grammar support wrote it, or it was cut.
    """
    try:
        parsed = json.loads(text)
        function = dict(parsed["function"])
        name = function.pop("_name")
    except (ValueError, TypeError, KeyError) as error:
        reason = f"missing {error}" if isinstance(error, KeyError) else str(error)
        quoted = json.dumps(text, ensure_ascii=False)
        msg = f"Failed to parse generated text: {reason} {quoted}"
        raise ProtocolError(Kind.TOOL, msg) from None
    return None if name == _NO_TOOL else _call(str(name), function)


def begun_call(text: str) -> Call | None:
    """What there is of a call that was cut; None before its name."""
    begun = _BEGUN.fullmatch(text)
    if begun is None or (name := json.loads(begun[1])) == _NO_TOOL:
        return None
    return Call(name, f"{{{begun[2]}")


def free_call(text: str, tools: Sequence[Tool]) -> Call | None:
    """A call that a model wrote of its own accord, in the form that most templates teach; None is text."""
    found = _FREE.fullmatch(text)
    if found is None:
        return None
    try:
        said = json.loads(found[1])
        name, arguments = said["name"], said.get("arguments", said.get("parameters", {}))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(arguments, Mapping) or name not in [tool.name for tool in tools]:
        return None
    return _call(name, arguments)


def _call(name: str, arguments: Mapping[str, Any]) -> Call:
    return Call(name, json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


def may_be_call(text: str) -> bool:
    """Whether a text that has only begun can become such a call."""
    return text.lstrip()[:1] in ("", "{", "<")
