"""LangChain's messages and options as TGI wants them, and TGI's answers as LangChain wants them.

Pure functions and values: nothing here waits or sends.
"""

from __future__ import annotations

import itertools
import json
import logging
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

_log: Final = logging.getLogger("langchain_sgd")

_ROLES: Final[Mapping[type[BaseMessage], str]] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
}
_PLAIN_DELTA: Final = frozenset({"role", "content"})
_TGI_GRAMMARS: Final = frozenset({"json", "json_object", "json_schema", "regex"})
_FINISH_REASONS: Final[Mapping[str, str]] = {"eos_token": "stop", "stop_sequence": "stop"}
"""TGI's own words for what LangChain and OpenAI call `stop`."""


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
    reasoning: str = ""
    """What a gateway that reads the model's thoughts sends beside the text."""
    logprobs: Sequence[Mapping[str, Any]] = ()
    """`token`, `logprob` and `top_logprobs` of each token, where they were asked for."""
    whole: str | None = None
    """The text that a stream's last event repeats."""


def chat_delta(body: Mapping[str, Any]) -> Delta:
    """Read a chunk of a chat stream, or a whole chat answer.

    What has a wrong type is left out: no text is lost for the sake of what stands beside it.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    usage = body.get("usage")
    if isinstance(choice, dict) and not usage:  # a token and nothing else is what most events are
        delta = choice.get("delta")
        if (
            isinstance(delta, dict)
            and choice.get("finish_reason") is None
            and choice.get("logprobs") is None
            and delta.keys() <= _PLAIN_DELTA
            and isinstance(text := delta.get("content"), str)
            and isinstance(model := body.get("model"), str)
        ):
            return Delta(text, model=model)
    model, fingerprint = body.get("model"), body.get("system_fingerprint")
    text = reasoning = ""
    reason = None
    calls: Sequence[Mapping[str, Any]] = ()
    logprobs: Sequence[Mapping[str, Any]] = ()
    if isinstance(choice, dict):
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            text = _text(message.get("content"))
            calls = _mappings(message.get("tool_calls"))
            reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        reason = choice.get("finish_reason")
        asked = choice.get("logprobs")
        if asked and isinstance(asked, dict):
            logprobs = _mappings(asked.get("content"))
    return Delta(
        text,
        calls,
        None if reason is None else str(reason),
        _chat_usage(usage) if usage else None,
        model if isinstance(model, str) else None,
        fingerprint if isinstance(fingerprint, str) else None,
        reasoning,
        logprobs,
    )


def generate_delta(event: Mapping[str, Any]) -> Delta:
    """Read an event of `/generate_stream`; the end-of-sequence token has no text."""
    token = _mapping(event.get("token"))
    details = _mapping(event.get("details"))
    whole = event.get("generated_text")
    piece = token.get("text") if "token" in event else whole  # one that came without any token
    return Delta(
        text="" if token.get("special") else _text(piece),
        finish_reason=None if whole is None else str(details.get("finish_reason", "unknown")),
        usage=_usage(details.get("input_length"), details.get("generated_tokens")),
        logprobs=_token_logprobs([token], [event.get("top_tokens")]),
        whole=whole if isinstance(whole, str) else None,
    )


def generated(body: Mapping[str, Any], timings: Timings) -> Delta:
    """Read an answer of `/generate`; only its headers know how long the prompt was."""
    details = _mapping(body.get("details"))
    tops = details.get("top_tokens")
    return Delta(
        text=body["generated_text"],
        finish_reason=str(details.get("finish_reason", "unknown")),
        usage=_usage(timings.get("prompt_tokens"), details.get("generated_tokens")),
        logprobs=_token_logprobs(
            _mappings(details.get("tokens")), tops if isinstance(tops, list) else ()
        ),
    )


def _token_logprobs(tokens: Sequence[Mapping[str, Any]], tops: Sequence[Any]) -> list[Any]:
    """Bring the tokens of `/generate` into the form of the chat route, special ones left out."""
    empty: Mapping[str, Any] = {}
    return [
        {
            "token": token.get("text"),
            "logprob": token.get("logprob"),
            "top_logprobs": [
                {"token": each.get("text"), "logprob": each.get("logprob")}
                for each in _mappings(top)
            ],
        }
        for token, top in itertools.zip_longest(tokens, tops, fillvalue=empty)
        if token.get("text") and not token.get("special")
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    if not value or not isinstance(value, list):
        return ()
    return [each for each in value if isinstance(each, dict)]


def _text(value: Any) -> str:
    """Give a text, or those of the blocks that some gateways make of one."""
    if isinstance(value, str):
        return value
    return "".join(_text(block.get("text")) for block in _mappings(value)) if value else ""


class ChatEnding:
    """Knows when a chat stream is whole.

    One of text shows a finish reason. One of a tool call shows none: it is whole with `[DONE]`, or with
    complete arguments. Where tools were offered, `[DONE]` alone says that `max_tokens` cut the answer
    before the tool's name was known.
    """

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools
        self._finished = False
        self._calls = CallParts()

    def see(self, event: Mapping[str, Any], /) -> None:
        """Take an event."""
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if choice.get("finish_reason"):
            self._finished = True
        delta = choice.get("delta")
        if isinstance(delta, dict) and (calls := delta.get("tool_calls")):
            self._calls.add(_mappings(calls))

    def reached(self, *, done: bool) -> bool:
        """Whether the events are a whole stream; `done` says that `[DONE]` came behind them."""
        if self._finished:
            return True
        return (done and self._tools) or (bool(self._calls) and (done or self._calls.ended))


class GenerateEnding:
    """Knows when a stream of `/generate_stream` is whole: its last event repeats the text."""

    def __init__(self) -> None:
        self._finished = False

    def see(self, event: Mapping[str, Any], /) -> None:
        """Take an event."""
        self._finished = self._finished or event.get("generated_text") is not None

    def reached(self, *, done: bool) -> bool:  # noqa: ARG002 - this route sends none
        """Whether the events are a whole stream."""
        return self._finished


class CallParts:
    """The arguments of a stream's tool calls, as far as they have come."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}
        self._last_is_empty = False

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, calls: Iterable[Mapping[str, Any]]) -> None:
        """Take the calls of one event."""
        for call in calls:
            part = _arguments(_mapping(call.get("function")).get("arguments")) or ""
            self._parts.setdefault(_index(call), []).append(part)
            self._last_is_empty = not part

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


