"""OpenAI's chat completions, from and to JSON: pure.

What changes the answer and cannot be honored is refused by name. What cannot change it (`user`, `metadata`)
is left out, and what is not known is left out and named in the answer's `sgd.ignored`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langchain_sgd.message_dicts import messages_of
from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.report import Usage
from langchain_sgd.surrogates import repaired

T = TypeVar("T", bound=BaseModel)
Progress = Literal["off", "reasoning", "think"]
"""Where the plan and the parts' progress go: nowhere, to `reasoning_content`, or before the text in
`<think>` tags."""

_HARMLESS = frozenset(
    {"user", "metadata", "service_tier", "prompt_cache_key", "safety_identifier", "prompt_cache_retention"}
)  # fmt: skip
_REFUSED: Mapping[str, Sequence[Any]] = {
    "functions": (None, []),
    "function_call": (None,),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}
"""What is not supported, with the values that ask for nothing."""

_LEAST_TOP_P = 1e-6
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Escapes of half characters; most are pairs."""


class StreamOptions(BaseModel):
    """What a stream holds beside text."""

    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """One request for a chat completion."""

    model_config = ConfigDict(extra="allow")

    model: str = "sgd"
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    n: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    store: bool | None = None
    """False keeps the run out of the page's history."""
    sgd_progress: Progress | None = None
    """Of this proxy only; the server's own default if not given."""

    @model_validator(mode="after")
    def _supported(self) -> ChatRequest:
        refuse_unsupported(self.model_extra or {}, _REFUSED)
        if self.n not in {None, 1}:
            msg = f"n must be 1, not {self.n}: ask again for another answer"
            raise ValueError(msg)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The decoding options that were given, as LangChain names them."""
        given: dict[str, Any] = {
            "temperature": self.temperature,
            # Most servers refuse 0; with hardly more, the likeliest token is left alone, too.
            "top_p": None if self.top_p is None else max(self.top_p, _LEAST_TOP_P),
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop or None,
            "seed": self.seed,
            # Zero is their default, and not every model server knows them.
            "presence_penalty": self.presence_penalty or None,
            "frequency_penalty": self.frequency_penalty or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def bound(self) -> dict[str, Any]:
        """What a model is bound to: tools and forms, but for what would be so anyway."""
        bound: dict[str, Any] = {}
        if self.tools:
            bound["tools"] = self.tools
            if self.tool_choice is not None:
                bound["tool_choice"] = self.tool_choice
            if self.parallel_tool_calls is False:
                bound["parallel_tool_calls"] = False
        if self._has_form:
            bound["response_format"] = self.response_format
        return bound

    @property
    def _has_form(self) -> bool:
        return self.response_format is not None and self.response_format.get("type") != "text"

    @property
    def ignored(self) -> list[str]:
        """Parameters that nobody here knows."""
        return sorted(set(self.model_extra or ()) - _HARMLESS - set(_REFUSED))

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def conversation(self) -> list[BaseMessage]:
        """As LangChain's messages; pictures and other parts stay as they are.

        Raises:
            ProxyError: A message cannot be read.
        """
        try:
            messages = messages_of(self.messages)
        except ValueError as error:
            msg = f"A message cannot be read: {str(error).splitlines()[0]}"
            raise ProxyError(400, msg, param="messages") from error
        if messages[-1].type not in {"human", "tool"}:
            msg = "The last message must be the user's (or a tool's)."
            raise ProxyError(400, msg, param="messages")
        return messages

    def why_undivided(self, messages: Sequence[BaseMessage]) -> str | None:
        """Why this request cannot be answered in parts, as opposed to the question in it."""
        if self.tools:
            return "tools"
        if any(isinstance(m, ToolMessage) or _calls(m) for m in messages):
            return "tool messages"
        if self._has_form:
            return "response_format"
        return None


def _calls(message: BaseMessage) -> bool:
    """Whether a message calls tools, in vain or not."""
    return isinstance(message, AIMessage) and bool(message.tool_calls or message.invalid_tool_calls)


def refuse_unsupported(given: Mapping[str, Any], refused: Mapping[str, Sequence[Any]]) -> None:
    """Let pass what asks for nothing.

    Raises:
        ValueError: Naming what is not supported.
    """
    for name, nothing in refused.items():
        if name in given and given[name] not in nothing:
            msg = f"{name} is not supported by this server"
            raise ValueError(msg)


def read_request(body: bytes, kind: type[T]) -> T:
    """The request in a body; half characters in it are joined or replaced.

    Raises:
        ProxyError: Naming the field and what is wrong with it.
    """
    try:
        data = json.loads(body, parse_constant=_refuse_constant)
        if _SURROGATE.search(body):
            data = json.loads(repaired(json.dumps(data, ensure_ascii=False)))
    except RecursionError:
        msg = "The body is nested too deeply."
        raise ProxyError(400, msg) from None
    except ValueError as error:
        msg = f"The body is not JSON: {error}"
        raise ProxyError(400, msg) from error
    if not isinstance(data, dict):
        msg = f"The body must be a JSON object, not {type(data).__name__}."
        raise ProxyError(400, msg)
    return validated(data, kind)


def _refuse_constant(name: str) -> None:
    msg = f"it has no number {name}"
    raise ValueError(msg)


def validated(data: Mapping[str, Any], kind: type[T], names: Mapping[str, str] | None = None) -> T:
    """The data as a request.

    Args:
        data: From JSON.
        kind: Of request.
        names: What the client calls fields that have another name here.

    Raises:
        ProxyError: Naming the field and what is wrong with it.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        first, *rest = fault["loc"] or ("",)
        field = ".".join(map(str, [(names or {}).get(str(first), first), *rest])) or None
        text = fault["msg"].removeprefix("Value error, ")
        raise ProxyError(400, f"{field}: {text}" if field else text, param=field) from None


