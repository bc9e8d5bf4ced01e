"""How each chat model wants to be told `max_tokens`, `temperature`, `seed` and `stop` for one call.

Models are known by their class names, so that no client is imported for a look.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

_OPENAI: Final = {"max_tokens": "max_tokens", "temperature": "temperature", "seed": "seed"}
_NO_SEED: Final = {"max_tokens": "max_tokens", "temperature": "temperature"}
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "BaseChatOpenAI": _OPENAI,
    "ChatTGI": _OPENAI,
    "ChatEndpoint": _OPENAI,
    "ChatHuggingFace": _OPENAI,
    "ChatLiteLLM": _OPENAI,
    "ChatAnthropic": _NO_SEED,
    "ChatBedrockConverse": _NO_SEED,
    "ChatBedrock": _NO_SEED,
    "ChatMistralAI": {**_NO_SEED, "seed": "random_seed"},
    "_BaseGoogleGenerativeAI": {
        "max_tokens": "max_output_tokens",
        "temperature": "temperature",
        "seed": "seed",
    },
    "_VertexAICommon": {
        "max_tokens": "max_output_tokens",
        "temperature": "temperature",
        "seed": "seed",
    },
}
"""An option's name by class, the class's own or a base's; what is missing does not exist there."""
_LIMITS: Final = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "num_predict",
)
"""The field that bounds the answer in classes that are not known here, the first that there is."""
_OLLAMA: Final[Sequence[str]] = (
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_ctx",
    "num_gpu",
    "num_thread",
    "num_predict",
    "repeat_last_n",
    "repeat_penalty",
    "temperature",
    "seed",
    "stop",
    "tfs_z",
    "top_k",
    "top_p",
)
"""Fields of ChatOllama that it sends as `options`; options of a call replace all of them."""

_PENALTIES: Final[Sequence[str]] = ("presence_penalty", "frequency_penalty")
"""What Ollama takes as `options` too; langchain-ollama's class has no fields for it, ours has."""


def class_names(model: Any) -> Sequence[str]:
    """The names of a model's class and its bases, its own first."""
    return _names_of(type(model))  # type: ignore[arg-type]  # every class can be hashed


@functools.lru_cache(maxsize=256)
def _names_of(kind: type) -> Sequence[str]:
    return tuple(base.__name__ for base in kind.__mro__)


def call_options(
    model: Any,
    bound: Mapping[str, Any] | None = None,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Options of one call under the names that a model takes them.

    An option that the model does not have is left out: a seed for Anthropic, anything for a Runnable that
    is no chat model.

    Args:
        model: The model itself, without bindings around it.
        bound: What is bound to it already; given back with the options, which win.
        max_tokens: Most tokens of the answer.
        temperature: 0 is greedy.
        seed: Of the sampling.
        stop: Texts that end the answer.
    """
    wanted: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in wanted.items() if value is not None}
    stops = None if stop is None else list(stop)
    before = dict(bound or {})
    if "ChatOllama" in class_names(model):
        return _for_ollama(model, before, given, stops)
    if not given and stops is None:
        return before
    if not isinstance(model, BaseChatModel):
        return before
    names = _names(model)
    found = {names[name]: value for name, value in given.items() if name in names}
    if stops is not None:
        found["stop"] = stops
    if "max_tokens" in given:
        for name in _LIMITS:
            before.pop(name, None)
    return {**before, **found}


def _names(model: BaseChatModel) -> Mapping[str, str]:
    for name in class_names(model):
        if name in _NAMES:
            return _NAMES[name]
    fields = type(model).model_fields
    limit = next((name for name in _LIMITS if name in fields), "max_tokens")
    return {**_OPENAI, "max_tokens": limit}


def _for_ollama(
    model: Any, bound: dict[str, Any], given: Mapping[str, Any], stops: list[str] | None
) -> dict[str, Any]:
    """Everything that Ollama takes as `options` goes there, by whatever way it came."""
    names = {"max_tokens": "num_predict"}
    wanted = {name: bound.pop(name) for name in (*_OLLAMA, *_PENALTIES) if name in bound}
    wanted |= {names.get(name, name): value for name, value in given.items()}
    if stops is not None:
        wanted["stop"] = stops
    if not wanted:
        return bound
    options = bound.get("options")
    if options is None:
        fields = {name: getattr(model, name, None) for name in (*_OLLAMA, *_PENALTIES)}
        options = {name: value for name, value in fields.items() if value is not None}
    return {**bound, "options": {**options, **wanted}}
