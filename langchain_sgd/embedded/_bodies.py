"""The request bodies of TGI's routes as typed values; shape only, no rules.

A body that does not fit raises `RejectionError` (422, `text/plain`), as TGI's deserializer does. Fields
that TGI ignores are checked for their type and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, NoReturn

from langchain_sgd.embedded._serde import (
    Value,
    anything,
    boolean,
    f32,
    i32,
    string,
    strings,
    u32,
    u64,
    usize,
)


@dataclass(frozen=True, slots=True)
class GrammarForm:
    """A grammar as the client wrote it; `langchain_sgd.embedded._validation` compiles it."""

    kind: Literal["json", "regex"]
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How to generate; names and defaults are TGI's."""

    best_of: int | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    greedy: bool = False
    """Set by chat and completions for a temperature of 0: no other field turns sampling on."""
    max_new_tokens: int | None = None
    return_full_text: bool | None = None
    stop: tuple[str, ...] = ()
    truncate: int | None = None
    details: bool = False
    decoder_input_details: bool = False
    seed: int | None = None
    top_n_tokens: int | None = None
    logprobs: bool = False
    """Whether the answer shows log-probabilities; computing them slows engines down."""
    grammar: GrammarForm | None = None


@dataclass(frozen=True, slots=True)
class GenerateBody:
    """Body of `/generate`, `/generate_stream`, `/tokenize` and, with `stream`, of `/`."""

    inputs: str
    parameters: Parameters
    _: KW_ONLY
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: Any
    """JSON schema of the arguments."""

    def as_json(self) -> dict[str, Any]:
        """The tool as chat templates and prompts show it."""
        function = {"description": self.description, "name": self.name}
        return {"type": "function", "function": {**function, "arguments": self.parameters}}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which functions may or must be called."""

    mode: Literal["auto", "none", "required", "function"]
    name: str | None = None


AUTO: Final = ToolChoice("auto")


@dataclass(frozen=True, slots=True)
class ChatBody:
    """Body of `/v1/chat/completions` and `/chat_tokenize`."""

    messages: tuple[Mapping[str, Any], ...]
    """Text messages: `role`, `content` and what else templates may use, `name` and `tool_call_id`."""
    parameters: Parameters
    _: KW_ONLY
    model: str | None = None
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice = AUTO
    tool_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class CompletionBody:
    """Body of `/v1/completions`."""

    prompts: tuple[str, ...]
    parameters: Parameters
    _: KW_ONLY
    model: str | None = None
    stream: bool = False
    suffix: str | None = None


# --- generate


def generate_body(body: Value) -> GenerateBody:
    """Read a `GenerateRequest` or `CompatGenerateRequest`."""
    body.named("GenerateRequest")
    return GenerateBody(
        string(body.required("inputs")),
        # TGI samples when `parameters` is absent and decodes greedily when it is there.
        body.default("parameters", _parameters, Parameters(do_sample=True)),
        stream=body.default("stream", boolean, default=False),
    )


def _parameters(body: Value) -> Parameters:
    body.named("GenerateParameters")
    body.option("watermark", boolean)
    body.option("adapter_id", string)
    best_of = body.option("best_of", usize)
    details = body.default("details", boolean, default=False)
    return Parameters(
        best_of=best_of,
        temperature=body.option("temperature", f32),
        repetition_penalty=body.option("repetition_penalty", f32),
        frequency_penalty=body.option("frequency_penalty", f32),
        top_k=body.option("top_k", i32),
        top_p=body.option("top_p", f32),
        typical_p=body.option("typical_p", f32),
        do_sample=body.default("do_sample", boolean, default=False),
        max_new_tokens=body.option("max_new_tokens", u32),
        return_full_text=body.option("return_full_text", boolean),
        stop=body.default("stop", strings, ()),
        truncate=body.option("truncate", usize),
        details=details,
        logprobs=details or (best_of is not None and best_of > 1),
        decoder_input_details=body.default("decoder_input_details", boolean, default=False),
        seed=body.option("seed", u64),
        top_n_tokens=body.option("top_n_tokens", u32),
        grammar=body.option("grammar", _grammar),
    )


def _grammar(body: Value) -> GrammarForm:
    if not isinstance(body.raw, dict):
        body.wrong("adjacently tagged enum GrammarType")
    kind = body.required("type")
    tag = string(kind)
    if tag not in ("json", "json_object", "regex", "json_schema"):
        known = "`json`, `json_object`, `regex`, `json_schema`"
        kind.refuse(f"unknown variant `{tag}`, expected one of {known}")

    content = body.required("value")
    match tag:
        case "regex":
            return GrammarForm("regex", string(content))
        case "json_schema":
            content.option("name", string)
            return GrammarForm("json", content.required("schema").raw)
        case _:
            return GrammarForm("json", content.raw)


# --- chat


def chat_body(body: Value) -> ChatBody:
    """Read a `ChatRequest`."""
    messages = tuple(_message(item) for item in body.required("messages").items())
    _check_ignored(body)
    temperature = body.option("temperature", f32)
    presence_penalty = body.option("presence_penalty", f32)
    logprobs = bool(body.option("logprobs", boolean))
    parameters = Parameters(
        # In chat, a temperature of 0 asks for greedy decoding and no temperature for sampling.
        do_sample=temperature != 0,
        greedy=temperature == 0,
        temperature=temperature if temperature != 0 else None,
        # TGI's own mapping: a presence penalty of 0 is a repetition penalty of 2.
        repetition_penalty=None if presence_penalty is None else presence_penalty + 2,
        frequency_penalty=body.option("frequency_penalty", f32),
        top_p=body.option("top_p", f32),
        max_new_tokens=body.option("max_tokens", u32, "max_completion_tokens"),
        stop=body.option("stop", strings) or (),
        seed=body.option("seed", u64),
        top_n_tokens=body.option("top_logprobs", u32),
        logprobs=logprobs,
        grammar=body.option("response_format", _grammar),
        details=True,
    )
    return ChatBody(
        messages,
        parameters,
        model=body.option("model", string),
        stream=body.default("stream", boolean, default=False),
        include_usage=bool(body.option("stream_options", _include_usage)),
        tools=body.option("tools", _tools),
        tool_choice=body.option("tool_choice", _tool_choice) or AUTO,
        tool_prompt=body.option("tool_prompt", string),
    )


def _check_ignored(body: Value) -> None:
    body.option("n", u32)
    body.option("guideline", string)
    body.option("logit_bias", lambda value: [f32(item) for item in value.items()])


def _include_usage(options: Value) -> bool:
    return options.default("include_usage", boolean, default=False)


def _message(body: Value) -> dict[str, Any]:
    body.named("Message")
    message: dict[str, Any] = {"role": string(body.required("role"))}
    for extra in ("name", "tool_call_id"):
        text = body.option(extra, string)
        if text is not None:
            message[extra] = text

    content = body.field("content")
    calls = body.field("tool_calls")
    if content is not None and isinstance(content.raw, str):
        message["content"] = content.raw
    elif content is not None and isinstance(content.raw, list):
        message["content"] = "".join(_chunk(item, body) for item in content.items())
    elif calls is not None and isinstance(calls.raw, list):
        message["tool_calls"] = [_tool_call(call, body) for call in calls.raw]
    else:
        _no_variant(body)
    return message


def _no_variant(body: Value) -> NoReturn:
    body.refuse("data did not match any variant of untagged enum MessageBody")


def _chunk(chunk: Value, message: Value) -> str:
    """The text of a content chunk; an image is shown as Markdown, as to TGI's text models."""
    match chunk.raw:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return f"![]({url})"
        case _:
            _no_variant(message)


