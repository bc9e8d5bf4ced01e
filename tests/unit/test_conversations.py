"""What a caller says: whatever messages it is made of, every model sees the same, and nobody's is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, RunnableGenerator
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import ChatSGD, Report, SGDRunnable
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton


def undivided(**options: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: Say("An answer.")})
    return stage, SGDRunnable(**stage.pair(), **options)


def seen(stage: Stage) -> list[list[tuple[str, str]]]:
    """What each undivided call was asked with."""
    return [[(m.type, m.text) for m in call.messages] for call in stage.of(PLAIN)]


@pytest.mark.parametrize("saved", [False, True], ids=["unsaved", "saved"])
async def test_the_same_message_may_come_twice(saved: bool) -> None:  # noqa: FBT001
    stage, sgd = undivided(checkpointer=InMemorySaver() if saved else None)
    again = HumanMessage("Go on.")
    said = [HumanMessage("Tell."), AIMessage("a"), again, AIMessage("b"), again]
    before = [message.model_copy() for message in said]
    for thread, runnable in enumerate((sgd, ChatSGD(sgd))):
        await runnable.ainvoke(said, {"configurable": {"thread_id": str(thread)}})
    expected = [(message.type, message.text) for message in said]
    assert seen(stage) == [expected, expected]
    assert said == before
    assert again.id is None


async def test_messages_of_equal_ids_are_different_messages() -> None:
    stage, sgd = undivided()
    await sgd.ainvoke(
        [HumanMessage("Tell.", id="x"), AIMessage("a"), HumanMessage("More.", id="x")]
    )
    assert seen(stage) == [[("human", "Tell."), ("ai", "a"), ("human", "More.")]]


async def test_a_list_of_dicts_may_hold_calls_as_clients_write_them() -> None:
    stage, sgd = undivided()
    functions = {"c1": {"name": "now", "arguments": ""}, "c2": {"name": "now", "arguments": '{"a'}}
    calls = [{"id": key, "type": "function", "function": each} for key, each in functions.items()]
    await sgd.ainvoke(
        [
            {"role": "user", "content": "Time?"},
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
            {"role": "user", "content": "And now?"},
        ]
    )
    [asked] = stage.of(PLAIN)
    message = asked.messages[1]
    assert isinstance(message, AIMessage)
    assert [(call["id"], call["args"]) for call in message.tool_calls] == [("c1", {})]
    assert [(call["id"], call["args"]) for call in message.invalid_tool_calls] == [("c2", '{"a')]


async def test_system_messages_become_one_that_stands_first() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    sgd = SGDRunnable(**stage.pair())
    said: list[BaseMessage] = [
        SystemMessage("Be brief."),
        HumanMessage("One?"),
        AIMessage("a"),
        SystemMessage("Be kind."),
        HumanMessage("Two?"),
    ]
    await sgd.ainvoke(said)
    assert len(stage.calls) == 3
    for call in stage.calls:
        assert [m.type for m in call.messages].count("system") == 1
        assert call.messages[0].text == "Be brief.\n\nBe kind."
    assert [message.text for message in said] == ["Be brief.", "One?", "a", "Be kind.", "Two?"]


async def test_system_messages_of_blocks_become_one_too() -> None:
    stage, sgd = undivided()
    blocks: Any = [{"type": "text", "text": "Be kind."}]
    await sgd.ainvoke([SystemMessage("Be brief."), SystemMessage(blocks), HumanMessage("Why?")])
    [call] = stage.of(PLAIN)
    assert call.messages[0].content == [{"type": "text", "text": "Be brief."}, *blocks]


async def test_a_system_prompt_that_comes_every_turn_is_there_once() -> None:
    stage, sgd = undivided(checkpointer=InMemorySaver())
    for question in ("One?", "Two?"):
        said = [SystemMessage(f"For {question}"), HumanMessage(question)]
        await sgd.ainvoke(said, {"configurable": {"thread_id": "1"}})
    assert seen(stage)[-1] == [
        ("system", "For Two?"),
        ("human", "One?"),
        ("ai", "An answer."),
        ("human", "Two?"),
    ]


async def test_a_caller_with_the_whole_history_repeats_nothing_on_its_thread() -> None:
    stage, sgd = undivided(checkpointer=InMemorySaver())
    chat = ChatSGD(sgd)
    thread: RunnableConfig = {"configurable": {"thread_id": "1"}}
    history: list[BaseMessage] = [HumanMessage("One?")]
    history += [await chat.ainvoke(history, thread), HumanMessage("Two?")]
    await chat.ainvoke(history, thread)
    assert seen(stage)[-1] == [("human", "One?"), ("ai", "An answer."), ("human", "Two?")]


@pytest.mark.parametrize("thread", [7, UUID(int=3), uuid4()], ids=["int", "UUID", "another UUID"])
async def test_a_thread_may_have_any_name(thread: Any) -> None:
    stage = Stage(
        {PLANNER: planning(skeleton("1", "2")), "2": [Say(error=ValueError("no")), Say()]}
    )
    sgd = SGDRunnable(
        large=stage.model("large"),
        checkpointer=InMemorySaver(),
        on_node_error="raise",
        opening=False,
    )
    config: Any = {"configurable": {"thread_id": thread}}
    with pytest.raises(Exception, match="no"):
        await sgd.ainvoke("Why?", config)
    report = Report.from_message(await sgd.ainvoke(None, config))
    assert (report.status, report.thread_id) == ("complete", str(thread))
    assert stage.parts() == [PLANNER, "1", "2", "2"]


async def test_of_mappings_from_upstream_the_last_is_the_input() -> None:
    stage, sgd = undivided()

    async def upstream(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for _ in inputs:
            pass
        yield {"question": "One?"}
        yield {"question": "Two?"}

    chain: Any = RunnableGenerator(upstream) | sgd
    assert "".join([chunk.text async for chunk in chain.astream("x")]) == "An answer."
    assert seen(stage) == [[("human", "Two?")]]
