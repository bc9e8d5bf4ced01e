"""OpenAI's client for whatever server speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import langchain_openai
from langchain_core.language_models import LanguageModelInput
from pydantic import Field


class ChatOpenAI(langchain_openai.ChatOpenAI):
    """Says the token limit by the name that the server knows, and shows no header.

    The name is the parent's, for traces and for who looks for it.
    """

    default_headers: Mapping[str, str] | None = Field(default=None, exclude=True, repr=False)
    """A gateway's may hold keys, which belong in no trace."""
    says_max_tokens: bool = Field(default=True, exclude=True, repr=False)
    """All servers know `max_tokens`; OpenAI itself wants `max_completion_tokens` of late."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        # An option of the call under the new name is meant so.
        if self.says_max_tokens and "max_completion_tokens" not in kwargs:
            limit = payload.pop("max_completion_tokens", None)
            return payload if limit is None else {**payload, "max_tokens": limit}
        return payload
