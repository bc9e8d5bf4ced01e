"""`ChatSGD`: a chat model in every way that LangChain and LangGraph use one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import ValidationError

from langchain_sgd import ChatSGD, InvalidInputError, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.stops import StopFilter
from langchain_sgd.tgi import ChatTGI
from tests.support.chats import (
    ANSWER,
    NOWHERE,
    added,
    chat,
    every_way,
    main_ways,
    stage,
)
from tests.support.models import PLANNER, Say, ScriptedChat, Stage, planning, settle
from tests.support.skeletons import skeleton

# LangChain says so of its own `astream_events(version="v3")`.
pytestmark = pytest.mark.filterwarnings("ignore:.*stream_v3. is in beta")

TREE: Any = (
    "ChatSGD",
    [("SGDRunnable", [(PLANNER, []), ("node:1", []), ("node:2", [])])],
)


# -- what it is made of


def test_it_is_made_of_a_runnable_or_of_what_one_is_made_of() -> None:
    on = stage()
    sgd = SGDRunnable(**on.pair(), max_nodes=5)
    assert ChatSGD(sgd).sgd is ChatSGD(sgd=sgd).sgd is sgd
    assert chat(on, max_nodes=5, tags=["mine"]).sgd.max_nodes == 5
    assert chat(on, tags=["mine"]).tags == ["mine"]


def test_options_that_nobody_reads_are_refused() -> None:
    on = stage()
    with pytest.raises(ValidationError, match="temperature"):
        chat(on, temperature=0.3)
    with pytest.raises(InvalidInputError, match=r"\['mode'\]: set them on that one"):
        ChatSGD(SGDRunnable(**on.pair()), mode="always")


@every_way
async def test_call_options_reach_the_models_that_write(ask: Callable[..., Any]) -> None:
    on = stage()
    await ask(chat(on), temperature=0.3)
    assert [call.options.get("temperature") for call in on.of("1")] == [0.3]
    assert [call.options.get("temperature") for call in on.of(PLANNER)] == [None]


# -- one answer


@every_way
async def test_every_way_gives_the_runnables_answer_and_report(ask: Callable[..., Any]) -> None:
    model = chat()
    message = await ask(model)
    assert message.text == ANSWER == (await model.sgd.ainvoke("Why?")).content
    report = Report.from_message(message)
    assert [node.answer for node in report.nodes] == ["one and only", "two words"]


async def test_system_prompt_and_history_reach_the_models() -> None:
    on = stage()
    await chat(on).ainvoke([SystemMessage("SYSTEM"), HumanMessage("QUESTION")])
    assert all("SYSTEM" in call.prompt and "QUESTION" in call.prompt for call in on.calls)


async def test_chunks_come_in_document_order_while_later_parts_wait() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2"))})
    on.gated = True
    texts: list[str] = []

    async with aclosing(cast("Any", chat(on).astream("Why?"))) as stream:
        chunks = aiter(stream)
        on.release(PLANNER, "2")
        first = anext(chunks)
        await settle_after(on)
        on.release("1")
        texts.append((await first).text)
        texts += [chunk.text async for chunk in chunks]
    assert "".join(texts) == ANSWER


async def settle_after(on: Stage) -> None:
    """Nothing is awaited here but the models' turns."""
    del on
    await settle(rounds=50)


async def test_closing_the_stream_closes_the_models_streams() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2")), "1": Say(["one "], hang=True)})
    async for chunk in chat(on).astream("Why?"):
        if "one" in chunk.text:
            break
    await settle(lambda: on.in_flight == 0)
    assert on.of("1")[0].outcome in {"closed", "cancelled"}


@main_ways
async def test_errors_come_as_they_are(ask: Callable[..., Any]) -> None:
    refused = Say(error=ValueError("no"))
    on = Stage(default=refused)
    with pytest.raises(NodeDecodeError, match="Plain decoding failed"):
        await ask(chat(on, retries=0))


# -- tracing and counting


def tree(run: Run) -> tuple[str, list[Any]]:
    return run.name, [tree(child) for child in run.child_runs]


@every_way
async def test_the_runs_inside_hang_under_the_models_run(ask: Callable[..., Any]) -> None:
    collector = RunCollectorCallbackHandler()
    await ask(chat(), {"callbacks": [collector]})
    assert [tree(run) for run in collector.traced_runs] == [TREE]
    assert collector.traced_runs[0].run_type == "llm"


@main_ways
async def test_tags_and_metadata_reach_the_runs_inside(ask: Callable[..., Any]) -> None:
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector], "tags": ["mine"], "metadata": {"user": "u1"}}
    await ask(chat().with_config(run_name="writer"), config)
    (run,) = collector.traced_runs
    (engine,) = run.child_runs
    assert (run.name, engine.name) == ("writer", "SGDRunnable")
    for inner in engine.child_runs:
        assert "mine" in (inner.tags or [])
        assert inner.extra["metadata"]["user"] == "u1"


@main_ways
async def test_tokens_are_counted_once(ask: Callable[..., Any]) -> None:
    counter = UsageMetadataCallbackHandler()
    message = await ask(chat(), {"callbacks": [counter]})
    assert message.usage_metadata is None
    assert "model_name" not in message.response_metadata
    counted = sum(usage["output_tokens"] for usage in counter.usage_metadata.values())
    report = Report.from_message(message)
    assert counted == sum(usage.output_tokens for usage in report.usage.values()) == 15


def test_it_says_what_tracers_want_to_know_and_no_secret() -> None:
    model = ChatSGD(large=ChatTGI(base_url=NOWHERE, api_key="SECRET"), stop="END")
    params = model._get_ls_params(stop=None)
    assert (params["ls_provider"], params["ls_model_name"]) == ("sgd", "sgd")
    assert params["ls_stop"] == ["END"]
    assert "SECRET" not in f"{model.asdict()}{model!r}{model._serialized}"


