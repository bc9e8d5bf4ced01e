"""Runs that had ended, or ended half-way, asked for again: the answer belongs to the question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langchain_sgd import ChatSGD, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.langgraph.journal import SavedJournal
from langchain_sgd.owner import Owner
from langchain_sgd.tiers import described
from tests.support.models import (
    PLAIN,
    PLANNER,
    Say,
    ScriptedChat,
    Stage,
    planning,
    settle,
    text_for,
)
from tests.support.skeletons import skeleton

THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}
TWO = skeleton("1", "2")
NO = Say(error=ValueError("no"))


async def text_of(stream: Any) -> str:
    return "".join([chunk.text async for chunk in stream])


def hosting(node: Any) -> Any:
    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("write", node)
    graph.add_edge(START, "write")
    return graph.compile(checkpointer=InMemorySaver())


async def test_a_finished_run_streams_its_text_again() -> None:
    stage = Stage({PLANNER: planning(TWO)})
    sgd = SGDRunnable(**stage.pair(), approve=True, checkpointer=InMemorySaver())
    await sgd.ainvoke("Why?", THREAD)
    answer = await sgd.ainvoke(Command(resume=True), THREAD)
    asked = stage.parts()
    again: list[Any] = [None, Command(resume=True), Command(resume=False)]
    for value in again:
        assert await text_of(sgd.astream(value, THREAD)) == answer.text
        assert (await sgd.ainvoke(value, THREAD)).text == answer.text
        events = [event async for event in sgd.aevents(value, THREAD)]
        assert isinstance(events[-1], AIMessage)
        assert events[-1].text == answer.text
    assert stage.parts() == asked == [PLANNER, "1", "2"]


Way = Callable[[SGDRunnable, Any], Awaitable[str]]


async def _invoked(sgd: SGDRunnable, said: Any) -> str:
    return (await sgd.ainvoke(said)).text


async def _streamed(sgd: SGDRunnable, said: Any) -> str:
    return await text_of(sgd.astream(said))


async def _chat(sgd: SGDRunnable, said: Any) -> str:
    return (await ChatSGD(sgd).ainvoke(said)).text


async def _chat_streamed(sgd: SGDRunnable, said: Any) -> str:
    return await text_of(ChatSGD(sgd).astream(said))


async def _tool(sgd: SGDRunnable, said: Any) -> str:
    return str(await sgd.as_tool().ainvoke({"question": said[-1].text}))


@pytest.mark.parametrize("way", [_invoked, _streamed, _chat, _chat_streamed, _tool])
@pytest.mark.parametrize("planned", ["plan", "PLAIN"])
async def test_a_node_that_is_run_again_has_the_whole_text(way: Way, planned: str) -> None:
    """Something after the answer stopped the node: a failure, or a question to a human."""
    stage = Stage({PLANNER: planning(TWO) if planned == "plan" else Say(planned)})
    sgd = SGDRunnable(**stage.pair())
    texts: list[str] = []

    async def write(state: Any) -> Any:
        texts.append(await way(sgd, state["messages"][:1]))
        interrupt("publish?")
        return {"messages": [AIMessage(texts[-1])]}

    graph = hosting(write)
    async for _ in graph.astream(
        {"messages": [HumanMessage("Why?")]}, THREAD, stream_mode="messages"
    ):
        pass
    asked = stage.parts()
    async for _ in graph.astream(Command(resume=True), THREAD, stream_mode="messages"):
        pass
    assert len(texts) == 2
    assert texts[0] == texts[1] != ""
    assert (await graph.aget_state(THREAD)).values["messages"][-1].text == texts[0]
    assert stage.parts() == asked


async def test_answers_belong_to_their_questions_in_whatever_order_they_are_asked() -> None:
    stage = Stage({PLANNER: Say("PLAIN")})
    sgd = SGDRunnable(**stage.pair())
    topics = iter([["cats", "dogs"], ["dogs", "cats"], ["dogs"]])
    told: dict[str, str] = {}

    async def write(_: Any) -> Any:
        for topic in next(topics):
            told[topic] = (await sgd.ainvoke(f"Write about {topic}")).text
        if len(told) < 2 or next(fails):
            raise ConnectionError
        return {"messages": [AIMessage("done")]}

    fails = iter([True, True, False])
    graph = hosting(write)
    with pytest.raises(ConnectionError):
        await graph.ainvoke({"messages": [HumanMessage("Why?")]}, THREAD)
    right = {
        call.messages[-1].text.split()[-1]: text_for(PLAIN, call.prompt) for call in stage.of(PLAIN)
    }
    asked = stage.parts()
    with pytest.raises(ConnectionError):
        await graph.ainvoke(None, THREAD)
    assert told == right
    await graph.ainvoke(None, THREAD)
    assert told == right
    assert stage.parts() == asked


async def test_a_question_that_was_not_asked_before_is_asked_anew() -> None:
    stage = Stage({PLANNER: Say("PLAIN")})
    sgd = SGDRunnable(**stage.pair())
    topics = iter(["cats", "dogs"])
    told: list[str] = []

    async def write(_: Any) -> Any:
        told.append((await sgd.ainvoke(f"Write about {next(topics)}")).text)
        if len(told) == 1:
            raise ConnectionError
        return {"messages": [AIMessage("done")]}

    graph = hosting(write)
    with pytest.raises(ConnectionError):
        await graph.ainvoke({"messages": [HumanMessage("Why?")]}, THREAD)
    await graph.ainvoke(None, THREAD)
    assert told == [text_for(PLAIN, call.prompt) for call in stage.of(PLAIN)]
    assert told[0] != told[1]


@pytest.mark.parametrize("execution", ["pipelined", "planned"])
async def test_a_planner_that_was_down_is_asked_again(execution: str) -> None:
    stage = Stage({PLANNER: [NO, planning(TWO)], PLAIN: NO})
    sgd = SGDRunnable(
        large=stage.model("large"),
        checkpointer=InMemorySaver(),
        execution=execution,
        opening=False,
    )
    with pytest.raises(NodeDecodeError):
        await sgd.ainvoke("Why?", THREAD)
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert report.status == "complete"
    assert stage.parts() == [PLANNER, PLAIN, PLANNER, "1", "2"]


def test_a_resumed_run_has_a_clock_of_its_own() -> None:
    failing = Say(error=ValueError("no"), then_s=60)
    stage = Stage(
        {PLANNER: planning(TWO), "1": Say("one", each_s=50), "2": [failing, Say("two", each_s=7)]}
    )
    sgd = SGDRunnable(
        large=stage.model("large"), checkpointer=InMemorySaver(), on_node_error="raise"
    )

    async def main() -> Report:
        with pytest.raises(NodeDecodeError):
            await sgd.ainvoke("Why?", THREAD)
        await asyncio.sleep(1000)
        return Report.from_message(await sgd.ainvoke(None, THREAD))

    report = run_virtual(main())
    assert report.wall_s == pytest.approx(7)
    assert [(node.id, node.restored) for node in report.nodes] == [("1", True), ("2", False)]
    assert [node.ended_s for node in report.nodes] == pytest.approx([0, 7])
    assert report.critical_path == ("2",)
    assert report["1"].answer == "one"


async def test_a_model_that_learns_its_name_from_its_server_is_described_as_before() -> None:
    class Learns(ScriptedChat):
        learnt: str = ""
        model: str = "given"

        def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
            return {**super()._get_ls_params(stop, **kwargs), "ls_model_name": self.learnt}

    model = Learns(name="x", stage=Stage())
    before = described(model)
    model.learnt = "lab/model"
    assert described(model) == before


class Database(InMemorySaver):
    """Notes the writes of runs, and lets them wait until it is open.

    As with PostgreSQL's saver, one caller at a time holds the lock before its pool of connections.
    """

    conn: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()
        self.open = asyncio.Event()
        self.saved: list[list[str]] = []

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        async with self.lock:
            if "|sgd:" in config["configurable"]["checkpoint_ns"]:
                self.saved.append([channel.partition(" ")[0] for channel, _ in writes])
                await self.open.wait()
            await super().aput_writes(config, writes, task_id, task_path)


async def test_what_has_come_meanwhile_is_saved_in_one_write() -> None:
    # A database serves the writes of a process one after the other.
    stage = Stage({PLANNER: planning(skeleton("1", "2", "3 <- 1,2")), "3": [NO, NO, NO, Say()]})
    saver = Database()
    sgd = SGDRunnable(**stage.pair(), checkpointer=saver, on_node_error="raise", retries=0)
    async with Owner() as owner:
        run = owner.start(sgd.ainvoke("Why?", THREAD))
        await settle()
        (first,) = saver.saved
        # Nothing that needs what is not saved has begun.
        assert stage.parts() == [PLANNER, "1", "2"]
        saver.open.set()
        with pytest.raises(NodeDecodeError):
            await run
    _, second = saver.saved
    assert sorted(first + second) == ["node", "node", "plan", "plan", "plan", "plan"]
    answer = await sgd.ainvoke(None, THREAD)
    assert [node.restored for node in Report.from_message(answer).nodes] == [True, True, False]
    assert stage.of(PLANNER) == stage.calls[:1]


class Scripted(InMemorySaver):
    """Lets each write wait to be told what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if (error := await self.told.get()) is not None:
            raise error
        await super().aput_writes(config, writes, task_id, task_path)


