"""LangChain's messages and options as TGI wants them, and TGI's answers as LangChain wants them.

Pure functions and values: nothing here waits or sends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_openai_messages,
)

from langchain_sgd.errors import InvalidInputError

_ROLES: Final[Mapping[type[BaseMessage], str]] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
}
TGI_GRAMMARS: Final = frozenset({"json", "json_object", "json_schema", "regex"})


def chat_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Make the `messages` of a chat body.

    Text-only content blocks are joined into one string. TGI takes text or tool calls, not both, and
    gives the template a message's calls as their JSON: where there is text, too, both go as text.
    """
    return [_chat_message(message) for message in messages]


def _chat_message(message: BaseMessage) -> dict[str, Any]:
    role = _ROLES.get(type(message))
    if role and isinstance(message.content, str) and not getattr(message, "tool_calls", None):
        plain: dict[str, Any] = {"role": role, "content": message.content}
        if message.name:
            plain["name"] = message.name
        return plain
    converted = convert_to_openai_messages(message, text_format="block")
    wire: dict[str, Any] = dict(converted) if isinstance(converted, dict) else dict(converted[0])
    content = wire.get("content")
    if isinstance(content, list) and all(block.get("type") == "text" for block in content):
        content = wire["content"] = "".join(block["text"] for block in content)
    if calls := wire.get("tool_calls"):
        wire.pop("content", None)
        if isinstance(content, str) and content.strip():
            del wire["tool_calls"]
            wire["content"] = f"{content}\n{_rendered(calls)}"
    return wire


def _rendered(calls: Sequence[Mapping[str, Any]]) -> str:
    """Write calls as TGI itself writes them into the prompt."""
    plain = [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {
                "description": None,
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            },
        }
        for call in calls
    ]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def prompt_text(messages: Sequence[BaseMessage]) -> str:
    """Make the raw prompt of `/generate`: the texts of the messages, a blank line between them."""
    return "\n\n".join(message.text for message in messages)


def grammar(response_format: Mapping[str, Any]) -> dict[str, Any] | None:
    """Bring any common `response_format` into TGI's form, `{"type": ..., "value": ...}`.

    TGI's own forms (`json`, `json_object`, `json_schema`, `regex` with a `value`) pass as they are;
    OpenAI's `json_schema` and llama.cpp's `json_object` with a `schema` are translated; `text` is None.

    Raises:
        InvalidInputError: The form asks for JSON without saying which, or is unknown.
    """
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind in TGI_GRAMMARS and "value" in response_format:
        return {"type": kind, "value": response_format["value"]}
    named = response_format.get("json_schema")
    schema = named.get("schema") if isinstance(named, Mapping) else response_format.get("schema")
    if kind in {"json_schema", "json_object"} and isinstance(schema, Mapping):
        return {"type": "json", "value": dict(schema)}
    msg = (
        f"TGI cannot do response_format {_shape(response_format)}: it needs a schema or an expression. "
        "Give {'type': 'json', 'value': <JSON schema>} or {'type': 'regex', 'value': <expression>}."
    )
    raise InvalidInputError(msg)


def _shape(value: Mapping[str, Any]) -> str:
    return f"of type {value.get('type')!r} with {', '.join(sorted(map(repr, value))) or 'nothing'}"
