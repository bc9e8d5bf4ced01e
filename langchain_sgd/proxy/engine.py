"""From a request to pieces of an answer: which models answer it, and how they are asked.

All that the proxy asks of SGD stands here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from langchain_sgd.answer import Assembler
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.events import PLAIN_ID, Ended, Event, Opened, Token
from langchain_sgd.limits import Slots
from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.report import NodeReport, Report, Usage
from langchain_sgd.runnable import SGDRunnable

SGD, LARGE_ONLY, PLAIN = "sgd", "sgd-large", "plain"
_CUT = frozenset({"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"})


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer, in the order of the document."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Pieces of tool calls, as LangChain's `tool_call_chunks`."""

    chunks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole."""

    text: str
    finish: str
    """OpenAI's finish reason."""
    usage: Usage | None
    """Of all calls; None where no server counted."""
    report: Report | None = None
    """None for an answer that SGD had no part in."""
    tool_calls: Sequence[Mapping[str, Any]] = ()


Piece = Event | Text | ToolCalls | Finished


class Engine:
    """The models behind a proxy, by the names that clients use.

    Args:
        sgd: What answers as `sgd`. `sgd-large` is the same with its largest tier only, `plain` its largest
            tier undivided.

    Raises:
        InvalidInputError: It waits for approvals or saves runs, which a client has no way to go on with.
    """

    def __init__(self, sgd: SGDRunnable) -> None:
        if sgd.approve or sgd.checkpointer:
            msg = "the proxy cannot serve an SGDRunnable with approve= or checkpointer=: leave them out"
            raise InvalidInputError(msg)
        self._largest = sgd.largest
        self.runnables = {
            SGD: sgd,
            LARGE_ONLY: _with_largest_only(sgd),
            PLAIN: _with_largest_only(sgd, mode="never"),
        }

    @property
    def tiers(self) -> list[str]:
        """Names of the tiers, smallest first."""
        return [tier.name for tier in self.runnables[SGD].tiers_by_size]

    async def answer(
        self, model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]
    ) -> AsyncIterator[Piece]:
        """The run's events and, between them, the text; last what it came to.

        Closing the iterator closes every model stream.
        """
        sgd = self.runnables[model]
        in_order = _InOrder(headings=bool(sgd.headings))
        events = sgd.aevents(list(messages), None, **options)
        async with aclosing(cast("Any", events)):
            async for event in events:
                if isinstance(event, AIMessage):
                    yield _finished(event)
                    return
                yield event
                if text := in_order.feed(event):
                    yield Text(text)

    async def answer_undivided(
        self, messages: Sequence[BaseMessage], options: Mapping[str, Any], bound: Mapping[str, Any]
    ) -> AsyncIterator[Piece]:
        """The large model's own answer, with tools or a response format: SGD has no part in it."""
        model = _with_tools(self._largest.model, dict(bound))
        total: AIMessageChunk | None = None
        async with Slots([self._largest.limit]):
            stream = model.astream(list(messages), None, **options)
            async with aclosing(cast("Any", stream)):
                async for chunk in stream:
                    if not isinstance(chunk, AIMessageChunk):
                        chunk = AIMessageChunk(**chunk.model_dump(exclude={"type"}))  # noqa: PLW2901
                    total = chunk if total is None else total + chunk
                    if chunk.text:
                        yield Text(str(chunk.text))
                    if chunk.tool_call_chunks:
                        yield ToolCalls(cast("Any", chunk.tool_call_chunks))
        if total is None:
            raise ProxyError(502, "The large model gave no answer.")
        said = total.response_metadata.get("finish_reason") or "stop"
        calls = cast("Any", total.tool_call_chunks)
        finish = "tool_calls" if calls else "length" if said in _CUT else "stop"
        yield Finished(str(total.text), finish, _usage_of(total), tool_calls=calls)


class _InOrder:
    """The text of a run from its events.

    Marks of missing parts wait for the first text: should nothing else come, the client gets an error.
    """

    def __init__(self, *, headings: bool) -> None:
        self._assembler = Assembler(headings=headings)
        self._held: str | None = ""

    def feed(self, event: Event) -> str:
        text = self._assembler.feed(event)
        if isinstance(event, Ended) and event.node_id == PLAIN_ID and _is_cut(event.report):
            text = ""  # the mark; the finish reason says it, as clients expect
        if self._held is None:
            return text
        self._held += text
        is_answer = isinstance(event, Token | Opened) or (
            isinstance(event, Ended) and bool(event.text)
        )
        if not (is_answer and self._held):
            return ""
        text, self._held = self._held, None
        return text


def _finished(message: AIMessage) -> Finished:
    report = Report.from_message(message)
    usages = list(report.usage.values())
    cut = any(map(_is_cut, report.nodes))
    undivided = cut and report.skeleton is None
    return Finished(
        report.nodes[0].answer if undivided else str(message.text),
        "length" if cut else "stop",
        sum(usages, Usage()) if usages else None,
        report,
    )


def _is_cut(node: NodeReport | None) -> bool:
    """Whether a token limit cut it."""
    return node is not None and node.status == "truncated" and "token limit" in (node.error or "")


def _usage_of(message: AIMessageChunk) -> Usage | None:
    counted = message.usage_metadata
    if counted is None:
        return None
    return Usage(
        input_tokens=counted["input_tokens"],
        output_tokens=counted["output_tokens"],
        cached_tokens=(counted.get("input_token_details") or {}).get("cache_read") or 0,
    )


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


def _with_largest_only(sgd: SGDRunnable, **changes: Any) -> SGDRunnable:
    largest = sgd.largest
    kept = {largest.name, "planner"}
    given: dict[str, Any] = {"tiers": {largest.name: largest.model}, "small": None, "large": None}
    given["router"] = given["large_share"] = None
    given["limits"] = {name: limit for name, limit in sgd.limits.items() if name in kept}
    if sgd.prices is not None:
        given["prices"] = {name: price for name, price in sgd.prices.items() if name in kept}
    return _copied(sgd, **given, **changes)


def _copied(sgd: SGDRunnable, **changes: Any) -> SGDRunnable:
    """A copy that is built anew; limits are objects and stay shared."""
    given = {name: getattr(sgd, name) for name in sgd.model_fields_set}
    return type(sgd)(**{**given, **changes})
