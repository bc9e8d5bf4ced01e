"""Ollama's own client, for the options that all clients behind a URL take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import langchain_ollama
from langchain_core.messages import BaseMessage
from pydantic import Field


class ChatOllama(langchain_ollama.ChatOllama):
    """Sends penalties, and shows no header.

    The name is the parent's, for traces and for who looks for it.
    """

    client_kwargs: dict[str, Any] | None = Field(default={}, exclude=True, repr=False)
    """Headers among them hold keys, which belong in no trace."""
    async_client_kwargs: dict[str, Any] | None = Field(default={}, exclude=True, repr=False)
    sync_client_kwargs: dict[str, Any] | None = Field(default={}, exclude=True, repr=False)
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    def _chat_params(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        params: dict[str, Any] = super()._chat_params(messages, stop, **kwargs)
        if kwargs.get("options") is None:  # those of a call replace all of the client's
            params["options"] = {**params["options"], **self._penalties()}
        return params

    def _penalties(self) -> Mapping[str, float]:
        found = {
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
        }
        return {name: value for name, value in found.items() if value is not None}
