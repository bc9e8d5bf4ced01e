"""What came back instead of an answer, made a `TGIError` that holds none of our secrets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final

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


class Faults:
    """Names the faults of one server."""

    def __init__(self, url: str, secrets: Mapping[str, SecretStr]) -> None:
        self._url = url
        self._secrets = [
            value.get_secret_value().removeprefix("Bearer ") for value in secrets.values()
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    async def refused(self, response: aiohttp.ClientResponse) -> TGIError:
        """Read an answer that is no success."""
        body = decoded(await response.read())
        wait = response.headers.get("Retry-After", "")
        error = to_error(
            response.status,
            self._blanked(body),
            endpoint=self._url,
            retry_after_s=float(wait) if wait.isdecimal() else None,
        )
        location = response.headers.get("Location")
        if location is not None and isinstance(error, NotTGIError):
            with contextlib.suppress(ValueError):
                target = URL(location)
                where = f"{target.origin()}{target.path}" if target.absolute else target.path
                error.remedy = f"It redirects to {where}: give that server's base URL."
        return error

    async def no_stream(self, response: aiohttp.ClientResponse) -> TGIError:
        """Read a success that is no stream: an error's body, or another service."""
        body = decoded(await response.read())
        if isinstance(body, Mapping) and "error" in body:
            return self.in_stream(body)
        msg = f"a stream was asked for and {response.content_type!r} came"
        return NotTGIError(msg, endpoint=self._url, status=_OK)

    def in_stream(self, event: Mapping[str, Any]) -> TGIError:
        """Name the error that an event of a stream reports."""
        return to_error(_OK, self._blanked(event), endpoint=self._url)

    def json_object(self, data: bytes) -> dict[str, Any]:
        """Read an answer or an event.

        Raises:
            TGIStreamBrokenError: It begins as JSON and does not end.
            NotTGIError: It is something else.
        """
        body = decoded(data)
        if isinstance(body, dict):
            return body
        if isinstance(body, str) and body.startswith("{"):
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
                remedy="Check the certificate, and whether the server speaks https or http.",
            )
        if is_refusal(error):
            return TGIUnavailableError(f"cannot connect ({_reason(error)})", endpoint=self._url)
        if isinstance(error, aiohttp.ClientResponseError):
            msg = f"no HTTP answer ({error.message[:_SHOWN]!r})"
            return NotTGIError(msg, endpoint=self._url)
        if answered:
            msg = "the connection broke in the middle of the answer"
            return TGIStreamBrokenError(msg, endpoint=self._url)
        msg = f"the connection was closed without an answer ({_reason(error)})"
        return TGIUnavailableError(msg, endpoint=self._url)

    def _blanked(self, body: Any) -> Any:
        """Blank our secrets in what the server said: gateways echo headers."""
        if isinstance(body, str):
            for secret in filter(None, self._secrets):
                body = body.replace(secret, "***")
            return body
        if isinstance(body, Mapping):
            return {key: self._blanked(value) for key, value in body.items()}
        return [self._blanked(each) for each in body] if isinstance(body, list) else body


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
        except ValueError:
            return data.decode(errors="replace")


def _reason(error: Exception) -> str:
    """Name a connection's fault without aiohttp's own texts, which may hold the request's headers."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection in the time allowed"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(getattr(cause, "strerror", None) or type(cause).__name__)