def _spoiler(arguments: str) -> str:
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
        additional_kwargs=_thoughts(answer),
        tool_calls=[call for call in calls if call is not None],
        invalid_tool_calls=invalid,
        usage_metadata=answer.usage,
        response_metadata=_metadata(answer, timings) | _logprobs(answer.logprobs),
    )


def _thoughts(answer: Delta) -> dict[str, Any]:
    return {"reasoning_content": answer.reasoning} if answer.reasoning else {}


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"logprobs": {"content": list(tokens)}} if tokens else {}


class StreamReader:
    """Makes message chunks of a stream's events; the last one carries usage and metadata."""

    def __init__(self, stops: Sequence[str], *, logprobs: bool = True) -> None:
        self._trimmer = StopTrimmer(stops)
        self._logprobs = logprobs
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._finish_reason: str | None = None
        self._usage: UsageMetadata | None = None
        self._calls = CallParts()
        self._shown = False
        self._pieces: list[str] = []
        self._whole: str | None = None

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
        text = reasoning = ""
        logprobs: list[Mapping[str, Any]] = []
        for event in events:
            self._model = event.model or self._model
            self._fingerprint = event.fingerprint or self._fingerprint
            self._usage = event.usage or self._usage
            self._pieces.append(event.text)
            text += self._trimmer.feed(event.text)
            reasoning += event.reasoning
            logprobs.extend(event.logprobs if self._logprobs else ())
            if event.finish_reason is not None:
                self._finish_reason = event.finish_reason or self._finish_reason
                self._whole = event.whole
                text += self._trimmer.end(stopped=event.finish_reason == "stop_sequence")
            if event.tool_calls:
                self._calls.add(event.tool_calls)
                calls = [_call_chunk(call) for call in event.tool_calls]
                chunks.append(AIMessageChunk(content=text, tool_call_chunks=calls))
                text = ""
        if reasoning or logprobs:
            chunks.append(
                AIMessageChunk(
                    content=text,
                    additional_kwargs=_thoughts(Delta(reasoning=reasoning)),
                    response_metadata=_logprobs(logprobs),
                )
            )
        elif text:
            chunks.append(AIMessageChunk(content=text))
        self._shown = self._shown or bool(chunks)
        return chunks

    def last(self, timings: Timings) -> AIMessageChunk:
        """Make the chunk that ends the message.

        Arguments of a call that were cut are made unreadable, which makes an invalid tool call of it.
        """
        broken = self._calls.broken
        reason = self._finish_reason
        if reason is None:  # a tool's stream tells none
            cut = bool(broken) or not self._shown
            reason = "length" if cut and not (self._calls and self._calls.ended) else "stop"
        end = Delta(finish_reason=reason, model=self._model, fingerprint=self._fingerprint)
        return AIMessageChunk(
            content="",
            tool_call_chunks=[
                tool_call_chunk(name=None, args=_spoiler(arguments), id=None, index=index)
                for index, arguments in broken.items()
            ],
            usage_metadata=self._usage,
            response_metadata=_metadata(end, timings) | self._difference(),
            chunk_position="last",
        )

    def _difference(self) -> dict[str, Any]:
        """Tell where the pieces of a stream are not the text that the server has of it."""
        if self._whole is None or self._whole == "".join(self._pieces):
            return {}
        warning = "The stream's pieces do not add up to the text that the server has of them."
        _log.warning("%s It stands in response_metadata['generated_text'].", warning)
        return {"warnings": [warning], "generated_text": self._whole}


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


def _chat_usage(usage: Any) -> UsageMetadata | None:
    """Count tokens; those of a cached prefix where the server tells them, as TGI itself does not."""
    usage = _mapping(usage)
    counted = _usage(usage.get("prompt_tokens"), usage.get("completion_tokens"))
    cached = _mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
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
    function = dict(_mapping(call.get("function")))
    function["name"] = str(function.get("name") or "")
    function["arguments"] = _arguments(function.get("arguments")) or "{}"
    return {**call, "id": f"call_{uuid.uuid4().hex}", "function": function}


def _call_chunk(call: Mapping[str, Any]) -> ToolCallChunk:
    function = _mapping(call.get("function"))
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
