"""`SGDRunnable` with LangGraph: threads, approval, as a part of a parent graph."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
)
from langchain_core.runnables import (
    RunnableLambda,
)
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from langchain_sgd import (
    InvalidInputError,
    NodeDecodeError,
    Report,
    SGDRunnable,
    Skeleton,
)
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning, settle
from tests.support.skeletons import skeleton
from tests.support.staged import PLANNED, THREAD, staged

# -- threads


async def test_a_checkpointer_wants_a_thread() -> None:
    stage, sgd = staged(checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="thread_id"):
        await sgd.ainvoke("Why?")
    with pytest.raises(InvalidInputError, match="thread_id"):
        async for _ in sgd.astream("Why?"):
            pass
    assert stage.calls == []


async def test_nothing_to_resume_is_told() -> None:
    _, sgd = staged(checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="nothing to resume"):
        await sgd.ainvoke(None, THREAD)
    _, without = staged()
    with pytest.raises(InvalidInputError, match="checkpointer"):
        await without.ainvoke(None)
    with pytest.raises(InvalidInputError, match="checkpointer"):
        await without.ainvoke(Command(resume=True))


async def test_a_finished_thread_gives_its_answer_again() -> None:
    stage, sgd = staged(checkpointer=InMemorySaver())
    message = await sgd.ainvoke("Why?", THREAD)
    asked = len(stage.calls)
    again = await sgd.ainvoke(None, THREAD)
    assert again.text == message.text
    assert len(stage.calls) == asked


# -- approval


def pending(message: AIMessage) -> dict[str, Any]:
    report: dict[str, Any] = message.response_metadata["sgd"]
    assert report["status"] == "awaiting_approval"
    return report


def approving(**lines: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: planning(PLANNED), **lines})
    return stage, SGDRunnable(**stage.pair(), approve=True, checkpointer=InMemorySaver())


async def test_a_skeleton_waits_for_approval() -> None:
    stage, sgd = approving()
    report = pending(await sgd.ainvoke("Why?", THREAD))
    assert Skeleton.parse(report["skeleton"]) == PLANNED
    assert stage.parts() == [PLANNER]


@pytest.mark.parametrize("answer", [True, "accept", {"type": "accept"}], ids=repr)
async def test_an_accepted_skeleton_is_decoded(answer: Any) -> None:
    stage, sgd = approving()
    pending(await sgd.ainvoke("Why?", THREAD))
    report = Report.from_message(await sgd.ainvoke(Command(resume=answer), THREAD))
    assert stage.parts() == [PLANNER, "1", "3", "2"]
    assert report.planner is not None
    assert report.planner.source == "approved"
    assert len(report.planner.attempts) == 1


EDITED = skeleton("1", "2")


@pytest.mark.parametrize(
    "answer",
    [
        EDITED.model_dump(mode="json"),
        EDITED.model_dump(mode="json")["nodes"],
        {"type": "edit", "skeleton": EDITED.model_dump(mode="json")},
    ],
    ids=["skeleton", "nodes", "edit"],
)
async def test_an_edited_skeleton_is_decoded_instead(answer: Any) -> None:
    stage, sgd = approving()
    pending(await sgd.ainvoke("Why?", THREAD))
    report = Report.from_message(await sgd.ainvoke(Command(resume=answer), THREAD))
    assert stage.parts() == [PLANNER, "1", "2"]
    assert report.skeleton == EDITED


@pytest.mark.parametrize("answer", [False, "reject", {"type": "reject"}], ids=repr)
async def test_a_rejected_skeleton_is_answered_undivided(answer: Any) -> None:
    stage, sgd = approving()
    pending(await sgd.ainvoke("Why?", THREAD))
    report = Report.from_message(await sgd.ainvoke(Command(resume=answer), THREAD))
    assert stage.parts() == [PLANNER, PLAIN]
    assert report.status == "plain"
    assert report.reason is not None
    assert "rejected" in report.reason


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([], "at least 1"),
        ({"nodes": [{"id": "1", "heading": "A", "dependencies": ["9"]}]}, "'9'"),
        ({"nodes": [{"id": "1", "heading": "A", "difficulty": 9}]}, r"nodes\.0\.difficulty"),
        ({"skeleton": "1|A"}, "str"),
        ("yes please", "accept"),
        (7, "int"),
        ({"typ": "accept"}, "accept"),
    ],
    ids=repr,
)
async def test_an_invalid_edit_is_told_and_can_be_mended(answer: Any, told: str) -> None:
    stage, sgd = approving()
    pending(await sgd.ainvoke("Why?", THREAD))
    for _ in range(2):
        report = pending(await sgd.ainvoke(Command(resume=answer), THREAD))
        assert re.search(told, report["error"])
        assert Skeleton.parse(report["skeleton"]) == PLANNED
    done = Report.from_message(await sgd.ainvoke(Command(resume=True), THREAD))
    assert stage.parts() == [PLANNER, "1", "3", "2"]
    assert done.status == "complete"


async def test_approval_twice_on_one_thread() -> None:
    stage, sgd = approving()
    for question in ("First?", "Second?"):
        pending(await sgd.ainvoke(question, THREAD))
        report = Report.from_message(await sgd.ainvoke(Command(resume=True), THREAD))
        assert report.status == "complete"
    assert stage.parts().count(PLANNER) == 2


async def test_a_resume_while_approval_is_awaited_asks_again() -> None:
    stage, sgd = approving()
    pending(await sgd.ainvoke("Why?", THREAD))
    pending(await sgd.ainvoke(None, THREAD))
    assert stage.parts() == [PLANNER]


async def test_approval_streams() -> None:
    _, sgd = approving()
    chunks = [chunk async for chunk in sgd.astream("Why?", THREAD)]
    assert len(chunks) == 1
    pending(chunks[0])
    text = "".join([c.text async for c in sgd.astream(Command(resume=True), THREAD)])
    assert text.startswith("## Heading 1")


async def test_a_plain_question_needs_no_approval() -> None:
    stage = Stage({PLANNER: Say("PLAIN")})
    sgd = SGDRunnable(**stage.pair(), approve=True, checkpointer=InMemorySaver())
    assert Report.from_message(await sgd.ainvoke("Why?", THREAD)).status == "plain"


async def test_a_given_skeleton_needs_no_approval() -> None:
    _, sgd = approving()
    value = {"question": "Why?", "skeleton": EDITED}
    assert Report.from_message(await sgd.ainvoke(value, THREAD)).status == "complete"


async def test_approval_without_a_checkpointer_is_refused_before_anything_is_asked() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    sgd = SGDRunnable(**stage.pair(), approve=True)
    with pytest.raises(InvalidInputError, match="checkpointer"):
        await sgd.ainvoke("Why?")
    assert stage.calls == []


# -- inside a parent graph


class State(TypedDict, total=False):
    question: str
    messages: list[AnyMessage]


def parent(sgd: SGDRunnable, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Any:
    async def write(state: State) -> State:
        return {"messages": [await sgd.ainvoke(state["question"])]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile(checkpointer=checkpointer)


async def test_in_a_parent_graph_its_insides_stay_inside() -> None:
    _, sgd = staged()
    outer = parent(sgd)
    modes = ["updates", "custom", "messages"]
    seen = [
        (mode, data) async for mode, data in outer.astream({"question": "Why?"}, stream_mode=modes)
    ]
    assert [list(data) for mode, data in seen if mode == "updates"] == [["write"]]
    # No token of an inner call leaks into the chat, out of order; the answer comes as one message.
    messages = [data[0] for mode, data in seen if mode == "messages"]
    assert len(messages) == 1
    assert messages[0].text.startswith("## Heading 1")


async def test_its_progress_is_early_in_a_parents_custom_stream() -> None:
    stage, sgd = staged(skeleton("1", "2"))
    stage.gated = True
    stage.release(PLANNER, "1")
    outer = parent(sgd)
    seen: list[tuple[str, str | None]] = []

    async def watch() -> None:
        async for item in outer.astream({"question": "Why?"}, stream_mode="custom"):
            told = item["sgd_progress"]
            seen.append((told["event"], told.get("id")))

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        await settle(lambda: ("ended", "1") in seen)
        assert ("started", "2") in seen
        assert ("ended", "2") not in seen
        stage.release("2")
    assert seen[0] == ("planned", "1")
    assert seen[-1] == ("ended", "2")


async def test_a_parent_s_astream_events_names_the_nodes() -> None:
    _, sgd = staged()
    events = parent(sgd).astream_events({"question": "Why?"}, version="v2")
    names = [e["name"] async for e in events if e["event"] == "on_chat_model_start"]
    assert sorted(names) == ["node:1", "node:2", "node:3", "planner"]


async def test_approval_in_a_parent_graph() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    outer = parent(SGDRunnable(**stage.pair(), approve=True), InMemorySaver())
    state = await outer.ainvoke({"question": "Why?"}, THREAD)
    interrupt = state["__interrupt__"][0]
    assert Skeleton.parse(interrupt.value["skeleton"]) == PLANNED
    state = await outer.ainvoke(Command(resume=EDITED.model_dump(mode="json")), THREAD)
    assert stage.parts() == [PLANNER, "1", "2"]
    assert Report.from_message(state["messages"][0]).status == "complete"


async def test_a_parent_resumes_finished_nodes() -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: planning(PLANNED), "2": [no, no, Say()]})
    outer = parent(SGDRunnable(**stage.pair(), on_node_error="raise"), InMemorySaver())
    with pytest.raises(NodeDecodeError):
        await outer.ainvoke({"question": "Why?"}, THREAD)
    state = await outer.ainvoke(None, THREAD)
    assert stage.parts() == [PLANNER, "1", "3", "2", "2", "2"]
    assert Report.from_message(state["messages"][0]).status == "complete"


async def test_two_runs_in_one_parent_node_are_resumed_apart() -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1")), "2": [no, no, no, no, Say()]})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")

    async def write(state: State) -> State:
        answers = await sgd.abatch(
            [f"{state['question']} A?", f"{state['question']} B?"], return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return {"messages": list(answers)}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    outer = graph.compile(checkpointer=InMemorySaver())
    with pytest.raises(NodeDecodeError):
        await outer.ainvoke({"question": "Why"}, THREAD)
    asked = len(stage.calls)
    state = await outer.ainvoke(None, THREAD)
    assert stage.parts()[asked:] == ["2", "2"]
    for name, message in zip("AB", state["messages"], strict=True):
        last = stage.of("2")[-2:][0 if name == "A" else 1]
        assert f"Why {name}?" in last.prompt
        assert Report.from_message(message).status == "complete"


async def test_questions_that_a_node_asks_at_once_cannot_be_approved() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    sgd = SGDRunnable(**stage.pair(), approve=True)

    async def write(state: State) -> State:
        return {"messages": list(await sgd.abatch([f"{state['question']} {n}?" for n in "AB"]))}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    outer = graph.compile(checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="give each question a node of its own"):
        await outer.ainvoke({"question": "Why"}, THREAD)


async def test_questions_that_a_node_asks_one_after_the_other_are_approved_each() -> None:
    stage = Stage({PLANNER: [planning(skeleton("1", "2")), planning(skeleton("3", "4"))]})
    sgd = SGDRunnable(**stage.pair(), approve=True)

    async def write(state: State) -> State:
        return {"messages": [await sgd.ainvoke(f"{state['question']} {n}?") for n in "AB"]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    outer = graph.compile(checkpointer=InMemorySaver())
    state = await outer.ainvoke({"question": "Why"}, THREAD)
    asked = []
    while "__interrupt__" in state:
        planned = Skeleton.parse(state["__interrupt__"][0].value["skeleton"])
        asked.append([node.id for node in planned.nodes])
        state = await outer.ainvoke(Command(resume=True), THREAD)
    assert asked == [["1", "2"], ["3", "4"]]
    parts = [[node.id for node in Report.from_message(m).nodes] for m in state["messages"]]
    assert parts == asked


@pytest.mark.parametrize(("seed", "plans"), [(None, 1), (2, 2)])
async def test_a_question_asked_twice_in_a_node_is_one_but_for_its_seed(
    seed: int | None, plans: int
) -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    sgd = SGDRunnable(**stage.pair())

    async def write(state: State) -> State:
        again = sgd.model_copy(update={"seed": seed})
        return {"messages": [await each.ainvoke(state["question"]) for each in (sgd, again)]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    await graph.compile(checkpointer=InMemorySaver()).ainvoke({"question": "Why?"}, THREAD)
    assert len(stage.of(PLANNER)) == plans


def test_a_synchronous_parent_resumes_finished_nodes() -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: planning(PLANNED), "2": [no, no, Say()]})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")

    def write(state: State) -> State:
        return {"messages": [sgd.invoke(state["question"])]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    outer = graph.compile(checkpointer=InMemorySaver())
    with pytest.raises(NodeDecodeError):
        outer.invoke({"question": "Why?"}, THREAD)
    state = outer.invoke(None, THREAD)
    assert stage.parts() == [PLANNER, "1", "3", "2", "2", "2"]
    assert Report.from_message(state["messages"][0]).status == "complete"
    updates = list(outer.stream({"question": "Again?"}, THREAD, stream_mode="updates"))
    assert [list(update) for update in updates] == [["write"]]


async def test_its_own_checkpointer_is_used_in_a_parent_without_one() -> None:
    stage = Stage({PLANNER: planning(PLANNED), "2": [*[Say(error=ValueError("no"))] * 2, Say()]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver(), on_node_error="raise")
    with pytest.raises(NodeDecodeError):
        await parent(sgd).ainvoke({"question": "Why?"}, THREAD)
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert report.status == "complete"
    assert stage.parts() == [PLANNER, "1", "3", "2", "2", "2"]


async def test_it_pipes_into_a_parents_node() -> None:
    _, sgd = staged()
    graph: StateGraph[Any] = StateGraph(State)
    node = RunnableLambda(lambda s: s["question"]) | sgd | (lambda m: {"messages": [m]})
    graph.add_node("write", node)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    state = await graph.compile().ainvoke({"question": "Why?"})
    assert isinstance(state["messages"][0], AIMessage | AIMessageChunk)
