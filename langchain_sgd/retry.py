"""Which failures of a model call pass by themselves, and how long to wait for that.

LangGraph's default predicate retries a 422 and does not retry a refused connection, so the package has
its own. It knows errors by what they carry (`is_retryable`, a status, a built-in base class), hence any
chat model's errors, without importing a client.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass

_PASSING_STATUS = frozenset({408, 409, 424, 425, 429})
_LASTING_STATUS = frozenset({501, 505})
_PASSING_NAMES = frozenset(
    {
        "APIConnectionError",
        "APITimeoutError",
        "ClientConnectionError",
        "ClientConnectorError",
        "ClientOSError",
        "ChunkedEncodingError",
        "ClientPayloadError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "IncompleteGenerationError",
        "InternalServerError",
        "NetworkError",
        "OverloadedError",
        "PoolTimeout",
        "RateLimitError",
        "RateLimitExceededError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "ServerDisconnectedError",
        "ShardNotReadyError",
        "ShardTimeoutError",
        "Timeout",
        "TransportError",
    }
)
_LASTING_NAMES = frozenset({"LocalProtocolError", "UnsupportedProtocol"})


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may succeed later: overload, 5xx, lost connections, timeouts.

    Never for a refused key (401, 403) or an impossible request (400, 413, 422), nor for an error that
    it does not know, nor for a server's certificate.
    """
    said = getattr(error, "is_retryable", None)
    if isinstance(said, bool):
        return said
    if (status := status_of(error)) is not None:
        return status in _PASSING_STATUS or (status >= 500 and status not in _LASTING_STATUS)
    names = {base.__name__ for base in type(error).__mro__}
    if names & _LASTING_NAMES or _is_about_certificates(error):
        return False
    if isinstance(error, TimeoutError | ConnectionError | EOFError) or names & _PASSING_NAMES:
        return True
    # TGI clients report overload inside a stream as text only.
    return "Model is overloaded" in str(error)


def _is_about_certificates(error: BaseException) -> bool:
    """Whether TLS trust is at the bottom of it: connection errors are wrapped around that."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ssl.CertificateError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error carries, wherever its client keeps it."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def describe(error: BaseException) -> str:
    """The error for a report: its class and the first line of its text."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts: exponential with full jitter, or what the server asked for."""

    first_s: float = 0.25
    most_s: float = 8.0

    async def wait(self, attempt: int, error: BaseException) -> None:
        """Wait after failed attempt number `attempt`, counted from 1."""
        asked = getattr(error, "retry_after_s", None)
        if isinstance(asked, int | float) and asked >= 0:
            delay = min(float(asked), self.most_s)
        else:
            ceiling = min(self.most_s, self.first_s * 2 ** min(attempt - 1, 30))
            delay = random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards no secret
        await asyncio.sleep(delay)
