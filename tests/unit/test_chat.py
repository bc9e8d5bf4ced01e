"""`ChatSGD`: a chat model in every way that LangChain and LangGraph use one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, ValidationError

from langchain_sgd import ChatSGD, InvalidInputError, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.stops import StopFilter
from langchain_sgd.tgi import ChatTGI, TGIEndpoint
from tests.support.models import PLANNER, Say, ScriptedChat, Stage, others, planning, settle
from tests.support.skeletons import skeleton

# LangChain says so of its own `astream_events(version="v3")`.
pytestmark = pytest.mark.filterwarnings("ignore:.*stream_v3. is in beta")

NOWHERE = "http://127.0.0.1:9"
TREE: Any = (
    "ChatSGD",
    [("SGDRunnable", [(PLANNER, []), ("node:1", []), ("node:2", [])])],
)


def stage(**lines: Say) -> Stage:
    """Two nodes, the second after the first."""
    spent = {
        PLANNER: planning(skeleton("1", "2 <- 1"), usage=(100, 10)),
        "1": Say(["one ", "and ", "only"], usage=(20, 3)),
        "2": Say(["two ", "words"], usage=(30, 2)),
    }
    return Stage({**spent, **lines})


def chat(on: Stage | None = None, **options: Any) -> ChatSGD:
    models: dict[str, Any] = {**(on or stage()).pair()}
    return ChatSGD(**models, **options)


ANSWER = "## Heading 1\n\none and only\n\n## Heading 2\n\ntwo words"


async def _ainvoke(
    model: Runnable[Any, AIMessage], config: Any = None, **options: Any
) -> AIMessage:
    return await model.ainvoke("Why?", config, **options)


async def _astream(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    chunks = [chunk async for chunk in model.astream("Why?", config, **options)]
    return added(chunks)


async def _invoke(model: Runnable[Any, AIMessage], config: Any = None, **options: Any) -> AIMessage:
    return model.invoke("Why?", config, **options)


async def _stream(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    return added(list(model.stream("Why?", config, **options)))


async def _events(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    stream = await cast("ChatSGD", model).astream_events("Why?", config, version="v3", **options)
    message = cast("AIMessage", await stream.output)
    if unfinished := others():  # LangChain ends the run after it gave the message
        await asyncio.wait(unfinished, timeout=10)
    return message


async def _events_sync(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    stream = cast("ChatSGD", model).stream_events("Why?", config, version="v3", **options)
    return cast("AIMessage", stream.output)


async def _generate(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    callbacks = (config or {}).get("callbacks")
    result = await cast("ChatSGD", model).agenerate(
        [[HumanMessage("Why?")]], callbacks=callbacks, **options
    )
    return cast("AIMessage", result.generations[0][0].message)  # type: ignore[union-attr]


def added(chunks: list[Any]) -> AIMessage:
    return cast("AIMessage", chunks[0] + chunks[1:])


WAYS = [_ainvoke, _astream, _invoke, _stream]
ALL_WAYS = [*WAYS, _events, _events_sync, _generate]
every_way = pytest.mark.parametrize("ask", ALL_WAYS)
main_ways = pytest.mark.parametrize("ask", WAYS)


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


# -- limits


def slowly(*parts: str) -> Stage:
    """Each part takes a second."""
    lines = {part: Say(f"text of {part}", each_s=1) for part in parts}
    return stage(**{PLANNER: planning(skeleton(*parts)), **lines})


def test_max_concurrency_bounds_the_calls_of_one_answer() -> None:
    for bound, peak in [(2, 2), (None, 4)]:
        on = slowly("1", "2", "3", "4")
        config: RunnableConfig = {"max_concurrency": bound} if bound else {}
        run_virtual(chat(on).ainvoke("Why?", config))
        assert on.peak == peak


def test_max_concurrency_bounds_the_calls_of_a_batch() -> None:
    on = slowly("1", "2", "3", "4")
    run_virtual(chat(on).abatch(["A?", "B?", "C?"], {"max_concurrency": 3}))
    assert on.peak == 3
    assert len(on.calls) == 15


def test_a_synchronous_batch_has_one_limit_too() -> None:
    on = slowly("1", "2")
    # One loop for all of the batch, hence one limit: a thread for each would have its own.
    loops = set()

    def accept(*_: Any) -> bool:
        loops.add(id(asyncio.get_running_loop()))
        return True

    model = chat(on, accept=accept)
    on.lines |= {"1": Say("one"), "2": Say("two")}
    assert len(model.batch(["A?", "B?", "C?"], {"max_concurrency": 3})) == 3
    assert len(loops) == 1


class Counter(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        del blocking
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@main_ways
async def test_the_rate_limiter_is_asked_once_an_answer(ask: Callable[..., Any]) -> None:
    limiter = Counter()
    await ask(chat(rate_limiter=limiter))
    assert limiter.acquired == 1


# -- the cache


@pytest.mark.parametrize("again", WAYS)
@main_ways
async def test_an_answer_is_cached_whichever_way_it_was_asked_for(
    ask: Callable[..., Any], again: Callable[..., Any]
) -> None:
    on, limiter = stage(), Counter()
    model = chat(on, cache=InMemoryCache(), rate_limiter=limiter)
    first = await ask(model)
    second = await again(model)
    assert len(on.calls) == 3
    assert limiter.acquired == 1
    assert first.text == second.text == ANSWER
    assert Report.from_message(second) == Report.from_message(first)


@pytest.fixture
def global_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("global_cache")
async def test_the_global_cache_is_used_unless_it_is_refused() -> None:
    on = stage()
    for _ in range(2):
        await _astream(chat(on, cache=False))
    assert len(on.of(PLANNER)) == 2
    fresh = stage()
    for model in (chat(fresh), chat(fresh)):
        await _astream(model)
    # The models inside look into the cache, too, for calls that they are asked to `invoke`: here none.
    assert len(fresh.of(PLANNER)) == 1


async def test_a_stream_that_was_left_is_not_cached() -> None:
    on = stage()
    model = chat(on, cache=InMemoryCache())
    async for _ in model.astream("Why?"):
        break
    await settle(lambda: on.in_flight == 0)
    assert (await model.ainvoke("Why?")).text == ANSWER


@main_ways
async def test_an_answer_with_gaps_is_not_cached(ask: Callable[..., Any]) -> None:
    on = stage(**{"2": Say([], error=ValueError("no"))})
    model = chat(on, cache=InMemoryCache(), retries=0)
    assert Report.from_message(await ask(model)).status == "partial"
    on.lines["2"] = Say("two words")
    assert (await ask(model)).text == ANSWER


async def test_a_cached_answer_serves_equal_models_only() -> None:
    cache = InMemoryCache()
    plans: dict[str, tuple[dict[str, Any], int]] = {
        "as it is": ({}, 1),
        "the same": ({}, 1),
        "another threshold": ({"threshold": 5}, 2),
        "another end": ({"stop": "two"}, 3),
        "a limit changes no answer": ({"limits": {"large": 1}}, 3),
        "a function is equal to none": ({"router": lambda _: "small"}, 4),
        "even if it looks the same": ({"router": lambda _: "small"}, 5),
    }
    on = stage()
    for options, planned in plans.values():
        await _ainvoke(chat(on, cache=cache, **options))
        assert len(on.of(PLANNER)) == planned


def test_equal_models_have_equal_fingerprints() -> None:
    def fingerprint(**options: Any) -> str:
        model = ChatSGD(**{"small": NOWHERE, "large": NOWHERE, **options})
        return cast("str", model.asdict()["sgd_fingerprint"])

    bound = ChatTGI(base_url=NOWHERE).bind(temperature=0.5)
    other = ChatTGI(base_url=NOWHERE).bind(temperature=0.6)
    assert fingerprint() == fingerprint()
    assert fingerprint(large=bound) == fingerprint(large=bound)
    different = [
        fingerprint(),
        fingerprint(large=bound),
        fingerprint(large=other),
        fingerprint(large="http://127.0.0.1:10"),
        fingerprint(headings=False),
        fingerprint(large=RunnableLambda(lambda _: "a")),
        fingerprint(large=RunnableLambda(lambda _: "a")),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_hints": False},
        {"limits": {"small": 3}},
        {"prices": {"small": (1, 2), "large": (3, 4)}},
        {"plan_cache": True},
        {"name": "mine"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_what_changes_no_answer_leaves_it_in_the_cache(options: dict[str, Any]) -> None:
    on, cache = stage(), InMemoryCache()
    for given_options in ({}, options):
        assert (await _ainvoke(chat(on, cache=cache, **given_options))).text == ANSWER
    assert len(on.of(PLANNER)) == 1


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


# -- what is not split


class Trip(BaseModel):
    """A trip."""

    place: str


def test_tools_go_to_the_large_model() -> None:
    limiter, cache = Counter(), InMemoryCache()
    large_url = TGIEndpoint("http://127.0.0.1:10")
    model = ChatSGD(small=NOWHERE, large=large_url, rate_limiter=limiter, cache=cache)
    bound = model.bind_tools([Trip], tool_choice="any")
    assert isinstance(bound, RunnableBinding)
    large = cast("ChatTGI", bound.bound)
    assert (type(large), large.base_url) == (ChatTGI, "http://127.0.0.1:10")
    assert (large.rate_limiter, large.cache) == (limiter, cache)
    assert bound.kwargs["tool_choice"] == "required"
    assert large_url.url.endswith(":10")


def test_a_large_model_keeps_its_own_cache_and_limiter() -> None:
    own = Counter()
    large = ChatTGI(base_url=NOWHERE, rate_limiter=own, cache=False)
    model = ChatSGD(large=large, rate_limiter=Counter(), cache=InMemoryCache())
    bound = cast("Any", model.bind_tools([Trip])).bound
    assert (bound.rate_limiter, bound.cache) == (own, False)


async def test_what_is_set_for_the_chat_model_reaches_calls_with_tools() -> None:
    on = stage()
    seen: list[tuple[list[str], dict[str, Any]]] = []

    class Watching(AsyncCallbackHandler):
        async def on_chat_model_start(self, *_: Any, **given: Any) -> None:
            seen.append((given["tags"], given["metadata"]))

    class Tooled(ScriptedChat):
        def bind_tools(self, *_: Any, **__: Any) -> Runnable[Any, Any]:
            return self.bind()

    model = ChatSGD(
        large=Tooled(name="large", stage=on, tags=["own"]),
        callbacks=[Watching()],
        tags=["prod"],
        metadata={"team": "docs"},
    )
    await model.bind_tools([Trip]).ainvoke("Where to?")
    [(tags, metadata)] = seen
    assert {"own", "prod"} <= {*tags}
    assert metadata["team"] == "docs"
    assert model.sgd.largest.model.tags == ["own"]  # type: ignore[attr-defined]


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


def test_what_takes_no_tools_is_named() -> None:
    model = ChatSGD(large=RunnableLambda(lambda _: "text"))
    with pytest.raises(InvalidInputError, match=r"largest tier.* RunnableLambda"):
        model.bind_tools([Trip])
    with pytest.raises(InvalidInputError, match=r"largest tier.* RunnableLambda"):
        model.with_structured_output(Trip)


class Structuring(ScriptedChat):
    """Gives the prompt back as the place of the trip."""

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Runnable[Any, Any]:
        del kwargs

        def fill(messages: list[Any]) -> Any:
            return schema(place="\n".join(f"{m.type}: {m.text}" for m in messages))

        return RunnableLambda(lambda prompt: fill(self._convert_input(prompt).to_messages()))


@pytest.mark.parametrize("sync", [False, True])
async def test_a_fused_answer_is_decoded_first_and_then_put_into_form(*, sync: bool) -> None:
    on = stage()
    model = ChatSGD(
        small=on.model("small"),
        large=Structuring(name="large", stage=on),
        least_share=0,
    )
    at_once = model.with_structured_output(Trip)
    assert cast("Trip", await at_once.ainvoke("Where to?")).place == "human: Where to?"
    assert on.calls == []

    fused = model.with_structured_output(Trip, fuse=True)
    trip = fused.invoke("Where to?") if sync else await fused.ainvoke("Where to?")
    form = model.sgd.prompts.fuse
    assert cast("Trip", trip).place == f"human: Where to?\nai: {ANSWER}\nhuman: {form}"
    assert len(on.calls) == 3


async def test_an_answer_that_nobody_sees_has_no_opening() -> None:
    on = Stage({PLANNER: planning(skeleton("1", "2")), "1": Say("one"), "2": Say("two")})
    large = Structuring(name="large", stage=on)
    model = ChatSGD(small=on.model("small"), large=large, least_share=0)
    assert model.sgd.opening
    await model.with_structured_output(Trip, fuse=True).ainvoke("Where to?")
    assert sorted(on.parts()) == ["1", "2", PLANNER]


async def test_the_answer_behind_a_fused_one_does_not_show_in_the_chat() -> None:
    on = stage()
    model = ChatSGD(small=on.model("small"), large=Structuring(name="large", stage=on))
    fused = model.with_structured_output(Trip, fuse=True)

    async def write(state: MessagesState) -> dict[str, Any]:
        trip = cast("Trip", await fused.ainvoke(state["messages"]))
        return {"messages": [AIMessage(trip.place)]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    stream: AsyncIterator[Any] = graph.compile().astream(
        {"messages": [HumanMessage("Where to?")]}, stream_mode="messages"
    )
    assert [type(message) async for message, _ in stream] == [AIMessage]


def test_the_large_models_profile_is_ours() -> None:
    large = FakeListChatModel(responses=["a"], profile={"max_input_tokens": 4096})
    assert ChatSGD(large=large).profile == {"max_input_tokens": 4096}


async def test_chunks_are_chunks() -> None:
    chunks = [chunk async for chunk in chat().astream("Why?")]
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert [chunk.chunk_position for chunk in chunks][-1] == "last"


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
