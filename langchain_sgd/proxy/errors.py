"""Errors in OpenAI's form: a status, and `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.exceptions import ModelInvalidRequestError
from starlette.responses import JSONResponse

from langchain_sgd.errors import RunDeadlineError, SkeletonGraphError
from langchain_sgd.failures import status_of

_LOG = logging.getLogger(__name__)

_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
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
                "type": _TYPES.get(self.status, "server_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """As a whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


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
        status = status_of(cause)
        if status == 429:
            return ProxyError(
                429, f"The model's server is overloaded: {error}", headers={"Retry-After": "1"}
            )
        if status in {400, 413, 422} or isinstance(cause, ModelInvalidRequestError):
            return ProxyError(400, f"The model's server refused the request: {error}")
        if status is not None:
            return ProxyError(502, f"The model's server failed: {error}", code=f"status_{status}")
    if isinstance(error, SkeletonGraphError | OSError):
        return ProxyError(502, f"No answer: {error}")
    _LOG.error("a request failed", exc_info=error)
    return ProxyError(500, f"Internal error ({type(error).__name__}); the server's log says more.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
