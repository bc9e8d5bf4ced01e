"""TGI's router protocol without any input or output: what is answered, byte for byte.

Bodies are read by `_bodies`, judged by `_validation`, and answered from here: the JSON bodies and the
server-sent events of every route.
`langchain_sgd.embedded.app` puts these on sockets.

Protocol: text-generation-inference 3.3.7. Ours beyond it are the field `prompt_tokens_details` of
`usage`, and the fields `model_dtype` and `max_batch_size` of `/info` (which TGI 2 had).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_sgd.embedded._decoding import FinishReason, Output
from langchain_sgd.embedded._tools import Call
from langchain_sgd.embedded._validation import Limits
from langchain_sgd.embedded.engine import EngineInfo, Token

VERSION: Final = "3.3.7"
"""The release of TGI whose protocol is spoken."""
ROUTER: Final = "text-generation-router-langchain-sgd"
"""Clients recognise a TGI server by the beginning of this name."""
_FINGERPRINT: Final = f"{VERSION}-langchain-sgd"

DONE: Final = b"data: [DONE]\n\n"
KEEPALIVE: Final = b":\n\n"

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dumps(value: Any) -> bytes:
    """JSON as TGI writes it: compact, and text as UTF-8."""
    # An engine may hand over half of a surrogate pair; no JSON text can carry one.
    return _ENCODER.encode(value).encode(errors="replace")


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"


def usage(*outputs: Output) -> dict[str, Any]:
    """Token counts of requests that were answered together, with those that a cached prefix saved."""
    prompts = sum(output.prompt_tokens for output in outputs)
    generated = sum(len(output.tokens) for output in outputs)
    return {
        "prompt_tokens": prompts,
        "completion_tokens": generated,
        "total_tokens": prompts + generated,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in outputs)},
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "text": token.text,
        "logprob": token.logprob or 0.0,
        "special": token.special,
    }


def _openai_reason(reason: FinishReason) -> str:
    """The reason as chat names it, and completions when they are not streamed."""
    return "stop" if reason == "eos_token" else reason


# --- generate


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """Bodies and events of `/generate`, `/generate_stream` and `/`."""

    details: bool
    prompt: str = ""
    """Put before the text where the client wants the full text."""
    top_n_tokens: int = 0

    def body(self, output: Output, others: Sequence[Output] = ()) -> dict[str, Any]:
        """The whole answer; `others` are the sequences that `best_of` did not choose."""
        body: dict[str, Any] = {"generated_text": self.prompt + output.text}
        if self.details:
            body["details"] = self._details(output)
            if others:
                sequences = [
                    {"generated_text": self.prompt + other.text, **self._details(other)}
                    for other in others
                ]
                body["details"]["best_of_sequences"] = sequences
        return body

    def _details(self, output: Output) -> dict[str, Any]:
        tokens = [_token(token) for token in output.tokens]
        return {
            **_ending(output),
            # TGI 3 sends none, whether they are asked for or not.
            "prefill": [],
            "tokens": tokens,
            **({"top_tokens": [[each] for each in tokens]} if self.top_n_tokens else {}),
        }

    def token(self, index: int, token: Token, output: Output | None = None) -> bytes:
        """The event of a token, counted from 1; that of the last one carries the whole output."""
        said: dict[str, Any] = {"index": index, "token": _token(token)}
        if self.top_n_tokens:
            # Of the likeliest tokens only the chosen one is known.
            said["top_tokens"] = [said["token"]]
        said |= {"generated_text": None, "details": None}
        if output is not None:
            said["generated_text"] = self.prompt + output.text
            if self.details:
                said["details"] = {**_ending(output), "input_length": output.prompt_tokens}
        return event(said)

    def last(self, output: Output) -> bytes:
        """The event of the last token."""
        return self.token(len(output.tokens), output.tokens[-1], output)


def _ending(output: Output) -> dict[str, Any]:
    return {
        "finish_reason": output.finish_reason,
        "generated_tokens": len(output.tokens),
        "seed": output.seed,
    }


# --- chat


class ChatAnswer:
    """Bodies and events of `/v1/chat/completions`."""

    def __init__(self, model: str, *, logprobs: bool = False, top_n_tokens: int = 0) -> None:
        self._common: dict[str, Any] = {
            "id": "",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": _FINGERPRINT,
        }
        self._logprobs = logprobs
        self._top = top_n_tokens
        # Text chunks differ in one field: the rest is encoded once per stream, in a tenth of the time.
        chunk = self._chunk({"role": "assistant", "content": "\0"}).decode()
        self._before, _, self._after = chunk.rpartition('"\\u0000"')

    def body(self, output: Output, call: Call | None = None) -> dict[str, Any]:
        """The whole answer: text, or a function call where `call` is given."""
        message: dict[str, Any] = {"role": "assistant"}
        if call is None:
            message["content"] = output.text
        else:
            function = {"description": None, "name": call.name, "arguments": call.arguments}
            message["tool_calls"] = [{"id": "0", "type": "function", "function": function}]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs_of(output.tokens),
            "finish_reason": _openai_reason(output.finish_reason),
        }
        return {
            "object": "chat.completion",
            **self._common,
            "choices": [choice],
            "usage": usage(output),
        }

    def token(self, token: Token, finish_reason: str | None = None) -> bytes:
        """The event of a token of text."""
        text = "" if token.special else token.text
        if finish_reason is None and not self._logprobs:
            return f"{self._before}{_ENCODER.encode(text)}{self._after}".encode(errors="replace")
        delta = {"role": "assistant", "content": text}
        return self._chunk(delta, finish_reason, self._logprobs_of([token]))

    def last(self, output: Output) -> bytes:
        """The event of the last token, with the finish reason."""
        return self.token(output.tokens[-1], _openai_reason(output.finish_reason))

    def call(self, arguments: str, name: str | None = None) -> bytes:
        """A piece of a function call; the first one carries the name."""
        function = {"name": name, "arguments": arguments}
        call = {"index": 0, "id": "0", "type": "function", "function": function}
        return self._chunk({"role": "assistant", "tool_calls": [call]})

    def usage(self, output: Output) -> bytes:
        """The event that closes a stream whose client asked for its usage."""
        chunk = {"object": "chat.completion.chunk", **self._common}
        return event({**chunk, "choices": [], "usage": usage(output)})

    def _chunk(self, delta: Any, finish_reason: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {"object": "chat.completion.chunk", **self._common}
        return event({**chunk, "choices": [choice], "usage": None})

    def _logprobs_of(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        shown = [{"token": token.text, "logprob": token.logprob or 0.0} for token in tokens]
        return {
            "content": [{**each, "top_logprobs": [each] if self._top else []} for each in shown]
        }


# --- completions


class CompletionAnswer:
    """Bodies and events of `/v1/completions`."""

    def __init__(self, model: str) -> None:
        self._common = {
            "object": "text_completion",
            "id": "",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": _FINGERPRINT,
        }

    def body(self, outputs: Sequence[Output]) -> dict[str, Any]:
        """The answers to all prompts."""
        choices = [
            _completion_choice(index, output.text, _openai_reason(output.finish_reason))
            for index, output in enumerate(outputs)
        ]
        return {**self._common, "choices": choices, "usage": usage(*outputs)}

    def token(self, index: int, token: Token) -> bytes:
        """The event of every token but a prompt's last; its fields have an order of their own."""
        choices = [_completion_choice(index, token.text, "")]
        begun = {key: self._common[key] for key in ("object", "id", "created")}
        return event({**begun, "choices": choices, **self._common})

    def last(self, index: int, output: Output) -> bytes:
        """The event of a prompt's last token; its finish reason is TGI's own, not OpenAI's."""
        choice = _completion_choice(index, output.tokens[-1].text, output.finish_reason)
        return event({**self._common, "choices": [choice], "usage": usage(output)})


