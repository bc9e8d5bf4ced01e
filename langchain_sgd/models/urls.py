"""Where a model server is, and which key may be sent there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from pydantic import SecretStr

from langchain_sgd.keys import key_from_environment
from langchain_sgd.server_urls import base_and_fragment, below, host_of, is_loopback

HOSTED: Final = {
    "api.openai.com": "OPENAI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
    "api.x.ai": "XAI_API_KEY",
    "huggingface.co": "HF_TOKEN",
    "huggingface.cloud": "HF_TOKEN",
}
"""Hosts (and those below them) of companies, and the variable that holds a key of theirs."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was checked, and the model that is wanted there."""

    url: str
    """Without user, query, fragment and trailing slash; `/v1` is dropped."""
    model: str | None = None
    """None takes the only model that is there."""

    @property
    def host(self) -> str:
        """The host's name."""
        return host_of(self.url)

    @property
    def is_loopback(self) -> bool:
        """Whether no proxy can stand between."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return self.url if self.model is None else f"{self.url}#{self.model}"


def is_url(text: str) -> bool:
    """Whether a name is meant as a URL, right or wrong."""
    return "://" in text or text.lower().startswith(("http:", "https:"))


def address_of(text: str) -> Address:
    """Read `http://host:port`, perhaps with a path and with `#model` at the end.

    Raises:
        InvalidInputError: It is no http or https URL, or holds a user name, a password or a query. URLs
            stand in traces and messages, so they hold no secret; the message repeats none.
    """
    key = "put the key into SGD_API_KEY or pass api_key=..."
    url, fragment = base_and_fragment(text, server="a model server", key=key)
    return Address(url, unquote(fragment).strip() or None)


def key_for(address: Address, what: str) -> SecretStr | None:
    """The key that the environment holds for a server.

    `SGD_LARGE_API_KEY` (for `what="large"`) and `SGD_API_KEY` are for whatever server the user names. A
    company's own variable goes to that company's hosts only, and over https only.

    Raises:
        InvalidInputError: No header can carry the key.
    """
    if (own := own_key(what)) is not None:
        return own
    name = hosted_key(address.host) if address.url.startswith("https:") else None
    return None if name is None else key_from_environment(name)


def own_key(what: str) -> SecretStr | None:
    """The key that the package's own variables hold for a use of a model."""
    return key_from_environment(f"SGD_{what.upper()}_API_KEY") or key_from_environment(
        "SGD_API_KEY"
    )


def hosted_key(host: str) -> str | None:
    """The variable that holds the key of the company whose host this is."""
    company = below(host, HOSTED)
    return None if company is None else HOSTED[company]
