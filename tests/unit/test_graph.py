"""Both graphs: equal answers, what they draw, what they save, what a resume calls again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import (
    InvalidInputError,
    NodeDecodeError,
    Report,
    SGDRunnable,
    Skeleton,
    SkeletonError,
    build_graph,
)
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLANNER, Say, Stage, plan_lines, planning, settle, text_for
from tests.support.skeletons import skeleton, skeletons

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def answers_of(report: Report) -> dict[str, tuple[str, str]]:
    return {node.id: (node.status, node.answer) for node in report.nodes}


def answers_in(state: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {i: (r["status"], state[f"answer_{i}"] or "") for i, r in state["records"].items()}


async def broken_off(sgd: SGDRunnable, value: Any, when: Callable[[], bool]) -> None:
    """Cancel a run once `when` holds and nothing moves any more."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sgd.ainvoke(value, THREAD))
        await settle(when)
        await settle()
        task.cancel()


@settings(max_examples=40, deadline=None)
@given(skeletons(), st.sets(st.integers(1, 9)), st.sampled_from(["pipelined", "planned"]))
def test_both_graphs_give_equal_answers(
    planned: Skeleton, failing: set[int], execution: str
) -> None:
    # A text is made from the whole prompt, so equal texts mean equal prompts.
    refuse = {str(n): Say(error=ValueError("no")) for n in failing}

    async def main() -> None:
        stage = Stage({PLANNER: planning(planned), **refuse})
        sgd = SGDRunnable(**stage.pair(), execution=execution)
        literal = await build_graph(planned, sgd).compile().ainvoke({"question": "Why?"})
        if not any(answer for _, answer in answers_in(literal).values()):
            with pytest.raises(NodeDecodeError):
                await sgd.ainvoke("Why?")
            return
        report = Report.from_message(await sgd.ainvoke("Why?"))
        assert answers_of(report) == answers_in(literal)

    asyncio.run(main())


async def test_the_superstep_graph_gives_the_same_message() -> None:
    planned = skeleton("1", "2 <- 1", "3", "4 <- 2,3")
    messages = {}
    for execution in ("pipelined", "planned", "superstep"):
        stage = Stage({PLANNER: planning(planned)})
        sgd = SGDRunnable(**stage.pair(), execution=execution)
        messages[execution] = (await sgd.ainvoke("Why?")).content
        assert sorted(stage.parts()) == ["1", "2", "3", "4", PLANNER]
    assert len(set(messages.values())) == 1


@pytest.mark.parametrize("execution", ["pipelined", "planned", "superstep"])
@pytest.mark.parametrize("on_node_error", ["partial", "raise"])
async def test_a_run_without_an_answer_raises_in_every_execution(
    execution: str, on_node_error: str
) -> None:
    refused = Say(error=ValueError("no"))
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1", "3")), "1": refused})
    if on_node_error == "partial":
        stage.lines["3"] = refused
    sgd = SGDRunnable(**stage.pair(), execution=execution, on_node_error=on_node_error)
    with pytest.raises(NodeDecodeError, match="Node 1"):
        await sgd.ainvoke("Why?")


async def test_dependency_answers_reach_the_dependents_prompt_and_nobody_else() -> None:
    stage = Stage({str(n): Say(f"WORDS-OF-{n}") for n in range(1, 5)})
    sgd = SGDRunnable(**stage.pair())
    given_ = skeleton("1", "2", "3 <- 1", "4 <- 1,2")
    await sgd.ainvoke({"question": "Why?", "skeleton": given_})
    heard = {
        call.part: [n for n in "1234" if f"WORDS-OF-{n}" in call.prompt] for call in stage.calls
    }
    assert heard == {"1": [], "2": [], "3": ["1"], "4": ["1", "2"]}


async def test_system_prompt_and_history_reach_every_call() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1"))})
    sgd = SGDRunnable(**stage.pair())
    await sgd.ainvoke([SystemMessage("SYSTEM-WORDS"), HumanMessage("QUESTION-WORDS")])
    assert len(stage.calls) == 3
    assert all("SYSTEM-WORDS" in c.prompt and "QUESTION-WORDS" in c.prompt for c in stage.calls)


# -- what is drawn, what is refused


def test_the_literal_graph_draws_nodes_and_dependencies() -> None:
    drawn = build_graph(skeleton("1", "2", "3 <- 1,2")).compile().get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    assert edges == {
        ("__start__", "1"),
        ("__start__", "2"),
        ("1", "3"),
        ("2", "3"),
        ("3", "__end__"),
    }
    assert "Heading 3" in drawn.draw_mermaid()


