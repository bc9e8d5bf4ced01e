"""TGI's answers of either route, whole or streamed, read into one value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.messages.ai import UsageMetadata

from langchain_sgd.tgi.server import Timings

_PLAIN_DELTA: Final = frozenset({"role", "content"})


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
            calls = calls_of(message)
            reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        reason = choice.get("finish_reason")
        asked = choice.get("logprobs")
        if asked and isinstance(asked, dict):
            logprobs = mappings(asked.get("content"))
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
    token = mapping(event.get("token"))
    details = mapping(event.get("details"))
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
    details = mapping(body.get("details"))
    tops = details.get("top_tokens")
    return Delta(
        text=body["generated_text"],
        finish_reason=str(details.get("finish_reason", "unknown")),
        usage=_usage(timings.get("prompt_tokens"), details.get("generated_tokens")),
        logprobs=_token_logprobs(
            mappings(details.get("tokens")), tops if isinstance(tops, list) else ()
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
                for each in mappings(top)
            ],
        }
        for token, top in itertools.zip_longest(tokens, tops, fillvalue=empty)
        if token.get("text") and not token.get("special")
    ]


def calls_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Give the calls of a message or a delta; old servers send the one of a delta without a list."""
    calls = message.get("tool_calls")
    return [calls] if calls and isinstance(calls, dict) else mappings(calls)


def mapping(value: Any) -> Mapping[str, Any]:
    """Give a mapping, or an empty one for what is none."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """Give the mappings of a list; none for what is no list."""
    if not value or not isinstance(value, list):
        return ()
    return [each for each in value if isinstance(each, dict)]


def _text(value: Any) -> str:
    """Give a text, or those of the blocks that some gateways make of one."""
    if isinstance(value, str):
        return value
    return "".join(_text(block.get("text")) for block in mappings(value)) if value else ""


def _chat_usage(usage: Any) -> UsageMetadata | None:
    """Count tokens; those of a cached prefix where the server tells them, as TGI itself does not."""
    usage = mapping(usage)
    counted = _usage(usage.get("prompt_tokens"), usage.get("completion_tokens"))
    cached = mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
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
