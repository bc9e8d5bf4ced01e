"""OpenAI's Responses API over the same answers: text and pictures in, text out.

A request becomes a chat's and is answered as one. What needs tools, or a server that remembers earlier
answers, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langchain_sgd.proxy.engine import Finished, Piece, Text
from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.proxy.history import Record
from langchain_sgd.proxy.replying import Reply
from langchain_sgd.proxy.wire import ChatRequest, refuse_unsupported, sse, validated
from langchain_sgd.report import Usage

_REFUSED: Final[Mapping[str, Sequence[Any]]] = {
    "tools": (None, []),
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "prompt": (None,),
    "top_logprobs": (None, 0),
}
"""What is not supported, with the values that ask for nothing."""
_HARMLESS: Final = frozenset(
    {"include", "max_tool_calls", "moderation", "parallel_tool_calls", "reasoning", "stream_options",
     "tool_choice", "truncation"}
)  # fmt: skip
_OTHERS: Final = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""Fields of a chat completion, and what a response has for them."""
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is not whole, by a chat's finish reason."""


class ResponseRequest(BaseModel):
    """One request for a response."""

    model_config = ConfigDict(extra="allow")

    model: str = "sgd"
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    text: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    """False keeps the run out of the page's history."""

    @model_validator(mode="after")
    def _supported(self) -> ResponseRequest:
        refuse_unsupported(self.model_extra or {}, _REFUSED)
        if not self.input:
            msg = "input is empty"
            raise ValueError(msg)
        return self

    def as_chat(self) -> ChatRequest:
        """The same as a chat.

        Raises:
            ProxyError: The input has something that is no text and no picture.
        """
        given = self.model_extra or {}
        others = {k: v for k, v in given.items() if k not in _REFUSED and k not in _HARMLESS}
        for name, theirs in _OTHERS.items():
            if name in others:
                msg = f"{name} is a chat completion's; a response has {theirs}"
                raise ProxyError(400, msg, param=name)
        messages = list(self._messages())
        if not messages:
            msg = "input has no message"
            raise ProxyError(400, msg, param="input")
        asked = {
            "model": self.model,
            "messages": messages,
            "stream": self.stream,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "response_format": self._format(),
            "store": self.store,
        }
        names = {"messages": "input", "response_format": "text"}
        return validated({**others, **asked}, ChatRequest, names)

    def _messages(self) -> Iterator[dict[str, Any]]:
        if self.instructions:
            yield {"role": "system", "content": self.instructions}
        if isinstance(self.input, str):
            yield {"role": "user", "content": self.input}
            return
        for index, item in enumerate(self.input):
            kind, where = item.get("type", "message"), f"input.{index}"
            if kind == "reasoning":  # sent back by clients that keep whole responses
                continue
            if kind != "message":
                raise _unreadable(where, f"an item of type {kind!r}")
            content = item.get("content")
            if isinstance(content, list):
                content = [_part(part, f"{where}.content") for part in content]
            yield {"role": item.get("role"), "content": content}

    def _format(self) -> dict[str, Any] | None:
        form = (self.text or {}).get("format") or {"type": "text"}
        if not isinstance(form, dict):
            msg = f"text.format must be an object, not {type(form).__name__}"
            raise ProxyError(400, msg, param="text.format")
        if form.get("type") != "json_schema":
            return dict(form)
        schema = {name: value for name, value in form.items() if name != "type"}
        return {"type": "json_schema", "json_schema": schema}


def _part(part: Any, where: str) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            picture = {"url": url, **({"detail": part["detail"]} if part.get("detail") else {})}
            return {"type": "image_url", "image_url": picture}
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise _unreadable(where, f"a part of type {kind!r}")


def _unreadable(where: str, what: str) -> ProxyError:
    return ProxyError(400, f"{where}: {what} is not supported by this server", param="input")


class Responding(Reply):
    """The answer to one request.

    Args:
        request: The request.
        asked: The same as a chat.
        record: The run.
        undivided: Why the large model is asked directly, if it is.
    """

    def __init__(
        self, request: ResponseRequest, asked: ChatRequest, record: Record, undivided: str | None
    ) -> None:
        super().__init__(asked, record, undivided)
        self._request = request
        self._number = 0
        self._text = ""
        self._place = {"item_id": f"msg_{record.id}", "output_index": 0, "content_index": 0}

    def _whole(self, finished: Finished, before: Sequence[Piece]) -> dict[str, Any]:
        del before
        return self._ended(finished)

    def _piece(self, piece: Piece) -> Sequence[bytes]:
        if not isinstance(piece, Text):
            return []
        begun = [] if self._number else list(self._beginning())
        self._text += piece.text
        return [
            *begun,
            self._event("output_text.delta", **self._place, delta=piece.text, logprobs=[]),
        ]

    def _beginning(self) -> Iterator[bytes]:
        response = self._response("in_progress", [])
        yield self._event("created", response=response)
        yield self._event("in_progress", response=response)
        item = {**self._item("", "in_progress"), "content": []}
        yield self._event("output_item.added", output_index=0, item=item)
        yield self._event("content_part.added", **self._place, part=_output_text(""))

    def _last(self, finished: Finished) -> Sequence[bytes]:
        begun = [] if self._number else list(self._beginning())
        response = self._ended(finished)
        part = _output_text(finished.text)
        ended = self._event("output_text.done", **self._place, text=finished.text, logprobs=[])
        return [
            *begun,
            ended,
            self._event("content_part.done", **self._place, part=part),
            self._event("output_item.done", output_index=0, item=response["output"][0]),
            self._event(response["status"], response=response),
        ]

    def _broken(self, error: ProxyError) -> Sequence[bytes]:
        told = {"code": error.code or "server_error", "message": str(error)}
        output = [self._item(self._text, "incomplete")] if self._text else []
        response = {**self._response("failed", output), "error": told}
        return [self._event("failed", response=response)]

    # -- forms

    def _event(self, kind: str, **fields: Any) -> bytes:
        name = f"response.{kind}"
        event = sse({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        return f"event: {name}\n".encode() + event

    def _item(self, text: str, status: str) -> dict[str, Any]:
        return {
            "id": self._place["item_id"],
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [_output_text(text)],
        }

    def _ended(self, finished: Finished) -> dict[str, Any]:
        why = _INCOMPLETE.get(finished.finish)
        status = "completed" if why is None else "incomplete"
        response = self._response(status, [self._item(finished.text, status)])
        if why is not None:
            response["incomplete_details"] = {"reason": why}
        return {**response, "usage": _usage_json(finished.usage), "sgd": self._told(finished)}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self._request
        return {
            "id": f"resp_{self._record.id}",
            "object": "response",
            "created_at": int(self._record.created),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": asked.model,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}, **(asked.text or {})},
            "tool_choice": "none",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None,
        }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_json(usage: Usage | None) -> dict[str, Any] | None:
    """Tokens as the Responses API writes them; None where no server counted."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
