"""How many model calls are in flight: for a run, for a tier, across a batch, from a parent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import (
    ConfigurableField,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_sgd import InvalidInputError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.limits import Limit
from langchain_sgd.tgi import ChatTGI, TGIEndpoint
from tests.support.models import PLANNER, Say, ScriptedChat, Stage, planning
from tests.support.skeletons import skeleton

WIDE = skeleton("1", "2", "3", "4", "5", "6 <- 1,2")


def wide(**options: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: planning(WIDE, each_s=0.1)}, default=Say(then_s=1.0))
    return stage, SGDRunnable(**stage.pair(), **options)


class State(TypedDict, total=False):
    question: str
    answer: str


def parent(sgd: SGDRunnable) -> Any:
    async def write(state: State) -> State:
        return {"answer": (await sgd.ainvoke(state["question"])).text}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile()


async def drained(stream: Any) -> None:
    async for _ in stream:
        pass


Way = Callable[[SGDRunnable, RunnableConfig], Any]
WAYS: dict[str, Way] = {
    "ainvoke": lambda sgd, config: sgd.ainvoke("Why?", config),
    "astream": lambda sgd, config: drained(sgd.astream("Why?", config)),
    "astream_events": lambda sgd, config: drained(sgd.astream_events("Why?", config, version="v2")),
    "chain": lambda sgd, config: (RunnableLambda(str) | sgd).ainvoke("Why?", config),
    "parent": lambda sgd, config: parent(sgd).ainvoke({"question": "Why?"}, config),
    "parent, streaming": lambda sgd, config: drained(
        parent(sgd).astream(
            {"question": "Why?"},
            config,
            stream_mode=["updates", "messages", "custom"],
            subgraphs=True,
        )
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [1, 2])
def test_the_callers_limit_holds_and_does_not_hang(way: str, limit: int) -> None:
    stage, sgd = wide()
    run_virtual(WAYS[way](sgd, {"max_concurrency": limit}))
    assert len(stage.calls) == 7
    assert stage.peak == limit


def test_without_a_limit_all_ready_nodes_are_in_flight() -> None:
    stage, sgd = wide()
    run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": WIDE}))
    assert stage.peak == 5


def test_with_a_limit_nothing_idles() -> None:
    stage, sgd = wide()
    value = {"question": "Why?", "skeleton": WIDE}

    async def main() -> Report:
        return Report.from_message(await sgd.ainvoke(value, {"max_concurrency": 2}))

    assert run_virtual(main()).wall_s == pytest.approx(3.0)
    assert stage.peak == 2


@pytest.mark.parametrize("limit", [1, 3])
def test_a_batch_shares_its_limit_across_questions(limit: int) -> None:
    stage, sgd = wide()
    answers = run_virtual(sgd.abatch(["One?", "Two?", "Three?"], {"max_concurrency": limit}))
    assert [Report.from_message(answer).status for answer in answers] == ["complete"] * 3
    assert stage.peak == limit
    assert len(stage.calls) == 21


def test_a_batch_in_a_chain_shares_its_limit_too() -> None:
    stage, sgd = wide()
    run_virtual((RunnableLambda(str) | sgd).abatch(["One?", "Two?"], {"max_concurrency": 2}))
    assert stage.peak == 2


def test_a_batch_as_completed_shares_its_limit_too() -> None:
    stage, sgd = wide()

    async def main() -> list[int]:
        done = sgd.abatch_as_completed(["One?", "Two?"], {"max_concurrency": 2})
        return [index async for index, _ in done]

    assert sorted(run_virtual(main())) == [0, 1]
    assert stage.peak == 2


def test_a_batch_keeps_order_and_gives_errors_where_they_belong() -> None:
    _stage, sgd = wide()
    answers = run_virtual(sgd.abatch(["One?", "", "Three?"], return_exceptions=True))
    assert isinstance(answers[1], InvalidInputError)
    assert [Report.from_message(answers[i]).status for i in (0, 2)] == ["complete"] * 2
    with pytest.raises(InvalidInputError):
        run_virtual(sgd.abatch(["One?", ""]))


def test_an_empty_batch_is_empty() -> None:
    _, sgd = wide()
    assert run_virtual(sgd.abatch([])) == []
    assert sgd.batch([]) == []


def test_a_batch_with_a_config_for_each_question() -> None:
    stage, sgd = wide(checkpointer=InMemorySaver())
    configs: list[RunnableConfig] = [
        {"configurable": {"thread_id": name}, "max_concurrency": 2} for name in "ab"
    ]
    answers = run_virtual(sgd.abatch(["One?", "Two?"], configs))
    assert len(answers) == 2
    assert stage.peak == 2


def test_a_tiers_limit_holds_across_runs() -> None:
    stage, sgd = wide(limits={"small": 2})

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(sgd.ainvoke({"question": "Why?", "skeleton": WIDE}))

    run_virtual(main())
    assert stage.peak == 2
    assert len(stage.calls) == 18


def test_configured_copies_share_a_tiers_limit() -> None:
    stage, sgd = wide(limits={"small": 2, "planner": 1})
    flexible = sgd.configurable_fields(max_nodes=ConfigurableField(id="nodes"))
    configs: list[RunnableConfig] = [{"configurable": {"nodes": n}} for n in (4, 5, 6)]
    answers = run_virtual(flexible.abatch(["A?", "B?", "C?"], configs))
    assert [len(Report.from_message(answer).nodes) for answer in answers] == [4, 5, 6]
    nodes = [call for call in stage.calls if call.part != PLANNER]
    together = max(
        sum(1 for other in nodes if other.began <= call.began < (other.ended or 0.0))
        for call in nodes
    )
    assert together == 2


def test_waiting_nodes_hold_no_slot() -> None:
    # With a slot held by a node that waits for 1, this would never end.
    chain = skeleton("1", "2 <- 1", "3 <- 2", "4")
    stage = Stage(default=Say(then_s=1.0))
    sgd = SGDRunnable(**stage.pair(), limits={"small": 1})
    value = {"question": "Why?", "skeleton": chain}
    report = Report.from_message(run_virtual(sgd.ainvoke(value, {"max_concurrency": 1})))
    assert report.wall_s == pytest.approx(4.0)


def test_an_sgd_inside_a_tier_of_a_limited_batch_does_not_wait_for_its_own_slot() -> None:
    inner_stage, inner = wide()
    stage = Stage(default=Say(then_s=1.0))
    outer = SGDRunnable(small=inner, large=stage.model("large"))
    value = {"question": "Why?", "skeleton": skeleton("1", "2!")}
    answers = run_virtual(outer.abatch([value, value], {"max_concurrency": 1}))
    assert [Report.from_message(answer).status for answer in answers] == ["complete"] * 2
    assert len(inner_stage.calls) == 14


def test_parallel_runs_keep_apart() -> None:
    one, first = wide()
    two, second = wide()
    both = RunnableParallel(a=first, b=second)
    answers = run_virtual(both.ainvoke("Why?"))
    assert set(answers) == {"a", "b"}
    assert len(one.calls) == len(two.calls) == 7


@pytest.mark.parametrize("size", [0, -1])
def test_a_limit_of_nothing_is_refused(size: int) -> None:
    _, sgd = wide()
    with pytest.raises(InvalidInputError, match="max_concurrency"):
        run_virtual(sgd.ainvoke("Why?", {"max_concurrency": size}))
    with pytest.raises(ValueError, match="limits"):
        wide(limits={"small": size})


@pytest.mark.parametrize(
    "model",
    [
        ChatTGI(base_url="http://127.0.0.1:9", max_concurrent_requests=1),
        TGIEndpoint("http://127.0.0.1:9", options={"max_concurrent_requests": 1}),
    ],
    ids=["ChatTGI", "TGIEndpoint"],
)
def test_a_client_s_own_bound_is_a_slot_and_waiting_for_it_is_no_silence(model: Any) -> None:
    assert SGDRunnable(large=model).largest.shared.limit.size == 1


class _Queueing(ScriptedChat):
    """A client that lets one call in at a time."""

    @property
    def in_flight_limit(self) -> Limit:
        return Limit(1)


def test_a_wait_in_a_client_s_queue_is_no_silence() -> None:
    stage = Stage(default=Say("text", each_s=3))
    sgd = SGDRunnable(
        large=_Queueing(name="large", stage=stage),
        stall_timeout_s=4,
        retries=0,
        on_node_error="raise",
    )
    planned = skeleton(*map(str, range(1, 9)))
    report = Report.from_message(
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": planned}))
    )
    assert (report.status, stage.peak) == ("complete", 1)
