"""Requests that SGD has no part in: the large model's own answer, with tools or a response format."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_sgd.decoding.caller import call_model
from langchain_sgd.decoding.endings import Ending
from langchain_sgd.decoding.patience import Patience
from langchain_sgd.decoding.reply import Reply
from langchain_sgd.errors import NodeDecodeError, RunDeadlineError
from langchain_sgd.models.later import translated
from langchain_sgd.proxy.engine import Finished, Piece, Text, ToolCalls
from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.redaction import describe
from langchain_sgd.retry import is_retryable
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.streams import Working
from langchain_sgd.surrogates import Repair
from langchain_sgd.tiers import Tier, innermost

FINISHES: Final[Mapping[Ending | None, str]] = {"cut": "length", "refused": "content_filter"}
"""OpenAI's finish reasons of answers that are not whole."""


def answer_undivided(
    sgd: SGDRunnable,
    messages: Sequence[BaseMessage],
    options: Mapping[str, Any],
    bound: Mapping[str, Any],
) -> AsyncIterator[Piece]:
    """The answer of the largest model, asked as parts are: again after failures that pass, not for ever.

    Closing the iterator closes the model's stream.

    Args:
        sgd: Whose largest model is asked, and how patiently.
        messages: The conversation.
        options: Decoding options.
        bound: Tools and forms.

    Raises:
        ProxyError: The model takes no tools, or not these.
        NodeDecodeError: It gave no answer.
        RunDeadlineError: The deadline passed.
    """
    largest = sgd.largest
    inner = innermost(largest.model)
    named = translated(inner, options) if isinstance(inner, BaseChatModel) else options

    async def ask(give: Callable[[Piece], None]) -> None:
        model = _with_tools(largest.model, dict(bound))
        loop = asyncio.get_running_loop()
        until = None if sgd.deadline_s is None else loop.time() + sgd.deadline_s
        for attempt in itertools.count(1):
            reply, heard = Reply(largest.name), _Heard(model, give)
            try:
                await call_model(
                    Tier(largest.name, heard, largest.limit, largest.shared),
                    messages,
                    {},
                    lambda _: None,
                    reply,
                    patience=Patience(sgd.stall_timeout_s, until),
                    options=named,
                )
            except Exception as error:
                again = not heard.begun and attempt <= sgd.retries and is_retryable(error, attempt)
                delay = sgd.backoff.delay(attempt, error) if again else None
                if until is not None and loop.time() + (delay or 0.0) >= until:
                    msg = f"The deadline of {sgd.deadline_s:g} s passed before the answer was there"
                    raise RunDeadlineError(msg) from error
                if delay is None:
                    raise NodeDecodeError(None, largest.name, describe(error)) from error
                await asyncio.sleep(delay)
            else:
                give(heard.finished(reply))
                return

    return Working(ask)


class _Heard(Runnable[Any, Any]):
    """A model whose pieces are given on as a client is to have them."""

    def __init__(self, model: Runnable[Any, Any], give: Callable[[Piece], None]) -> None:
        self._model = model
        self._give = give
        self._texts: list[str] = []
        self._repair = Repair()
        self._calls = _Calls()
        self._answered = False

    @property
    def begun(self) -> bool:
        """Something was given on, so that the model cannot be asked again."""
        return bool(self._texts or self._calls.made)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As a Runnable must; calls stream."""
        return self._model.invoke(input, config, **kwargs)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The model's pieces."""
        stream = self._model.astream(input, config, **kwargs)
        async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as pieces:
            async for piece in pieces:
                self._answered = True
                if isinstance(piece, AIMessage) and not isinstance(piece, AIMessageChunk):
                    piece = AIMessageChunk(**piece.model_dump(exclude={"type"}))  # noqa: PLW2901
                yield piece
                self._take(piece)

    def _take(self, piece: Any) -> None:
        self._tell(self._repair.feed(str(getattr(piece, "text", piece))))
        if chunks := getattr(piece, "tool_call_chunks", None):
            self._give(ToolCalls([*map(self._calls.feed, chunks)]))

    def _tell(self, text: str) -> None:
        if text:
            self._texts.append(text)
            self._give(Text(text))

    def finished(self, reply: Reply) -> Finished:
        """What it came to."""
        if not self._answered:
            raise ProxyError(502, "The large model gave no answer.")
        self._tell(self._repair.close())
        calls = self._calls.made
        finish = FINISHES.get(reply.ending, "tool_calls" if calls else "stop")
        if reply.ending not in FINISHES:  # a cut call stays as it is
            self._give_empty_arguments(calls)
        return Finished("".join(self._texts), finish, reply.usage, tool_calls=calls)

    def _give_empty_arguments(self, calls: Sequence[dict[str, Any]]) -> None:
        """Calls of tools that take nothing have an object too: clients read it as JSON."""
        empty = [call for call in calls if not call["args"].strip()]
        for call in empty:
            call["args"] = "{}"
        if empty:
            self._give(
                ToolCalls([{"index": call["index"], "id": None, "args": "{}"} for call in empty])
            )


class _Calls:
    """Tool calls, numbered from 0 in the order in which they begin.

    Providers number them by the blocks of their content, or not at all; clients take equal numbers for
    pieces of one call, and numbers as places in a list.
    """

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        """As LangChain's `tool_call_chunks`, each call whole."""
        self._by_id: dict[str, int] = {}
        self._by_index: dict[Any, int] = {}

    def feed(self, chunk: Mapping[str, Any]) -> Mapping[str, Any]:
        """The next piece of a call, with the call's number; name and id stand in its first piece only."""
        index, name, args = chunk.get("index"), chunk.get("name"), chunk.get("args") or ""
        number = self._number(index, chunk.get("id"), name)
        begins = number == len(self.made)
        if begins:
            call_id = chunk.get("id") or f"call_{number}"
            self.made.append({"index": number, "id": call_id, "name": name, "args": ""})
        call = self.made[number]
        if chunk.get("id"):
            self._by_id[chunk["id"]] = number
        if index is not None:
            self._by_index[index] = number
        call["args"] += args
        told = {"index": number, "id": call["id"] if begins else None, "args": args}
        if begins or (name and not call["name"]):
            call["name"] = told["name"] = name
        return told

    def _number(self, index: Any, call_id: str | None, name: str | None) -> int:
        """Which call a piece belongs to: a new one begins with its name and an id of its own."""
        new = len(self.made)
        if call_id in self._by_id:
            return self._by_id[call_id]
        if index is None:
            return new if name or not new else new - 1
        return new if name and call_id else self._by_index.get(index, new)


def _with_tools(model: Runnable[Any, Any], bound: dict[str, Any]) -> Runnable[Any, Any]:
    """The model with what the client bound to it, in the model's own way where it has one."""
    tools = bound.pop("tools", None)
    if tools is None:
        return model.bind(**bound)
    bind_tools = getattr(model, "bind_tools", None)
    if bind_tools is None:
        return model.bind(tools=tools, **bound)
    try:
        return cast("Runnable[Any, Any]", bind_tools(tools, **bound))
    except NotImplementedError:
        raise ProxyError(400, "The large model takes no tools.", param="tools") from None
    except (ValueError, TypeError) as error:
        raise ProxyError(400, f"The tools cannot be used: {error}", param="tools") from error
