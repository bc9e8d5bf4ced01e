"""Which failures of a model call pass by themselves, how long to wait for that, and how to name them.

LangGraph's default predicate retries a 422 and does not retry a refused connection, so the package has
its own. It knows errors by what they carry, whatever client raised them and without importing one: what
they say of themselves, a status, a body, headers, a built-in base class, the words of a message.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

Course = Literal["passing", "once", "lasting"]
"""What becomes of a failure: it may pass; it may, but is worth one repeat only; it stays."""

_PASSING_STATUS = frozenset({408, 409, 424, 425, 429})
_LASTING_STATUS = frozenset({501, 505})
_FIRST_ERROR_STATUS = 400
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
    return next((course for each in _chain(error) if (course := _course(each))), "lasting")


def _course(error: BaseException) -> Course | None:
    facts = [*_facts(error)]
    kinds = {value.casefold() for key, value in facts if key in _KIND_KEYS and _is_text(value)}
    if kinds & _SPENT or _SPENT_WORDS.search(str(error)):
        return "lasting"
    status, names = status_of(error), {base.__name__ for base in type(error).__mro__}
    if names & _UNREADABLE_NAMES and (status is None or status < _FIRST_ERROR_STATUS):
        return "once"
    said = getattr(error, "is_retryable", None)
    if isinstance(said, bool):
        return "passing" if said else "lasting"
    if kinds & _BUSY:
        return "passing"
    if status is not None and status >= _FIRST_ERROR_STATUS:
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


def is_timeout(error: BaseException) -> bool:
    """Whether a time that somebody allowed has ended, whatever client says so."""
    return any(
        isinstance(each, TimeoutError)
        or any("Timeout" in base.__name__ for base in type(each).__mro__)
        for each in _chain(error)
    )


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a failure, wherever its client keeps it; in a body too, and as digits.

    An error's status before a success': a stream that fails has begun with 200.
    """
    found = None
    for key, value in _facts(error):
        if key in _STATUS_KEYS and (status := _status(value)) is not None:
            if status >= _FIRST_ERROR_STATUS:
                return status
            found = found or status
    return found


def _passes(status: int) -> bool:
    return status in _PASSING_STATUS or (status >= _SERVER_ERROR and status not in _LASTING_STATUS)


def _status(value: object) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return int(value) if isinstance(value, int) and 100 <= value < 600 else None


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


# -- what an error carries

_STATUS_KEYS = frozenset(
    {"status_code", "status", "code", "http_status", "httpstatuscode", "statuscode"}
)
_KIND_KEYS = frozenset({"type", "code", "status", "error_type", "reason", "error", "__type"})
_ATTRIBUTES = ("status_code", "status", "code", "http_status", "type", "error_type")
_BODIES = ("body", "json_body", "details", "error", "response", "errors")
_MOST_FACTS = 200
_DEEPEST = 6


