"""Which constrained form a model's server takes, and how a model is bound to it.

What stands behind an OpenAI-style client is asked at its URL, once. The parser never relies on a form:
servers may take one and ignore it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.failures import status_of
from langchain_sgd.models.identify import EndpointError, EndpointKeyError
from langchain_sgd.models.options import call_options
from langchain_sgd.models.servers import ENDPOINTS, Endpoints
from langchain_sgd.planning.kinds import CONTINUES, Kind, ask, kind_and_place
from langchain_sgd.planning.wrappers import (
    client_names,
    inner_model,
    is_chat_model,
    is_configurable,
    is_openai_style,
    leaves_of,
    rebuilt,
)

_REFUSALS: Final = frozenset({400, 404, 405, 415, 422, 500, 501})
_FULL: Final = re.compile(
    r"context (?:size|length|window)|maximum context|prompt is too long", re.IGNORECASE
)
"""How servers say that a prompt does not fit, where their clients have no class for it."""
_SCHEMA: Final = frozenset({"ollama", "openai"})


@dataclass(frozen=True, slots=True)
class Grammar:
    """One language in the ways in which servers take it."""

    regex: str
    gbnf: str
    schema: Mapping[str, Any]
    """The same as JSON, for servers that know JSON only."""
    name: str = "skeleton"


@dataclass(frozen=True, slots=True)
class Form:
    """How a model's server is told what to write."""

    kind: Kind
    key: str = ""
    """Server and model, under which a refusal is remembered."""
    why: str = ""
    """Why there is no form, where one was to be expected."""

    @property
    def writes(self) -> Literal["lines", "json"]:
        """What the model is made to write, which its prompt should ask for."""
        return "json" if self.kind in _SCHEMA else "lines"

    @property
    def constrains(self) -> bool:
        """Whether decoding is constrained at all."""
        return self.kind != "examples"


EXAMPLES: Final = Form("examples")
"""No form: the model follows the prompt's examples."""


async def form_of(model: Runnable[Any, Any], *, endpoints: Endpoints = ENDPOINTS) -> Form:
    """The form that a model's server takes; `examples` where none is known, or it refused its own.

    Looks through bindings, `.with_retry()`, `.with_fallbacks()` (the first model counts; the others are
    asked too), configurable fields and alternatives, and `init_chat_model`'s configurable model. Servers
    behind URLs are asked once in a process. Nothing is raised for a server that cannot be asked: it is
    asked again the next time.
    """
    for leaf in leaves_of(model):
        await ask(leaf, endpoints)
    first = next(iter(leaves_of(model)), None)
    return EXAMPLES if first is None else _known_form(first, endpoints)


def bound(
    model: Runnable[Any, Any],
    form: Form = EXAMPLES,
    grammar: Grammar | None = None,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] | None = None,
    others: Mapping[str, Any] | None = None,
    continuing: bool = False,
    endpoints: Endpoints = ENDPOINTS,
) -> Runnable[Any, Any]:
    """The model with a form and options for a call, under the names that its class takes them.

    What the user bound stays, but for what is given here. Every model of a chain of fallbacks or of
    alternatives gets its own form; one that would write JSON where the first writes lines, or the other
    way round, gets none, since they share a prompt.

    Args:
        model: As for `form_of`.
        form: What `form_of` gave; without it options are bound only.
        grammar: What is to be written; nothing is constrained without it.
        max_tokens: Most tokens of the answer.
        temperature: 0 is greedy.
        seed: Of the sampling; left out where there is none (Anthropic).
        stop: Texts that end the answer.
        others: Further options of the call, as its caller named them.
        continuing: The last message is the model's own, and is to be gone on with.
        endpoints: What is known of servers.
    """

    def options_for(leaf: Any, before: Mapping[str, Any]) -> dict[str, Any]:
        inner, before = inner_model(leaf), {**before, **(others or {})}
        options = call_options(
            inner, before, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop
        )
        if continuing:
            options = _continuing(inner, options, endpoints)
        if grammar is None and not is_openai_style(inner):
            return options
        own = _known_form(leaf, endpoints)
        if max_tokens is not None and own.key.startswith("ollama ") and is_openai_style(inner):
            # Ollama's OpenAI route knows this older name only, which ChatOpenAI no longer sends.
            options = _joined(inner, options, {"extra_body": {"max_tokens": max_tokens}})
        if grammar is not None and own.constrains and own.writes == form.writes:
            options = _joined(inner, options, _form_options(inner, own.kind, grammar))
        return options

    return rebuilt(model, options_for, {})


