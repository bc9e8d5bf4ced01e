"""From a question to its events: planned, decoded, each node as soon as its dependencies have answers.

Values in, events out. Nothing here knows of LangGraph or of Runnables: what must survive the process goes
through the journal, and a human is asked through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_sgd.decoding.asking import Asking
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.part import Written
from langchain_sgd.decoding.plain import PlainAnswer
from langchain_sgd.decoding.schedule import Schedule
from langchain_sgd.decoding.writer import failure
from langchain_sgd.errors import InvalidInputError, SkeletonError
from langchain_sgd.events import PlanEnded, Planned
from langchain_sgd.journal import Journal
from langchain_sgd.owner import Owner
from langchain_sgd.planning.planner import Plan
from langchain_sgd.report import NodeReport, Source
from langchain_sgd.skeleton import Skeleton

_PLAIN_KEY = "plain"
"""The undivided answer's key in the journal."""


DecodeAll = Callable[[RunContext, Skeleton], Awaitable[None]]
"""Another way to decode a whole skeleton, for comparison; it tells `run.emit` of every node's end."""


async def answer(run: RunContext, journal: Journal, *, decode_all: DecodeAll | None = None) -> None:
    """Answer the run's question; everything that comes of it is told to `run.emit`.

    Cancelling it closes every model stream. Nothing that it started goes on after it.

    Args:
        run: The run.
        journal: What must survive the process goes through it, and a human is asked through it.
        decode_all: Decodes in place of the schedule.

    Raises:
        NodeDecodeError: Nothing could be answered, or a node failed and `on_node_error` is "raise".
        DependencyFailedError: A node could not start, and `on_node_error` is "raise".
        RunDeadlineError: The deadline passed with nothing answered.
    """
    question = run.question
    async with Owner() as owner:
        plain = PlainAnswer(run, owner, journal)
        schedule = Schedule(run, journal, owner)
        if question.skeleton is not None:
            await _decode(run, schedule, question.skeleton, "given", decode_all)
            return
        asking = Asking(run, journal, plain)
        if question.approve or run.options.execution != "pipelined":
            plan = await asking.plan(lambda _: None)
            if plan.plain is None:
                await _decode_planned(run, journal, schedule, plan, plain, decode_all)
                return
        else:
            plan = await asking.plan(schedule.add, schedule.void)
        _tell(run, plan)
        if plan.plain is not None:
            await _answer_plainly(run, journal, plain, plan.plain)
            return
        run.emit(PlanEnded(run.clock.now(), plan.cut, _source(plan)))
        await schedule.finish()


async def plan_only(run: RunContext, journal: Journal) -> Plan:
    """The run's plan, and nothing written."""
    return await Asking(run, journal, None).plan(lambda _: None)


def _tell(run: RunContext, plan: Plan) -> None:
    for warning in plan.warnings:
        run.warn(warning)


def _source(plan: Plan) -> Source:
    return "cached" if plan.cached else "planner"


async def _decode_planned(
    run: RunContext,
    journal: Journal,
    schedule: Schedule,
    plan: Plan,
    plain: PlainAnswer,
    decode_all: DecodeAll | None,
) -> None:
    """Decode a plan that had to be complete first."""
    _tell(run, plan)
    skeleton: Skeleton | None = Skeleton(nodes=tuple(plan.nodes))
    source = _source(plan)
    if run.question.approve:
        skeleton, source = (
            _approved_by_human(journal, Skeleton(nodes=tuple(plan.nodes))),
            "approved",
        )
    if skeleton is None:
        await _answer_plainly(run, journal, plain, "the skeleton was rejected")
        return
    await _decode(run, schedule, skeleton, source, decode_all, cut=plan.cut)


async def _decode(
    run: RunContext,
    schedule: Schedule,
    skeleton: Skeleton,
    source: Source,
    decode_all: DecodeAll | None,
    *,
    cut: bool = False,
) -> None:
    schedule.complete()
    for node in skeleton.nodes:
        if decode_all is None:
            schedule.add(node)
        else:
            run.emit(Planned(node, run.clock.now()))
    run.emit(PlanEnded(run.clock.now(), cut, source))
    if decode_all is None:
        await schedule.finish()
    else:
        await decode_all(run, skeleton)


async def _answer_plainly(
    run: RunContext, journal: Journal, plain: PlainAnswer, reason: str
) -> None:
    kept = journal.kept.get(_PLAIN_KEY)
    if kept is not None:
        now = run.clock.now()
        changes = {"restored": True, "planned_s": now, "ready_s": now, "ended_s": now}
        report = NodeReport.model_validate(kept).model_copy(update=changes)
        written = Written(report)
        plain.restored(reason)
    else:
        written = await plain.choose(reason)
        if written.has_come_to_its_end and written.report.status != "partial":
            await journal.keep(_PLAIN_KEY, written.report)
    run.emit(written.ended())
    if not written.has_come_to_its_end:
        raise failure(run, None, written)


def _approved_by_human(journal: Journal, planned: Skeleton) -> Skeleton | None:
    """What a human makes of the skeleton; None answers undivided.

    An answer that cannot be used is asked for again, with the reason under `error`: it has been saved
    already, and an exception here would come again with every resume.
    """
    pending: dict[str, Any] = {"skeleton": planned.model_dump(mode="json")}
    while True:
        said = journal.ask(pending)
        try:
            return _approved(planned, said)
        except (InvalidInputError, SkeletonError) as error:
            pending = {**pending, "error": str(error)}


def _approved(planned: Skeleton, said: Any) -> Skeleton | None:
    kind = said.get("type") if isinstance(said, Mapping) else said
    if kind is True or kind == "accept":
        return planned
    if kind is False or kind == "reject":
        return None
    if isinstance(said, Mapping) and "skeleton" in said:
        said = said["skeleton"]
    if isinstance(said, list) or (isinstance(said, Mapping) and "nodes" in said):
        return Skeleton.parse(said)
    msg = (
        "An approval is resumed with True (accept), False (reject: answer undivided) or an edited"
        f" skeleton, {{'nodes': [...]}}; it was given {type(said).__name__}"
    )
    raise InvalidInputError(msg)
