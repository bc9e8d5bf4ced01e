"""The request bodies of TGI's routes, read by pydantic; shape only, no rules.

A body that does not fit raises `RejectionError` (422, `text/plain`), as TGI's deserializer does, though in
pydantic's words. Fields that TGI ignores are checked for their type and dropped.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from langchain_sgd.embedded._errors import PREFIX, RejectionError
from langchain_sgd.embedded.engine import Grammar

F32 = Annotated[float, AfterValidator(lambda value: ctypes.c_float(value).value)]
"""A number of single precision, as TGI holds it."""
I32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
U32 = Annotated[int, Field(ge=0, lt=2**32)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


def _grammar(raw: Any) -> Grammar | None:
    match raw:
        case None | Grammar():
            return raw
        case {"type": "regex", "value": str(text)}:
            return Grammar("regex", text)
        case {"type": "json" | "json_object", "value": value}:
            return Grammar("json", value)
        case {"type": "json_schema", "value": {"schema": schema, **rest}} if isinstance(
            rest.get("name", ""), str
        ):
            return Grammar("json", schema)
    msg = (
        "expected a `type`, one of `json`, `json_object`, `regex`, `json_schema`, and its `value`: a schema,"
        " an expression, or {name, schema}"
    )
    raise ValueError(msg)


_GrammarField = Annotated[Grammar | None, PlainValidator(_grammar)]


class GenerateParameters(_Body):
    """How to generate, as clients of `/generate` say it; names and defaults are TGI's."""

    best_of: U64 | None = None
    temperature: F32 | None = None
    repetition_penalty: F32 | None = None
    frequency_penalty: F32 | None = None
    top_k: I32 | None = None
    top_p: F32 | None = None
    typical_p: F32 | None = None
    do_sample: bool = False
    max_new_tokens: U32 | None = None
    return_full_text: bool | None = None
    stop: Texts = ()
    truncate: U64 | None = None
    watermark: bool | None = None
    adapter_id: str | None = None
    details: bool = False
    decoder_input_details: bool = False
    seed: U64 | None = None
    top_n_tokens: U32 | None = None
    grammar: _GrammarField = None


class Parameters(GenerateParameters):
    """How to generate, for every route."""

    greedy: bool = False
    """Set by chat and completions for a temperature of 0: no other field turns sampling on."""
    logprobs: bool = False
    """Whether the answer shows log-probabilities; computing them slows engines down."""


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


def _tool(raw: Any) -> Tool:
    match raw:
        case {"type": str(), "function": {"name": str(name), **function}} if function.keys() & {
            "arguments",
            "parameters",
        }:
            description: Any = function.get("description")
            if isinstance(description, str | None):
                parameters = function.get("arguments", function.get("parameters"))
                return Tool(name, description, parameters)
    msg = "expected {type, function: {name, description, parameters}}"
    raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which functions may or must be called."""

    mode: Literal["auto", "none", "required", "function"]
    name: str | None = None


AUTO: Final = ToolChoice("auto")


def _tool_choice(raw: Any) -> ToolChoice:
    match raw:
        case None:
            return AUTO
        case "auto" | "none" | "required":
            return ToolChoice(raw)
        case str(name) | {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("function", name)
    return _no_variant("ToolTypeDeserializer")


def _message(raw: Any) -> dict[str, Any]:
    """A message as chat templates take it: text, or calls of functions."""
    if not (isinstance(raw, Mapping) and isinstance(raw.get("role"), str)):
        msg = "expected a message with a `role`"
        raise ValueError(msg)  # noqa: TRY004 - of this kind pydantic makes an answer
    names = ("role", "name", "tool_call_id")
    message = {name: raw[name] for name in names if raw.get(name) is not None}
    for name, text in message.items():
        if not isinstance(text, str):
            msg = f"expected a string as `{name}`"
            raise ValueError(msg)  # noqa: TRY004 - as above
    match raw:
        case {"content": str(text)}:
            return {**message, "content": text}
        case {"content": [*chunks]}:
            return {**message, "content": "".join(map(_chunk, chunks))}
        case {"tool_calls": [*calls]}:
            return {**message, "tool_calls": [_tool_call(call) for call in calls]}
    return _no_variant("MessageBody")


def _chunk(chunk: Any) -> str:
    """The text of a content chunk; an image is shown as Markdown, as to TGI's text models."""
    match chunk:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return f"![]({url})"
    return _no_variant("MessageBody")


