"""An equal question is planned once: its skeleton comes from LangChain's cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.outputs import Generation
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base.batch import AsyncBatchedBaseStore
from langgraph.store.memory import InMemoryStore

from langchain_sgd import ChatSGD, Prompts, Report, SGDRunnable
from tests.support.models import PLANNER, Say, Stage
from tests.unit.test_chains import ANSWER, stage


def sgd_on(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**on.pair(), **options)


async def asked_twice(on: Stage, *both: SGDRunnable, question: str = "Why?") -> Report:
    """The second answer's report; what was asked for the first is forgotten."""
    first, second = both[0], both[-1]
    await first.ainvoke("Why?")
    on.calls.clear()
    message = await second.ainvoke(question)
    return Report.from_message(message)


async def test_the_second_answer_has_the_skeleton_and_new_texts() -> None:
    on = stage()
    report = await asked_twice(on, sgd_on(on, plan_cache=InMemoryCache()))
    assert on.parts() == ["1", "2"]
    assert report.planner is not None
    assert (report.planner.source, report.planner.attempts) == ("cached", ())
    assert [node.dependencies for node in report.skeleton.nodes] == [(), ("1",)]
    assert report.status == "complete"


async def test_a_store_of_langgraph_keeps_plans_too() -> None:
    on = stage()
    report = await asked_twice(on, sgd_on(on, plan_cache=InMemoryStore()))
    assert on.parts() == ["1", "2"]
    assert report.planner is not None
    assert report.planner.source == "cached"


@pytest.mark.parametrize("other", [{}, "redis://", InMemorySaver()])
def test_what_keeps_no_plans_is_refused_at_once(other: Any) -> None:
    with pytest.raises(
        ValueError, match="plan_cache must be True, a LangChain cache or a LangGraph"
    ):
        sgd_on(stage(), plan_cache=other)


async def test_that_a_question_stays_whole_is_kept_too() -> None:
    on = Stage({PLANNER: Say("PLAIN")})
    report = await asked_twice(on, sgd_on(on, plan_cache=InMemoryCache()))
    assert on.parts() == ["plain"]
    assert report.status == "plain"


async def test_without_it_every_question_is_planned() -> None:
    on = stage()
    set_llm_cache(InMemoryCache())
    try:
        await asked_twice(on, sgd_on(on))
        assert PLANNER in on.parts()
        await asked_twice(on, sgd_on(on, plan_cache=True))
        assert PLANNER not in on.parts()
    finally:
        set_llm_cache(None)


async def test_true_without_a_global_cache_plans() -> None:
    on = stage()
    await asked_twice(on, sgd_on(on, plan_cache=True))
    assert PLANNER in on.parts()


@pytest.mark.parametrize("other", ["question", "prompts", "max_nodes", "planner"])
async def test_what_a_plan_is_made_from_tells_plans_apart(other: str) -> None:
    on, cache = stage(), InMemoryCache()
    changes: dict[str, dict[str, Any]] = {
        "question": {},
        "prompts": {"prompts": Prompts(repair="Again: {problem}")},
        "max_nodes": {"max_nodes": 5},
        "planner": {"planner": on.model("another")},
    }
    both = sgd_on(on, plan_cache=cache), sgd_on(on, plan_cache=cache, **changes[other])
    await asked_twice(on, *both, question="How?" if other == "question" else "Why?")
    assert PLANNER in on.parts()


async def test_call_options_are_no_matter_of_the_plan() -> None:
    on = stage()
    sgd = sgd_on(on, plan_cache=InMemoryCache())
    await sgd.ainvoke("Why?", temperature=0.1)
    await sgd.ainvoke("Why?", temperature=0.9)
    assert on.parts().count(PLANNER) == 1


