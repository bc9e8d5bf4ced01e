"""What a failed model call's error carries: a status, a kind, when the server wants to be asked again.

Errors are read by their looks, whatever client raised them and without importing one: attributes, bodies,
headers, the words of a message.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

FIRST_ERROR_STATUS = 400
_STATUS_KEYS = frozenset(
    {"status_code", "status", "code", "http_status", "httpstatuscode", "statuscode"}
)
KIND_KEYS = frozenset({"type", "code", "status", "error_type", "reason", "error", "__type"})
_ATTRIBUTES = ("status_code", "status", "code", "http_status", "type", "error_type")
_BODIES = ("body", "json_body", "details", "error", "response", "errors")
_MOST_FACTS = 200
_DEEPEST = 6


def chain_of(error: BaseException) -> list[BaseException]:
    """The error and those that it was raised from."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__
    return chain


def is_timeout(error: BaseException) -> bool:
    """Whether a time that somebody allowed has ended, whatever client says so."""
    return any(
        isinstance(each, TimeoutError)
        or any("Timeout" in base.__name__ for base in type(each).__mro__)
        for each in chain_of(error)
    )


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a failure, wherever its client keeps it; in a body too, and as digits.

    An error's status before a success': a stream that fails has begun with 200.
    """
    found = None
    for key, value in facts_of(error):
        if key in _STATUS_KEYS and (status := _status(value)) is not None:
            if status >= FIRST_ERROR_STATUS:
                return status
            found = found or status
    return found


def _status(value: object) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    return int(value) if isinstance(value, int) and 100 <= value < 600 else None


def facts_of(error: BaseException) -> Iterator[tuple[str, Any]]:
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
    for each in chain_of(error):
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
    for key, value in facts_of(error):
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