def _facts(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Names and plain values: the error's own, its response's, then those of the bodies."""
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in _ATTRIBUTES:
            if name == "code" and isinstance(getattr(holder, "status", None), int):
                continue  # aiohttp's old name for it, which warns
            value = getattr(holder, name, None)
            if isinstance(value, str | int):
                yield name, value
    budget = _Budget(_MOST_FACTS)
    for name in _BODIES:
        yield from _leaves(_decoded(getattr(error, name, None)), budget)
    yield from _leaves(_decoded(_body_of(response)), budget)


def _body_of(response: object) -> Any:
    """The text of a response that has been read; nothing is fetched for it."""
    if getattr(response, "is_closed", None) is not True:  # as httpx has it
        return None
    try:
        return getattr(response, "text", None)
    except Exception:  # noqa: BLE001 - closed before it was read, or not decodable: no facts
        return None


def _decoded(body: Any) -> Any:
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str) and body.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body


@dataclass(slots=True)
class _Budget:
    left: int


def _leaves(
    value: Any, budget: _Budget, key: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """The plain values inside mappings and lists, with the names that they have there."""
    if budget.left <= 0 or depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, budget, str(name).casefold(), depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, budget, key, depth + 1)
    elif key:
        budget.left -= 1
        yield key, value


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# -- when to ask again

_SECONDS_KEYS = frozenset(
    {
        "retry_after",
        "retry-after",
        "retryafter",
        "retry_after_s",
        "retry_after_seconds",
        "retryafterseconds",
        "retry_delay",
        "retrydelay",
        "x-retry-after",
    }
)
_MILLISECONDS_KEYS = frozenset({"retry_after_ms", "retry-after-ms", "retryafterms"})
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)\b"
    r"|(\d{1,9}(?:\.\d{1,9})?)(ms|[smhd])(?=\d)",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:re)?try(?:ing)?(?: again)? (?:in|after) (?:about )?(\d.{0,40})", re.IGNORECASE
)


def retry_after_of(error: BaseException, *, now: float | None = None) -> float | None:
    """Seconds after which the server wants to be asked again; None if it does not say.

    Looked for, also in the errors that this one was raised from: attributes (`retry_after_s`,
    `retry_after`, `retry_delay`), the headers of the response (seconds, milliseconds, an HTTP date), the
    body, the message ("Please try again in 1m30s").

    Args:
        error: What a call raised.
        now: Seconds since 1970, to which a date is compared that the response does not give its own for.
    """
    for each in _chain(error):
        for key, value in _wishes(each):
            if (seconds := _seconds(value, now)) is not None:
                return seconds / 1000 if key in _MILLISECONDS_KEYS else seconds
        if found := _ASKED.search(str(each)):
            seconds = _duration(found[1])
            if seconds is not None:
                return seconds
    return None


def _wishes(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name in (*_MILLISECONDS_KEYS, *_SECONDS_KEYS):
        if name.isidentifier() and (value := getattr(error, name, None)) is not None:
            yield name, value
    for headers in _headers_of(error):
        for name in (*_MILLISECONDS_KEYS, *_SECONDS_KEYS):
            if (value := headers.get(name)) is not None:
                yield name, (value, headers.get("date"))
    for key, value in _facts(error):
        if key in _SECONDS_KEYS or key in _MILLISECONDS_KEYS:
            yield key, value


def _headers_of(error: BaseException) -> Iterator[dict[str, Any]]:
    response = getattr(error, "response", None)
    inside = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    said = inside.get("HTTPHeaders") if isinstance(inside, Mapping) else None  # as botocore has it
    raw = getattr(error, "raw_response", None)
    for holder in (getattr(response, "headers", None), getattr(error, "headers", None), said):
        if isinstance(holder, Mapping):
            yield {str(name).casefold(): value for name, value in holder.items()}
    if isinstance(headers := getattr(raw, "headers", None), Mapping):
        yield {str(name).casefold(): value for name, value in headers.items()}


def _seconds(value: Any, now: float | None) -> float | None:
    """A wish as seconds, whatever form it has."""
    sent = None
    if isinstance(value, tuple):
        value, sent = value
    if hasattr(value, "total_seconds"):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            found = _duration(text)
            return _until(text, sent, now) if found is None else found
    return float(value) if math.isfinite(value) and value >= 0 else None


def _duration(text: str) -> float | None:
    """`34s`, `1m30.5s`, `858ms`, `26 seconds.`; None if it does not begin so."""
    total, at, found = 0.0, 0, False
    while match := _DURATION.match(text, at):
        count, unit = (match[1], match[2]) if match[1] else (match[3], match[4])
        unit = unit.casefold()
        total += float(count) * _UNITS["ms" if unit.startswith(("ms", "mil")) else unit[0]]
        found, at = True, match.end()
        while at < len(text) and text[at] == " ":
            at += 1
    return total if found else None


def _until(date: str, sent: Any, now: float | None) -> float | None:
    """Seconds to an HTTP date, by the server's own clock where it gave it."""
    try:
        then = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        begun = parsedate_to_datetime(str(sent)).timestamp()
    except (ValueError, TypeError, OverflowError):
        begun = time.time() if now is None else now
    return max(then - begun, 0.0)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those that it was raised from."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__
    return chain


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

    async def wait(self, attempt: int, error: BaseException) -> None:
        """Wait after failed attempt number `attempt`, counted from 1."""
        delay = self.delay(attempt, error)
        await asyncio.sleep(self.most_asked_s if delay is None else delay)


# -- in words

_LONGEST_TEXT = 300
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ of a URL
    (re.compile(r"(?<=://)[^\s/?#@'\"]{1,512}@"), "***@"),
    # what stands behind the name of a scheme, in a header or anywhere else
    (re.compile(r"\b(Bearer|Basic)(\s+|%20)[\w.~+/=:-]{6,}", re.IGNORECASE), r"\1\2***"),
    # a header, a field or an argument that holds a secret
    (
        re.compile(
            r"((?:proxy-)?authorization|(?:x-goog-|x-)?api[-_ ]?key|(?:auth|access|refresh|session)[-_]?token"
            r"|(?:client[-_]?)?secret(?:[-_]?(?:access[-_]?)?key)?|password|passwd|cookie)"
            r"(\\?[\"']?\s*(?:[:=]|=>|%3[AD])\s*|[\"']\s*,\s*)(b?\\?[\"'])?(?!\*\*\*)"
            r"(?:SecretStr\([\"']?)?[^\s\"'&,;<>{}()\[\]\\]+",
            re.IGNORECASE,
        ),
        r"\1\2\3***",
    ),
    # a parameter of a URL
    (
        re.compile(
            r"([?&](?:key|token|sig|signature|code|auth|x-amz-[a-z-]+)=)[^\s&\"'#]+", re.IGNORECASE
        ),
        r"\1***",
    ),
    # keys that are known by their looks
    (
        re.compile(
            r"\b(?:sk[-_]|[pr]k_|gsk_|hf_|xai-|pplx-|nvapi-|r8_|fw_|csk-|gh[po]_|glpat-)[\w-]{8,}"
            r"|\b(?:AKIA|ASIA|AIza|ya29\.)[\w-]{12,}"
        ),
        "***",
    ),
    # JSON Web Tokens
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?"), "***"),
)
_SHORTEST_SECRET = 4


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without what looks like a secret, nor any of those given."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    for pattern, blank in _SECRETS:
        text = pattern.sub(blank, text)
    return text


def describe(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """The error for a report: its class and the first line of its text, without secrets."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    # Cut before it is searched: a server may send a megabyte in one line.
    text = redacted(next(filter(None, lines), "")[: 4 * _LONGEST_TEXT], secrets)[:_LONGEST_TEXT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