def test_the_literal_graph_has_a_channel_for_each_answer() -> None:
    graph = build_graph(skeleton("1", "a.b", "c_d <- 1"))
    assert {"answer_1", "answer_a.b", "answer_c_d"} <= set(graph.channels)


async def test_a_graph_without_models_can_only_be_drawn() -> None:
    with pytest.raises(InvalidInputError, match=r"build_graph\(skeleton, sgd\)"):
        await build_graph(skeleton("1", "2")).compile().ainvoke({"question": "Why?"})


async def test_a_literal_graph_wants_a_question() -> None:
    sgd = SGDRunnable(**Stage().pair())
    with pytest.raises(InvalidInputError, match="question"):
        await build_graph(skeleton("1", "2"), sgd).compile().ainvoke({"records": {}})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least 1"),
        ([{"id": "1", "heading": "A"}, {"id": "1", "heading": "B"}], "stands twice"),
        ([{"id": "1", "heading": "A", "dependencies": ["2"]}], "not an earlier node"),
        ([{"id": "a|b", "heading": "A"}], "id"),
        ([{"id": "1"}], "heading"),
        ("1|A", "skeleton"),
        (None, "skeleton"),
    ],
)
def test_a_bad_skeleton_is_refused_with_its_fault(bad: Any, message: str) -> None:
    with pytest.raises(SkeletonError, match=message):
        build_graph(bad)


async def test_the_inside_of_a_runnable_says_what_to_call() -> None:
    sgd = SGDRunnable(**Stage().pair())
    with pytest.raises(InvalidInputError, match="call the SGDRunnable"):
        await sgd._graph.ainvoke({"messages": [HumanMessage("Why?")]})


async def test_a_chain_of_forty_takes_four_steps() -> None:
    chain = skeleton("1", *(f"{n} <- {n - 1}" for n in range(2, 41)))
    stage = Stage({PLANNER: planning(chain)})
    for execution in ("pipelined", "superstep"):
        sgd = SGDRunnable(**stage.pair(), max_nodes=99, execution=execution)
        message = await sgd.ainvoke("Why?", {"recursion_limit": 25})
        assert len(Report.from_message(message).nodes) == 40


async def test_a_literal_graph_shows_each_node_in_its_updates() -> None:
    sgd = SGDRunnable(**Stage().pair())
    graph = build_graph(skeleton("1", "2", "3 <- 1,2"), sgd).compile()
    seen = [key async for update in graph.astream({"question": "Why?"}) for key in update]
    assert sorted(seen[:2]) == ["1", "2"]
    assert seen[2:] == ["3"]


# -- resume


def test_answers_are_not_swapped_when_calls_end_in_another_order() -> None:
    # 1 is planned first and ends last; LangGraph finds saved answers by the order of calls.
    planned = skeleton("1", "2", "3 <- 1", "4 <- 2", "5 <- 3,4")
    stage = Stage(
        {
            PLANNER: planning(planned),
            "1": Say(then_s=0.3),
            "2": Say(then_s=0.1),
            "5": [Say(error=ValueError("no")), Say(error=ValueError("no")), Say()],
        }
    )
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise", checkpointer=InMemorySaver())

    async def main() -> Report:
        with pytest.raises(NodeDecodeError):
            await sgd.ainvoke("Why?", THREAD)
        assert stage.parts() == [PLANNER, "1", "2", "4", "3", "5", "5"]
        return Report.from_message(await sgd.ainvoke(None, THREAD))

    report = run_virtual(main())
    assert stage.parts()[7:] == ["5"]
    for node in report.nodes:
        assert node.answer == text_for(node.id, stage.of(node.id)[0].prompt)
    assert [node.id for node in report.nodes if node.restored] == ["1", "2", "3", "4"]
    assert report.status == "complete"
    assert report.planner is not None
    assert len(report.planner.attempts) == 1


