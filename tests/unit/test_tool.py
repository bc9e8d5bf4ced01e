"""`SGDRunnable.as_tool`: what the agent sees, what it gets back, what is traced and streamed."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, Field

from langchain_sgd import InvalidInputError, NodeDecodeError, Report, SGDRunnable
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton
from tests.unit.test_chains import ANSWER, stage, tree

CALL = {
    "name": "write_long_answer",
    "args": {"question": "Why?"},
    "id": "call-1",
    "type": "tool_call",
}


def tool_of(on: Stage | None = None, **options: Any) -> BaseTool:
    return SGDRunnable(**(on or stage()).pair(), **options).as_tool()


class TestStandard(ToolsUnitTests):
    @property
    def tool_constructor(self) -> BaseTool:
        return tool_of()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "Why?"}


# -- what the agent sees


def test_the_model_sees_one_question_and_no_machinery() -> None:
    function = convert_to_openai_tool(tool_of())["function"]
    assert function["name"] == "write_long_answer"
    assert "long, structured answer" in function["description"]
    parameters = function["parameters"]
    assert list(parameters["properties"]) == parameters["required"] == ["question"]
    assert parameters["properties"]["question"]["type"] == "string"
    assert "everything needed" in parameters["properties"]["question"]["description"]


def test_name_and_description_are_the_callers() -> None:
    sgd = SGDRunnable(**stage().pair())
    tool = sgd.as_tool(name="report_writer", description="Writes reports.")
    assert (tool.name, tool.description) == ("report_writer", "Writes reports.")


async def test_other_arguments_become_the_runnables_input() -> None:
    class Request(BaseModel):
        question: str
        skeleton: list[dict[str, Any]] | None = Field(default=None)

    on = stage()
    tool = SGDRunnable(**on.pair()).as_tool(Request)
    given = [{"id": 1, "heading": "Heading 1"}, {"id": 2, "heading": "Heading 2"}]
    assert await tool.ainvoke({"question": "Why?", "skeleton": given}) == ANSWER
    assert PLANNER not in on.parts()


def test_arg_types_are_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidInputError, match="args_schema"):
        SGDRunnable(**stage().pair()).as_tool(arg_types={"question": str})


# -- what it gives back


@pytest.mark.parametrize("sync", [False, True])
async def test_the_tool_message_holds_the_text_and_beside_it_the_report(*, sync: bool) -> None:
    tool = tool_of()
    message = tool.invoke(CALL) if sync else await tool.ainvoke(CALL)
    assert isinstance(message, ToolMessage)
    assert message.content == ANSWER
    assert message.tool_call_id == "call-1"
    report = Report.model_validate(message.artifact)
    assert [node.tier for node in report.nodes] == ["small", "small"]
    assert json.loads(json.dumps(message.artifact)) == message.artifact


@pytest.mark.parametrize("sync", [False, True])
async def test_without_a_tool_call_it_gives_the_text(*, sync: bool) -> None:
    given = {"question": "Why?"}
    tool = tool_of()
    assert (tool.invoke(given) if sync else await tool.ainvoke(given)) == ANSWER


async def test_it_takes_a_bare_question() -> None:
    tool = tool_of()
    assert await tool.ainvoke("Why?") == tool.invoke("Why?") == ANSWER


async def test_an_approval_that_no_graph_can_ask_for_is_an_error() -> None:
    tool = tool_of(approve=True, checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="leave out checkpointer="):
        await tool.ainvoke(CALL, {"configurable": {"thread_id": "t"}})


async def test_a_failed_run_fails_the_tool() -> None:
    refusing = Stage({PLANNER: Say("PLAIN")}, default=Say([], error=ValueError("refused")))
    with pytest.raises(NodeDecodeError):
        await tool_of(refusing, retries=0).ainvoke(CALL)


# -- traced and streamed


@pytest.mark.parametrize("sync", [False, True])
async def test_the_run_hangs_under_the_tools_run(*, sync: bool) -> None:
    collector = RunCollectorCallbackHandler()
    config: Any = {"callbacks": [collector], "tags": ["mine"], "metadata": {"user": "u1"}}
    tool = tool_of()
    if sync:
        tool.invoke(CALL, config)
    else:
        await tool.ainvoke(CALL, config)
    (run,) = collector.traced_runs
    inside: Any = [(PLANNER, []), ("node:1", []), ("node:2", [])]
    assert run.run_type == "tool"
    assert tree(run) == ("write_long_answer", [("SGDRunnable", inside)])
    for child in run.child_runs[0].child_runs:
        assert "mine" in (child.tags or [])
        assert child.extra["metadata"]["user"] == "u1"


async def test_max_concurrency_reaches_the_run() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2", "3", "4"))})
    on.default = Say("text", each_s=0.002)
    await tool_of(on).ainvoke(CALL, {"max_concurrency": 1})
    assert on.peak == 1


async def test_its_text_can_be_watched_as_events() -> None:
    pieces = [
        event["data"]["chunk"].text
        async for event in tool_of().astream_events({"question": "Why?"}, version="v2")
        if (event["event"], event["name"]) == ("on_chain_stream", "SGDRunnable")
    ]
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 1


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def graph_with(tool: BaseTool) -> Any:
    graph = StateGraph(State)
    graph.add_node("tools", ToolNode([tool]))
    graph.add_edge(START, "tools")
    return graph.compile()


ASKED = {"messages": [HumanMessage("Write."), AIMessage("", tool_calls=[CALL])]}


async def test_in_a_tool_node_it_streams_as_custom_and_leaks_nothing_as_messages() -> None:
    pieces, messages, progress = [], [], []
    stream = graph_with(tool_of()).astream(ASKED, stream_mode=["custom", "messages"])
    async for mode, data in stream:
        if mode == "custom" and "sgd_progress" in data:
            progress.append(data["sgd_progress"]["event"])
        elif mode == "custom":
            assert data["sgd_tool"] == "write_long_answer"
            pieces.append(data["text"])
        else:
            messages.append(data[0])
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 1
    assert set(progress) == {"planned", "started", "ended"}
    assert [(type(message), message.content) for message in messages] == [(ToolMessage, ANSWER)]


def test_in_a_synchronous_tool_node() -> None:
    graph = graph_with(tool_of())
    told = list(graph.stream(ASKED, stream_mode="custom"))
    pieces = [data["text"] for data in told if "sgd_tool" in data]
    assert "".join(pieces) == ANSWER
    assert graph.invoke(ASKED)["messages"][-1].content == ANSWER
