"""The bodies of `ChatTGI`'s calls: its fields joined with a call's own options, as TGI takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import BaseMessage

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import schemas, wire

if TYPE_CHECKING:
    from langchain_sgd.tgi.chat import ChatTGI

SAMPLING: Final = ("temperature", "top_p", "frequency_penalty", "seed", "max_tokens")
"""Fields that both of TGI's routes know, under LangChain's names."""
LOGPROBS: Final = ("logprobs", "top_logprobs")
GENERATE_SAMPLING: Final = ("top_k", "typical_p", "repetition_penalty")
"""Fields that only `/generate` knows."""
_CHAT_OPTIONS: Final = frozenset(
    {
        *(*SAMPLING, *LOGPROBS, "model", "response_format"),
        *("tools", "tool_choice", "tool_prompt", "logit_bias"),
    }
)
_GENERATE_OPTIONS: Final = frozenset(
    {*SAMPLING, *GENERATE_SAMPLING, *LOGPROBS, "model", "response_format", "truncate"}
)
_SETTLED_OPTIONS: Final = frozenset(
    {"stream", "stream_options", "ls_structured_output_format", "strict", "parallel_tool_calls"}
)
"""Options that LangChain's callers pass and that are settled here: streams always carry usage, grammars
are always strict, and TGI calls one tool at a time."""
_SMALLEST_TEMPERATURE: Final = 1e-4
"""TGI divides 32-bit numbers by the temperature: a tiny one makes infinities of them."""
BASE_MODEL: Final = "tgi"
"""The name that asks for the server's own model; any other is taken for a LoRA adapter's."""


def chat_payload(
    model: ChatTGI, messages: Sequence[BaseMessage], stops: list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the body of `/v1/chat/completions`.

    `presence_penalty` is never sent: TGI adds 2 to it and makes a repetition penalty of it.
    """
    settings = _settings(model, options, (*SAMPLING, *LOGPROBS), _CHAT_OPTIONS)
    if settings.get("top_logprobs") is not None:
        settings["logprobs"] = True
    payload = {"model": model.model, "messages": wire.chat_messages(messages), **settings}
    if stops:
        payload["stop"] = stops
    if not payload.get("tools"):  # even an empty list beside a grammar is refused
        payload.pop("tools", None)
        payload.pop("tool_choice", None)
    elif isinstance(payload["tools"], list):
        payload["tools"] = schemas.sendable_tools(
            payload["tools"], payload.get("tool_choice"), model.max_grammar_states
        )
    return payload


def generate_payload(
    model: ChatTGI, messages: Sequence[BaseMessage], stops: list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the body of `/generate` and `/generate_stream`."""
    names = (*SAMPLING, *GENERATE_SAMPLING, *LOGPROBS)
    settings = _settings(model, options, names, _GENERATE_OPTIONS)
    if settings.get("temperature") == 0:  # greedy is said by leaving it out; 0 is refused
        del settings["temperature"]
    parameters: dict[str, Any] = {
        "details": True,
        "return_full_text": False,
        "do_sample": any(
            name in settings for name in ("temperature", "top_p", "top_k", "typical_p")
        ),
    }
    settings.pop("logprobs", None)  # every token comes with its own
    if top := settings.pop("top_logprobs", None):
        parameters["top_n_tokens"] = top
    adapter = settings.pop("model", model.model)
    if adapter != BASE_MODEL:
        parameters["adapter_id"] = adapter
    for name, ours in (("max_new_tokens", "max_tokens"), ("grammar", "response_format")):
        if ours in settings:
            parameters[name] = settings.pop(ours)
    if stops:
        parameters["stop"] = stops
    return {"inputs": wire.prompt_text(messages), "parameters": {**parameters, **settings}}


def _settings(
    model: ChatTGI, options: Mapping[str, Any], names: Sequence[str], known: frozenset[str]
) -> dict[str, Any]:
    """Join the fields with a call's own options, which win; None and what is off are left out.

    Raises:
        InvalidInputError: An option that this mode does not have, or a temperature that is all but 0.
        TGIGrammarError: An expression or a schema that would harm the server.
    """
    given = {key: value for key, value in options.items() if key not in _SETTLED_OPTIONS}
    for alias in ("max_completion_tokens", "max_new_tokens"):
        if alias in given:
            given["max_tokens"] = given.pop(alias)
    if unknown := given.keys() - known:
        msg = (
            f"ChatTGI in mode {model.mode!r} has no option {', '.join(sorted(map(repr, unknown)))}; "
            f"it has {', '.join(sorted(known))}."
        )
        raise InvalidInputError(msg)
    settings = {**{name: getattr(model, name) for name in names}, **given}
    temperature = settings.get("temperature")
    if isinstance(temperature, float) and 0 < temperature < _SMALLEST_TEMPERATURE:
        msg = f"A temperature of {temperature:g} is too small for TGI: give 0 for greedy decoding."
        raise InvalidInputError(msg)
    if temperature == 0:
        for name in ("top_p", "top_k", "typical_p"):  # any of them makes TGI sample after all
            settings.pop(name, None)
    for name in ("top_p", "typical_p"):
        if settings.get(name) == 1:  # all of the mass is no restriction, and TGI refuses 1
            del settings[name]
    if isinstance(settings.get("response_format"), Mapping):
        settings["response_format"] = schemas.sendable(
            settings["response_format"], model.max_grammar_states
        )
    return {key: value for key, value in settings.items() if value is not None}