def _tool_call(call: Any) -> dict[str, Any]:
    match call:
        case {"id": str(), "type": str(), "function": {"name": str(), **function}} if (
            function.keys() & {"arguments", "parameters"}
        ):
            return dict(call)
    return _no_variant("MessageBody")


def _prompts(raw: Any) -> tuple[str, ...]:
    match raw:
        case str(text):
            return (text,)
        case []:
            msg = "Empty array detected. Do not use an empty array for the prompt."
            raise ValueError(msg)
        case [*texts] if all(isinstance(text, str) for text in texts):
            return tuple(texts)
    return _no_variant("PromptDeserializer")


def _no_variant(of: str) -> NoReturn:
    msg = f"data did not match any variant of untagged enum {of}"
    raise ValueError(msg)


# --- the bodies


class GenerateBody(_Body):
    """Body of `/generate`, `/generate_stream`, `/tokenize` and, with `stream`, of `/`."""

    inputs: str
    # TGI samples when `parameters` is absent and decodes greedily when it is there.
    given: GenerateParameters = Field(GenerateParameters(do_sample=True), alias="parameters")
    stream: bool = False

    @cached_property
    def parameters(self) -> Parameters:
        """How to generate."""
        logprobs = self.given.details or (self.given.best_of or 1) > 1
        return Parameters.model_construct(**dict(self.given), logprobs=logprobs)


class _OpenAIBody(_Body):
    """What chat and completions share."""

    model: str | None = None
    stream: bool = False
    temperature: F32 | None = None
    frequency_penalty: F32 | None = None
    top_p: F32 | None = None
    max_tokens: U32 | None = None
    stop: Texts | None = None
    seed: U64 | None = None

    def _parameters(self, **more: Any) -> Parameters:
        # Here a temperature of 0 asks for greedy decoding, and no temperature for sampling.
        greedy = self.temperature == 0
        return Parameters.model_construct(
            do_sample=not greedy,
            greedy=greedy,
            temperature=None if greedy else self.temperature,
            frequency_penalty=self.frequency_penalty,
            top_p=self.top_p,
            stop=self.stop or (),
            seed=self.seed,
            details=True,
            **more,
        )


class StreamOptions(_Body):
    """What else a stream tells."""

    include_usage: bool = False


class ChatBody(_OpenAIBody):
    """Body of `/v1/chat/completions` and `/chat_tokenize`."""

    messages: list[Annotated[dict[str, Any], PlainValidator(_message)]]
    """Text messages: `role`, `content` and what else templates may use, `name` and `tool_call_id`."""
    presence_penalty: F32 | None = None
    max_completion_tokens: U32 | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    response_format: _GrammarField = None
    stream_options: StreamOptions | None = None
    tools: list[Annotated[Tool, PlainValidator(_tool)]] | None = None
    tool_choice: Annotated[ToolChoice, PlainValidator(_tool_choice)] = AUTO
    tool_prompt: str | None = None
    n: U32 | None = None
    guideline: str | None = None
    logit_bias: list[F32] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.model_fields_set >= {"max_tokens", "max_completion_tokens"}:
            msg = "duplicate field `max_tokens`"
            raise ValueError(msg)
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @cached_property
    def parameters(self) -> Parameters:
        """How to generate."""
        limit = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        penalty = self.presence_penalty
        return self._parameters(
            # TGI's own mapping: a presence penalty of 0 is a repetition penalty of 2.
            repetition_penalty=None if penalty is None else penalty + 2,
            max_new_tokens=limit,
            top_n_tokens=self.top_logprobs,
            logprobs=bool(self.logprobs),
            grammar=self.response_format,
        )


class CompletionBody(_OpenAIBody):
    """Body of `/v1/completions`."""

    prompts: Annotated[tuple[str, ...], PlainValidator(_prompts)] = Field(alias="prompt")
    repetition_penalty: F32 | None = None
    suffix: str | None = None

    @cached_property
    def parameters(self) -> Parameters:
        """How to generate."""
        return self._parameters(
            repetition_penalty=self.repetition_penalty, max_new_tokens=self.max_tokens
        )


class VertexBody(_Body):
    """Body of `/vertex`."""

    instances: list[Any]


_T = TypeVar("_T", bound=_Body)


def read(kind: type[_T], raw: Any) -> _T:
    """A body of this kind.

    Raises:
        RejectionError: It does not fit; the text says where.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    where = f"{where.removeprefix('.')}: " if where else ""
    raise RejectionError(422, f"{PREFIX}{where}{reason}")


def is_of(name: str, raw: Any) -> bool:
    """Whether a body has this field."""
    return isinstance(raw, Mapping) and name in raw
