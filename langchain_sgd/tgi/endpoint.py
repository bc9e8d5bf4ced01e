"""Where a TGI server is: the URL, cleaned once, and what is needed to speak to it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import key_from_environment as key_of_variable
from langchain_sgd.server_urls import base_and_fragment, below, host_of, is_loopback

Verify = bool | str | ssl.SSLContext
"""How a server's certificate is checked: as usual, not at all, by a CA file or folder, by a context."""

_HF_HOSTS = ("huggingface.co", "huggingface.cloud", "hf.space")


@dataclass(frozen=True, slots=True)
class TGIEndpoint:
    """A TGI server and how to speak to it.

    Example:
        >>> TGIEndpoint("http://gpu-1:8080/v1/")
        TGIEndpoint(url='http://gpu-1:8080')
    """

    url: str
    """Base URL; a trailing `/` or `/v1` is dropped."""
    _: KW_ONLY
    api_key: SecretStr | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer`; a plain string is taken too."""
    headers: Mapping[str, SecretStr | str] = field(default_factory=dict, repr=False, hash=False)
    """Further headers for a gateway, kept secret."""
    verify: Verify = True
    """Path of a CA file or folder, or an `ssl.SSLContext`; False checks no certificate."""
    proxy: SecretStr | str | None = field(default=None, repr=False)
    """URL of a proxy; None takes the environment's, "" none."""
    options: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)
    """Further fields of `ChatTGI`, such as `temperature` or `timeout`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", base_url(self.url))
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(self.api_key))
        object.__setattr__(self, "proxy", checked_proxy(self.proxy))
        secret = {
            name: value if isinstance(value, SecretStr) else SecretStr(value)
            for name, value in self.headers.items()
        }
        object.__setattr__(self, "headers", secret)


def base_url(text: str) -> str:
    """Clean the URL of a TGI server: `http://host:port` and perhaps a path, nothing behind it.

    Raises:
        InvalidInputError: It is no http or https URL, or holds a user name, a password, a query or
            a fragment. A URL is shown in traces and messages, so it must hold no secret; the message
            repeats none.
    """
    url, fragment = base_and_fragment(
        text,
        server="a TGI server",
        key="pass api_key=... (or headers={'Authorization': ...})",
        instead=", or a LangChain chat model",
    )
    if fragment:
        msg = f"The URL of {host_of(url)!r} holds a fragment. Give the server's base URL, {url}."
        raise InvalidInputError(msg)
    return url


def proxy_for(url: str) -> str | None:
    """Give the proxy that the environment names for a URL, None for loopback and `NO_PROXY` hosts.

    Asked once per client: aiohttp's `trust_env=True` asks for every request, which costs 0.8 ms each.
    """
    host = host_of(url)
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    return found if found and _is_http(found) else None  # others, such as SOCKS, aiohttp cannot


def checked_proxy(proxy: SecretStr | str | None) -> SecretStr | None:
    """Give a proxy's URL as a secret; "" is none, and None leaves it to the environment.

    Raises:
        InvalidInputError: It is no http or https URL; the message does not repeat it.
    """
    if proxy is None:
        return None
    text = proxy if isinstance(proxy, str) else proxy.get_secret_value()
    if text and not _is_http(text):
        msg = "proxy is no URL such as http://host:port or http://user:password@host:port."
        raise InvalidInputError(msg)
    return SecretStr(text)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def tls_for(url: str, verify: Verify) -> ssl.SSLContext | bool:
    """Make of `verify` what aiohttp takes.

    Raises:
        InvalidInputError: There is no such file, or it holds no certificate.
    """
    if not isinstance(verify, str):
        return verify
    if url.startswith("http:"):
        return True
    try:
        if os.path.isdir(verify):  # noqa: PTH112 - read once
            return ssl.create_default_context(capath=verify)
        return ssl.create_default_context(cafile=verify)
    except OSError as error:  # ssl.SSLError is one
        msg = f"verify={verify!r} is no file of certificates ({error.strerror or error})."
        raise InvalidInputError(msg) from None


def key_from_environment(url: str) -> SecretStr | None:
    """Give the key that the environment holds for a server, or None.

    `TGI_API_KEY` is for any server. `HF_TOKEN` opens a whole Hugging Face account, so it is sent to
    Hugging Face's own hosts over https only.
    """
    if (key := key_of_variable("TGI_API_KEY")) is not None:
        return key
    is_theirs = url.startswith("https:") and is_hugging_face(url)
    return key_of_variable("HF_TOKEN") if is_theirs else None


def is_hugging_face(url: str) -> bool:
    """Whether a URL's host belongs to Hugging Face."""
    return below(host_of(url), _HF_HOSTS) is not None
