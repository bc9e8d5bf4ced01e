"""`ChatSGD` with tools: what the large model calls or says is passed on; a long last answer is split."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.tools import tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field

from langchain_sgd import ChatSGD, Prompts, Report
from langchain_sgd.deciding import WRITER, with_findings
from tests.support.chats import main_ways
from tests.support.models import ScriptedChat, Stage
from tests.unit.test_chains import ANSWER, stage


@tool
def look_up(item: str) -> str:
    """Look up a price."""
    return f"{item}: 12 euros"


class Trip(BaseModel):
    """A trip."""

    place: str


class Agentic(ScriptedChat):
    """With tools bound, it says the chunks of its script; without, what its stage says."""

    script: list[AIMessageChunk] = Field(default_factory=list)
    asked: list[dict[str, Any]] = Field(default_factory=list)

    def bind_tools(self, tools: Any, **options: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=tools, **options)

    def with_structured_output(self, schema: Any, **options: Any) -> Runnable[Any, Any]:
        return self.bind(schema=schema, **options)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if not options.get("tools"):
            async for chunk in super()._astream(messages, *args, **options):
                yield chunk
            return
        self.asked.append({**options, "messages": messages})
        for said in self.script:
            yield ChatGenerationChunk(message=said.model_copy())


def calling(*names: str, text: str = "") -> list[AIMessageChunk]:
    said = [AIMessageChunk(content=text)] if text else []
    for index, name in enumerate(names):
        args = '{"item": "tides"}' if name == "look_up" else "{}"
        begun = tool_call_chunk(name=name, args=args[:3], id=f"c{index}", index=index)
        more = tool_call_chunk(name=None, args=args[3:], id=None, index=index)
        said += [AIMessageChunk(content="", tool_call_chunks=[each]) for each in (begun, more)]
    return [*said, AIMessageChunk(content="", response_metadata={"finish_reason": "stop"})]


def agentic(script: list[AIMessageChunk], on: Stage | None = None, **options: Any) -> ChatSGD:
    on = on or stage()
    large = Agentic(name="large", stage=on, script=script)
    return ChatSGD(
        small=on.model("small"),
        large=large,
        **{"split_with_tools": True, "opening": False, "least_share": 0, **options},
    )


@main_ways
async def test_a_long_last_answer_is_split(ask: Any) -> None:
    message = await ask(agentic(calling(WRITER)).bind_tools([look_up]))
    assert message.text == ANSWER
    assert not message.tool_calls
    assert [node.tier for node in Report.from_message(message).nodes] == ["small", "small"]


@main_ways
async def test_calls_of_tools_pass(ask: Any) -> None:
    on = stage()
    message = await ask(agentic(calling("look_up", text="One moment."), on).bind_tools([look_up]))
    assert message.text == "One moment."
    (call,) = message.tool_calls
    assert (call["name"], call["args"], call["id"]) == ("look_up", {"item": "tides"}, "c0")
    assert on.calls == []


@main_ways
async def test_short_answers_pass(ask: Any) -> None:
    message = await ask(agentic(calling(text="Twelve euros.")).bind_tools([look_up]))
    assert (message.text, message.tool_calls) == ("Twelve euros.", [])
    assert message.response_metadata["finish_reason"] == "stop"


@main_ways
@pytest.mark.parametrize("how", [True, "tool_calling"])
async def test_a_large_model_that_does_not_stream_decides_too(ask: Any, how: Any) -> None:
    on = stage()
    both = agentic(calling("look_up", WRITER), on)
    cast("Agentic", both.sgd.largest.model).disable_streaming = how
    message = await ask(both.bind_tools([look_up]))
    assert [call["name"] for call in message.tool_calls] == ["look_up"]
    one = agentic(calling(WRITER), on)
    cast("Agentic", one.sgd.largest.model).disable_streaming = how
    assert (await ask(one.bind_tools([look_up]))).text == ANSWER


async def test_the_deciding_call_counts() -> None:
    script = calling(WRITER)
    script[-1].usage_metadata = {"input_tokens": 5000, "output_tokens": 20, "total_tokens": 5020}
    message = await agentic(script, count_usage=True).bind_tools([look_up]).ainvoke("Why?")
    usage = Report.from_message(message).total_usage
    counted = message.usage_metadata
    assert counted is not None
    assert counted["input_tokens"] == 5000 + usage.input_tokens
    assert counted["output_tokens"] == 20 + usage.output_tokens


@main_ways
async def test_stop_texts_end_text_in_blocks_too(ask: Any) -> None:
    words = ("Short ", "answer. ", "EN", "D more")
    blocks = [
        AIMessageChunk(content=[{"type": "text", "text": word, "index": 0}]) for word in words
    ]
    bound = agentic([*blocks, *calling()]).bind_tools([look_up])
    assert (await ask(bound, stop=["END"])).text == "Short answer. "
    assert (await ask(bound, stop=["ENDING", "more!"])).text == "Short answer. END more"


@main_ways
async def test_a_cached_call_is_a_call(ask: Any) -> None:
    model = agentic(calling("look_up"), cache=InMemoryCache()).bind_tools([look_up])
    for _ in range(2):
        (call,) = (await ask(model)).tool_calls
        assert (call["name"], call["args"]) == ("look_up", {"item": "tides"})


async def test_the_writer_beside_other_calls_waits_for_them() -> None:
    on = stage()
    bound = agentic(calling(WRITER, "look_up"), on).bind_tools([look_up])
    assert [call["name"] for call in (await bound.ainvoke("Why?")).tool_calls] == ["look_up"]
    assert on.calls == []


async def test_what_was_said_before_the_answer_stands_before_it() -> None:
    bound = agentic(calling(WRITER, text="Gladly.")).bind_tools([look_up])
    assert (await bound.ainvoke("Why?")).text == f"Gladly.\n\n{ANSWER}"


async def test_the_writers_see_what_the_tools_have_found_and_no_calls() -> None:
    on = stage()
    model = agentic(calling(WRITER), on)
    call = tool_call(name="look_up", args={"item": "tides"}, id="c")
    said = [
        HumanMessage("What is it worth?"),
        AIMessage("One moment.", tool_calls=[call]),
        ToolMessage("12 euros", tool_call_id="c"),
    ]
    await model.bind_tools([look_up], parallel_tool_calls=False).ainvoke(said, temperature=0.5)
    large = cast("Agentic", model.sgd.large)
    assert [tool["function"]["name"] for tool in large.asked[0]["tools"]] == ["look_up", WRITER]
    assert large.asked[0]["messages"] == said
    assert large.asked[0]["parallel_tool_calls"] is False
    assert large.asked[0]["temperature"] == 0.5
    for asked in on.calls:
        assert "parallel_tool_calls" not in asked.options
        assert "look_up(item='tides')\n12 euros" in asked.prompt
        assert "One moment." not in asked.prompt
    assert [asked.options["temperature"] for asked in on.calls if asked.part != "planner"] == [
        0.5
    ] * 2


def test_findings_stand_behind_the_last_question() -> None:
    call = tool_call(name="look_up", args={}, id="c")
    said = [
        SystemMessage("Be kind."),
        HumanMessage("First?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("=====", tool_call_id="c"),
        AIMessage("It is so."),
        HumanMessage("And then?"),
    ]
    system, first, answer, last = with_findings(Prompts(), said)
    assert [system.text, first.text, answer.text] == ["Be kind.", "First?", "It is so."]
    assert last.text.startswith(
        "And then?\n\nThis has been found out for it:\n\n====== look_up()\n"
    )
    assert with_findings(Prompts(), [HumanMessage("Why?")]) == [HumanMessage("Why?")]


async def test_a_graph_shows_the_answer_and_neither_the_decision_nor_the_planner() -> None:
    bound = agentic(calling(WRITER)).bind_tools([look_up])
    graph: Any = StateGraph(MessagesState)

    async def answer(state: Any) -> Any:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    stream = graph.compile().astream({"messages": [HumanMessage("Why?")]}, stream_mode="messages")
    assert "".join([message.text async for message, _ in stream]) == ANSWER


async def test_the_trace_is_one_tree() -> None:
    collector = RunCollectorCallbackHandler()
    bound = agentic(calling(WRITER)).bind_tools([look_up])
    await bound.ainvoke("Why?", {"callbacks": [collector]})
    (root,) = collector.traced_runs
    assert root.run_type == "llm"
    assert [run.run_type for run in root.child_runs] == ["llm", "chain"]


@pytest.mark.parametrize(
    "choice", ["any", "look_up", {"type": "function", "function": {"name": "look_up"}}]
)
async def test_a_forced_call_leaves_nothing_to_decide(choice: Any) -> None:
    bound = agentic([]).bind_tools([look_up], tool_choice=choice)
    assert isinstance(cast("RunnableBinding[Any, Any]", bound).bound, Agentic)


@pytest.mark.parametrize(
    "forced", [{"tool_choice": "any"}, {"response_format": {"type": "json_object"}}]
)
@pytest.mark.parametrize("split", [False, True])
def test_nothing_is_advised_where_nothing_can_be_split(
    forced: Any, caplog: pytest.LogCaptureFixture, *, split: bool
) -> None:
    with caplog.at_level(logging.WARNING, "langchain_sgd"):
        agentic([], split_with_tools=split).bind_tools([{"name": "look_up"}], **forced)
    assert caplog.records == []


def test_that_answers_are_not_split_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model = agentic([], split_with_tools=False)
    with caplog.at_level(logging.WARNING, "langchain_sgd"):
        for _ in range(2):
            model.bind_tools([look_up])
    assert [record.message.count("split_with_tools") for record in caplog.records] == [1]


# -- the large model itself is called as we are


class Starts(BaseCallbackHandler):
    """Notes the tags and metadata of each model's run."""

    run_inline = True

    def __init__(self) -> None:
        self.seen: list[tuple[list[str], dict[str, Any]]] = []

    def on_chat_model_start(self, *args: Any, **told: Any) -> None:
        del args
        self.seen.append((told["tags"], told["metadata"]))


