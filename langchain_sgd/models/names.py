"""From whatever names a model to the model."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from langchain_core.runnables import Runnable
from pydantic import SecretStr

from langchain_sgd._extras import MissingExtraError
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import checked_key
from langchain_sgd.models.endpoint import ChatEndpoint
from langchain_sgd.models.urls import address_of, is_url

TIERS = ("small", "large", "planner")
"""What models are named for, on the command line and in the environment."""

_PORT = re.compile(r"\d+(?:[/#]|$)")
"""How what stands behind a colon begins if it is a port: of a URL without its scheme."""
_OURS = {"max_retries": 0, "stream_usage": True}
"""Fields that models by name get where their class has them: a run repeats failed calls by itself, and
counts tokens in streams."""


def name_from_environment(what: str) -> str | None:
    """What `SGD_LARGE` names, or the older `SGD_LARGE_URL`; so for any use of a model."""
    variable = f"SGD_{what.upper()}"
    return os.environ.get(variable) or os.environ.get(f"{variable}_URL") or None


def resolve(
    value: Any, *, what: str = "large", api_key: SecretStr | str | None = None, **options: Any
) -> Runnable[Any, Any]:
    """The model that a value is or names; nothing is sent.

    Args:
        value: A chat model or another Runnable, which stays as it is; a URL, with `#model` where several
            are served; `"provider:model"`, as LangChain's `init_chat_model` takes it; a `TGIEndpoint`.
        what: What the model is for (`large`, `small`, `planner`, ...), in errors and in the name of the
            variable that holds its key.
        api_key: For a URL or a provider; the environment's if not given.
        **options: Fields of the model that is made, such as `temperature` or `max_tokens`.

    Raises:
        InvalidInputError: It is none of these, or its package is not installed, or no header can carry its
            key.
    """
    if isinstance(value, Runnable):
        return value
    key = checked_key(api_key, f"{what}: api_key")
    if isinstance(value, str):
        name = value.strip()
        if is_url(name):
            model = ChatEndpoint(url=str(address_of(name)), api_key=key, what=what, options=options)
            _ = model.key  # reading it checks it
            return model
        return _by_provider(name, what, key, options)
    if type(value).__name__ == "TGIEndpoint":
        from langchain_sgd.tgi import chat_model  # noqa: PLC0415 - loads the HTTP client

        made: Runnable[Any, Any] = chat_model(value, **{"max_retries": 0, **options})
        return made
    msg = (
        f"{what}: a model is a LangChain chat model, a Runnable, a URL such as http://localhost:8000, or"
        f" provider:model such as openai:gpt-6-luna; not {type(value).__name__}"
    )
    raise InvalidInputError(msg)


def _by_provider(
    name: str, what: str, key: SecretStr | None, options: dict[str, Any]
) -> Runnable[Any, Any]:
    provider, colon, model = name.partition(":")
    is_place = bool(_PORT.match(model))
    if not (colon and provider and model) or is_place:
        hint = f"http://{name}" if is_place else "http://localhost:8000"
        msg = (
            f"{what}: {name!r} names no model: give a URL such as {hint}, or provider:model such as"
            " openai:gpt-6-luna"
        )
        raise InvalidInputError(msg)
    try:
        init = importlib.import_module("langchain.chat_models").init_chat_model
    except ModuleNotFoundError as error:
        named = f"{what}: {name!r}"
        raise MissingExtraError(named, "providers", "langchain") from error
    settings = dict(options)
    if key is not None:
        settings["api_key"] = key
    try:
        made = init(name, **settings)
        ours = {
            field: value
            for field, value in _OURS.items()
            if field in getattr(type(made), "model_fields", ()) and field not in settings
        }
        found: Runnable[Any, Any] = init(name, **ours, **settings) if ours else made
    except ImportError as error:
        msg = f"{what}: {name!r}: {' '.join(str(error).split())}"
        raise InvalidInputError(msg) from error
    except Exception as error:
        # Clients complain in many ways: unknown providers and missing keys among them.
        said = " ".join(str(error).split()) or type(error).__name__
        msg = f"{what}: LangChain makes no model of {name!r}: {said[:400]}"
        raise InvalidInputError(msg) from error
    return found