def _tool_call(call: Any, message: Value) -> dict[str, Any]:
    match call:
        case {"id": str(), "type": str(), "function": {"name": str(), **function}} if (
            "arguments" in function or "parameters" in function
        ):
            return dict(call)
        case _:
            _no_variant(message)


def _tools(body: Value) -> tuple[Tool, ...]:
    return tuple(_tool(item) for item in body.items())


def _tool(body: Value) -> Tool:
    string(body.required("type"))
    function = body.required("function")
    parameters = function.field("arguments") or function.field("parameters")
    if parameters is None:
        function.refuse("missing field `arguments`")
    return Tool(
        string(function.required("name")),
        function.option("description", string),
        anything(parameters),
    )


def _tool_choice(body: Value) -> ToolChoice:
    match body.raw:
        case "auto" | "none" | "required" as mode:
            return ToolChoice(mode)
        case str(name):
            return ToolChoice("function", name)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("function", name)
    return body.refuse("data did not match any variant of untagged enum ToolTypeDeserializer")


# --- completions


def completion_body(body: Value) -> CompletionBody:
    """Read a `CompletionRequest`."""
    temperature = body.option("temperature", f32)
    parameters = Parameters(
        do_sample=temperature != 0,
        greedy=temperature == 0,
        temperature=temperature if temperature != 0 else None,
        repetition_penalty=body.option("repetition_penalty", f32),
        frequency_penalty=body.option("frequency_penalty", f32),
        top_p=body.option("top_p", f32),
        max_new_tokens=body.option("max_tokens", u32),
        stop=body.option("stop", strings) or (),
        seed=body.option("seed", u64),
        details=True,
    )
    return CompletionBody(
        _prompts(body.required("prompt")),
        parameters,
        model=body.option("model", string),
        stream=body.default("stream", boolean, default=False),
        suffix=body.option("suffix", string),
    )


def _prompts(body: Value) -> tuple[str, ...]:
    match body.raw:
        case str(text):
            return (text,)
        case []:
            body.refuse("Empty array detected. Do not use an empty array for the prompt.")
        case [*texts] if all(isinstance(text, str) for text in texts):
            return tuple(texts)
    return body.refuse("data did not match any variant of untagged enum PromptDeserializer")
