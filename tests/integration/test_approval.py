"""Approval where people meet it: in an agent's tool, in a chat graph, and days later in another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.platform import Options, chat_graph
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
PLANNED = skeleton("1", "2", "3 <- 1,2")
KEPT = [node.model_dump(mode="json") for node in PLANNED.nodes[:2]]


def stage() -> Stage:
    said = {part: Say(f"text {part}") for part in ("1", "2", "3")}
    return Stage({PLANNER: planning(PLANNED), PLAIN: Say("all in one"), **said})


class Writer(GenericFakeChatModel):
    """An agent's model: it asks for a report, then says that it is done."""

    def bind_tools(self, *_: Any, **__: Any) -> Writer:
        return self


def agent(sgd: SGDRunnable) -> Any:
    call = {"name": "report", "args": {"question": "Why?"}, "id": "call-1"}
    said = iter([AIMessage("", tool_calls=[call]), AIMessage("Done.")])
    return create_agent(
        Writer(messages=said), [sgd.as_tool(name="report")], checkpointer=InMemorySaver()
    )


@pytest.mark.parametrize(
    ("answer", "text", "asked"),
    [
        (True, "## Heading 1\n\ntext 1\n\n## Heading 2\n\ntext 2\n\n## Heading 3\n\ntext 3", "123"),
        ({"nodes": KEPT}, "## Heading 1\n\ntext 1\n\n## Heading 2\n\ntext 2", "12"),
        (False, "all in one", [PLAIN]),
    ],
)
async def test_as_a_tool_of_an_agent(answer: Any, text: str, asked: Any) -> None:
    scene = stage()
    made = agent(SGDRunnable(**scene.pair(), approve=True))
    waiting = await made.ainvoke({"messages": [("human", "A report, please.")]}, THREAD)
    (interrupt,) = waiting["__interrupt__"]
    assert interrupt.value["skeleton"] == PLANNED.model_dump(mode="json")
    assert scene.parts() == [PLANNER]

    state = await made.ainvoke(Command(resume=answer), THREAD)
    (result,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert result.content == text
    assert state["messages"][-1].text == "Done."
    assert scene.parts() == [PLANNER, *asked]


async def test_an_unusable_answer_is_asked_for_again_in_an_agent() -> None:
    made = agent(SGDRunnable(**stage().pair(), approve=True))
    await made.ainvoke({"messages": [("human", "A report, please.")]}, THREAD)
    waiting = await made.ainvoke(Command(resume={"nodes": [{"id": "1"}]}), THREAD)
    (interrupt,) = waiting["__interrupt__"]
    assert "heading" in interrupt.value["error"]
    state = await made.ainvoke(Command(resume=True), THREAD)
    assert state["messages"][-1].text == "Done."


async def test_in_a_chat_graph_the_answer_streams_after_the_approval() -> None:
    scene = stage()
    graph = chat_graph(SGDRunnable(**scene.pair())).copy({"checkpointer": InMemorySaver()})
    asked = {"messages": [("human", "Why?")]}
    options = Options(approve=True)
    first = [part async for part in graph.astream(asked, THREAD, context=options)]
    assert [*first[-1]] == ["__interrupt__"]
    parts: Any = graph.astream(
        Command(resume={"nodes": KEPT}), THREAD, context=options, stream_mode="messages"
    )
    texts = [message.text async for message, _ in parts]
    assert "".join(texts) == "## Heading 1\n\ntext 1\n\n## Heading 2\n\ntext 2"


async def test_an_approval_belongs_to_its_question_and_not_to_the_options_of_the_resume() -> None:
    scene = stage()
    graph = chat_graph(SGDRunnable(**scene.pair())).copy({"checkpointer": InMemorySaver()})
    asked = {"messages": [("human", "Why?")]}
    await graph.ainvoke(asked, THREAD, context=Options(approve=True))
    state = await graph.ainvoke(Command(resume={"nodes": KEPT}), THREAD)
    report = Report.from_message(state["messages"][-1])
    assert [node.id for node in report.skeleton.nodes] == ["1", "2"]
    assert report.planner is not None
    assert report.planner.source == "approved"
    assert scene.parts() == [PLANNER, "1", "2"]


async def test_an_approval_may_come_from_another_process(tmp_path: Path) -> None:
    file = str(tmp_path / "runs.sqlite")
    before, after = stage(), stage()
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        waiting = await SGDRunnable(**before.pair(), approve=True, checkpointer=saver).ainvoke(
            "Why?", THREAD
        )
        assert waiting.response_metadata["sgd"]["status"] == "awaiting_approval"
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        sgd = SGDRunnable(**after.pair(), approve=True, checkpointer=saver)
        answer = await sgd.ainvoke(Command(resume={"nodes": KEPT}), THREAD)
    assert before.parts() == [PLANNER]
    assert after.parts() == ["1", "2"]
    report = Report.from_message(answer)
    assert (report.status, report.thread_id) == ("complete", "t")
    assert report.planner is not None
    assert len(report.planner.attempts) == 1
