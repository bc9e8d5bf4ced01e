"""When a stream of TGI's is whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_sgd.tgi.answers import calls_of
from langchain_sgd.tgi.calls import CallParts


class ChatEnding:
    """Knows when a chat stream is whole.

    One of text shows a finish reason. One of a tool call shows none: it is whole with `[DONE]`, or with
    complete arguments. Where tools were offered, `[DONE]` alone says that `max_tokens` cut the answer
    before the tool's name was known.
    """

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools
        self._finished = False
        self._calls = CallParts()

    def see(self, event: Mapping[str, Any], /) -> None:
        """Take an event."""
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if choice.get("finish_reason"):
            self._finished = True
        delta = choice.get("delta")
        if isinstance(delta, dict) and (calls := calls_of(delta)):
            self._calls.add(calls)

    def reached(self, *, done: bool) -> bool:
        """Whether the events are a whole stream; `done` says that `[DONE]` came behind them."""
        if self._finished:
            return True
        return (done and self._tools) or (bool(self._calls) and (done or self._calls.ended))


class GenerateEnding:
    """Knows when a stream of `/generate_stream` is whole: its last event repeats the text."""

    def __init__(self) -> None:
        self._finished = False

    def see(self, event: Mapping[str, Any], /) -> None:
        """Take an event."""
        self._finished = self._finished or event.get("generated_text") is not None

    def reached(self, *, done: bool) -> bool:  # noqa: ARG002 - this route sends none
        """Whether the events are a whole stream."""
        return self._finished
