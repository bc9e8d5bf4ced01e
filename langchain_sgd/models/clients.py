"""The client that suits a server: which class, with which options, over which connections."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from langchain_sgd._extras import MissingExtraError, is_installed
from langchain_sgd.models.identify import Server
from langchain_sgd.models.urls import Address

_EXTRAS: Final = {
    "langchain_sgd.tgi": "tgi",
    "langchain_sgd.models.openai_style": "openai",
    "langchain_sgd.models.ollama_style": "ollama",
}
"""Modules of clients, and the extra of this package that installs them."""
_NO_KEY: Final = "none"
"""Said to clients that insist on a key, lest they take OpenAI's from the environment."""
_OWN_HTTP: Final = ("http_async_client", "http_client")
_NEW_NAME: Final = re.compile(r"(?:^|/)(?:o\d|gpt-(?:[5-9]|\d\d))")
"""Models of OpenAI that refuse `max_tokens`, also behind a gateway."""


def client_class(server: Server, options: Mapping[str, Any]) -> str:
    """The class of the client that suits a server, by name; nothing is imported."""
    if any(options.get(name) is not None for name in _OWN_HTTP):
        return "ChatOpenAI"  # the only one that takes them; all servers speak its protocol
    if server.kind == "ollama" and _has("langchain_ollama"):
        return "ChatOllama"
    # TGI speaks OpenAI's protocol too, for who has installed its client alone.
    if server.kind == "tgi" and (
        _has("aiohttp", "text_generation") or not _has("langchain_openai")
    ):
        return "ChatTGI"
    return "ChatOpenAI"


def make_client(
    server: Server,
    address: Address,
    key: SecretStr | None,
    given: Mapping[str, Any],
    *,
    pooled: bool,
) -> tuple[BaseChatModel, Any]:
    """A client, and the pool of connections that somebody must close; None if it closes its own.

    Args:
        server: Who serves.
        address: Where, and the wanted model.
        key: Sent as a bearer token.
        given: Further fields of the client.
        pooled: Whether the pool is for asynchronous calls.

    Raises:
        EndpointError: The wanted model is not there.
        MissingExtraError: The client's package is not installed.
    """
    options = {"max_retries": 0, **given}
    match client_class(server, given):
        case "ChatTGI":
            chat_tgi = _imported("langchain_sgd.tgi", "ChatTGI", server)
            if headers := options.pop("default_headers", None):
                options["headers"] = {**headers, **options.get("headers", {})}
            return chat_tgi(base_url=server.url, api_key=key, **options), None
        case "ChatOllama":
            return _ollama(server, address, key, options), None
    model = server.model(address.model)
    chat_openai = _imported("langchain_sgd.models.openai_style", "ChatOpenAI", server)
    openai = importlib.import_module("openai")
    proxy = options.pop("openai_proxy", None)
    name = "http_async_client" if pooled else "http_client"
    pool = None
    limits = _limits(options)  # a pool of the caller's has its own, and no server takes the option
    if options.get(name) is None:
        kind = openai.DefaultAsyncHttpxClient if pooled else openai.DefaultHttpxClient
        how = {"proxy": proxy} if proxy else network(address)
        pool = options[name] = kind(**how, **limits)
    if server.kind != "openai":
        options.setdefault("use_responses_api", False)
    client = chat_openai(
        base_url=server.api,
        model=model,
        api_key=key or _NO_KEY,
        openai_proxy=None,  # the environment's is not for a pool of ours
        is_tgi=server.kind == "tgi",
        says_max_tokens=_says_max_tokens(server, model, given),
        **{"stream_usage": True, **options},
    )
    return client, pool


def network(address: Address) -> dict[str, Any]:
    """How a client of httpx goes to a place: as the environment says, but for proxies before loopback."""
    if not address.is_loopback:
        return {}
    if address.url.startswith("https:"):
        # Without the environment there would be no certificates of one's own (SSL_CERT_FILE) either.
        return {"trust_env": False, "verify": httpx.create_ssl_context()}
    return {"trust_env": False}


def headers_of(options: Mapping[str, Any]) -> dict[str, str]:
    """The headers that calls of a client with these options carry, whatever class it is."""
    several = (
        options.get("default_headers"),
        options.get("headers"),
        (options.get("client_kwargs") or {}).get("headers"),
    )
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for headers in several
        for name, value in (headers or {}).items()
        if isinstance(value, str | SecretStr)
    }


def _limits(options: dict[str, Any]) -> dict[str, Any]:
    """What `max_concurrent_requests`, ChatTGI's option, is for a client of httpx; taken out of these."""
    most = options.pop("max_concurrent_requests", None)
    return {} if most is None else {"limits": httpx.Limits(max_connections=most)}


def _says_max_tokens(server: Server, model: str, options: Mapping[str, Any]) -> bool:
    """Whether the token limit goes out by its older name, which most servers know."""
    return (
        server.kind != "openai"
        and "max_completion_tokens" not in options
        and _NEW_NAME.search(model) is None
    )


def _ollama(
    server: Server, address: Address, key: SecretStr | None, options: dict[str, Any]
) -> BaseChatModel:
    chat_ollama = _imported("langchain_sgd.models.ollama_style", "ChatOllama", server)
    options.pop("max_retries", None)
    if "max_tokens" in options:
        options["num_predict"] = options.pop("max_tokens")
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    headers |= headers_of({"default_headers": options.pop("default_headers", None)})
    kwargs = {**network(address), **_limits(options)}
    if "timeout" in options:
        kwargs["timeout"] = options.pop("timeout")
    kwargs |= options.pop("client_kwargs", None) or {}
    if headers:
        kwargs["headers"] = {**headers, **kwargs.get("headers", {})}
    made: BaseChatModel = chat_ollama(
        base_url=server.url,
        model=server.model(address.model),
        client_kwargs=kwargs,
        **options,
    )
    return made


def _imported(module: str, name: str, server: Server) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        what = f"{server.url} is served by {server.kind}, and its client"
        raise MissingExtraError(what, _EXTRAS[module], error.name or module) from error


@functools.cache
def _has(*modules: str) -> bool:
    return all(map(is_installed, modules))
