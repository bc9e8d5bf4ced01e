"""One run's listener: from its events to the text as it is shown, to the report, and to the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from langchain_sgd.answer import TOP_LEVEL, Assembler, assemble, assemble_plain
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.engine import answer
from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.events import Ended, Event, Opened, Token
from langchain_sgd.graph import in_supersteps
from langchain_sgd.journal import Journal
from langchain_sgd.langgraph.host import Work
from langchain_sgd.options import Options
from langchain_sgd.question import Question
from langchain_sgd.recorder import Recorder, tell_warnings
from langchain_sgd.report import REPORT_KEY, Report, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence


class Telling:
    """Feed it a run's events.

    Args:
        options: Of the run.
        on_text: Called with every piece of the answer, in document order. Without it nobody sees the
            answer grow, so a part that is started again leaves no mark.
        on_event: Called with every event, in order.
        depth: How many times the question was split before this run.
    """

    def __init__(
        self,
        options: Options,
        *,
        on_text: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        depth: int = 0,
    ) -> None:
        self._options = options
        self._on_text = on_text
        self._on_event = on_event
        self._recorder = Recorder(options.known_faults)
        self._level = TOP_LEVEL + depth
        self._assembler = Assembler(headings=options.headings, level=self._level)
        self._told = False
        self._text: list[str] = []
        self._ttft_s: float | None = None
        self._answered = False
        self._hopeless = False
        """The run will raise once its nodes have ended; nothing more is shown."""
        self._held = ""

    @property
    def is_watched(self) -> bool:
        """Whether somebody sees the answer grow."""
        return self._on_text is not None or self._on_event is not None

    @property
    def warnings(self) -> Sequence[str]:
        """What was warned of."""
        return self._recorder.warnings

    def feed(self, event: Event) -> None:
        """Take note of an event and pass it on."""
        self._told = True
        is_token = isinstance(event, Token)
        if not is_token:
            self._recorder.feed(event)
            if isinstance(event, Ended) and self._raises(event):
                self._hopeless = True
        text = "" if self._hopeless else self._assembler.feed(event)
        # Until there is an answer, marks of missing parts wait: nothing else may come, and then the run
        # raises, which a fallback can only mend while nothing was shown.
        self._answered = self._answered or (
            bool(event.text)
            if isinstance(event, Ended)
            else bool(text) and (is_token or isinstance(event, Opened))
        )
        if not self._answered:
            self._held += text
        elif text or self._held:
            text, self._held = self._held + text, ""
            if self._ttft_s is None:
                self._ttft_s = getattr(event, "at_s", None)
            if self._on_text is not None:
                self._text.append(text)
                self._on_text(text)
        if self._on_event is not None:
            self._on_event(event)

    def _raises(self, event: Ended) -> bool:
        is_plain = self._recorder.is_plain
        return event.status == "failed" and (self._options.on_node_error == "raise" or is_plain)

    def working(self, context: Callable[[Question], RunContext]) -> Work:
        """The work of answering a question while this listens."""

        async def work(question: Question, journal: Journal, thread: str | None) -> AIMessage:
            run = context(question)
            supersteps = self._options.execution == "superstep"
            try:
                await answer(run, journal, decode_all=in_supersteps if supersteps else None)
            except SkeletonGraphError as error:
                error.report = self._recorder.unanswered(run, thread_id=thread)
                raise
            return self._message(run, thread)

        return work

    def restored(self, message: AIMessage) -> AIMessage:
        """The answer of a run that had ended before: its text is told as a whole, if nothing was told."""
        if not self._told and self._on_text is not None and message.text:
            self._on_text(str(message.text))
        return message

    def _message(self, run: RunContext, thread: str | None) -> AIMessage:
        shown = self._on_text is not None
        again, voided = self._assembler.interrupted, self._assembler.voided
        said = [f"the shown text of node {i} broke off and was started again" for i in again]
        if voided:
            said.append("a thought of the planner was shown as parts of the answer")
        report = self._recorder.report(
            run,
            ttft_s=self._ttft_s,
            shown=said if shown else (),
            restarted=shown and bool(again or voided),
            thread_id=thread,
        )
        tell_warnings(run, report, streamed=shown)
        text = "".join(self._text) if shown else self._whole(report)
        annotations = _annotations(report, text)
        thoughts = _thoughts(report)
        return AIMessage(
            [{"type": "text", "text": text, "annotations": annotations}] if annotations else text,
            # Where LangChain looks for thoughts, and nobody sends them back to a model.
            additional_kwargs={"reasoning_content": thoughts} if thoughts else {},
            response_metadata={REPORT_KEY: report.to_json(), **_named(report)},
            usage_metadata=usage_metadata(report.total_usage)
            if self._options.count_usage
            else None,
        )

    def _whole(self, report: Report) -> str:
        if not report.skeleton:
            return assemble_plain(report.nodes[0].status, report.nodes[0].answer)
        ended = {node.id: (node.status, node.answer) for node in report.nodes}
        return assemble(
            report.skeleton.nodes,
            ended,
            headings=self._options.headings,
            level=self._level,
            cut=self._recorder.cut,
            opening=report.opening,
        )


def usage_metadata(usage: Usage) -> UsageMetadata | None:
    """The tokens in LangChain's form; None if no server counted any."""
    if not usage.input_tokens and not usage.output_tokens:
        return None
    counted: UsageMetadata = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    read = {"cache_read": usage.cached_tokens, "cache_creation": usage.cache_write_tokens}
    if any(read.values()):
        counted["input_token_details"] = cast(
            "InputTokenDetails", {name: count for name, count in read.items() if count}
        )
    if usage.reasoning_tokens:
        counted["output_token_details"] = {"reasoning": usage.reasoning_tokens}
    return counted


def _named(report: Report) -> dict[str, Any]:
    """The models that answered; not under `model_name`, by which tracers would count tokens twice."""
    return {"models": report.models} if report.models else {}


def _annotations(report: Report, text: str) -> list[dict[str, Any]]:
    """Those of all parts, their places those in the whole answer."""
    found: list[dict[str, Any]] = []
    at = 0
    for node in report.nodes:
        if (begin := text.find(node.answer, at)) < 0:  # it was shown otherwise, broken off
            continue
        at = begin + len(node.answer)
        for annotation in node.annotations:
            places = {
                name: annotation[name] + begin
                for name in ("start_index", "end_index")
                if isinstance(annotation.get(name), int)
            }
            found.append({**annotation, **places})
    return found


def _thoughts(report: Report) -> str:
    """Those of all parts, each under its heading."""
    return "\n\n".join(
        f"## {node.heading}\n\n{node.reasoning}" if node.heading else node.reasoning
        for node in report.nodes
        if node.reasoning
    )
