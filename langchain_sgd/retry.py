"""Which failures of a model call pass by themselves, and how long to wait for that.

LangGraph's default predicate retries a 422 and does not retry a refused connection, so the package has
its own. It knows errors by what they carry (see `failures`), by a built-in base class, by their names.
"""

from __future__ import annotations

import random
import re
import ssl
from dataclasses import dataclass
from typing import Literal

from langchain_sgd.failures import (
    FIRST_ERROR_STATUS,
    KIND_KEYS,
    chain_of,
    facts_of,
    retry_after_of,
    status_of,
)

Course = Literal["passing", "once", "lasting"]
"""What becomes of a failure: it may pass; it may, but is worth one repeat only; it stays."""

_PASSING_STATUS = frozenset({408, 409, 424, 425, 429})
_LASTING_STATUS = frozenset({501, 505})
_SERVER_ERROR = 500
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
        "EndpointConnectionError",
        "IncompleteGenerationError",
        "InternalServerError",
        "NetworkError",
        "OverloadedError",
        "PoolTimeout",
        "RateLimitError",
        "RateLimitExceededError",
        "ReadError",
        "ReadTimeout",
        "ReadTimeoutError",
        "RemoteProtocolError",
        "ServerDisconnectedError",
        "ShardNotReadyError",
        "ShardTimeoutError",
        "Timeout",
        "TransportError",
    }
)
_LASTING_NAMES = frozenset({"LocalProtocolError", "UnsupportedProtocol"})
_UNREADABLE_NAMES = frozenset(
    {
        "APIResponseValidationError",
        "AttributeError",
        "ContentTypeError",
        "DecodingError",
        "IndexError",
        "JSONDecodeError",
        "KeyError",
        "NotTGIError",
        "TypeError",
        "UnicodeDecodeError",
    }
)
"""What clients raise of an answer that is none: a page of HTML, nothing at all, a null where a choice should
be. A proxy that restarts does that for a moment; another service does it for ever, and so does a mistake in
a program."""
_UNREADABLE_WORDS = ("no generation chunks were returned", "no generations found in stream")

_SPENT = frozenset(
    {
        "access_terminated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credits_exhausted",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "insufficient_user_quota",
        "usage_limit_reached",
    }
)
"""Kinds of a 429 that money ends, not time."""
_SPENT_WORDS = re.compile(
    r"insufficient[ _](?:quota|balance|credits?)|check your plan and billing|credit balance is too low",
    re.IGNORECASE,
)
_BUSY = frozenset(
    {
        "modelnotreadyexception",
        "overloaded",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "resource_exhausted",
        "serviceunavailableexception",
        "slow_down",
        "throttlingexception",
        "throttling_error",
        "toomanyrequestsexception",
        "unavailable",
    }
)
"""Kinds that pass, with whatever status they come: AWS throttles with 400, streams fail with 200."""
_PASSING_KINDS = frozenset(
    {
        "aborted",
        "api_connection_error",
        "api_error",
        "deadline_exceeded",
        "engine_overloaded",
        "internal",
        "internal_error",
        "internal_server_error",
        "internalservererror",
        "internalserverexception",
        "modelerrorexception",
        "modelstreamerrorexception",
        "modeltimeoutexception",
        "server_error",
        "service_unavailable",
        "service_unavailable_error",
        "timeout",
        "timeout_error",
    }
)


def course_of(error: BaseException) -> Course:
    """What will become of a failure.

    `passing`: overload, 5xx, lost connections, timeouts. `once`: an answer that is none. `lasting`: a
    refused key (401, 403), an impossible request (400, 413, 422), a quota that is used up, a server's
    certificate, and every error that is not known, nor one of those that it was raised from.
    """
    return next((course for each in chain_of(error) if (course := _course(each))), "lasting")


def _course(error: BaseException) -> Course | None:
    kinds = {v.casefold() for key, v in facts_of(error) if key in KIND_KEYS and isinstance(v, str)}
    if kinds & _SPENT or _SPENT_WORDS.search(str(error)):
        return "lasting"
    status, names = status_of(error), {base.__name__ for base in type(error).__mro__}
    if names & _UNREADABLE_NAMES and (status is None or status < FIRST_ERROR_STATUS):
        return "once"
    said = getattr(error, "is_retryable", None)
    if isinstance(said, bool):
        return "passing" if said else "lasting"
    if kinds & _BUSY:
        return "passing"
    if status is not None and status >= FIRST_ERROR_STATUS:
        return "passing" if _passes(status) else "lasting"
    if names & _LASTING_NAMES or _is_about_certificates(error):
        return "lasting"
    if isinstance(error, TimeoutError | ConnectionError | EOFError) or names & _PASSING_NAMES:
        return "passing"
    # TGI clients report overload inside a stream as text only.
    if kinds & _PASSING_KINDS or "Model is overloaded" in str(error):
        return "passing"
    if any(words in str(error).casefold() for words in _UNREADABLE_WORDS):
        return "once"
    return None


def is_retryable(error: BaseException, attempt: int = 1) -> bool:
    """Whether the same call may succeed later, after failed attempt number `attempt`, from 1."""
    course = course_of(error)
    return course == "passing" or (course == "once" and attempt == 1)


def _passes(status: int) -> bool:
    return status in _PASSING_STATUS or (status >= _SERVER_ERROR and status not in _LASTING_STATUS)


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


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts: exponential with full jitter, or what the server asked for."""

    first_s: float = 0.25
    most_s: float = 8.0
    most_asked_s: float = 60.0
    """The longest wait that a server may ask for; who asks for more is not asked again."""

    def delay(self, attempt: int, error: BaseException) -> float | None:
        """Seconds to wait after failed attempt number `attempt`, from 1; None: do not ask again."""
        asked = retry_after_of(error)
        if asked is not None:
            return asked if asked <= self.most_asked_s else None
        ceiling = min(self.most_s, self.first_s * 2 ** min(attempt - 1, 30))
        return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards no secret
