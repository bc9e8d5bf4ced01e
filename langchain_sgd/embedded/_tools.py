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

NO_TOOL: Final = "no_tool"

_DEFAULT_PROMPT: Final = (
    "Answer with one JSON call of a function from the list above, with arguments that fit the "
    "request: {function: {_name: name of the function, name of an argument: its value}}."
)
_HEAD: Final = re.compile(
    r'\s*\{\s*"function"\s*:\s*\{\s*"_name"\s*:\s*("(?:[^"\\]|\\.)*")\s*(?:,\s*|(?=\}))'
)
_OPENING: Final = "<tool_call>"
_FREE: Final = re.compile(rf"\s*(?:{_OPENING})?\s*(\{{.*\}})\s*(?:</tool_call>)?\s*", re.DOTALL)
_TAIL: Final = re.compile(r"[\s}]*\Z")


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
        return (*tools, Tool(NO_TOOL, description, {"type": "object"}))

    found = next((tool for tool in tools if tool.name == choice.name), None)
    if found is None:
        msg = f"Tool with name {choice.name} not found"
        raise ProtocolError(Kind.TOOL, msg)
    return (found,)


def tool_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of one call of any of the functions."""
    definitions: dict[str, Any] = {}
    try:
        functions = [_function_schema(tool, definitions) for tool in tools]
    except (TypeError, AttributeError) as error:
        msg = f"The schema of a function's arguments is no JSON schema: {error}"
        raise ProtocolError(Kind.TOOL, msg) from None
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"function": functions[0] if len(functions) == 1 else {"anyOf": functions}},
        "required": ["function"],
    }
    return {**schema, "$defs": definitions} if definitions else schema


def _function_schema(tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = tool.parameters if isinstance(tool.parameters, Mapping) else {}
    own = {
        f"{keyword}/{name}": f"#/$defs/{tool.name}.{name}"
        for keyword in ("$defs", "definitions")
        for name in parameters.get(keyword, {})
    }
    moved = {f"#/{path}": target for path, target in own.items()}
    for keyword in ("$defs", "definitions"):
        for name, definition in parameters.get(keyword, {}).items():
            definitions[f"{tool.name}.{name}"] = _rewritten(definition, moved)

    return {
        "type": "object",
        "properties": {
            "_name": {"type": "string", "const": tool.name},
            **_rewritten(parameters.get("properties", {}), moved),
        },
        "required": ["_name", *parameters.get("required", [])],
        "additionalProperties": False,
    }


def _rewritten(schema: Any, moved: Mapping[str, str]) -> Any:
    """The schema with its references to a function's own definitions pointing to the shared ones."""
    if isinstance(schema, Mapping):
        return {
            key: moved.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _rewritten(value, moved)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_rewritten(item, moved) for item in schema]
    return schema


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
    shown = "" if template_uses_tools else f"{_shown(tools)}\n"
    text = f"\n---\n{shown}{tool_prompt or _DEFAULT_PROMPT}"
    said = [place for place, message in enumerate(messages) if message["role"] == "user"]
    last = len(messages) - 1
    if said and messages[last]["role"] in ("tool", "assistant"):
        last = said[-1]
    return [
        {**message, "content": f"{message.get('content', '')}{text}"} if place == last else message
        for place, message in enumerate(messages)
    ]


def _shown(tools: Sequence[Tool]) -> str:
    return json.dumps([tool.as_json() for tool in tools], ensure_ascii=False)


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
    if name == NO_TOOL:
        return None
    return Call(str(name), json.dumps(function, ensure_ascii=False, separators=(",", ":")))


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
    if not isinstance(arguments, Mapping) or name not in {tool.name for tool in tools}:
        return None
    return Call(name, json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


def may_be_call(text: str) -> bool:
    """Whether a text that has only begun can become such a call."""
    begun = text.lstrip()
    return begun.startswith(("{", _OPENING)) or _OPENING.startswith(begun)


class CallStream:
    """Turns the growing text of a call into the pieces of a streamed call.

    Chunk borders do not matter: the pieces joined are the arguments' JSON, wherever tokens end.
    """

    __slots__ = ("_held", "name")

    def __init__(self) -> None:
        self.name: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next text; what can be shown of the arguments, or nothing yet."""
        self._held += text
        opening = ""
        if self.name is None:
            head = _HEAD.match(self._held)
            if head is None:
                return ""
            self.name = str(json.loads(head[1]))
            self._held = self._held[head.end() :]
            opening = "{"

        # The last two braces close the arguments and the call; only the first is shown, at the end.
        tail = _TAIL.search(self._held)
        cut = tail.start() if tail is not None else len(self._held)
        shown, self._held = self._held[:cut], self._held[cut:]
        return opening + shown

    def finish(self) -> str:
        """The rest of the arguments, once the text is complete."""
        closing = self._held.rstrip().removesuffix("}")
        self._held = ""
        return closing.rstrip()
