"""What `ChatSGD` does not split: calls with tools, answers in a schema's form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
)
from langchain_core.runnables import Runnable, RunnableBinding, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_sgd import ChatSGD, InvalidInputError, SGDRunnable
from langchain_sgd.models.endpoint import ChatEndpoint
from langchain_sgd.tgi import ChatTGI, TGIEndpoint
from tests.support.chats import (
    ANSWER,
    NOWHERE,
    Counter,
    chat,
    stage,
)
from tests.support.models import PLANNER, Say, ScriptedChat, Stage, planning
from tests.support.skeletons import skeleton

# LangChain says so of its own `astream_events(version="v3")`.
pytestmark = pytest.mark.filterwarnings("ignore:.*stream_v3. is in beta")


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


def test_what_takes_no_tools_is_named() -> None:
    model = ChatSGD(large=RunnableLambda(lambda _: "text"))
    with pytest.raises(InvalidInputError, match=r"largest tier.* RunnableLambda"):
        model.bind_tools([Trip])
    with pytest.raises(InvalidInputError, match=r"largest tier.* RunnableLambda"):
        model.with_structured_output(Trip)


class AsLangChain(ScriptedChat):
    """Fails on what is no schema as LangChain's own conversion does."""

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Runnable[Any, Any]:
        del kwargs
        msg = f"{schema} has no attribute '__fields__'"
        raise AttributeError(msg)


NO_SCHEMAS = [list[Trip], Trip | None, [Trip], tuple[Trip, ...], dict[str, Trip], list, str, Any]


@pytest.mark.parametrize("schema", NO_SCHEMAS, ids=str)
@pytest.mark.parametrize(
    "model",
    [
        ChatTGI(base_url="http://127.0.0.1:1"),
        ChatEndpoint(url="http://127.0.0.1:1"),
        ChatSGD(large=ChatTGI(base_url="http://127.0.0.1:1")),
        ChatSGD(large=AsLangChain(name="large", stage=stage())),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_is_no_schema_is_told_in_words(model: Any, schema: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"is no schema.*items: list\[Item\]"):
        model.with_structured_output(schema)


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


async def test_no_form_is_filled_while_the_skeleton_awaits_approval() -> None:
    on = stage()
    large = Structuring(name="large", stage=on)
    sgd = SGDRunnable(large=large, approve=True, checkpointer=InMemorySaver())
    fused = ChatSGD(sgd).with_structured_output(Trip, fuse=True)
    with pytest.raises(InvalidInputError, match="awaits approval"):
        await fused.ainvoke("Where to?", {"configurable": {"thread_id": "t"}})


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


@pytest.mark.parametrize("face", [ChatSGD, SGDRunnable])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("temperature", r"\.bind\(temperature=...\)"),
        ("max_tokens", r"\.bind\(max_tokens=...\).*length="),
        ("timeout", "node_timeout_s"),
        ("max_retries", "set retries"),
        ("model", "large="),
        ("api_key", r"ChatOpenAI\(..., api_key=...\)"),
    ],
)
def test_what_chat_models_are_made_with_is_refused_with_its_place(
    face: Any, name: str, remedy: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} is no option here: .*{remedy}"):
        face(**stage().pair(), **{name: 1})