@pytest.mark.parametrize("what", ["tools", "schema"])
async def test_the_large_model_keeps_our_callbacks_tags_and_metadata(what: str) -> None:
    mine, its = Starts(), Starts()
    on = stage()
    large = Agentic(
        name="large", stage=on, callbacks=[its], tags=["own"], script=calling(text="Hi")
    )
    model = ChatSGD(large=large, callbacks=[mine], tags=["prod"], metadata={"who": "me"})
    made = model.bind_tools([look_up]) if what == "tools" else model.with_structured_output(Trip)
    await made.ainvoke("Why?")
    for seen in (mine.seen, its.seen):
        ((tags, metadata),) = seen
        assert {"own", "prod"} <= {*tags}
        assert metadata["who"] == "me"


async def test_a_decision_is_no_run_of_our_own_callbacks() -> None:
    mine = Starts()
    await agentic(calling(WRITER), callbacks=[mine]).bind_tools([look_up]).ainvoke("Why?")
    assert len(mine.seen) == 1


async def test_options_bound_around_the_large_model_are_kept() -> None:
    on, cache = stage(), InMemoryCache()
    large = Agentic(name="large", stage=on, script=calling(text="Hi"))
    bound = large.bind(top_p=0.5).with_config(tags=["bound"])
    starts = Starts()
    made = ChatSGD(large=bound, cache=cache, callbacks=[starts]).bind_tools([look_up], top_k=3)
    assert (await made.ainvoke("Why?")).text == "Hi"
    assert (large.asked[0]["top_p"], large.asked[0]["top_k"]) == (0.5, 3)
    assert "bound" in starts.seen[0][0]
