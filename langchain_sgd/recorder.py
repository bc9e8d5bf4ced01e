"""From events to the report, and to Python's logging: whatever the answer lacks or costs more is told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from langchain_sgd.costs import Pricing
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.reply import characters_of
from langchain_sgd.events import (
    PLAIN_ID,
    Ended,
    Event,
    HedgeDropped,
    Opened,
    PlainChosen,
    PlanEnded,
    Planned,
    PlannerCalled,
    Voided,
    Warned,
)
from langchain_sgd.report import (
    Attempt,
    NodeReport,
    PlannerReport,
    Report,
    Source,
    status_of,
)
from langchain_sgd.skeleton import Node, NodeId, Skeleton

_log = logging.getLogger("langchain_sgd")


class Recorder:
    """Feed it a run's events; it gives the report."""

    def __init__(self, warnings: Sequence[str] = ()) -> None:
        self.nodes: list[Node] = []
        self.reports: dict[NodeId, NodeReport] = {}
        self.warnings = list(warnings)
        self._planner: list[Attempt] = []
        self._hedge: Attempt | None = None
        self._opening = ""
        self._source: Source = "planner"
        self.cut = False
        self._reason: str | None = None

    def feed(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Planned(node):
                self.nodes.append(node)
            case Voided():
                self.nodes.clear()
                self.reports.clear()
                self.warnings.append("the planner's thoughts were taken for its plan, and begun")
            case PlannerCalled(attempt):
                self._planner.append(attempt)
            case PlanEnded(_, cut, source):
                self.cut, self._source = cut, source
            case PlainChosen(reason):
                self._reason = reason
            case Ended(node_id, report=report) if report is not None:
                self.reports[node_id] = report
            case HedgeDropped(attempt):
                self._hedge = attempt
            case Opened(text):
                self._opening += text
            case Warned(text):
                self.warnings.append(text)
            case _:
                pass

    @property
    def is_plain(self) -> bool:
        """Whether the question was answered undivided."""
        return self._reason is not None

    def unanswered(self, run: RunContext, *, thread_id: str | None = None) -> Report | None:
        """A run without an answer as data; None if parts of it have not ended."""
        if not self._planner and not self.reports:
            return None
        if not self.is_plain and any(node.id not in self.reports for node in self.nodes):
            return None
        return self.report(run, thread_id=thread_id)

    def report(
        self,
        run: RunContext,
        *,
        ttft_s: float | None = None,
        shown: Sequence[str] = (),
        restarted: bool = False,
        thread_id: str | None = None,
    ) -> Report:
        """The run as data.

        Args:
            run: The run.
            ttft_s: When the first text could be shown.
            shown: Warnings about the text as it was shown.
            restarted: Whether what was shown holds something that was begun and written again.
            thread_id: Where a checkpointer has saved the run.
        """
        # Of a run that failed, there may be no nodes.
        is_plain = self.is_plain or not self.nodes
        skeleton = Skeleton(nodes=() if is_plain else tuple(self.nodes))
        nodes = tuple(
            self.reports.values()
            if is_plain
            else (self.reports[node.id] for node in skeleton.nodes)
        )
        warnings = [
            *self.warnings,
            *shown,
            *(f"{_name(n)}: {n.error}" for n in nodes if n.error),
            *_troubled_tiers(nodes),
        ]
        planner = PlannerReport(
            source=self._source,
            attempts=tuple(self._planner),
            ended_s=max((attempt.ended_s for attempt in self._planner), default=0.0),
            hedge=self._hedge,
        )
        return Report(
            status=status_of(nodes, plain=is_plain, cut=self.cut),
            reason=self._reason,
            opening="" if is_plain else self._opening,
            skeleton=skeleton,
            planner=planner if run.options.mode != "never" or skeleton else None,
            nodes=nodes,
            warnings=tuple(dict.fromkeys(warnings)),
            ttft_s=ttft_s,
            wall_s=run.clock.now(),
            restarted=restarted or any(n.parts is not None and n.parts.restarted for n in nodes),
            thread_id=thread_id,
            pricing=self._pricing(run, nodes),
        )

    def _pricing(self, run: RunContext, nodes: Sequence[NodeReport]) -> Pricing | None:
        prices = run.options.all_prices
        if prices is None:
            return None
        return Pricing(
            prices=prices,
            plain_tier=run.options.largest.name,
            question_tokens=self._question_tokens(run, nodes),
        )

    def _question_tokens(self, run: RunContext, nodes: Sequence[NodeReport]) -> int | None:
        """Tokens of the conversation, estimated from the planner's prompt by its share of the characters."""
        counted = next((a.usage for a in self._planner if a.usage is not None), None)
        if counted is not None:
            prompt = run.options.prompts.for_planner(
                run.question.messages, max_nodes=run.options.max_nodes
            )
            share = characters_of(run.question.messages) / max(1, characters_of(prompt))
            return round(share * counted.input_tokens)
        if self.is_plain and nodes and nodes[0].attempts and (usage := nodes[0].attempts[0].usage):
            return usage.input_tokens
        return None


def tell_warnings(run: RunContext, report: Report, *, streamed: bool) -> None:
    """Every warning goes to the logger `langchain_sgd` as well, a line each.

    Where nobody handles logs, Python writes them to the terminal: after a streamed text, on a
    line of their own.
    """
    if run.within is not None:  # the run around it tells of them too
        return
    begin = "\n" if streamed and not _log.hasHandlers() else ""
    for warning in report.warnings:
        _log.warning("%s%s", begin, warning)
        begin = ""


def _name(node: NodeReport) -> str:
    return "undivided answer" if node.id == PLAIN_ID else f"node {node.id}"


def _troubled_tiers(nodes: Sequence[NodeReport]) -> list[str]:
    """A tier that gave no answer at all is named, although larger ones stood in for it."""
    failed: Counter[str] = Counter()
    good: set[str] = set()
    instead: dict[str, Counter[str]] = {}
    errors: dict[str, str] = {}
    for node in nodes:
        if node.restored:
            continue
        for index, attempt in enumerate(node.attempts):
            if index == node.answered_by:
                good.add(attempt.tier)
            elif attempt.error:
                failed[attempt.tier] += 1
                errors.setdefault(attempt.tier, attempt.error)
                if node.answered_by is not None and node.tier != attempt.tier:
                    instead.setdefault(attempt.tier, Counter())[node.tier] += 1
    return [
        f"tier {tier} gave no answer: {_calls(count)} came to nothing ({errors[tier]});"
        f" {', '.join(f'{other} answered instead' for other in instead.get(tier, ())) or 'none answered'}"
        for tier, count in failed.items()
        if tier not in good
    ]


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"
