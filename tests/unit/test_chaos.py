"""Anything may go wrong at any time: a run ends in time, leaves nothing behind, and loses no answer."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import NodeDecodeError, Report, RunDeadlineError, SGDRunnable, Skeleton
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLANNER, Say, Stage, others, plan_text
from tests.support.skeletons import skeletons

DEADLINE_S = 60.0
GRACE_S = 10.0
"""A model whose cleanup hangs is cancelled again after five seconds; so may its successor be."""

ERRORS = st.sampled_from(
    [None, None, None, ConnectionError("lost"), ValueError("no"), asyncio.CancelledError()]
)
SECONDS = st.sampled_from([0.0, 0.0, 0.5, 3.0])


@st.composite
def sayings(draw: st.DrawFn, text: str | None = None) -> Say:
    pieces = draw(st.sampled_from([(), ("",), ("a ", "b ", "c"), ("## Heading 1\n", "x", "y")]))
    return Say(
        pieces if text is None else [*text.splitlines(keepends=True)],
        each_s=draw(SECONDS),
        then_s=draw(SECONDS),
        error=draw(ERRORS),
        finish=draw(st.sampled_from(["stop", "stop", "length"])),
        hang=draw(st.sampled_from([False, False, False, True])),
        stubborn_s=draw(st.sampled_from([0.0, 0.0, 2.0, 1e9])),
        deaf=draw(st.sampled_from([False, False, True])),
    )


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    planned: Skeleton = draw(skeletons(max_nodes=6))
    plan = draw(st.sampled_from([plan_text(planned), plan_text(planned), "PLAIN", "nonsense\n"]))
    lines: dict[str, Any] = {PLANNER: draw(st.lists(sayings(plan), min_size=1, max_size=2))}
    for part in ["plain", *(node.id for node in planned.nodes)]:
        lines[part] = draw(st.lists(sayings(), min_size=1, max_size=4))
    return Stage(lines)


OPTIONS = st.fixed_dictionaries(
    {
        "stall_timeout_s": st.sampled_from([5.0, 20.0]),
        "node_timeout_s": st.sampled_from([None, 10.0]),
        "on_node_error": st.sampled_from(["partial", "raise"]),
        "retries": st.integers(0, 2),
        "limits": st.sampled_from([{}, {"small": 1}, {"small": 1, "large": 1}]),
        "execution": st.sampled_from(["pipelined", "pipelined", "planned", "superstep"]),
    }
)
LIMITS: st.SearchStrategy[RunnableConfig] = st.sampled_from(
    [RunnableConfig(), RunnableConfig(max_concurrency=1)]
)
chaotic = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@chaotic
@given(stages(), OPTIONS, LIMITS)
def test_a_run_ends_in_time_and_shows_all_it_has(
    stage: Stage, options: dict[str, Any], config: RunnableConfig
) -> None:
    async def main() -> None:
        sgd = SGDRunnable(**stage.pair(), deadline_s=DEADLINE_S, **options)
        clock = asyncio.get_running_loop().time
        total: AIMessageChunk | None = None
        try:
            async for chunk in sgd.astream("Why?", config):
                total = chunk if total is None else total + chunk
        except (NodeDecodeError, RunDeadlineError):
            total = None
        assert clock() <= DEADLINE_S + GRACE_S
        assert stage.in_flight == 0
        assert not others()
        if total is None:
            return
        report = Report.from_message(total)
        for node in report.nodes:
            assert node.answer in total.text
            assert bool(node.answer) == (node.status in {"complete", "truncated"})
        if any(node.status != "complete" for node in report.nodes):
            assert report.status == "partial"

    run_virtual(main())


@chaotic
@given(stages(), OPTIONS, LIMITS, st.floats(0, 20))
def test_a_run_cancelled_at_any_time_leaves_nothing(
    stage: Stage, options: dict[str, Any], config: RunnableConfig, when: float
) -> None:
    async def main() -> None:
        sgd = SGDRunnable(**stage.pair(), deadline_s=DEADLINE_S, **options)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_ended(sgd.ainvoke("Why?", config)))
            await asyncio.sleep(when)
            task.cancel()
        assert stage.in_flight == 0
        assert not others()

    run_virtual(main())


async def _ended(run: Any) -> None:
    try:
        await run
    except (NodeDecodeError, RunDeadlineError):
        return


@chaotic
@given(st.data(), st.floats(0, 20), st.sampled_from(["pipelined", "planned"]))
def test_a_resumed_run_gives_every_answer_to_its_own_node(
    data: st.DataObject, when: float, execution: str
) -> None:
    """After the interruption the models are well; every answer begins with the node it was written for."""
    planned: Skeleton = data.draw(skeletons(max_nodes=6))
    stage = Stage({PLANNER: data.draw(sayings(plan_text(planned)))})
    for node in planned.nodes:
        texts = st.lists(sayings(f"{node.id}: \nwords"), min_size=1, max_size=3)
        stage.lines[node.id] = data.draw(texts)
    stage.lines["plain"] = Say("plain: ", then_s=9.0)

    async def main() -> None:
        sgd = SGDRunnable(
            **stage.pair(),
            checkpointer=InMemorySaver(),
            deadline_s=DEADLINE_S,
            execution=execution,
        )
        config: RunnableConfig = {"configurable": {"thread_id": "t"}}
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_ended(sgd.ainvoke("Why?", config)))
            await asyncio.sleep(when)
            task.cancel()
        if not stage.calls:
            return
        stage.lines = {PLANNER: Say(plan_text(planned))}
        stage.lines |= {node.id: Say(f"{node.id}: well") for node in planned.nodes}
        stage.lines["plain"] = Say("plain: ")
        message = await sgd.ainvoke(None, config)
        report = Report.from_message(message)
        for node_report in report.nodes:
            if node_report.answer:
                assert node_report.answer.startswith(f"{node_report.id}:")
            assert node_report.answer in message.text
        assert not others()

    run_virtual(main())
