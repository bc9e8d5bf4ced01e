"""Runs saved in a file: conversations, broken runs, other processes, and what cannot save."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_sgd import InvalidInputError, Report, SGDRunnable
from langchain_sgd.bench.resume import PLACES, measure
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.asked import asks_for
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton
from tests.tgi_server import TGITestServer

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "runs.sqlite")


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_loses_only_the_call_in_flight(place: str) -> None:
    found = measure(place)
    assert found.before == ("planner", "1", "2", "3", "7", "4", "5", "6")
    assert found.after == ("6", "8")
    assert (found.status, found.restored) == ("complete", 6)


async def test_a_thread_is_a_conversation_over_processes(file: str) -> None:
    for turn in range(3):
        stage = Stage({PLANNER: planning(skeleton("1", "2"))}, default=Say(f"words of turn {turn}"))
        async with AsyncSqliteSaver.from_conn_string(file) as saver:
            sgd = SGDRunnable(**stage.pair(), checkpointer=saver)
            answer = await sgd.ainvoke(f"Question {turn}?", THREAD)
            other = await sgd.ainvoke("Alone?", {"configurable": {"thread_id": f"other {turn}"}})
        for call in stage.calls[:3]:
            assert [f"Question {n}?" in call.prompt for n in range(3)] == [
                n <= turn for n in range(3)
            ]
            assert [f"words of turn {n}" in call.prompt for n in range(3)] == [
                n < turn for n in range(3)
            ]
        assert "Question" not in stage.calls[-1].prompt
        assert Report.from_message(answer).thread_id == "t"
        assert Report.from_message(other).thread_id == f"other {turn}"


async def test_two_threads_at_once_share_a_file(file: str) -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1", "3"))})
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        sgd = SGDRunnable(**stage.pair(), checkpointer=saver)
        configs: list[RunnableConfig] = [{"configurable": {"thread_id": f"t{n}"}} for n in range(4)]
        answers = await sgd.abatch([f"Question {n}?" for n in range(4)], configs)
        again = [await sgd.ainvoke(None, config) for config in configs]
    assert [message.text for message in again] == [message.text for message in answers]
    assert len({message.text for message in answers}) == 4
    assert len(stage.calls) == 16


async def test_invoke_uses_the_asynchronous_saver_too(file: str) -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        sgd = SGDRunnable(**stage.pair(), checkpointer=saver)
        first = await asyncio.to_thread(sgd.invoke, "Why?", THREAD)
        again = await sgd.ainvoke(None, THREAD)
    assert again.text == first.text
    assert len(stage.calls) == 3


async def test_a_model_that_learns_its_name_is_still_the_same(file: str) -> None:
    # Configured copies are made anew for each call, when the server has told its name already.
    plan = "1 One\n2 Two <1"
    replies = {"Plan long answers": plan, "": "Some text."}
    async with (
        TGITestServer(ScriptedEngine(replies, pace=Pace(plans_first=True))) as server,
        AsyncSqliteSaver.from_conn_string(file) as saver,
    ):
        server.inject("unauthorized", times=1, when=lambda entry: asks_for(entry.json, 2))
        sgd = SGDRunnable(
            large=server.url, on_node_error="raise", checkpointer=saver
        ).configurable_fields(headings=ConfigurableField(id="headings"))
        config: RunnableConfig = {"configurable": {"thread_id": "t", "headings": False}}
        with pytest.raises(Exception, match="Node 2"):
            await sgd.ainvoke("Why?", config)
        asked = len(server.log)
        answer = await sgd.ainvoke(None, config)
        assert len(server.log) == asked + 1
    assert [node.restored for node in Report.from_message(answer).nodes] == [True, False]


# -- what is told


async def test_a_saver_without_async_methods_is_told_its_twin(file: str) -> None:
    stage = Stage()
    with (
        SqliteSaver.from_conn_string(file) as saver,
        pytest.raises(InvalidInputError, match="AsyncSqliteSaver"),
    ):
        await SGDRunnable(**stage.pair(), checkpointer=saver).ainvoke("Why?", THREAD)
    assert stage.calls == []


async def test_an_error_of_ones_own_is_not_taken_for_the_saver_s(file: str) -> None:
    def route(_: object) -> str:
        raise NotImplementedError("my router")

    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        sgd = SGDRunnable(**stage.pair(), router=route, checkpointer=saver)
        with pytest.raises(NotImplementedError, match="my router"):
            await sgd.ainvoke("Why?", THREAD)


@pytest.mark.parametrize("value", [None, Command(resume=True)])
async def test_an_empty_thread_has_nothing_to_resume(value: object, file: str) -> None:
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        sgd = SGDRunnable(**Stage().pair(), checkpointer=saver)
        with pytest.raises(InvalidInputError, match="nothing to resume on the thread 't'"):
            await sgd.ainvoke(value, THREAD)


async def test_a_report_names_no_thread_that_saves_nothing() -> None:
    sgd = SGDRunnable(**Stage({PLANNER: planning(skeleton("1", "2"))}).pair())
    answer: AIMessage = await sgd.ainvoke("Why?", THREAD)
    assert Report.from_message(answer).thread_id is None
