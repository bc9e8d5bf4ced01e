"""LangChain's messages and options as TGI wants them, and TGI's answers as LangChain wants them.

Pure functions and values: nothing here waits or sends.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi.server import Timings

_ROLES: Final[Mapping[type[BaseMessage], str]] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
}
_TGI_GRAMMARS: Final = frozenset({"json", "json_object", "json_schema", "regex"})
_FINISH_REASONS: Final[Mapping[str, str]] = {"eos_token": "stop", "stop_sequence": "stop"}
"""TGI's own words for what LangChain and OpenAI call `stop`."""


def chat_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Make the `messages` of a chat body.

    Text-only content blocks are joined into one string, and a message with tool calls goes without
    content: TGI takes one of the two.
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
        wire["content"] = "".join(block["text"] for block in content)
    if wire.get("tool_calls"):
        wire.pop("content", None)
    return wire


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
    if kind in _TGI_GRAMMARS and "value" in response_format:
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


class StopTrimmer:
    """Takes the stop text off the end of an answer, also while it is streamed.

    TGI leaves the text that stopped it in the output, perhaps with one newline behind it. What might be
    the beginning of a stop text is held back until more text, or the end, tells.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._endings = tuple(f"{stop}\n" for stop in stops if stop)
        self._longest = max(map(len, self._endings), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """Take the next piece and return what is certain to be shown."""
        if not self._longest:
            return text
        text = self._held + text
        held = next(
            (
                length
                for length in range(min(len(text), self._longest), 0, -1)
                if any(ending.startswith(text[-length:]) for ending in self._endings)
            ),
            0,
        )
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]

    def end(self, *, stopped: bool) -> str:
        """Return the rest; `stopped` says whether a stop text ended the answer."""
        text, self._held = self._held, ""
        if not stopped:
            return text
        found = (
            len(ending) - dropped
            for ending in self._endings
            for dropped in (0, 1)
            if text.endswith(ending[: len(ending) - dropped])
        )
        return text[: len(text) - max(found, default=0)]


class Delta(NamedTuple):
    """One event of a stream, or a whole answer, in either of TGI's two shapes."""

    text: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """As on the wire; parts of calls in a stream, whole calls in an answer."""
    finish_reason: str | None = None
    """In TGI's words; None while the answer goes on."""
    usage: UsageMetadata | None = None
    model: str | None = None
    fingerprint: str | None = None


def chat_delta(body: Mapping[str, Any]) -> Delta:
    """Read a chunk of a chat stream, or a whole chat answer."""
    usage = body.get("usage")
    choice: Mapping[str, Any] = next(iter(body.get("choices") or ()), {})
    message: Mapping[str, Any] = choice.get("delta") or choice.get("message") or {}
    return Delta(
        text=message.get("content") or "",
        tool_calls=message.get("tool_calls") or (),
        finish_reason=choice.get("finish_reason"),
        usage=usage and _chat_usage(usage),
        model=body.get("model"),
        fingerprint=body.get("system_fingerprint"),
    )


def generate_delta(event: Mapping[str, Any]) -> Delta:
    """Read an event of `/generate_stream`; the end-of-sequence token has no text."""
    token = event.get("token") or {}
    details = event.get("details") or {}
    ended = event.get("generated_text") is not None
    return Delta(
        text="" if token.get("special") else token.get("text", ""),
        finish_reason=details.get("finish_reason", "unknown") if ended else None,
        usage=_usage(details.get("input_length"), details.get("generated_tokens")),
    )


def generated(body: Mapping[str, Any], timings: Timings) -> Delta:
    """Read an answer of `/generate`; only its headers know how long the prompt was."""
    details = body.get("details") or {}
    return Delta(
        text=body["generated_text"],
        finish_reason=details.get("finish_reason", "unknown"),
        usage=_usage(timings.get("prompt_tokens"), details.get("generated_tokens")),
    )


