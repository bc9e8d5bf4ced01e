"""Errors in OpenAI's form: a status, and `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.exceptions import ModelInvalidRequestError
from starlette.responses import JSONResponse

from langchain_sgd.decoding.reply import NoAnswerError
from langchain_sgd.errors import InvalidInputError, RunDeadlineError, SkeletonGraphError
from langchain_sgd.failures import status_of

_UNKNOWN_OPTION = re.compile(
    r"unexpected keyword argument '(top_p|seed|stop|temperature|max_tokens|presence_penalty"
    r"|frequency_penalty|parallel_tool_calls|tool_choice|response_format)'"
)
"""How a client says that it does not know an option of a request."""
_LOG = logging.getLogger(__name__)

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    502: "upstream_error",
    504: "timeout_error",
}


class ProxyError(Exception):
    """What a client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's form."""
        return {
            "error": {
                "message": str(self),
                "type": _TYPES.get(self.status, self._type_otherwise),
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def _type_otherwise(self) -> str:
        return "invalid_request_error" if self.status < 500 else "server_error"

    def response(self) -> JSONResponse:
        """As a whole answer."""
        # OpenAI's clients would ask the whole answer again, though the run has tried what there was to try.
        final = {"x-should-retry": "false"} if self.status >= 500 else {}
        return JSONResponse(self.body(), self.status, {**final, **self.headers})


def as_proxy_error(error: BaseException) -> ProxyError:
    """What to tell a client of an error, whoever raised it.

    A model server's own refusals of the request (400, 413, 422) and of the load (429) are passed on, since
    the client can act on them. Its other errors are a bad gateway: its 401 is about our key.
    """
    if isinstance(error, ProxyError):
        return error
    if isinstance(error, RunDeadlineError):
        return ProxyError(504, str(error), code="deadline")
    if isinstance(error, TimeoutError):
        return ProxyError(504, "The answer took too long.", code="timeout")
    if isinstance(error, SkeletonGraphError) and isinstance(error, ValueError):
        return ProxyError(400, str(error))
    for cause in _causes(error):
        if (told := _told_by(cause, error)) is not None:
            return told
    if isinstance(error, SkeletonGraphError | OSError):
        return ProxyError(502, f"No answer: {error}")
    _LOG.error("a request failed", exc_info=error)
    return ProxyError(500, f"Internal error ({type(error).__name__}); the server's log says more.")


def _told_by(cause: BaseException, error: BaseException) -> ProxyError | None:
    """What one of an error's causes tells, if anything."""
    status = status_of(cause)
    if status == 429:
        message = f"The model's server is overloaded: {error}"
        return ProxyError(429, message, headers={"Retry-After": "1"})
    if status in {400, 413, 422} or isinstance(cause, ModelInvalidRequestError):
        return ProxyError(400, f"The model's server refused the request: {error}")
    if status is not None:
        return ProxyError(502, f"The model's server failed: {error}", code=f"status_{status}")
    if isinstance(cause, InvalidInputError) and not isinstance(cause, NoAnswerError):
        return ProxyError(400, f"The model's client refused the request: {cause}")
    if isinstance(cause, TypeError) and (option := _UNKNOWN_OPTION.search(str(cause))):
        return ProxyError(400, f"The model's client takes no {option[1]}.", param=option[1])
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
