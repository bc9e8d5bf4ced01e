"""SGD and agents, both ways round: SGD as an agent's tool, and agents that decode nodes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_sgd import ChatSGD, Report, SGDRunnable
from langchain_sgd.tgi import ChatTGI
from tests.scripted_engine import Pace, ScriptedEngine
from tests.tgi_server import TGITestServer

PLAN = "1 Rules\n2 Blurb <1 *"
PARTS = {
    "Plan long answers": PLAN,
    "Write only part 1": "Move two.",
    "Write only part 2": "A game of tides.",
}
ANSWER = "## Rules\n\nMove two.\n\n## Blurb\n\nA game of tides."
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def calling(name: str, then: str, **arguments: Any) -> ScriptedEngine:
    """A model that calls a tool once, and then writes."""
    call = json.dumps({"function": {"_name": name, **arguments}})
    nothing = json.dumps({"function": {"_name": "no_tool"}})

    def reply(prompt: str) -> str:
        if "<|tools|>" not in prompt and "no_tool" not in prompt:
            return then
        return nothing if "<|tool|>" in prompt else call

    return ScriptedEngine(reply, model_id="agents/model")


@pytest.fixture
async def server() -> AsyncIterator[TGITestServer]:
    engines = {
        "small": ScriptedEngine(PARTS, model_id="small/model"),
        "large": ScriptedEngine(PARTS, model_id="large/model"),
        "agent": calling("write_long_answer", "Here you are.", question="Invent a game."),
        "clerk": calling("look_up", "It costs 12 euros.", item="tides"),
    }
    async with TGITestServer(engines) as running:
        yield running


def sgd_on(server: TGITestServer, **options: Any) -> SGDRunnable:
    models = {"small": server.url_of("small"), "large": server.url_of("large")}
    return SGDRunnable(**{**models, "opening": False, "least_share": 0, **options})


# -- SGD as a tool


async def test_an_agent_has_a_long_answer_written(server: TGITestServer) -> None:
    counter, collector = UsageMetadataCallbackHandler(), RunCollectorCallbackHandler()
    agent = create_agent(ChatTGI(base_url=server.url_of("agent")), [sgd_on(server).as_tool()])
    state = await agent.ainvoke(
        cast("Any", {"messages": [HumanMessage("A game, please.")]}),
        {"callbacks": [counter, collector]},
    )
    _, asked, told, said = state["messages"]
    assert asked.tool_calls[0]["args"] == {"question": "Invent a game."}
    assert isinstance(told, ToolMessage)
    assert told.content == ANSWER
    assert said.text == "Here you are."
    report = Report.model_validate(told.artifact)
    inside = {
        name: usage["output_tokens"]
        for name, usage in counter.usage_metadata.items()
        if name != "agents/model"
    }
    assert sum(inside.values()) == sum(usage.output_tokens for usage in report.usage.values()) > 0

    names: list[str] = []
    runs = [*collector.traced_runs]
    assert len(runs) == 1
    while runs:
        run = runs.pop()
        names.append(run.name)
        runs += run.child_runs
    assert {"write_long_answer", "SGDRunnable", "planner", "node:1", "node:2"} <= {*names}


async def test_the_chat_shows_the_agents_words_only(server: TGITestServer) -> None:
    server.engines["small"].pace = Pace(token_s=0.005)
    agent = create_agent(ChatTGI(base_url=server.url_of("agent")), [sgd_on(server).as_tool()])
    shown, written = [], []
    stream = agent.astream(
        cast("Any", {"messages": [HumanMessage("A game, please.")]}),
        stream_mode=["messages", "custom"],
    )
    async for mode, data in stream:
        if mode == "custom":
            written.append(cast("Any", data).get("text", ""))
        else:
            shown.append(cast("Any", data)[0])
    assert "".join(written) == ANSWER
    assert len(written) > 3
    texts = [
        "".join(m.text for m in shown if isinstance(m, kind)) for kind in (AIMessage, ToolMessage)
    ]
    assert texts == ["Here you are.", ANSWER]


async def test_a_human_approves_the_skeleton_of_an_agents_tool(server: TGITestServer) -> None:
    agent = create_agent(
        ChatTGI(base_url=server.url_of("agent")),
        [sgd_on(server, approve=True).as_tool()],
        checkpointer=InMemorySaver(),
    )
    asked = cast("Any", {"messages": [HumanMessage("A game, please.")]})
    waiting = await agent.ainvoke(asked, THREAD)
    (interrupt,) = cast("Any", waiting)["__interrupt__"]
    skeleton = interrupt.value["skeleton"]
    assert [node["heading"] for node in skeleton["nodes"]] == ["Rules", "Blurb"]
    prompts = len(server.prompts)

    skeleton["nodes"].pop()
    state = await agent.ainvoke(Command(resume=skeleton), THREAD)
    assert state["messages"][-2].content == "## Rules\n\nMove two."
    assert not any("Plan long answers" in prompt for prompt in server.prompts[prompts:])


# -- ChatSGD as the agent's model


async def test_an_agent_without_tools_answers_in_parallel(server: TGITestServer) -> None:
    model = ChatSGD(sgd_on(server))
    agent = create_agent(model, system_prompt="You invent games.")
    shown = [
        cast("Any", item)[0].text
        async for item in agent.astream(
            cast("Any", {"messages": [HumanMessage("A game, please.")]}), stream_mode="messages"
        )
    ]
    assert "".join(shown) == ANSWER
    assert all("You invent games." in prompt for prompt in server.prompts)


async def test_an_agent_with_tools_calls_them_through_the_large_model(
    server: TGITestServer,
) -> None:
    @tool
    def look_up(item: str) -> str:
        """Look up the price of an item."""
        return f"{item}: 12 euros"

    model = ChatSGD(small=server.url_of("small"), large=server.url_of("clerk"))
    state = await create_agent(model, [look_up]).ainvoke(
        cast("Any", {"messages": [HumanMessage("What do tides cost?")]})
    )
    assert [m.text for m in state["messages"][-2:]] == ["tides: 12 euros", "It costs 12 euros."]
    assert server.requests("small/generate_stream") == []


# -- nodes that agents decode


async def test_a_node_looks_something_up(server: TGITestServer) -> None:
    @tool
    def look_up(item: str) -> str:
        """Look up the price of an item."""
        return f"{item}: 12 euros"

    clerk = create_agent(ChatTGI(base_url=server.url_of("clerk")), [look_up], name="clerk")
    sgd = SGDRunnable(
        small=server.url_of("small"),
        large=clerk,
        planner=server.url_of("large"),
        threshold=4,
        seed=7,
        least_share=0,
    )
    collector, counter = RunCollectorCallbackHandler(), UsageMetadataCallbackHandler()
    message = await sgd.ainvoke("Invent a game.", {"callbacks": [collector, counter]})
    assert message.text == "## Rules\n\nMove two.\n\n## Blurb\n\nIt costs 12 euros."
    report = Report.from_message(message)
    assert [node.tier for node in report.nodes] == ["small", "large"]
    assert report["2"].model == "agents/model"

    # Both calls of the agent are counted, not the last one alone.
    spent = counter.usage_metadata["agents/model"]
    assert report["2"].usage.output_tokens == spent["output_tokens"]
    asked = [entry for entry in server.log if "/clerk/" in entry.path]
    assert len(asked) >= 2
    assert "Move two." in asked[0].prompts[0]

    (run,) = collector.traced_runs
    (node,) = [child for child in run.child_runs if child.name == "node:2"]
    names, runs = [], [node]
    while runs:
        each = runs.pop()
        names.append(each.name)
        runs += each.child_runs
    assert "look_up" in names


async def test_an_agents_words_do_not_show_in_the_chat(server: TGITestServer) -> None:
    clerk = create_agent(ChatTGI(base_url=server.url_of("clerk")), name="clerk")
    models: dict[str, Any] = {
        "small": server.url_of("small"),
        "large": clerk,
        "planner": server.url_of("large"),
    }
    model = ChatSGD(**models, least_share=0)
    shown = [
        cast("Any", item)[0]
        async for item in create_agent(model).astream(
            cast("Any", {"messages": [HumanMessage("A game, please.")]}), stream_mode="messages"
        )
    ]
    assert "".join(message.text for message in shown) == (
        "## Rules\n\nMove two.\n\n## Blurb\n\nIt costs 12 euros."
    )
    assert len({message.id for message in shown}) == 1
