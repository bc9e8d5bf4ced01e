"""SGD among agents: as deepagents' subagent and tool, and in the newest streams of events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.stream.transformers import CustomTransformer
from langgraph.types import Command

from langchain_sgd import ChatSGD, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.deciding import WRITER
from tests.ecosystem.agents import Caller
from tests.ecosystem.recorder import Block, Recorder, text
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
        subagents=[subagent],
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
    writer = SGDRunnable(**stage(**SLOW).pair()).as_tool()
    agent = make(Caller(tool=writer.name, args={"question": "Why?"}), [writer])
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


async def test_a_subagents_progress_is_its_own_custom_data_in_v3() -> None:
    events = await deep_agent(stage(**SLOW)).astream_events(
        ASKED, version="v3", transformers=[CustomTransformer]
    )
    async for subagent in events.subagents:
        seen = [each["sgd_progress"]["event"] async for each in subagent.custom]
    assert seen.count("ended") == 2


async def test_an_agents_last_answer_is_split_once_its_tools_have_answered() -> None:
    def replies(body: dict[str, Any]) -> list[Block]:
        prompt = json.dumps(body["messages"])
        if "tools" in body:
            name = WRITER if "tool_result" in prompt else "look_up"
            given = {"item": "tides"} if name == "look_up" else {}
            return [{"type": "tool_use", "name": name, "input": given}]
        parts = {"1": "Low at six.", "2": "High at noon."}
        found = [text(said) for id_, said in parts.items() if f"Write only part {id_}," in prompt]
        return found or [text("1 Ebb\n2 Flood\n")]

    @tool
    def look_up(item: str) -> str:
        """Look something up."""
        return f"{item}: twice a day"

    with Recorder(replies) as recorder:
        claude = ChatAnthropic(model="claude", api_key="none", base_url=recorder.url)
        model = ChatSGD(large=claude, split_with_tools=True, opening=False, least_share=0)
        state = await create_agent(model, [look_up]).ainvoke(ASKED)
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "## Ebb\n\nLow at six.\n\n## Flood\n\nHigh at noon."
    assert Report.from_message(state["messages"][-1]).status == "complete"
    writers = [body for body in recorder.bodies if "Write only part" in json.dumps(body)]
    assert len(writers) == 2
    assert all("twice a day" in json.dumps(body) and "tools" not in body for body in writers)