async def test_events_of_version_2_name_the_model_and_its_nodes() -> None:
    events = [event async for event in chat().astream_events("Why?", version="v2")]
    started = [e["name"] for e in events if e["event"].endswith("_start")]
    assert started[:3] == ["ChatSGD", "SGDRunnable", PLANNER]
    assert {"node:1", "node:2"} == {*started[3:]}
    pieces = [
        e["data"]["chunk"].text
        for e in events
        if (e["event"], e["name"]) == ("on_chat_model_stream", "ChatSGD")
    ]
    assert "".join(pieces) == ANSWER


# -- in LangGraph


async def _node_ainvoke(model: ChatSGD, state: MessagesState) -> AIMessage:
    return await model.ainvoke(state["messages"])


async def _node_astream(model: ChatSGD, state: MessagesState) -> AIMessage:
    chunks = [chunk async for chunk in model.astream(state["messages"])]
    return added(chunks)


def graph_of(model: ChatSGD, call: Callable[..., Any]) -> Any:
    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await call(model, state)]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    return graph.compile()


@pytest.mark.parametrize("call", [_node_ainvoke, _node_astream])
@pytest.mark.parametrize("subgraphs", [False, True])
async def test_messages_mode_shows_the_answer_once_and_in_order(
    call: Callable[..., Any], *, subgraphs: bool
) -> None:
    on = stage(
        **{PLANNER: planning(skeleton("1", "2")), "1": Say(["one ", "and only"], each_s=0.002)}
    )
    seen = []
    stream = graph_of(chat(on), call).astream(
        {"messages": [HumanMessage("Why?")]}, stream_mode="messages", subgraphs=subgraphs
    )
    async for item in stream:
        message, metadata = item[1] if subgraphs else item
        assert metadata["langgraph_node"] == "write"
        seen.append(message)
    assert "".join(message.text for message in seen) == ANSWER
    assert len({message.id for message in seen}) == 1
    assert sum(1 for message in seen if message.text) > 2
    assert Report.from_message(added(seen)).status == "complete"


def test_messages_mode_of_a_synchronous_graph() -> None:
    model = chat()

    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    stream = graph.compile().stream({"messages": [HumanMessage("Why?")]}, stream_mode="messages")
    assert "".join(cast("Any", item)[0].text for item in stream) == ANSWER


# -- stop texts


@given(
    st.text("ab\n", max_size=30),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 30), max_size=6),
)
def test_text_passes_up_to_the_first_stop_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)] or [""]
    reader, shown = StopFilter(stops), ""
    for number, piece in enumerate(pieces, 1):
        shown += reader.feed(piece, last=number == len(pieces))
        if reader.found is not None:
            break
    first = min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)
    if first is None:
        assert (shown, reader.found) == (text, None)
    else:
        # A shorter stop text may be seen before one that begins earlier is complete.
        assert reader.found in stops
        assert text.startswith(shown + reader.found)


@every_way
async def test_the_answer_ends_before_the_stop_text(ask: Callable[..., Any]) -> None:
    message = await ask(chat(), stop=["only", "two"])
    assert message.text == "## Heading 1\n\none and "
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["stop_sequence"] == "only"


async def test_a_stop_text_cancels_what_is_still_decoded() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2")), "2": Say(["two "], hang=True)})
    message = await chat(on, stop="and").ainvoke("Why?")
    assert message.text == "## Heading 1\n\none "
    assert on.in_flight == 0
    assert on.of("2")[0].outcome in {"closed", "cancelled"}


async def test_a_stop_text_that_does_not_come_changes_nothing() -> None:
    message = await chat(stop=["nowhere", "words!"]).ainvoke("Why?")
    assert message.text == ANSWER
    assert Report.from_message(message).status == "complete"


# -- tokens


class Counting(ScriptedChat):
    """Counts letters."""

    def get_token_ids(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def test_tokens_are_counted_as_the_large_model_counts() -> None:
    large = Counting(name="large", stage=stage())
    for model in (ChatSGD(large=large), ChatSGD(large=large.bind(top_p=0.5))):
        assert (model.get_num_tokens("hello"), model.get_token_ids("a")) == (5, [97])
        said: list[BaseMessage] = [HumanMessage("hello")]
        assert model.get_num_tokens_from_messages(said) == large.get_num_tokens_from_messages(said)
    assert ChatSGD(large=large, custom_get_token_ids=lambda _: [1]).get_num_tokens("hello") == 1


def test_without_a_tokenizer_tokens_are_estimated_and_nothing_is_loaded() -> None:
    model = chat()
    assert 2 <= model.get_num_tokens("hello there, you") <= 6
    assert 2 <= model.get_num_tokens_from_messages([HumanMessage("hello there, you")]) <= 10
    assert "transformers" not in sys.modules
    with pytest.raises(NotImplementedError, match="ScriptedChat"):
        model.get_token_ids("hello")


def test_tokens_are_counted_as_the_large_model_does_or_estimated() -> None:
    on = stage()

    class Counting(ScriptedChat):
        def get_token_ids(self, text: str) -> list[int]:
            return [0] * len(text.split())

    counting = ChatSGD(large=Counting(name="large", stage=on))
    assert counting.get_num_tokens("one two three") == 3
    given = ChatSGD(large=on.model("large"), custom_get_token_ids=lambda text: [0] * len(text))
    assert given.get_num_tokens("abc") == 3
    estimated = ChatSGD(large=on.model("large"))
    assert 20 <= estimated.get_num_tokens("word " * 20) <= 40
    assert estimated.get_num_tokens_from_messages([HumanMessage("word " * 20)]) >= 20
    assert "transformers" not in sys.modules
