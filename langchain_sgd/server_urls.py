"""URLs of servers: read and checked once, for every kind of server alike."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from langchain_sgd.errors import InvalidInputError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def base_and_fragment(text: str, *, server: str, key: str, instead: str = "") -> tuple[str, str]:
    """A server's base URL, without a trailing `/` or `/v1`, and what stands behind its `#`.

    Args:
        text: `http://host:port`, perhaps with a path.
        server: What the URL should be one of, for the message.
        key: Where a key goes instead, for the message.
        instead: What else would be taken, for the message.

    Raises:
        InvalidInputError: It is no http or https URL, or holds a user name, a password or a query. URLs
            stand in traces and messages, so they hold no secret; the message repeats none.
    """
    try:
        parts = urlsplit(text.strip())
        _ = parts.port  # reading it checks it
    except ValueError:
        msg = "The URL's host or port is malformed. Give http://host:port."
        raise InvalidInputError(msg) from None
    if parts.username is not None or parts.password is not None:
        msg = f"The URL of {parts.hostname!r} holds a user name or a password. Give it without, and {key}."
        raise InvalidInputError(msg)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        shown = "The given text" if "@" in text else repr(text)
        msg = f"{shown} is no URL of {server}: give http://host:port or https://host{instead}."
        raise InvalidInputError(msg)
    if parts.query:
        msg = (
            f"The URL of {parts.hostname!r} holds a query. Give the server's base URL, such as"
            f" http://host:port, and {key}."
        )
        raise InvalidInputError(msg)
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}", parts.fragment


def host_of(url: str) -> str:
    """The name of the host that a URL is on; "" if it has none."""
    return urlsplit(url).hostname or ""


def is_loopback(host: str) -> bool:
    """Whether no proxy can stand between."""
    return host in _LOOPBACK


def below(host: str, domains: Iterable[str]) -> str | None:
    """The domain among these that a host is, or stands below."""
    return next((each for each in domains if host == each or host.endswith(f".{each}")), None)
