"""What goes wrong with a request, in TGI's words."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

PREFIX: Final = "Failed to deserialize the JSON body into the target type: "


class Kind(Enum):
    """TGI's kinds of errors: the name, the status and the text of each."""

    VALIDATION = "validation", 422, "Input validation error: {}"
    TEMPLATE = "template_error", 422, "Template error: {}"
    TOOL = "tool_error", 422, "Tool error: {}"
    SUFFIX = (
        "suffix not supported",
        422,
        "Suffix is not supported and can be achieved by preprocessing the prompt.",
    )
    BATCH = (
        "batch size exceeded",
        422,
        "Number of prompts exceeds the maximum allowed batch size of {}",
    )
    GENERATION = "generation", 424, "Request failed during generation: {}"
    OVERLOADED = "overloaded", 429, "Model is overloaded"
    INCOMPLETE = "incomplete_generation", 500, "Incomplete generation"
    INCOMPLETE_STREAM = "incomplete_generation_stream", 500, "Incomplete generation stream"


class RejectionError(Exception):
    """The body was refused before the protocol saw it; answered as `text/plain`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class ProtocolError(Exception):
    """A request that fits the body's shape but cannot be answered.

    Args:
        kind: Which of TGI's it is.
        details: What else its text says, where the kind alone does not.
    """

    def __init__(self, kind: Kind, details: object = "") -> None:
        self.error_type, self.status, text = kind.value
        self.message = text.format(details)
        super().__init__(self.message)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of every route, and the event of `/generate_stream`."""
        return {"error": self.message, "error_type": self.error_type}

    @property
    def chat_event(self) -> dict[str, Any]:
        """The event of chat and completions streams, where TGI reports every error as 422."""
        return {"error": {"message": self.message, "http_status_code": 422}}
