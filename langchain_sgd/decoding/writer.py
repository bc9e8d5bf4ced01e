"""One part of the answer: routed, asked for, asked for again, accepted. An undivided answer is a part too."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_sgd.decoding.attempting import Attempted, attempt_by_model
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.length import Share
from langchain_sgd.decoding.nesting import InnerJournal, attempt_in_parts
from langchain_sgd.decoding.part import Outline, Part, Written
from langchain_sgd.decoding.patience import TIME_USED_UP
from langchain_sgd.errors import (
    DependencyFailedError,
    NodeDecodeError,
    RunDeadlineError,
    SkeletonGraphError,
)
from langchain_sgd.events import PLAIN_ID, Discarded, Emit
from langchain_sgd.journal import Forgetful, Journal
from langchain_sgd.limits import Limit
from langchain_sgd.options import answer_of, nested_in
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import Attempt, NodeReport, NodeStatus
from langchain_sgd.routing import path_up
from langchain_sgd.skeleton import Node, NodeId
from langchain_sgd.tiers import Tier


async def write_node(
    run: RunContext,
    node: Node,
    outline: Outline,
    answers: Mapping[NodeId, str | None],
    *,
    planned_s: float = 0.0,
    journal: Journal | None = None,
    key: str = "",
    emit: Emit | None = None,
) -> Written:
    """One node's answer, or why it has none; every dependency has answered or failed.

    Args:
        run: The run it belongs to.
        node: The node.
        outline: What is planned, this node included.
        answers: Its dependencies' texts; None for one that has none, which skips the node.
        planned_s: When the node was planned.
        journal: Where its own parts are kept, if it is written in parts.
        key: The node's, in the journal.
        emit: Is told of what comes of it in place of the run's.
    """
    options = run.options
    if missing := [d for d in node.dependencies if answers.get(d) is None]:
        problem = f"not decoded: its dependency {', '.join(missing)} has no answer"
        part = Part(node.id, "", (), (), node.heading, node=node, planned_s=planned_s)
        return Written(
            _report(run, part, run.clock.now(), "skipped", problem=problem),
            DependencyFailedError(node, missing[0]),
        )
    share = _share(run, node, outline)
    tiers = options.tiers_by_size
    path = path_up(tiers, options.route(node), node)
    lines = outline.lines or [options.prompts.line_of(each) for each in outline.nodes]
    if _expands(run, node, share):  # what it is then asked is asked of the run's own kind
        itself = cast("Runnable[Any, Any]", options)
        path = (replace(path[0], model=itself, limit=Limit(None)), *path)

    told: dict[str, Any] = {
        "planned": outline.nodes,
        "answers": {d: text for d, text in answers.items() if text is not None},
        "lines": lines,
        "length": str(share or ""),
    }

    def ask(prompts: Prompts) -> list[BaseMessage]:
        return prompts.for_node(run.question.messages, node, **told)

    messages = ask(options.prompts)
    begun = None
    if options.continue_message and options.prompts.begun:
        length = "" if share is None else str(share.begun)
        begun = functools.partial(
            options.prompts.for_begun_node,
            run.question.messages,
            node,
            **{**told, "length": length},
        )
    part = Part(
        node.id,
        f"node:{run.place}{node.id}",
        messages,
        path,
        node.heading,
        {
            "sgd_node_id": f"{run.place}{node.id}",
            "sgd_difficulty": node.difficulty,
            "sgd_dependencies": list(node.dependencies),
        },
        tiers[: len(tiers) - len(path)][::-1],
        node,
        planned_s,
        begun,
        share,
        "".join([options.prompts.outline.format(), *lines]),
        ask(options.prompts.for_questions) if any(nested_in(t.model) for t in path) else (),
        InnerJournal(journal or Forgetful(), f"{key}/"),
    )
    refusal = run.spending.refusal(part.path[0].name, messages, part.expected_tokens)
    if refusal is not None:
        return Written(_report(run, part, run.clock.now(), "skipped", problem=refusal))
    return await _write(run, part, emit or run.emit)


def _share(run: RunContext, node: Node, outline: Outline) -> Share | None:
    """How long a part is to be; None where the prompt does not tell its writer."""
    options = run.options
    if not options.prompts.tells_length:
        return None
    shares = [
        length.share(
            planned=len(outline.nodes), complete=outline.complete, difficulty=node.difficulty
        )
        for length in (run.length, run.most_length)
        if length is not None
    ]
    return min(shares, key=lambda share: share.words)


def _expands(run: RunContext, node: Node, share: Share | None) -> bool:
    """Whether the user wants the part to be planned and written in parts."""
    wanted = run.options.expand
    if wanted is None or run.depth >= run.options.expand_depth:
        return False
    if isinstance(wanted, int):
        return share is not None and share.words >= wanted
    return bool(answer_of("expand", wanted, node))


async def write_plain(
    run: RunContext, reason: str, emit: Emit, journal: Journal | None = None
) -> Written:
    """The whole question, undivided, by the largest tier, or why there is no answer.

    A part that was to be split and is left whole is written as any other part.
    """
    part = Part(
        PLAIN_ID,
        "plain",
        run.question.messages,
        (run.options.largest,),
        metadata={"sgd_plain": reason},
        planned_s=run.clock.now(),
        question=run.question.messages,
        journal=InnerJournal(journal or Forgetful(), "plain/"),
    )
    if run.within is not None and (node := run.within.part.node) is not None:
        part = replace(
            part,
            messages=run.within.part.messages,
            path=path_up(run.options.tiers_by_size, run.options.route(node), node),
            heading=node.heading,
            node=node,
            share=run.within.part.share,
        )
    return await _write(run, part, emit)


async def _write(run: RunContext, part: Part, emit: Emit) -> Written:
    """Try the part on its tiers, each with repeats, until a text is good."""
    ready = run.clock.now()
    attempts: list[Attempt] = []
    best: Attempted | None = None
    best_index: int | None = None
    tried: Attempted | None = None
    until = run.deadline
    for tier in (*part.path, *part.smaller):
        if tier in part.smaller and (tried is None or not tried.may_step_down):
            break
        if attempts and (
            refusal := run.spending.refusal(tier.name, part.messages, part.expected_tokens)
        ):
            run.warn(f"{part.name}: {refusal}")
            break
        for repeat in range(run.options.retries + 1):
            if tried is not None:
                if repeat and not await run.pause(repeat, tried.reply.error, until):
                    break
                emit(Discarded(part.id, tried.problem or "", run.clock.now()))
            if run.clock.is_late(until):
                break
            make = attempt_by_model if nested_in(tier.model) is None else attempt_in_parts
            tried, until = await make(run, part, tier, len(attempts) + 1, repeat + 1, emit, until)
            attempts += tried.calls(run.clock.at)
            if tried.problem is None:
                if tier in part.smaller:
                    failed = ", ".join(each.name for each in part.path)
                    run.warn(f"{part.name}: {failed} could not answer, so {tier.name} wrote it")
                done = _report(run, part, ready, tried.status, tried, attempts, len(attempts) - 1)
                return Written(done)
            if tried.text and (best is None or tried.worth >= best.worth):
                best, best_index = tried, len(attempts) - 1
            if not tried.retryable or run.clock.is_late(until):
                break
        if run.clock.is_late(until):
            break
    late = tried is None or run.clock.is_late(until)
    problem = TIME_USED_UP if late else (tried.problem if tried else None) or ""
    cause = tried.reply.error if tried is not None else None
    if best is not None:
        return Written(
            _report(run, part, ready, best.status, best, attempts, best_index, problem=problem),
            None if late or best.reply.error is None or best.reply.ran_on else cause,
        )
    unasked = part.path[0] if tried is None else None
    report = _report(run, part, ready, "failed", tried, attempts, problem=problem, tier=unasked)
    return Written(report, cause or TimeoutError(problem))


def raise_for_missing(run: RunContext, nodes: Sequence[Node], written: Sequence[Written]) -> None:
    """Raise for nodes without an answer, if that is an error.

    A text that an error broke off is something beside parts that have come to their ends; where there is no
    such part, nothing was answered.

    Raises:
        NodeDecodeError, DependencyFailedError, RunDeadlineError: A node has no answer, and `on_node_error`
            is "raise", or no node has one.
    """
    broken = [
        (node, one) for node, one in zip(nodes, written, strict=True) if not one.has_come_to_its_end
    ]
    if broken and (len(broken) == len(written) or run.options.on_node_error == "raise"):
        errors = [failure(run, node, one) for node, one in broken]
        errors.sort(key=lambda error: isinstance(error, DependencyFailedError))
        raise errors[0]


def failure(run: RunContext, node: Node | None, written: Written) -> SkeletonGraphError:
    """What is raised for a part without an answer."""
    if isinstance(written.cause, DependencyFailedError):
        return written.cause
    if run.clock.is_late(run.deadline):
        what = f"node {node.id} ({node.heading!r})" if node else "the question"
        seconds = run.options.deadline_s
        time = "Its time" if seconds is None else f"The deadline of {seconds:g} s"
        msg = f"{time} passed before {what} had an answer"
        error: SkeletonGraphError = RunDeadlineError(msg)
    else:
        error = NodeDecodeError(node, written.report.tier, written.report.error or "")
    error.__cause__ = written.cause
    return error


def _report(
    run: RunContext,
    part: Part,
    ready: float,
    status: NodeStatus,
    tried: Attempted | None = None,
    attempts: Sequence[Attempt] = (),
    answered_by: int | None = None,
    *,
    problem: str | None = None,
    tier: Tier | None = None,
) -> NodeReport:
    text = tried.text if tried is not None and answered_by is not None else ""
    name = tier.name if tier else (tried.reply.tier if tried is not None else "")
    return NodeReport(
        id=part.id,
        heading=part.heading,
        dependencies=part.node.dependencies if part.node else (),
        status=status,
        tier=name,
        answer=text,
        answered_by=answered_by,
        reasoning=tried.reply.reasoning if text and tried is not None else "",
        annotations=tried.annotations if text and tried is not None else (),
        parts=tried.parts if text and tried is not None else None,
        planned_s=part.planned_s,
        ready_s=ready,
        ended_s=run.clock.now(),
        attempts=tuple(attempts),
        error=problem,
    )