def with_options(
    model: Runnable[Any, Any],
    others: Mapping[str, Any] | None = None,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    continuing: bool = False,
    endpoints: Endpoints = ENDPOINTS,
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """The model for a call, and the call's options under the names that its class takes them.

    Of a chat model that nothing stands around, the model itself and all options. One inside retries,
    fallbacks or alternatives is bound to them, as by `bound`, which see; what is no chat model gets the
    others as they are.
    """
    others = others or {}
    if isinstance(model, BaseChatModel) and not is_configurable(model):
        options = call_options(
            model, others, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        return model, _continuing(model, options, endpoints) if continuing else options
    if not (others or continuing) and max_tokens is None and temperature is None and seed is None:
        return model, {}
    if is_chat_model(model):  # each that may answer takes them its own way
        return bound(
            model,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            others=others,
            continuing=continuing,
            endpoints=endpoints,
        ), {}
    return bound(model, max_tokens=max_tokens, temperature=temperature, seed=seed), dict(others)


_GIVE_LOGPROBS: Final = frozenset({"BaseChatOpenAI", "ChatTGI"})
_TOP_LOGPROBS: Final = 5
"""Alternatives to a token: the most that TGI gives."""


def logprob_options(model: Runnable[Any, Any]) -> dict[str, Any]:
    """What asks a model how probable its tokens and the next best are; nothing where no way is known."""
    leaves = leaves_of(model)
    known = leaves and all(_GIVE_LOGPROBS & set(client_names(leaf)) for leaf in leaves)
    return {"logprobs": True, "top_logprobs": _TOP_LOGPROBS} if known else {}


def is_refusal(error: BaseException) -> bool:
    """Whether a constrained call failed in a way that means: not with this form.

    Only before any text: servers answer a form that they do not know with 400 or 422, old ones with 404,
    500 or 501; clients that do not know an option raise a `TypeError`.
    """
    if isinstance(error, EndpointError | EndpointKeyError | ContextOverflowError):
        return False
    if _FULL.search(str(error)):  # asked without the form, the prompt would be as long
        return False
    return status_of(error) in _REFUSALS or isinstance(error, TypeError | InvalidInputError)


def refused(form: Form, why: str, *, endpoints: Endpoints = ENDPOINTS) -> None:
    """Remember that a form was refused: `form_of` gives `examples` for this server and model from now on.

    To be said when the same call has gone through without the form: servers answer 400 to other things too.
    """
    if form.constrains and form.key:
        endpoints.refuse(form.key, why)


def _known_form(leaf: Any, endpoints: Endpoints) -> Form:
    model = inner_model(leaf)
    kind, where = kind_and_place(model, endpoints)
    if kind == "examples":
        return EXAMPLES
    key = f"{kind} {where}"
    why = endpoints.refused(key)
    return Form(kind, key) if why is None else Form("examples", key, why)


# -- the form as options of a call


def _form_options(model: Any, kind: Kind, grammar: Grammar) -> dict[str, Any]:
    """What a call needs; `extra_body` is put into the request's body as it is.

    OpenAI's client would read `response_format` itself, and raise where a limit cuts the text.
    """
    if not is_openai_style(model):
        if kind == "tgi":
            return {"response_format": {"type": "regex", "value": grammar.regex}}
        return {"format": dict(grammar.schema)}
    if kind not in _SCHEMA:
        return {"extra_body": _body(kind, grammar)}
    schema = dict(grammar.schema)
    named = {"name": grammar.name, "schema": schema, "strict": True}
    asked = {"type": "json_schema", "json_schema": named}
    if getattr(model, "use_responses_api", None):
        return {"response_format": asked}
    return {"extra_body": {"response_format": asked}}


def _body(kind: Kind, grammar: Grammar) -> dict[str, Any]:
    match kind:
        case "tgi":
            return {"response_format": {"type": "regex", "value": grammar.regex}}
        case "vllm":
            return {"structured_outputs": {"regex": grammar.regex}}
        case "vllm-guided":
            return {"guided_regex": grammar.regex}
        case "sglang":
            return {"regex": grammar.regex}
        case _:
            return {"grammar": grammar.gbnf}


def _continuing(model: Any, before: Mapping[str, Any], endpoints: Endpoints) -> dict[str, Any]:
    """A call's options with what makes the server go on with the last message."""
    body = CONTINUES.get(kind_and_place(model, endpoints)[0])
    return _joined(model, before, {"extra_body": body}) if body else dict(before)


def _joined(model: Any, before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Options and further ones; bodies are joined, the model's own included, since a call's replace it."""
    if "extra_body" not in more:
        return {**before, **more}
    own = getattr(model, "extra_body", None) or getattr(model, "options", {}).get("extra_body")
    body = {**(own or {}), **(before.get("extra_body") or {}), **more["extra_body"]}
    return {**before, **more, "extra_body": body}