class Completion:
    """What every piece of one answer has in common, and the pieces."""

    def __init__(self, request: ChatRequest, run_id: str, created: int) -> None:
        self._request = request
        self._common = {
            "id": f"chatcmpl-{run_id}",
            "created": created,
            "model": request.model,
            "system_fingerprint": None,
        }

    def chunk(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        """A piece of a stream."""
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def last_chunk(self, finish: str, sgd: Mapping[str, Any]) -> dict[str, Any]:
        """The piece that says why the stream ends, and what became of the run."""
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
        return {**self._chunk([choice]), "sgd": sgd}

    def usage_chunk(self, usage: Usage | None) -> dict[str, Any]:
        """The piece after the last, if it was asked for."""
        return {**self._chunk([]), "usage": usage_json(usage)}

    def _chunk(self, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        made = {**self._common, "object": "chat.completion.chunk", "choices": choices}
        return {**made, "usage": None} if self._request.wants_usage else made

    def whole(
        self,
        message: Mapping[str, Any],
        finish: str,
        usage: Usage | None,
        sgd: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The answer in one piece."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "refusal": None, **message},
            "logprobs": None,
            "finish_reason": finish,
        }
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage_json(usage),
            "sgd": sgd,
        }


def usage_json(usage: Usage | None) -> dict[str, Any] | None:
    """Tokens as OpenAI writes them; None where no server counted."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def tool_call_json(call: Mapping[str, Any]) -> dict[str, Any]:
    """A piece of a tool call, from LangChain's `tool_call_chunk`."""
    function = {"name": call.get("name"), "arguments": call.get("args") or ""}
    made: dict[str, Any] = {
        "index": call["index"],
        "function": {name: value for name, value in function.items() if value is not None},
    }
    if call.get("id"):
        made |= {"id": call["id"], "type": "function"}
    return made


def model_json(name: str, created: int) -> dict[str, Any]:
    """An entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "langchain-sgd"}


def sse(data: Mapping[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else dumps(data)
    return f"data: {text}\n\n".encode(errors="replace")


def dumps(data: Mapping[str, Any]) -> str:
    """Compact JSON on one line."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
