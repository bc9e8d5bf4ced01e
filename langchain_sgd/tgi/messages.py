"""LangChain's messages and chunks, made of TGI's answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call

from langchain_sgd.tgi.answers import Delta
from langchain_sgd.tgi.calls import CallParts, spoiler, with_id
from langchain_sgd.tgi.server import Timings

_log: Final = logging.getLogger("langchain_sgd")

_FINISH_REASONS: Final[Mapping[str, str]] = {"eos_token": "stop", "stop_sequence": "stop"}
"""TGI's own words for what LangChain and OpenAI call `stop`."""


class StopTrimmer:
    """Takes the stop text off the end of an answer, also while it is streamed.

    TGI leaves the text that stopped it in the output, perhaps with one newline behind it. What might be
    the beginning of a stop text is held back until more text, or the end, tells.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._endings = tuple(f"{stop}\n" for stop in stops if stop)
        self._longest = max(map(len, self._endings), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """Take the next piece and return what is certain to be shown."""
        if not self._longest:
            return text
        text = self._held + text
        held = next(
            (
                length
                for length in range(min(len(text), self._longest), 0, -1)
                if any(ending.startswith(text[-length:]) for ending in self._endings)
            ),
            0,
        )
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]

    def end(self, *, stopped: bool) -> str:
        """Return the rest; `stopped` says whether a stop text ended the answer."""
        text, self._held = self._held, ""
        if not stopped:
            return text
        found = (
            len(ending) - dropped
            for ending in self._endings
            for dropped in (0, 1)
            if text.endswith(ending[: len(ending) - dropped])
        )
        return text[: len(text) - max(found, default=0)]


def message_of(answer: Delta, timings: Timings, stops: Sequence[str]) -> AIMessage:
    """Make the message of a whole answer."""
    trimmer = StopTrimmer(stops)
    text = trimmer.feed(answer.text)
    text += trimmer.end(stopped=answer.finish_reason == "stop_sequence")
    calls, invalid = [], []
    for raw in answer.tool_calls:
        call = with_id(raw)
        try:
            calls.append(parse_tool_call(call, return_id=True))
        except OutputParserException as error:
            invalid.append(make_invalid_tool_call(call, str(error)))
    return AIMessage(
        content=text,
        additional_kwargs=_thoughts(answer),
        tool_calls=[call for call in calls if call is not None],
        invalid_tool_calls=invalid,
        usage_metadata=answer.usage,
        response_metadata=_metadata(answer, timings) | _logprobs(answer.logprobs),
    )


def _thoughts(answer: Delta) -> dict[str, Any]:
    return {"reasoning_content": answer.reasoning} if answer.reasoning else {}


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"logprobs": {"content": list(tokens)}} if tokens else {}


class StreamReader:
    """Makes message chunks of a stream's events; the last one carries usage and metadata."""

    def __init__(self, stops: Sequence[str], *, logprobs: bool = True) -> None:
        self._trimmer = StopTrimmer(stops)
        self._logprobs = logprobs
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._finish_reason: str | None = None
        self._usage: UsageMetadata | None = None
        self._calls = CallParts()
        self._shown = False
        self._pieces: list[str] = []
        self._whole: str | None = None

    @property
    def model(self) -> str | None:
        """The model's name as the server gives it."""
        return self._model

    def feed(self, events: Iterable[Delta]) -> list[AIMessageChunk]:
        """Take events that arrived together and make the chunks that show them.

        Their text is one chunk: handing one on costs as much as making it. Parts of tool calls stay
        apart, because messages are added up by the index of their calls.
        """
        chunks: list[AIMessageChunk] = []
        text = reasoning = ""
        logprobs: list[Mapping[str, Any]] = []
        for event in events:
            self._model = event.model or self._model
            self._fingerprint = event.fingerprint or self._fingerprint
            self._usage = event.usage or self._usage
            self._pieces.append(event.text)
            text += self._trimmer.feed(event.text)
            reasoning += event.reasoning
            logprobs.extend(event.logprobs if self._logprobs else ())
            if event.finish_reason is not None:
                self._finish_reason = event.finish_reason or self._finish_reason
                self._whole = event.whole
                text += self._trimmer.end(stopped=event.finish_reason == "stop_sequence")
            if event.tool_calls:
                calls = self._calls.add(event.tool_calls)
                chunks.append(AIMessageChunk(content=text, tool_call_chunks=calls))
                text = ""
        if reasoning or logprobs:
            chunks.append(
                AIMessageChunk(
                    content=text,
                    additional_kwargs=_thoughts(Delta(reasoning=reasoning)),
                    response_metadata=_logprobs(logprobs),
                )
            )
        elif text:
            chunks.append(AIMessageChunk(content=text))
        self._shown = self._shown or bool(chunks)
        return chunks

    def last(self, timings: Timings) -> AIMessageChunk:
        """Make the chunk that ends the message.

        Arguments of a call that were cut are made unreadable, which makes an invalid tool call of it.
        """
        # What is still held back: text behind the finish reason, or of a stream that tells none.
        text = self._trimmer.end(stopped=self._finish_reason == "stop_sequence")
        broken = self._calls.broken
        reason = self._finish_reason
        if reason is None:  # a tool's stream tells none
            cut = bool(broken) or not (self._shown or text)
            reason = "length" if cut and not (self._calls and self._calls.ended) else "stop"
        end = Delta(finish_reason=reason, model=self._model, fingerprint=self._fingerprint)
        return AIMessageChunk(
            content=text,
            tool_call_chunks=[
                tool_call_chunk(name=None, args=spoiler(arguments), id=None, index=index)
                for index, arguments in broken.items()
            ],
            usage_metadata=self._usage,
            response_metadata=_metadata(end, timings) | self._difference(),
            chunk_position="last",
        )

    def _difference(self) -> dict[str, Any]:
        """Tell where the pieces of a stream are not the text that the server has of it."""
        if self._whole is None or self._whole == "".join(self._pieces):
            return {}
        warning = "The stream's pieces do not add up to the text that the server has of them."
        _log.warning("%s It stands in response_metadata['generated_text'].", warning)
        return {"warnings": [warning], "generated_text": self._whole}


def _metadata(answer: Delta, timings: Timings) -> dict[str, Any]:
    reason = answer.finish_reason or ""
    metadata: dict[str, Any] = {
        "finish_reason": _FINISH_REASONS.get(reason, reason),
        "tgi_finish_reason": reason,
        "model_provider": "tgi",
        "tgi": timings,
    }
    if answer.model is not None:
        metadata["model_name"] = answer.model
    if answer.fingerprint is not None:
        metadata["system_fingerprint"] = answer.fingerprint
    return metadata