async def test_a_cached_plan_streams_and_is_approved() -> None:
    on, cache = stage(), InMemoryCache()
    await sgd_on(on, plan_cache=cache).ainvoke("Why?")
    on.calls.clear()
    chunks = [chunk async for chunk in ChatSGD(sgd_on(on, plan_cache=cache)).astream("Why?")]
    assert "".join(chunk.text for chunk in chunks) == ANSWER
    waiting = sgd_on(on, plan_cache=cache, approve=True, checkpointer=InMemorySaver())
    message = await waiting.ainvoke("Why?", {"configurable": {"thread_id": "t"}})
    assert len(message.response_metadata["sgd"]["skeleton"]["nodes"]) == 2
    assert PLANNER not in on.parts()


async def test_what_cannot_be_read_is_planned_anew() -> None:
    class Spoilt(InMemoryCache):
        def lookup(self, prompt: str, llm_string: str) -> Any:
            del prompt, llm_string
            return [Generation(text='{"nodes": 7}')]

    on = stage()
    assert (await sgd_on(on, plan_cache=Spoilt()).ainvoke("Why?")).text == ANSWER
    assert on.parts()[0] == PLANNER


async def test_a_broken_plan_is_not_kept() -> None:
    on = Stage({PLANNER: Say([], error=ValueError("broken"))})
    await asked_twice(on, sgd_on(on, plan_cache=InMemoryCache(), retries=0))
    assert PLANNER in on.parts()


async def test_a_plan_can_be_passed_on() -> None:
    on = stage()
    sgd = sgd_on(on)
    plan = await sgd.aplan("Why?")
    on.calls.clear()
    assert (await sgd.ainvoke({"question": "Why?", "skeleton": plan.skeleton})).text == ANSWER
    assert on.parts() == ["1", "2"]


class Failing(InMemoryCache):
    """Fails in one of its two methods, as a server that is down."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def lookup(self, prompt: str, llm_string: str) -> Any:
        if self.method == "lookup":
            raise ConnectionError("refused")
        return super().lookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
        if self.method == "update":
            raise ConnectionError("refused")
        super().update(prompt, llm_string, return_val)


@pytest.mark.parametrize(
    ("method", "warning"),
    [
        ("lookup", "the plan cache could not be asked (ConnectionError: refused); planned anew"),
        ("update", "the plan cache did not keep the plan (ConnectionError: refused)"),
    ],
)
async def test_a_cache_that_fails_costs_a_warning_and_a_plan(method: str, warning: str) -> None:
    on = stage()
    message = await sgd_on(on, plan_cache=Failing(method)).ainvoke("Why?")
    report = Report.from_message(message)
    assert message.text == ANSWER
    assert (report.status, list(report.warnings)) == ("complete", [warning])
    assert on.parts().count(PLANNER) == 1


class Connected(AsyncBatchedBaseStore):
    """Lives on the loop that made it, as LangGraph's stores with connections."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = InMemoryStore()

    def batch(self, ops: Any) -> Any:
        return self.inner.batch(ops)

    async def abatch(self, ops: Any) -> Any:
        return await self.inner.abatch(ops)


async def test_a_store_on_another_loop_is_asked_there() -> None:
    on = stage()
    sgd = sgd_on(on, plan_cache=Connected())
    await asyncio.to_thread(sgd.invoke, "Why?")
    on.calls.clear()
    report = Report.from_message(await asyncio.to_thread(sgd.invoke, "Why?"))
    assert (report.status, list(report.warnings)) == ("complete", [])
    assert PLANNER not in on.parts()


async def test_a_store_whose_loop_has_ended_costs_a_warning_and_a_plan() -> None:
    async def made() -> Connected:
        return Connected()

    store = await asyncio.to_thread(lambda: asyncio.run(made()))
    message = await sgd_on(stage(), plan_cache=store).ainvoke("Why?")
    assert message.text == ANSWER
    [warning] = Report.from_message(message).warnings
    assert "the event loop of Connected has ended, or is blocked" in warning


async def test_plans_are_not_embedded() -> None:
    seen: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        seen.extend(texts)
        return [[0.0] for _ in texts]

    on = stage()
    store = InMemoryStore(index={"dims": 1, "embed": embed})
    await asked_twice(on, sgd_on(on, plan_cache=store))
    assert PLANNER not in on.parts()
    assert seen == []
