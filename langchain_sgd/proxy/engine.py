"""From a request to pieces of an answer: which models answer it, and how they are asked.

All that the proxy asks of SGD stands here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage

from langchain_sgd.answer import Assembler
from langchain_sgd.decoding.reply import characters_of
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.events import PLAIN_ID, Ended, Event, Opened, Token
from langchain_sgd.proxy.tally import Tally
from langchain_sgd.report import NodeReport, Report, Usage
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.stops import StopFilter

SGD, LARGE_ONLY, PLAIN = "sgd", "sgd-large", "plain"
_CUTS = {"token limit": "length", "content filter": "content_filter"}
"""How a report says what cut a text, and OpenAI's finish reason for it."""


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
    stopped: bool = False
    """At a stop text of the client's, or at its bound of tokens. The rest of the run was cancelled, so there
    is no report."""


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

        The answer ends before the first of the stop texts, wherever in it that is, and at `max_tokens`,
        about: tokens differ in length. Closing the iterator closes every model stream.
        """
        sgd = self.runnables[model]
        in_order = _InOrder(headings=bool(sgd.headings))
        stops = StopFilter(options.get("stop") or ())
        tally = Tally(
            options.get("max_tokens"),
            question=characters_of(messages),
            plans=sgd.mode != "never",
        )
        if sgd.mode != "never":  # a writer would end its own part there, and the next would follow
            options = {name: value for name, value in options.items() if name != "stop"}
        said: list[str] = []
        events = sgd.aevents(list(messages), None, **options)
        async with aclosing(cast("Any", events)):
            async for event in events:
                text, finished = "", None
                if isinstance(event, AIMessage):
                    finished = _finished(event)
                else:
                    yield event
                    tally.feed(event)
                    text = in_order.feed(event)
                text = tally.fitting(stops.feed(text, last=finished is not None))
                if text:
                    said.append(text)
                    yield Text(text)
                if tally.full or stops.found is not None:
                    await events.aclose()
                    why = "length" if tally.full else "stop"
                    finished = Finished("".join(said), why, tally.usage, stopped=True)
                if finished is not None:
                    yield finished
                    return


class _InOrder:
    """The text of a run from its events.

    Marks of missing parts wait for the first text: should nothing else come, the client gets an error.
    """

    def __init__(self, *, headings: bool) -> None:
        self._assembler = Assembler(headings=headings)
        self._held: str | None = ""

    def feed(self, event: Event) -> str:
        text = self._assembler.feed(event)
        if isinstance(event, Ended) and event.node_id == PLAIN_ID and _cut_by(event.report):
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
    finishes = {finish for node in report.nodes if (finish := _cut_by(node))}
    undivided = finishes and not report.skeleton
    return Finished(
        report.nodes[0].answer if undivided else str(message.text),
        min(finishes, default="stop"),  # the graver one first
        sum(usages, Usage()) if usages else None,
        report,
    )


def _cut_by(node: NodeReport | None) -> str | None:
    """What cut it, as OpenAI's finish reason, if the model's server did."""
    if node is None or node.status != "truncated":
        return None
    return next((finish for what, finish in _CUTS.items() if what in (node.error or "")), None)


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
