"""What came back instead of an answer, made a `TGIError` that holds none of our secrets."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import aiohttp
from pydantic import SecretStr
from pydantic_core import from_json
from yarl import URL

from langchain_sgd.tgi.errors import (
    NotTGIError,
    TGIError,
    TGIStreamBrokenError,
    TGIUnavailableError,
    to_error,
)

_OK: Final = 200
_SHOWN: Final = 80
"""Characters of an answer that is no JSON, to recognize it by."""
_ANSWERS: Final = {"choices", "generated_text"}
"""What a whole answer of either route holds."""
_SHORTEST_SECRET: Final = 4
"""Characters from which a secret is blanked: a shorter one is none, and would blank ordinary words."""


class Faults:
    """Names the faults of one server."""

    def __init__(self, url: str, secrets: Iterable[SecretStr]) -> None:
        self._url = url
        self._secrets = tuple(SecretStr(each) for each in spellings(secrets))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    def refused(self, response: aiohttp.ClientResponse, body: bytes) -> TGIError:
        """Name an answer that is no success."""
        error = to_error(
            response.status,
            self._blanked(decoded(body)),
            endpoint=self._url,
            retry_after_s=retry_after_s(response.headers),
        )
        location = response.headers.get("Location")
        if location is not None and isinstance(error, NotTGIError):
            with contextlib.suppress(ValueError):
                target = URL(location)
                where = f"{target.origin()}{target.path}" if target.absolute else target.path
                error.remedy = (
                    f"It redirects to {self._blanked(where)}: give that server's base URL."
                )
        return error

    def whole_answer(self, body: bytes, *, in_place_of_stream: str | None = None) -> dict[str, Any]:
        """Read an answer that came as a whole; some gateways say with a success that there is none.

        Args:
            body: What came.
            in_place_of_stream: What it was called where a stream was asked for.

        Raises:
            TGIError: It is no answer: an error's body, a part of one, or another service.
        """
        content = decoded(body)
        if (
            isinstance(content, list) and len(content) == 1
        ):  # as the oldest servers of the API have it
            content = content[0]
        if isinstance(content, Mapping) and content.get("error") is not None:
            raise self.in_stream(content)
        is_answer = isinstance(content, dict) and content.keys() & _ANSWERS
        if in_place_of_stream is None or is_answer or _is_cut(content):
            return self._object(content)
        msg = f"a stream was asked for and {self._blanked(in_place_of_stream)!r} came"
        raise NotTGIError(msg, endpoint=self._url, status=_OK)

    def in_stream(self, event: Mapping[str, Any]) -> TGIError:
        """Name the error that an event of a stream reports."""
        return to_error(_OK, self._blanked(event), endpoint=self._url)

    def without_end(self) -> TGIError:
        """Name a stream that stopped before its end event."""
        msg = "the stream ended without its end event"
        return TGIStreamBrokenError(msg, endpoint=self._url, status=_OK)

    def unreadable(self, error: ValueError) -> TGIError:
        """Name a body that is too long or packed in a way that nobody asked for."""
        remedy = "Look for a proxy in front of the server; what came is no answer of a TGI server."
        return NotTGIError(str(error), endpoint=self._url, status=_OK, remedy=remedy)

    def json_object(self, data: bytes) -> dict[str, Any]:
        """Read an event.

        Raises:
            TGIStreamBrokenError: It begins as JSON and does not end.
            NotTGIError: It is something else.
        """
        return self._object(decoded(data))

    def _object(self, body: Any) -> dict[str, Any]:
        if isinstance(body, dict):
            return body
        if _is_cut(body):
            msg = "the answer ends in the middle"
            raise TGIStreamBrokenError(msg, endpoint=self._url, status=_OK)
        msg = f"the answer is no JSON object: {str(self._blanked(body))[:_SHOWN]!r}"
        raise NotTGIError(msg, endpoint=self._url, status=_OK)

    def lost(self, error: aiohttp.ClientError, *, answered: bool) -> TGIError:
        """Say what became of the connection; `answered` if headers had come."""
        if isinstance(error, aiohttp.ClientSSLError):
            return NotTGIError(
                f"TLS failed ({_reason(error)})",
                endpoint=self._url,
                remedy="Check the certificate (`verify` takes a file of your own CA), and whether the "
                "server speaks https or http.",
            )
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return TGIUnavailableError(
                f"cannot connect to the proxy ({_reason(error)})",
                endpoint=self._url,
                remedy="Check `proxy` and the environment's http_proxy, https_proxy and no_proxy.",
            )
        if is_refusal(error):
            return TGIUnavailableError(f"cannot connect ({_reason(error)})", endpoint=self._url)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return TGIUnavailableError(
                f"the proxy refused to connect (HTTP {error.status})", endpoint=self._url
            )
        if isinstance(error, aiohttp.ClientResponseError):
            msg = f"no HTTP answer ({self._blanked(error.message)[:_SHOWN]!r})"
            return NotTGIError(msg, endpoint=self._url)
        if answered:
            msg = "the connection broke in the middle of the answer"
            return TGIStreamBrokenError(msg, endpoint=self._url)
        msg = f"the connection was closed without an answer ({_reason(error)})"
        return TGIUnavailableError(msg, endpoint=self._url)

    def _blanked(self, body: Any) -> Any:
        """Blank our secrets in what the server said: gateways echo headers."""
        if isinstance(body, str):
            for secret in self._secrets:
                body = body.replace(secret.get_secret_value(), "***")
            return body
        if isinstance(body, Mapping):
            return {self._blanked(key): self._blanked(value) for key, value in body.items()}
        return [self._blanked(each) for each in body] if isinstance(body, list) else body


def bare(error: TGIError) -> TGIError:
    """Take from an error what it was made of, and return it.

    `raise ... from None` only hides that: aiohttp's errors, with the headers of the request and so the
    key, would still hang on it for every tool that follows `__context__`.
    """
    error.__cause__ = error.__context__ = None
    return error


def spellings(secrets: Iterable[SecretStr]) -> list[str]:
    """Give every way in which a server may repeat the values of secret headers; the longest first.

    Of `Bearer X` that is X; of `Basic X` also the user and the password that X stands for.
    """
    found: set[str] = set()
    for secret in secrets:
        found.update(_parts(secret.get_secret_value().strip()))
    found |= {quote(each, safe="") for each in found} | {json.dumps(each)[1:-1] for each in found}
    return sorted((each for each in found if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)


def _parts(value: str) -> Iterator[str]:
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    if not rest or scheme.lower() not in {"bearer", "basic", "token", "apikey"}:
        yield value
        return
    yield rest
    if scheme.lower() != "basic":
        return
    yield rest.rstrip("=")
    with contextlib.suppress(ValueError, binascii.Error):
        user_and_password = base64.b64decode(rest, validate=True).decode()
        yield user_and_password
        yield from user_and_password.split(":", 1)[1:]


def proxy_secrets(proxy: str | None) -> list[SecretStr]:
    """Give the secrets of a proxy's URL as header values would hold them."""
    if proxy is None or (url := URL(proxy)).user is None:
        return []
    pair = f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}"
    return [SecretStr(f"Basic {base64.b64encode(pair.encode()).decode()}")]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long the server asks to wait: seconds, or a date by the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return seconds if 0 <= seconds < float("inf") else None
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def is_refusal(error: aiohttp.ClientError) -> bool:
    """Whether no connection came about at all."""
    refused = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return refused and not isinstance(error, aiohttp.ClientSSLError)


def decoded(data: bytes) -> Any:
    """Read JSON; what is none comes back as text."""
    try:
        return from_json(data)  # in a third of the time that `json` takes for a token's event
    except ValueError:
        try:
            return json.loads(data)  # takes half of a surrogate pair as well
        except (ValueError, RecursionError):
            return data.decode(errors="replace")


def _is_cut(body: Any) -> bool:
    """Whether what was to be JSON begins so and does not end."""
    return isinstance(body, str) and body.startswith("{")


def _reason(error: Exception) -> str:
    """Name a connection's fault without aiohttp's own texts, which may hold the request's headers."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in the time allowed"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(getattr(cause, "strerror", None) or type(cause).__name__)
