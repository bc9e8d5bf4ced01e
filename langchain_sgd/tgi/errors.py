"""What can go wrong at a TGI endpoint, and how every answer of a server is turned into it.

    TGIError                    root; also langchain-core's `ModelError`
    +-- TGIOverloadedError      429, or "overloaded" inside a stream (ModelRateLimitError)
    +-- TGIUnavailableError     refused, unreachable, 502/503/504, unhealthy (ModelConnectionError)
    +-- TGITimeoutError         no token or no answer in time (ModelTimeoutError)
    +-- TGIStreamBrokenError    the stream ended before its end event (ModelConnectionError)
    +-- TGIGenerationError      the model server failed, 424 or 500 (ModelAPIError)
    +-- TGIBadRequestError      the request is wrong and stays wrong (ModelInvalidRequestError)
    |   +-- TGIContextError     prompt and answer do not fit the model (ContextOverflowError)
    |   +-- TGIGrammarError     an expression or a schema that would harm the server; never sent
    |                           (also InvalidInputError)
    +-- TGIAuthError            401 or 403 (ModelAuthenticationError)
    +-- NotTGIError             something else answered: HTML, 404, redirect, TLS (ModelNotFoundError)

TGI answers a streaming call with HTTP 200 whatever happens and puts the error into the stream, in chat
streams with the code 422 for everything, so `to_error` reads the text before the status. Where the
text-generation client has an error of the same meaning, ours derives from it: code that catches
`text_generation.errors.OverloadedError` keeps working.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from text_generation import errors as stock

from langchain_sgd.errors import InvalidInputError

_LONGEST_DETAIL: Final = 300
"""Characters of a server's own words that go into a message: enough to act on, no whole HTML page."""


class TGIError(ModelError):
    """Root of the errors of a TGI endpoint.

    The class attribute `is_retryable`, of langchain-core's `ModelError`, says whether the same request
    may succeed later.
    """

    remedy = ""
    """What to do next, in one sentence."""

    def __init__(
        self,
        detail: str,
        *,
        endpoint: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        remedy: str | None = None,
    ) -> None:
        self.detail = detail
        """What happened, in the server's words where it had any."""
        self.endpoint = endpoint
        """The endpoint's URL without credentials, or an empty string."""
        self.status = status
        """The HTTP status, where there was an answer; 200 for an error inside a stream."""
        self.retry_after_s = retry_after_s
        """Seconds that the server asked to wait."""
        if remedy is not None:
            self.remedy = remedy
        super().__init__(detail)

    def __str__(self) -> str:
        """Say where, what and what next."""
        where = f"{self.endpoint}: " if self.endpoint else ""
        text = f"{where}{self.detail}"
        if not self.remedy:
            return text
        return f"{text}{'' if text.endswith('.') else '.'} {self.remedy}"

    def at(self, endpoint: str) -> TGIError:
        """Name the endpoint in this error and return it."""
        self.endpoint = endpoint
        return self


class TGIOverloadedError(TGIError, ModelRateLimitError, stock.OverloadedError):  # type: ignore[misc]
    """The server works on as many requests as it takes; the request was not begun."""

    remedy = (
        "Send fewer requests at a time (`max_concurrent_requests` of ChatTGI), or raise the server's "
        "--max-concurrent-requests."
    )


class TGIUnavailableError(TGIError, ModelConnectionError):
    """Nothing answered, or only a proxy did."""

    remedy = "Check that the server runs and that the URL and its port are right."


class TGITimeoutError(TGIError, ModelTimeoutError):
    """No answer, or no further token, in the time allowed."""

    remedy = (
        "Allow more time (`timeout`, `stall_timeout_s`) or look at the server's queue (/metrics)."
    )


class TGIStreamBrokenError(TGIError, ModelConnectionError, stock.IncompleteGenerationError):  # type: ignore[misc]
    """The answer ended before its end: a cut connection, a proxy's limit, a shard that died."""

    remedy = "Ask again; if it happens often, look for a proxy that cuts long streams."


class TGIGenerationError(TGIError, ModelAPIError, stock.GenerationError):  # type: ignore[misc]
    """The model server accepted the request and failed on it (memory, a shard, a bad regex)."""

    remedy = "The server's log says why."


class TGIBadRequestError(TGIError, ModelInvalidRequestError, stock.ValidationError):  # type: ignore[misc]
    """The server refuses this request; the same request will be refused again."""

    remedy = "Change the request: the server's words say which part."


class TGIContextError(TGIBadRequestError, ContextOverflowError):
    """Prompt and wanted tokens are more than the model holds."""

    remedy = "Shorten the messages or lower `max_tokens`; /info gives the server's limits."


class TGIGrammarError(TGIBadRequestError, InvalidInputError):
    """An expression or a schema that the server cannot take; it was not sent.

    A real TGI checks little: some forms abort it, end the requests of strangers or keep it busy for
    minutes. The message says what to write instead.
    """

    remedy = ""


class TGIAuthError(TGIError, ModelAuthenticationError):
    """The endpoint wants another key, or one at all."""

    remedy = "Pass the endpoint's own key as `api_key` (or set TGI_API_KEY)."


class NotTGIError(TGIError, ModelNotFoundError, stock.NotFoundError):  # type: ignore[misc]
    """What answered does not speak TGI's protocol."""

    remedy = (
        "Give the base URL of a text-generation-inference server, without a path such as /v1; its "
        "/info must answer JSON."
    )