def message_of(answer: Delta, timings: Timings, stops: Sequence[str]) -> AIMessage:
    """Make the message of a whole answer."""
    trimmer = StopTrimmer(stops)
    text = trimmer.feed(answer.text)
    text += trimmer.end(stopped=answer.finish_reason == "stop_sequence")
    calls, invalid = [], []
    for raw in answer.tool_calls:
        call = _with_id(raw)
        try:
            calls.append(parse_tool_call(call, return_id=True))
        except OutputParserException as error:
            invalid.append(make_invalid_tool_call(call, str(error)))
    return AIMessage(
        content=text,
        tool_calls=[call for call in calls if call is not None],
        invalid_tool_calls=invalid,
        usage_metadata=answer.usage,
        response_metadata=_metadata(answer, timings),
    )


class StreamReader:
    """Makes message chunks of a stream's events; the last one carries usage and metadata."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._trimmer = StopTrimmer(stops)
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._finish_reason: str | None = None
        self._usage: UsageMetadata | None = None

    @property
    def model(self) -> str | None:
        """The model's name as the server gives it."""
        return self._model

    def feed(self, events: Iterable[Delta]) -> list[AIMessageChunk]:
        """Take events that arrived together and make the chunks that show them.

        Their text is one chunk: handing one on costs as much as making it. Parts of tool calls stay
        apart, because messages are added up by the index of their calls.
        """
        chunks: list[AIMessageChunk] = []
        text = ""
        for event in events:
            self._model = event.model or self._model
            self._fingerprint = event.fingerprint or self._fingerprint
            self._finish_reason = event.finish_reason or self._finish_reason
            self._usage = event.usage or self._usage
            text += self._trimmer.feed(event.text)
            if event.finish_reason is not None:
                text += self._trimmer.end(stopped=event.finish_reason == "stop_sequence")
            if event.tool_calls:
                calls = [_call_chunk(call) for call in event.tool_calls]
                chunks.append(AIMessageChunk(content=text, tool_call_chunks=calls))
                text = ""
        if text:
            chunks.append(AIMessageChunk(content=text))
        return chunks

    def last(self, timings: Timings) -> AIMessageChunk:
        """Make the chunk that ends the message."""
        end = Delta(
            finish_reason=self._finish_reason, model=self._model, fingerprint=self._fingerprint
        )
        return AIMessageChunk(
            content="",
            usage_metadata=self._usage,
            response_metadata=_metadata(end, timings),
            chunk_position="last",
        )


def _metadata(answer: Delta, timings: Timings) -> dict[str, Any]:
    reason = answer.finish_reason or ""
    metadata: dict[str, Any] = {
        "finish_reason": _FINISH_REASONS.get(reason, reason),
        "tgi_finish_reason": reason,
        "model_provider": "tgi",
        "tgi": timings,
    }
    if answer.model is not None:
        metadata["model_name"] = answer.model
    if answer.fingerprint is not None:
        metadata["system_fingerprint"] = answer.fingerprint
    return metadata


def _chat_usage(usage: Mapping[str, Any]) -> UsageMetadata | None:
    """Count tokens; those of a cached prefix where the server tells them, as TGI itself does not."""
    counted = _usage(usage["prompt_tokens"], usage["completion_tokens"])
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if counted is not None and isinstance(cached, int):
        counted["input_token_details"] = {"cache_read": cached}
    return counted


def _usage(prompt: Any, generated_tokens: Any) -> UsageMetadata | None:
    """Count tokens; None where the server did not say how many it generated."""
    if not isinstance(generated_tokens, int):
        return None
    read = prompt if isinstance(prompt, int) else 0
    return UsageMetadata(
        input_tokens=read, output_tokens=generated_tokens, total_tokens=read + generated_tokens
    )


def _with_id(call: Mapping[str, Any]) -> dict[str, Any]:
    """Give a call an id of its own, for TGI calls every call "0", and its arguments as text."""
    function = dict(call["function"])
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {})
    return {**call, "id": f"call_{uuid.uuid4().hex}", "function": function}


def _call_chunk(call: Mapping[str, Any]) -> ToolCallChunk:
    function = call.get("function") or {}
    name, arguments = function.get("name"), function.get("arguments")
    return tool_call_chunk(
        name=name,
        args=arguments
        if isinstance(arguments, str) or arguments is None
        else json.dumps(arguments),
        id=f"call_{uuid.uuid4().hex}" if name else None,
        index=call.get("index"),
    )
