"""SGD among agents: as deepagents' subagent and tool, and in the newest streams of events."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from deepagents import create_deep_agent
from deepagents.middleware.subagents import CompiledSubAgent
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_sgd import ChatSGD, NodeDecodeError, SGDRunnable
from tests.ecosystem.agents import Caller
from tests.support.models import Say, Stage
from tests.unit.test_chains import ANSWER, stage

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
ASKED: Any = {"messages": [HumanMessage("Write of bridges.")]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
TASK = {"description": "Write of bridges.", "subagent_type": "writer"}
SLOW = {"1": Say(["one ", "and ", "only"], each_s=0.01), "2": Say(["two ", "words"], each_s=0.01)}


def deep_agent(on: Stage, checkpointer: Any = None, **options: Any) -> Any:
    subagent = SGDRunnable(**on.pair(), **options).as_subagent(description="Writes long texts.")
    return create_deep_agent(
        model=Caller(tool="task", args=TASK),
        subagents=[cast("CompiledSubAgent", subagent)],
        checkpointer=checkpointer,
    )


async def test_a_deep_agent_has_its_subagent_write() -> None:
    state = await deep_agent(stage()).ainvoke(ASKED)
    *_, told, said = state["messages"]
    assert isinstance(told, ToolMessage)
    assert (told.text, said.text) == (ANSWER, "Here you are.")


async def test_a_subagents_text_streams_as_it_is_written() -> None:
    events = await deep_agent(stage(**SLOW)).astream_events(ASKED, version="v3")
    deltas: dict[str, list[str]] = {}

    async def subagents() -> None:
        async for subagent in events.subagents:
            async for message in subagent.messages:
                async for delta in message.text:
                    deltas.setdefault(subagent.name, []).append(delta)

    async def main() -> None:
        async for _ in events.messages:
            pass

    async with asyncio.TaskGroup() as group:
        group.create_task(subagents())
        group.create_task(main())
    assert "".join(deltas["writer"]) == ANSWER
    assert len(deltas["writer"]) >= 4


async def test_a_resumed_deep_agent_asks_only_for_the_missing_part() -> None:
    on = stage(**{"2": Say([], error=ValueError("broken"))})
    agent = deep_agent(on, InMemorySaver(), retries=0, on_node_error="raise")
    with pytest.raises(NodeDecodeError):
        await agent.ainvoke(ASKED, THREAD)
    on.calls.clear()
    on.lines["2"] = Say(["two ", "words"])
    state = await agent.ainvoke(None, THREAD)
    assert state["messages"][-2].text == ANSWER
    assert on.parts() == ["2"]


async def test_a_human_approves_a_subagents_skeleton() -> None:
    agent = deep_agent(stage(), InMemorySaver(), approve=True)
    (pending,) = (await agent.ainvoke(ASKED, THREAD))["__interrupt__"]
    assert len(pending.value["skeleton"]["nodes"]) == 2
    state = await agent.ainvoke(Command(resume=True), THREAD)
    assert state["messages"][-2].text == ANSWER


@pytest.mark.parametrize("make", [create_agent, create_deep_agent])
async def test_a_tools_output_streams_in_v3(make: Any) -> None:
    tool = SGDRunnable(**stage(**SLOW).pair()).as_tool()
    agent = make(Caller(tool=tool.name, args={"question": "Why?"}), [tool])
    events = await agent.astream_events(ASKED, version="v3")
    deltas: list[str] = []
    said: list[str] = []
    outputs: list[Any] = []

    async def calls() -> None:
        async for call in events.tool_calls:
            deltas.extend([delta async for delta in call.output_deltas])
            outputs.append(call.output)

    async def messages() -> None:
        said.extend([await message.text async for message in events.messages])

    async with asyncio.TaskGroup() as group:
        group.create_task(calls())
        group.create_task(messages())
    assert "".join(deltas) == ANSWER
    assert len(deltas) >= 4
    assert outputs == [ANSWER]
    assert [text for text in said if text] == ["Here you are."]


async def test_model_settings_of_middleware_reach_the_writers() -> None:
    @wrap_model_call
    async def settings(request: Any, handler: Any) -> Any:
        return await handler(request.override(model_settings={"temperature": 0.5, "top_k": 3}))

    on = stage()
    state = await create_agent(ChatSGD(SGDRunnable(**on.pair())), middleware=[settings]).ainvoke(
        ASKED
    )
    assert state["messages"][-1].text == ANSWER
    written = [call.options for call in on.calls if call.part in {"1", "2"}]
    assert [(o["temperature"], o["top_k"]) for o in written] == [(0.5, 3)] * 2