def _completion_choice(index: int, text: str, finish_reason: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


# --- the rest


def info_body(info: EngineInfo, limits: Limits) -> dict[str, Any]:
    """What `/info` says of a model."""
    return {
        "model_id": info.model_id,
        "model_sha": None,
        "model_pipeline_tag": None,
        "max_concurrent_requests": limits.max_concurrent_requests,
        "max_best_of": limits.max_best_of,
        "max_stop_sequences": limits.max_stop_sequences,
        "max_input_tokens": limits.max_input_tokens,
        "max_total_tokens": limits.max_total_tokens,
        "validation_workers": 1,
        "max_client_batch_size": limits.max_client_batch_size,
        "router": ROUTER,
        "version": VERSION,
        "sha": None,
        "docker_label": None,
        "model_dtype": info.dtype,
        "max_batch_size": info.slots,
    }


def models_body(info: EngineInfo) -> dict[str, Any]:
    """What `/v1/models` lists."""
    model = {"id": info.model_id, "object": "model", "created": 0, "owned_by": info.model_id}
    return {"object": "list", "data": [model]}


def simple_tokens(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Tokens with their place in the text, counted in characters."""
    simple: list[dict[str, Any]] = []
    position = 0
    for token in tokens:
        start = position if token.start is None else token.start
        stop = start + len(token.text) if token.stop is None else token.stop
        position = stop
        simple.append({"id": token.id, "text": token.text, "start": start, "stop": stop})
    return simple
