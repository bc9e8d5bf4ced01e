"""A tier may be a graph of its own: it keeps to itself, whatever graph we are called from."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict

from langchain_sgd import NodeDecodeError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import Say, ScriptedChat, Stage
from tests.support.skeletons import skeleton

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def agent(model: ScriptedChat, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        message = await model.ainvoke(state["messages"])
        return {"messages": [AIMessage(message.text)]}

    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=checkpointer, name="agent")


class State(TypedDict, total=False):
    question: str
    answer: str
    messages: list[AnyMessage]


def parent(sgd: SGDRunnable, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Any:
    async def write(state: State) -> State:
        given = {"question": state["question"], "skeleton": skeleton("1", "2", "3 <- 1", "4 <- 2")}
        message = await sgd.ainvoke(given)
        return {"answer": message.text, "messages": [message]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile(checkpointer=checkpointer)


def texts(n: int) -> Say:
    return Say(f"ANSWER-{n}")


def test_an_agent_decodes_nodes() -> None:
    stage = Stage({str(n): texts(n) for n in range(1, 5)})
    sgd = SGDRunnable(large=agent(stage.model("a")))
    answer = run_virtual(parent(sgd).ainvoke({"question": "Why?"}))["answer"]
    assert [f"ANSWER-{n}" in answer for n in range(1, 5)] == [True] * 4


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_resumed_agent_is_not_given_another_nodes_answer(*, wrapped: bool) -> None:
    # LangGraph finds a nested graph's checkpoints by the order of calls, which a resume changes.
    no = Say(error=ValueError("no"))
    stage = Stage(
        {
            "1": Say("ANSWER-1", then_s=0.3),
            "2": Say("ANSWER-2", then_s=0.1),
            "3": [no, texts(3)],
            "4": [no, texts(4)],
        }
    )
    model: Any = agent(stage.model("a"))
    if wrapped:
        graph = model

        async def call(messages: Any, config: RunnableConfig) -> Any:
            return (await graph.ainvoke({"messages": messages}, config))["messages"][-1]

        model = RunnableLambda(call)
    sgd = SGDRunnable(large=model, on_node_error="raise")
    outer = parent(sgd, InMemorySaver())
    with pytest.raises(NodeDecodeError):
        run_virtual(outer.ainvoke({"question": "Why?"}, THREAD))
    state = run_virtual(outer.ainvoke(None, THREAD))
    assert stage.parts()[4:] == ["3", "4"]
    report = Report.from_message(state["messages"][0])
    assert report.answers == {str(n): f"ANSWER-{n}" for n in range(1, 5)}


def test_agents_with_a_memory_of_their_own_share_no_thread() -> None:
    stage = Stage({str(n): texts(n) for n in range(1, 5)})
    sgd = SGDRunnable(
        large=agent(stage.model("a"), InMemorySaver()).with_config(tags=["mine"]),
        checkpointer=InMemorySaver(),
    )
    given = {"question": "Why?", "skeleton": skeleton("1", "2 <- 1", "3 <- 2", "4 <- 3")}
    report = Report.from_message(run_virtual(sgd.ainvoke(given, THREAD)))
    assert report.status == "complete"
    said = [{str(message.text) for message in call.messages} for call in stage.calls]
    assert all(f"ANSWER-{n}" not in each for n in range(1, 5) for each in said)
    assert len({len(call.messages) for call in stage.calls}) == 1, "no memory grew"


async def test_a_tier_can_write_to_the_parents_custom_stream() -> None:
    async def write(_: Any) -> AIMessage:
        get_stream_writer()({"said": "hello"})
        return AIMessage("text")

    outer = parent(SGDRunnable(large=RunnableLambda(write)))
    seen = [item async for item in outer.astream({"question": "Why?"}, stream_mode="custom")]
    assert [item for item in seen if "said" in item] == [{"said": "hello"}] * 4


SKELETON = skeleton("1", "2")
CALL = {"name": "look", "args": {}, "id": "1"}


@pytest.mark.parametrize("text", ["", "Let me look that up."])
async def test_a_tool_call_is_no_answer_whatever_is_said_before_it(text: str) -> None:
    async def ask(state: MessagesState) -> dict[str, Any]:
        assert state["messages"]
        return {"messages": [AIMessage(text, tool_calls=[CALL])]}

    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    asking = graph.compile()
    with pytest.raises(NodeDecodeError, match=r"asked for a tool \(look\)"):
        await SGDRunnable(large=asking, mode="never").ainvoke("Why?")
    # A larger tier answers in its place.
    stage = Stage()
    sgd = SGDRunnable(small=asking, large=stage.model("large"), least_share=0)
    report = Report.from_message(await sgd.ainvoke({"question": "?", "skeleton": SKELETON}))
    assert {node.tier for node in report.nodes} == {"large"}


async def test_a_streamed_text_that_ends_on_a_tool_call_is_not_called_complete() -> None:
    async def ask(_: Any) -> Any:
        yield AIMessageChunk(content="Let me look that up.")
        yield AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(name="look", args="{}")])
        yield AIMessageChunk(content="", response_metadata={"finish_reason": "tool_calls"})

    asking: Any = RunnableGenerator(ask)
    report = Report.from_message(await SGDRunnable(large=asking, mode="never").ainvoke("Why?"))
    assert report.status == "partial"
    assert "asked for a tool (look)" in str(report.nodes[0].attempts[-1].error)
