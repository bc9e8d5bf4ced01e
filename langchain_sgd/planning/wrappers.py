"""What stands around a model, looked through and rebuilt; which client it is.

Chat models are known by their class names, so that no client is imported for a look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding

from langchain_sgd.models.options import class_names
from langchain_sgd.models.urls import Address, address_of


def leaves_of(model: Any) -> list[Any]:
    """The models that may answer, the first one first."""
    if is_configurable(model):
        return [model]
    if isinstance(inner := unwrapped(model), list):
        return [leaf for each in inner for leaf in leaves_of(each)]
    return [model] if inner is None else leaves_of(inner)


def is_chat_model(model: Any) -> bool:
    """Whether whoever may answer is a chat model, however wrapped: no graph, agent or function."""
    return all(
        isinstance(leaf, BaseChatModel) or is_configurable(leaf) for leaf in leaves_of(model)
    )


def unwrapped(model: Any) -> Any:
    """What stands inside a wrapper; a list where one of several answers; None if it is no wrapper."""
    names = class_names(model)
    if "RunnableBindingBase" in names:
        return model.bound
    if "RunnableWithFallbacks" in names:
        return [model.runnable, *model.fallbacks]
    if "RunnableConfigurableAlternatives" in names:
        others = [each for each in model.alternatives.values() if isinstance(each, Runnable)]
        return [model.default, *others]
    if "RunnableConfigurableFields" in names:
        return model.default
    return None


def rebuilt(model: Any, options_for: Any, before: Mapping[str, Any]) -> Runnable[Any, Any]:
    """The model with options at each leaf; outer bindings keep what the options do not say anew."""
    inner = unwrapped(model)
    if "RunnableBindingBase" in class_names(model) and isinstance(_branches(model), list):
        known = {**model.kwargs, **before}
        inside = rebuilt(model.bound, options_for, known)
        return model.model_copy(update={"bound": inside, "kwargs": {}})  # type: ignore[no-any-return]
    if isinstance(inner, list):
        first, *others = (rebuilt(each, options_for, before) for each in inner)
        if "RunnableWithFallbacks" in class_names(model):
            update: dict[str, Any] = {"runnable": first, "fallbacks": others}
        else:
            named = (n for n, each in model.alternatives.items() if isinstance(each, Runnable))
            update = {
                "default": first,
                "alternatives": {**model.alternatives, **dict(zip(named, others, strict=True))},
            }
        return model.model_copy(update=update)  # type: ignore[no-any-return]
    known = {**_bound_kwargs(model), **before}
    options = options_for(model, known)
    return (
        model if options == _bound_kwargs(model) else RunnableBinding(bound=model, kwargs=options)
    )


def _branches(model: Any) -> Any:
    """The innermost thing of a chain of bindings that is several models, or None."""
    inner = unwrapped(model)
    return inner if inner is None or isinstance(inner, list) else _branches(inner)


def _bound_kwargs(model: Any) -> dict[str, Any]:
    """What is bound around a single model; the outermost binding wins."""
    inner = unwrapped(model)
    if inner is None or isinstance(inner, list):
        return {}
    return {**_bound_kwargs(inner), **getattr(model, "kwargs", {})}


def inner_model(model: Any) -> Any:
    """The chat model inside, as it is configured by default."""
    if is_configurable(model):
        try:
            # Its default model answers for what it has not itself; a method knows whose it is.
            return model.get_num_tokens_from_messages.__self__
        except Exception:  # noqa: BLE001 - it has no default, or cannot make it before it is configured
            return model
    inner = unwrapped(model)
    return model if inner is None or isinstance(inner, list) else inner_model(inner)


def is_configurable(model: Any) -> bool:
    """Whether it is what `init_chat_model` makes where the model is chosen for each call."""
    return "_ConfigurableModel" in class_names(model)


def client_names(model: Any) -> Sequence[str]:
    """The class names of the client that sends the call: of an endpoint, those of what it will make."""
    names = class_names(model)
    if "ChatEndpoint" in names and (server := model.known) is not None:
        client = model.client_class(server)
        return [client, "BaseChatOpenAI"] if client == "ChatOpenAI" else [client]
    return names


def is_openai_style(model: Any) -> bool:
    """Whether it speaks OpenAI's protocol through OpenAI's client."""
    return "BaseChatOpenAI" in client_names(model)


def openai_address(model: Any) -> Address | None:
    """Where an OpenAI-style client sends its calls, if that must be asked; None is OpenAI itself, or Azure.

    Raises:
        InvalidInputError: It is a URL that cannot be asked, such as one with a password.
    """
    if getattr(model, "azure_endpoint", None):
        return None
    url = getattr(model, "openai_api_base", None) or os.environ.get("OPENAI_BASE_URL")
    return address_of(url) if isinstance(url, str) and url else None
