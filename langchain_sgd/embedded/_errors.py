"""What goes wrong with a request, in TGI's words."""

from __future__ import annotations

from typing import Any

_STATUS = {
    "generation": 424,
    "overloaded": 429,
    "incomplete_generation": 500,
    "incomplete_generation_stream": 500,
}
"""Of kinds that are not the request's fault; the others are 422."""


class RejectionError(Exception):
    """The body was refused before the protocol saw it; answered as `text/plain`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class ProtocolError(Exception):
    """A request that fits the body's shape but cannot be answered."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.status = _STATUS.get(error_type, 422)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of every route, and the event of `/generate_stream`."""
        return {"error": self.message, "error_type": self.error_type}

    @property
    def chat_event(self) -> dict[str, Any]:
        """The event of chat and completions streams, where TGI reports every error as 422."""
        return {"error": {"message": self.message, "http_status_code": 422}}


def invalid(message: str) -> ProtocolError:
    """A request that breaks a rule of TGI's validation."""
    return ProtocolError("validation", f"Input validation error: {message}")


def tool_error(message: str) -> ProtocolError:
    """A function call that cannot be asked for, or that the model got wrong."""
    return ProtocolError("tool_error", f"Tool error: {message}")


def template_error(message: str) -> ProtocolError:
    """Messages that the model's chat template refuses."""
    return ProtocolError("template_error", f"Template error: {message}")


def generation_failed(message: str) -> ProtocolError:
    """The engine failed while it worked."""
    return ProtocolError("generation", f"Request failed during generation: {message}")


def overloaded() -> ProtocolError:
    """As many requests are in flight as the server takes; nothing is queued beyond that."""
    return ProtocolError("overloaded", "Model is overloaded")


def incomplete(*, stream: bool) -> ProtocolError:
    """The engine ended before the text was finished."""
    if stream:
        return ProtocolError("incomplete_generation_stream", "Incomplete generation stream")
    return ProtocolError("incomplete_generation", "Incomplete generation")


def suffix_unsupported() -> ProtocolError:
    """`/v1/completions` was asked to fill a gap."""
    msg = "Suffix is not supported and can be achieved by preprocessing the prompt."
    return ProtocolError("suffix not supported", msg)


def batch_too_large(limit: int) -> ProtocolError:
    """`/v1/completions` was given too many prompts."""
    msg = f"Number of prompts exceeds the maximum allowed batch size of {limit}"
    return ProtocolError("batch size exceeded", msg)
