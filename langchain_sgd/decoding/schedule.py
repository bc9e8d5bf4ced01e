"""Starts each node when its dependencies have ended, and owns every task it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.part import Outline, Written
from langchain_sgd.decoding.repeats import Repeats, without_text
from langchain_sgd.decoding.writer import raise_for_missing, write_node
from langchain_sgd.events import Emit, Planned, Voided
from langchain_sgd.journal import Journal
from langchain_sgd.owner import Owner
from langchain_sgd.question import digest
from langchain_sgd.report import NodeReport
from langchain_sgd.skeleton import Node, NodeId


class Schedule:
    """The nodes of one run on their way; nodes are added in the order of the answer.

    Args:
        run: The run.
        journal: Where answers are kept, and found again.
        owner: Owns the nodes' tasks.
    """

    def __init__(self, run: RunContext, journal: Journal, owner: Owner) -> None:
        self._run = run
        self._journal = journal
        self._owner = owner
        self._written: dict[NodeId, asyncio.Task[Written]] = {}
        """What dependents wait for."""
        self._shown: dict[NodeId, asyncio.Task[Written]] = {}
        """What of it the answer has; ends when the node's end has been told."""
        self._planned: list[Node] = []
        self._lines: list[str] = []
        """The planned nodes as prompts show them, rendered once."""
        self._keys: dict[NodeId, str] = {}
        self._complete = False
        self._repeats = Repeats() if run.options.cut_repeats else None

    def add(self, node: Node) -> None:
        """A node stands: it is decoded as soon as its dependencies have answers."""
        run = self._run
        now = run.clock.now()
        self._planned.append(node)
        self._lines.append(run.options.prompts.line_of(node))
        # Whatever a node's text is made from is in its key, so that a kept text is found only for it.
        needed = [self._keys[d] for d in node.dependencies]
        key = digest([node.heading, node.scope, node.difficulty, needed])
        if key in self._keys.values():  # of a given skeleton: a part that is wanted twice
            key = digest([key, node.id])
        self._keys[node.id] = key
        run.emit(Planned(node, now))
        waits = {d: self._written[d] for d in node.dependencies}
        before = next(reversed(self._shown.values()), None)
        is_cut = self._repeats is not None and before is not None
        emit = without_text(run.emit) if is_cut else run.emit
        writing = self._owner.start(self._decode(node, waits, now, f"node {key}", emit))
        self._written[node.id] = self._shown[node.id] = writing
        if self._repeats is not None:
            cutting = self._cut(self._repeats, writing, before)
            self._shown[node.id] = self._owner.start(cutting)

    def void(self) -> None:
        """All nodes so far were part of a thought: nobody wants them."""
        for task in (*self._shown.values(), *self._written.values()):
            task.cancel()
        self._written, self._shown, self._planned, self._lines, self._keys = {}, {}, [], [], {}
        self._repeats = Repeats() if self._repeats is not None else None
        self._run.emit(Voided(self._run.clock.now()))

    def complete(self) -> None:
        """No more nodes will come: parts that begin now know how many share the answer."""
        self._complete = True

    async def _decode(
        self,
        node: Node,
        needed: Mapping[NodeId, asyncio.Task[Written]],
        planned_s: float,
        key: str,
        emit: Emit,
    ) -> Written:
        answers: dict[NodeId, str | None] = {}
        for dependency, task in needed.items():
            if not task.done():
                await asyncio.wait([task])  # not the task itself: its end is not ours
            answers[dependency] = task.result().report.answer or None
        run, kept = self._run, self._journal.kept.get(key)
        if kept is not None:
            report = NodeReport.model_validate(kept)
            run.spending.restore(report.calls)
            written = Written(_restored(report, node, run.clock.now()))
        else:
            outline = Outline(tuple(self._planned), tuple(self._lines), complete=self._complete)
            written = await write_node(
                run,
                node,
                outline,
                answers,
                planned_s=planned_s,
                journal=self._journal,
                key=key,
                emit=emit,
            )
            if written.has_come_to_its_end and written.report.status != "partial":
                await self._journal.keep(key, written.report)
        if self._repeats is None:
            run.emit(written.ended())
        return written

    async def _cut(
        self,
        repeats: Repeats,
        writing: asyncio.Task[Written],
        before: asyncio.Task[Written] | None,
    ) -> Written:
        """What of a part the answer has, which is known once those before it are cut."""
        for task in (writing, before):  # which waits for the one before it
            if task is not None:
                await asyncio.wait([task])
        written = repeats.cut_part(writing.result())
        self._run.emit(written.ended())
        return written

    async def finish(self) -> None:
        """Wait until every node has ended; no more nodes will come.

        Siblings of a node without an answer end first, and are kept, so a resume asks only for what is
        missing.

        Raises:
            NodeDecodeError, DependencyFailedError, RunDeadlineError: A node has no answer, and
                `on_node_error` is "raise", or no node has one.
        """
        self.complete()
        if self._shown:
            await asyncio.wait(self._shown.values())
        written = [task.result() for task in self._shown.values()]
        raise_for_missing(self._run, self._planned, written)


def _restored(report: NodeReport, node: Node, now: float) -> NodeReport:
    """A kept report in this run's time: the node took none of it."""
    changes = {
        "id": node.id,
        "restored": True,
        "planned_s": now,
        "ready_s": now,
        "ended_s": now,
    }
    return report.model_copy(update=changes)
