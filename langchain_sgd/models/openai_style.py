"""OpenAI's client for whatever server speaks its protocol."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import langchain_openai
from langchain_core.language_models import LanguageModelInput
from pydantic import Field

from langchain_sgd._extras import is_installed
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import Expression


class ChatOpenAI(langchain_openai.ChatOpenAI):
    """Says the token limit by the name that the server knows, and shows no header.

    The name is the parent's, for traces and for who looks for it.
    """

    default_headers: Mapping[str, str] | None = Field(default=None, exclude=True, repr=False)
    """A gateway's may hold keys, which belong in no trace."""
    says_max_tokens: bool = Field(default=True, exclude=True, repr=False)
    """All servers know `max_tokens`; OpenAI itself wants `max_completion_tokens` of late."""
    is_tgi: bool = Field(default=False, exclude=True, repr=False)
    """Whether a grammar that the server cannot take would end everybody's requests."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if self.is_tgi:
            _check(payload)
            _check(payload.get("extra_body") or {})
        # An option of the call under the new name is meant so.
        if self.says_max_tokens and "max_completion_tokens" not in kwargs:
            limit = payload.pop("max_completion_tokens", None)
            return payload if limit is None else {**payload, "max_tokens": limit}
        return payload


def _check(body: Mapping[str, Any]) -> None:
    """Refuse what would harm a TGI server: as `ChatTGI` does; without its extra, expressions alone."""
    if is_installed("aiohttp") and is_installed("text_generation"):
        schemas = importlib.import_module("langchain_sgd.tgi.schemas")
        schemas.check_body(body, schemas.MAX_GRAMMAR_STATES)
        return
    form = body.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "regex":
        try:
            Expression(str(form.get("value")))
        except ExpressionError as error:
            msg = f"TGI cannot take this regular expression: {error}"
            raise InvalidInputError(msg) from None