_BY_TYPE: Final[Mapping[str, type[TGIError]]] = {
    "overloaded": TGIOverloadedError,
    "generation": TGIGenerationError,
    "incomplete_generation": TGIStreamBrokenError,
    "incomplete_generation_stream": TGIStreamBrokenError,
    "stream_serialization_error": TGIGenerationError,
    "validation": TGIBadRequestError,
    "template_error": TGIBadRequestError,
    "missing_template_variable": TGIBadRequestError,
    "tool_error": TGIBadRequestError,
    "healthcheck": TGIUnavailableError,
}
"""TGI's `error_type`s (router/src/lib.rs and validation.rs)."""

_BY_OPENING: Final[tuple[tuple[str, type[TGIError]], ...]] = (
    ("input validation error", TGIBadRequestError),
    ("template error", TGIBadRequestError),
    ("missing template", TGIBadRequestError),
    ("tool error", TGIBadRequestError),
    ("failed to deserialize", TGIBadRequestError),
    ("incomplete generation", TGIStreamBrokenError),
    ("request failed during generation", TGIGenerationError),
)
"""How TGI's messages begin: in chat streams they are all there is to tell errors apart."""

_DEAD_SHARD: Final = (
    *("connection refused", "connection reset", "connection closed", "connection error"),
    *("error trying to connect", "tcp connect error", "transport error", "broken pipe"),
)
"""What a living router says of a model server that is down: to it that is a failed generation."""
_SHARD_REMEDY: Final = (
    "The model server behind the router is down: start it again; /health then answers 200."
)
_STARTING_REMEDY: Final = (
    "The server is starting, scaled to zero or too busy: ask later, or wait for it"
    " (`scale_up_timeout_s`)."
)
_CUT_CALL: Final = "eof while parsing"
_CUT_REMEDY: Final = "The tool call was cut by `max_tokens`: raise it."

_BY_STATUS: Final[Mapping[int, type[TGIError]]] = {
    400: TGIBadRequestError,
    401: TGIAuthError,
    403: TGIAuthError,
    404: NotTGIError,
    405: NotTGIError,
    408: TGITimeoutError,
    413: TGIBadRequestError,
    415: TGIBadRequestError,
    422: TGIBadRequestError,
    424: TGIGenerationError,
    429: TGIOverloadedError,
    502: TGIUnavailableError,
    503: TGIUnavailableError,
    504: TGIUnavailableError,
}


def to_error(
    status: int, body: Any, *, endpoint: str = "", retry_after_s: float | None = None
) -> TGIError:
    """Turn any failed answer of a TGI server, or of a proxy before it, into one error.

    Args:
        status: The HTTP status; 200 for an error event of a stream.
        body: The decoded JSON, or the text where it was no JSON; None or "" where it was empty.
        endpoint: The endpoint's URL without credentials, for the message.
        retry_after_s: The `Retry-After` header in seconds.

    Returns:
        The error, to be raised by the caller; its detail holds at most 300 characters of `body`.
    """
    text, kind = _text_of(body)
    html = text.startswith("<")
    cause = _by_words(text, kind) or _by_status(status, empty=not text, html=html)
    remedy = None
    if cause is TGIGenerationError and _mentions(text, *_DEAD_SHARD):
        cause, remedy = TGIUnavailableError, _SHARD_REMEDY
    elif cause is TGIUnavailableError and status == HTTPStatus.SERVICE_UNAVAILABLE:
        remedy = _STARTING_REMEDY
        if retry_after_s:
            remedy = f"{remedy} It asks to wait {retry_after_s:.0f} s."
    elif cause is TGIBadRequestError and _mentions(text, _CUT_CALL):
        remedy = _CUT_REMEDY
    return cause(
        _detail(status, text, html=html),
        endpoint=endpoint,
        status=status,
        retry_after_s=retry_after_s,
        remedy=remedy,
    )


def _mentions(text: str, *words: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in words)


def _by_words(text: str, kind: str) -> type[TGIError] | None:
    """Choose by `error_type` or by the message, before the status: in streams that is always 200."""
    words = text.lower()
    if "`max_new_tokens` must be <=" in words or "`inputs` must have less than" in words:
        return TGIContextError
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if "overloaded" in words and not words.startswith("<"):
        return TGIOverloadedError
    return next((cause for opening, cause in _BY_OPENING if words.startswith(opening)), None)


def _by_status(status: int, *, empty: bool, html: bool) -> type[TGIError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TGIUnavailableError if html else TGIGenerationError
    if status >= HTTPStatus.BAD_REQUEST:
        return TGIBadRequestError
    if status >= HTTPStatus.MULTIPLE_CHOICES or html or empty:
        return NotTGIError
    return TGIGenerationError


def _text_of(body: Any) -> tuple[str, str]:
    """Find the message and the `error_type` in whatever shape they came."""
    if body is None:
        return "", ""
    if not isinstance(body, Mapping):
        return str(body).strip(), ""
    error = body.get("error", body.get("detail", body.get("message")))
    kind = body.get("error_type", "")
    if isinstance(error, Mapping):
        error = error.get("message", error)
    if error is None:
        error = dict(body)
    return str(error).strip(), kind if isinstance(kind, str) else ""


def _detail(status: int, text: str, *, html: bool) -> str:
    if status == HTTPStatus.OK:
        return "an HTML page came instead of an answer" if html else _short(text)
    phrase = f"HTTP {status}"
    if html:
        return f"{phrase} with an HTML page"
    return f"{phrase}: {_short(text)}" if text else f"{phrase} with an empty body"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 3]}..."