async def test_a_resume_goes_on_from_the_lines_that_were_planned() -> None:
    first, second = skeleton("1", "2 <- 1", "3"), skeleton("1 <-", "2", "3 <- 1,2")
    changed = second.nodes[0].model_copy(update={"heading": "Another heading"})
    second = Skeleton(nodes=(changed, *second.nodes[1:]))
    stage = Stage({PLANNER: [Say(plan_lines(first)[:2], hang=True), planning(second)]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    await broken_off(sgd, "Why?", lambda: any(call.ended is not None for call in stage.of("2")))
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert stage.parts() == [PLANNER, "1", "2", PLANNER, "3"]
    assert (
        "1 Heading 1\n2 Heading 2 <1\n"
        in stage.of(PLANNER)[1].prompt.split("It begins with these lines:")[1]
    )
    assert [node.heading for node in report.nodes] == ["Heading 1", "Heading 2", "Heading 3"]
    assert [node.restored for node in report.nodes] == [True, True, False]
    assert report.nodes[2].dependencies == ("1", "2")
    for node in report.nodes:
        assert node.answer == text_for(node.id, stage.of(node.id)[-1].prompt)


async def test_the_same_plan_after_a_resume_takes_finished_answers() -> None:
    planned = skeleton("1", "2", "3 <- 1")
    stage = Stage({PLANNER: [Say(plan_lines(planned)[:2], hang=True), planning(planned)]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    await broken_off(sgd, "Why?", lambda: bool(stage.of("2")))
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert stage.parts() == [PLANNER, "1", "2", PLANNER, "3"]
    assert [node.restored for node in report.nodes] == [True, True, False]


async def test_a_resumed_stream_gives_the_whole_answer() -> None:
    planned = skeleton("1", "2", "3 <- 1")
    stage = Stage({PLANNER: planning(planned), "3": [Say("half", hang=True), Say("whole")]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    stream = sgd.astream("Why?", THREAD)
    async for chunk in stream:
        if "half" in chunk.text:
            break
    await stream.aclose()
    chunks = [chunk async for chunk in sgd.astream(None, THREAD)]
    assert stage.parts() == [PLANNER, "1", "2", "3", "3"]
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    saved = sgd._graph.get_state(THREAD).values["messages"][-1]
    assert total.text == saved.text
    assert total.text.endswith("## Heading 3\n\nwhole")
    assert Report.from_message(total).status == "complete"


async def test_a_second_question_on_an_old_thread_sees_the_history_and_no_old_skeleton() -> None:
    stage = Stage({PLANNER: [planning(skeleton("1", "2")), planning(skeleton("1", "2", "3"))]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    await sgd.ainvoke("First question?", THREAD)
    report = Report.from_message(await sgd.ainvoke("Second question?", THREAD))
    assert len(report.nodes) == 3
    assert not any(node.restored for node in report.nodes)
    planner = stage.of(PLANNER)[1]
    assert "First question?" in planner.prompt
    assert "text of 1" in planner.prompt
    assert planner.prompt.count("Second question?") == 1


async def test_a_new_question_after_a_broken_run_starts_anew() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2")), "2": [Say(hang=True), Say()]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    await broken_off(sgd, "First?", lambda: bool(stage.of("2")))
    report = Report.from_message(await sgd.ainvoke("Second?", THREAD))
    assert report.status == "complete"
    assert stage.parts() == [PLANNER, "1", "2", PLANNER, "1", "2"]


async def test_a_given_skeleton_is_resumed_too() -> None:
    stage = Stage({"2": [Say(hang=True), Say()]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    value = {"question": "Why?", "skeleton": skeleton("1", "2")}
    await broken_off(sgd, value, lambda: bool(stage.of("2")))
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert stage.parts() == ["1", "2", "2"]
    assert report.planner is not None
    assert report.planner.source == "given"


async def test_a_plain_run_is_resumed_without_planning_again() -> None:
    stage = Stage({PLANNER: Say("PLAIN"), "plain": [Say(hang=True), Say()]})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    await broken_off(sgd, "Why?", lambda: bool(stage.of("plain")))
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert stage.parts() == [PLANNER, "plain", "plain"]
    assert report.status == "plain"


async def test_a_literal_graph_is_resumed_by_its_own_checkpointer() -> None:
    stage = Stage({"2": [Say(error=ValueError("no")), Say(error=ValueError("no")), Say()]})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")
    graph = build_graph(skeleton("1", "2", "3 <- 1,2"), sgd).compile(checkpointer=InMemorySaver())
    with pytest.raises(NodeDecodeError):
        await graph.ainvoke({"question": "Why?"}, THREAD)
    state = await graph.ainvoke(None, THREAD)
    assert stage.parts() == ["1", "2", "2", "2", "3"]
    assert state["answer_3"]