@pytest.mark.parametrize("error", [OSError("full"), None])
async def test_a_write_that_comes_to_nothing_loses_nobody_elses_values(
    error: OSError | None,
) -> None:
    saver = Scripted()
    journal = SavedJournal(saver, "1", "|sgd:x", lambda _: None)
    async with Owner() as owner:
        first = owner.start(journal.keep("a", 1))
        await settle()
        second, third = (owner.start(journal.keep(key, 2)) for key in "bc")
        await settle()  # while the first one writes
        saver.told.put_nowait(None)
        await settle(first.done)
        await settle()  # the second writes for both
        if error is None:
            second.cancel()
        else:
            saver.told.put_nowait(error)
        await settle(second.done)
        saver.told.put_nowait(None)
        await third
    again = SavedJournal(saver, "1", "|sgd:x", lambda _: None)
    await again.load()
    assert again.kept == {"a": 1, "b": 2, "c": 2}


class Pool:
    """Its presence says that there are connections for several at once."""

    async def getconn(self) -> None:
        """Nobody asks."""


@pytest.mark.parametrize("pool", [Pool(), None])
async def test_what_is_finished_waits_for_no_graph_where_there_is_a_pool(pool: Any) -> None:
    saver = Database()
    saver.conn = pool
    saver.open.set()
    stage = Stage({PLANNER: planning(TWO)}, gated=True)
    sgd = SGDRunnable(**stage.pair(), checkpointer=saver)
    async with Owner() as owner:
        run = owner.start(sgd.ainvoke("Why?", THREAD))
        stage.release(PLANNER)
        await settle(lambda: ["plan"] * 3 in saver.saved)
        async with saver.lock:  # other graphs of the process are at it
            stage.release("1", "2")
            await settle()
            assert any("node" in names for names in saver.saved) == (pool is not None)
        await run
    assert any("node" in names for names in saver.saved)
