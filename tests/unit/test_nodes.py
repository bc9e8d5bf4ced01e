"""`SGDRunnable.as_node` and `as_subagent`: a state in, an update out, streamed and resumable."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from typing_extensions import TypedDict

from langchain_sgd import InvalidInputError, NodeDecodeError, Report, SGDRunnable
from tests.support.models import PLANNER, Say, Stage
from tests.unit.test_chains import ANSWER, stage

ASKED: Any = {"messages": [HumanMessage("Why?")]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def graph_of(
    node: Runnable[Any, Any], state: Any = MessagesState, **options: Any
) -> CompiledStateGraph[Any, Any, Any, Any]:
    graph = StateGraph(state)
    graph.add_node("write", node)
    graph.add_edge(START, "write")
    return graph.compile(**options)


def sgd_on(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**on.pair(), **options)


@pytest.mark.parametrize("sync", [False, True])
async def test_a_node_adds_the_answer_with_its_report_to_the_messages(*, sync: bool) -> None:
    graph = graph_of(sgd_on(stage()).as_node())
    done = graph.invoke(ASKED) if sync else await graph.ainvoke(ASKED)
    asked, answer = done["messages"]
    assert (asked.text, answer.text) == ("Why?", ANSWER)
    assert Report.from_message(answer).status == "complete"


async def test_it_streams_the_answer_alone_as_messages_and_progress_beside_it() -> None:
    graph = graph_of(sgd_on(stage()).as_node())
    texts, progress = [], []
    stream: Any = graph.astream(ASKED, stream_mode=["messages", "custom"])
    async for mode, item in stream:
        if mode == "messages":
            message, metadata = item
            texts.append(message.text)
            assert metadata["langgraph_node"] == "write"
        else:
            progress.append(item["sgd_progress"]["event"])
    assert "".join(texts) == ANSWER
    assert len([text for text in texts if text]) >= 2
    assert progress == ["planned", "planned", "started", "ended", "started", "ended"]


async def test_any_state_is_read_and_written_by_functions() -> None:
    class State(TypedDict, total=False):
        subject: str
        report: str

    node = sgd_on(stage()).as_node(
        read=lambda state: f"Tell me of {state['subject']}.",
        write=lambda answer: {"report": answer.text},
    )
    done = await graph_of(node, State).ainvoke({"subject": "bridges"})
    assert done == {"subject": "bridges", "report": ANSWER}


async def test_a_state_may_be_an_object() -> None:
    @dataclass
    class State:
        messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)

    done = await graph_of(sgd_on(stage()).as_node(), State).ainvoke(ASKED)
    assert done["messages"][-1].text == ANSWER


async def test_a_state_without_a_question_is_told_the_remedy() -> None:
    class State(TypedDict, total=False):
        subject: str

    with pytest.raises(InvalidInputError, match=r"as_node\(read="):
        await graph_of(sgd_on(stage()).as_node(), State).ainvoke({"subject": "bridges"})


async def test_a_whole_state_given_to_the_runnable_is_told_the_remedy() -> None:
    with pytest.raises(InvalidInputError, match=r"as_subagent\(\)"):
        await sgd_on(stage()).ainvoke({**ASKED, "files": {}})


async def test_a_resumed_graph_asks_only_for_what_is_missing() -> None:
    on = stage(**{"2": Say([], error=ValueError("broken"))})
    node = sgd_on(on, retries=0, on_node_error="raise").as_node()
    graph = graph_of(node, checkpointer=InMemorySaver())
    with pytest.raises(NodeDecodeError):
        await graph.ainvoke(ASKED, THREAD)
    on.calls.clear()
    on.lines["2"] = Say(["two ", "words"])
    done = await graph.ainvoke(None, THREAD)
    assert done["messages"][-1].text == ANSWER
    assert on.parts() == ["2"]


async def test_a_node_is_interrupted_for_an_approval() -> None:
    graph = graph_of(sgd_on(stage(), approve=True).as_node(), checkpointer=InMemorySaver())
    (pending,) = (await graph.ainvoke(ASKED, THREAD))["__interrupt__"]
    assert [node["id"] for node in pending.value["skeleton"]["nodes"]] == ["1", "2"]
    done = await graph.ainvoke(Command(resume=True), THREAD)
    assert done["messages"][-1].text == ANSWER


async def test_a_node_that_nobody_can_approve_is_an_error_and_no_empty_answer() -> None:
    sgd = sgd_on(stage(), approve=True, checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="give the checkpointer to the graph"):
        await graph_of(sgd.as_node()).ainvoke(ASKED, THREAD)


async def test_a_subagent_takes_a_whole_state_and_gives_one_back() -> None:
    agent = sgd_on(stage()).as_subagent("essayist", "Writes essays.")
    assert (agent["name"], agent["description"]) == ("essayist", "Writes essays.")
    done = await agent["runnable"].ainvoke({**ASKED, "files": {"a": "b"}})
    assert [message.text for message in done["messages"]] == ["Why?", ANSWER]


# -- as a tool: its output as it grows


async def tool_events(tool: BaseTool, mode: str) -> list[Any]:
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([tool]))
    graph.add_edge(START, "tools")
    call = {"name": tool.name, "args": {"question": "Why?"}, "id": "c", "type": "tool_call"}
    asked = AIMessage("", tool_calls=[call])
    stream = graph.compile().astream({"messages": [asked]}, stream_mode=["updates", mode])
    return [item async for kind, item in stream if kind == mode]


async def test_a_tools_output_streams_as_deltas_of_its_call() -> None:
    events = await tool_events(sgd_on(stage()).as_tool(), "tools")
    assert events[0]["event"] == "tool-started"
    deltas = [e["delta"] for e in events if e["event"] == "tool-output-delta"]
    assert "".join(deltas) == ANSWER
    assert len(deltas) >= 2
    assert {e["tool_call_id"] for e in events} == {"c"}
    assert isinstance(events[-1]["output"], ToolMessage)


async def test_a_tools_nodes_tell_their_progress() -> None:
    events = await tool_events(sgd_on(stage()).as_tool(), "custom")
    told = [e["sgd_progress"]["event"] for e in events if "sgd_progress" in e]
    assert told == ["planned", "planned", "started", "ended", "started", "ended"]
    assert PLANNER not in {e.get("sgd_tool") for e in events}


def chained(sgd: SGDRunnable) -> dict[str, Any]:
    """Functions of the user's whose calls of `sgd` run in tasks or threads, or inside a chain."""
    chain = sgd | StrOutputParser()
    after: Any = RunnableLambda(lambda state: {"messages": state["messages"]}) | sgd
    beside: Any = RunnableParallel(a=sgd)

    def asked(state: MessagesState) -> Any:
        return {"messages": state["messages"]}

    async def parsed(state: MessagesState) -> Any:
        return {"messages": [("ai", await chain.ainvoke(asked(state)))]}

    async def parsed_stream(state: MessagesState) -> Any:
        said = [text async for text in chain.astream(asked(state))]
        return {"messages": [("ai", "".join(said))]}

    async def last(state: MessagesState) -> Any:
        return {"messages": [await after.ainvoke(state)]}

    async def parallel(state: MessagesState) -> Any:
        return {"messages": [(await beside.ainvoke(asked(state)))["a"]]}

    async def batched(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": await sgd.abatch([asked(state)], config)}

    async def retried(state: MessagesState) -> Any:
        return {"messages": [await sgd.with_retry().ainvoke(asked(state))]}

    def parsed_sync(state: MessagesState) -> Any:
        return {"messages": [("ai", chain.invoke(asked(state)))]}

    def parsed_stream_sync(state: MessagesState) -> Any:
        return {"messages": [("ai", "".join(chain.stream(asked(state))))]}

    def parallel_sync(state: MessagesState) -> Any:
        return {"messages": [beside.invoke(asked(state))["a"]]}

    def batched_sync(state: MessagesState) -> Any:
        return {"messages": sgd.batch([asked(state)])}

    def retried_sync(state: MessagesState) -> Any:
        return {"messages": [sgd.with_retry().invoke(asked(state))]}

    return {
        "parsed": parsed,
        "parsed stream": parsed_stream,
        "last": last,
        "parallel": parallel,
        "batched": batched,
        "retried": retried,
        "parsed sync": parsed_sync,
        "parsed stream sync": parsed_stream_sync,
        "parallel sync": parallel_sync,
        "batched sync": batched_sync,
        "retried sync": retried_sync,
        "update": sgd | (lambda message: {"messages": [message]}),
    }


def in_tasks(sgd: SGDRunnable) -> dict[str, Any]:
    """Functions of the user's that begin a task for the call, as LangGraph does for a node."""

    async def gathered(state: MessagesState, config: RunnableConfig) -> Any:
        call = sgd.ainvoke({"messages": state["messages"]}, config)
        return {"messages": await asyncio.gather(call)}  # noqa: TID251 - as users do

    async def gathered_state(state: MessagesState, config: RunnableConfig) -> Any:
        call = sgd.with_retry().ainvoke(state, config)
        return {"messages": await asyncio.gather(call)}  # noqa: TID251

    async def tasked(state: MessagesState, config: RunnableConfig) -> Any:
        call: Any = sgd.ainvoke(state, config)
        return {"messages": [await asyncio.create_task(call)]}  # noqa: TID251

    return {"gathered": gathered, "gathered state": gathered_state, "tasked": tasked}


def in_place(sgd: SGDRunnable, way: str) -> Any:
    async def given(state: MessagesState) -> Any:
        return {"messages": [await sgd.ainvoke({"messages": state["messages"]})]}

    async def given_with_config(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [await sgd.ainvoke({"messages": state["messages"]}, config)]}

    async def streamed(state: MessagesState, config: RunnableConfig) -> Any:
        said = [chunk async for chunk in sgd.astream({"messages": state["messages"]}, config)]
        return {"messages": ["".join(str(chunk.text) for chunk in said)]}

    def invoked(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [sgd.invoke({"messages": state["messages"]}, config)]}

    def streamed_sync(state: MessagesState, config: RunnableConfig) -> Any:
        said = sgd.stream({"messages": state["messages"]}, config)
        return {"messages": ["".join(str(chunk.text) for chunk in said)]}

    return {
        **chained(sgd),
        **in_tasks(sgd),
        "itself": sgd,
        "with a config": sgd.with_config(tags=["x"]),
        "tried again": sgd.with_retry(),
        "as_node": sgd.as_node(),
        "given": given,
        "given with config": given_with_config,
        "streamed": streamed,
        "invoked": invoked,
        "streamed sync": streamed_sync,
    }[way]


LOST = ["itself", "with a config", "tried again"]
KEPT_ASYNC = ["as_node", "given", "given with config", "streamed", "update"]
KEPT_ASYNC += ["parsed", "parsed stream", "last", "parallel", "batched", "gathered", "retried"]
KEPT_ASYNC += ["gathered state", "tasked"]
KEPT_SYNC = ["as_node", "invoked", "streamed sync", "update", "parsed sync", "parsed stream sync"]
KEPT_SYNC += ["parallel sync", "batched sync", "retried sync"]


@pytest.mark.parametrize("mode", ["values", "messages"])
@pytest.mark.parametrize(
    ("way", "run"),
    [(way, "async") for way in [*LOST, *KEPT_ASYNC]]
    + [(way, "sync") for way in [*LOST, *KEPT_SYNC]],
)
async def test_who_is_a_node_itself_is_told_that_the_answer_is_lost_and_nobody_else(
    way: str, run: str, mode: Any, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    graph = StateGraph(MessagesState)
    graph.add_node("write", in_place(sgd_on(stage()), way))
    graph.add_edge(START, "write")
    compiled: Any = graph.compile()
    modes = ["values", mode]
    if run == "async":
        seen = [s async for m, s in compiled.astream(ASKED, stream_mode=modes) if m == "values"]
    else:
        runs = asyncio.to_thread(lambda: [*compiled.stream(ASKED, stream_mode=modes)])
        seen = [s for m, s in await runs if m == "values"]
    assert (len(seen[-1]["messages"]) == 1) == (way in LOST)
    told = [str(each.message) for each in recwarn if "as_node()" in str(each.message)]
    assert bool(told) == (way in LOST)
    assert all("add_node('write', sgd.as_node())" in each for each in told)
