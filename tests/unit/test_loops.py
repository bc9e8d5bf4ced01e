"""Chat models whose asynchronous client lives on one event loop, called on others."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableConfig, RunnableLambda
from pydantic import PrivateAttr

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.decoding import loops
from langchain_sgd.decoding.loops import disown, for_this_loop
from langchain_sgd.threaded import InThread
from tests.support.models import Stage
from tests.support.skeletons import skeleton

QUESTION: dict[str, Any] = {"question": "Why?", "skeleton": skeleton("1", "2", "3 <- 1")}
ASKED: ContextVar[str] = ContextVar("asked", default="")


class Pool:
    """As an HTTP client: it belongs to the loop of its first call."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    async def aclose(self) -> None:
        """As every client has it."""

    def take(self) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            msg = "<asyncio.locks.Event object> is bound to a different event loop"
            raise RuntimeError(msg)


class BothWays(BaseChatModel):
    """Has a client of each kind, as providers' models have."""

    async_client: Any = None
    topic: str = "text"
    _ways: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "both-ways"

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.async_client.take()
        self._ways.append("async")
        for word in ("some ", self.topic):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        self.async_client.take()
        self._ways.append("async")
        return self._result()

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        self._ways.append(f"thread{ASKED.get()}")
        for word in ("some ", self.topic):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        self._ways.append("thread")
        return self._result()

    def _result(self) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("some text"))])


def both_ways() -> BothWays:
    return BothWays(async_client=Pool())


WRAPPED = {
    "itself": lambda m: m,
    "bind": lambda m: m.bind(stop=["x"]),
    "with_config": lambda m: m.with_config(tags=["x"]),
    "with_retry": lambda m: m.with_retry(stop_after_attempt=1),
    "with_fallbacks": lambda m: m.with_fallbacks([both_ways()]),
    "fields": lambda m: m.configurable_fields(topic=ConfigurableField(id="topic")),
    "alternatives": lambda m: m.configurable_alternatives(
        ConfigurableField(id="which"), default_key="this", other=both_ways()
    ),
    "sequence": lambda m: ChatPromptTemplate([("placeholder", "{messages}")]) | m,
    "all": lambda m: m.bind(stop=["x"]).with_retry().with_fallbacks([both_ways()]),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
async def test_another_loop_uses_the_synchronous_client(wrapped: str) -> None:
    model = both_ways()
    tier = WRAPPED[wrapped](model)
    if wrapped == "sequence":
        tier = RunnableLambda(lambda messages: {"messages": messages}) | tier
    sgd = SGDRunnable(large=tier, constrain=False, retries=0)
    for _ in range(2):
        for message in (await sgd.ainvoke(QUESTION), await asyncio.to_thread(sgd.invoke, QUESTION)):
            assert Report.from_message(message).status == "complete"
            assert message.text.count("some text") == 3


async def test_the_first_loop_keeps_its_own_way() -> None:
    model = both_ways()
    sgd = SGDRunnable(large=model, constrain=False)
    await sgd.ainvoke(QUESTION)
    assert model._ways == ["async"] * 3
    await asyncio.to_thread(sgd.invoke, QUESTION)
    assert model._ways == ["async"] * 3 + ["thread"] * 3
    await sgd.ainvoke(QUESTION)
    assert model._ways[6:] == ["async"] * 3


def test_one_loop_after_another() -> None:
    sgd = SGDRunnable(large=both_ways(), constrain=False, retries=0)
    for _ in range(3):
        assert Report.from_message(asyncio.run(sgd.ainvoke(QUESTION))).status == "complete"
    assert Report.from_message(sgd.invoke(QUESTION)).status == "complete"


class OnlyAsync(BothWays):
    """Its synchronous methods are there because the base class wants them, or to say so."""

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        raise NotImplementedError

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError


class Plainly(BothWays):
    """Takes what every caller gives, and no more."""

    _calls: int = PrivateAttr(default=0)

    def _stream(  # type: ignore[override]  # as many models have it
        self, messages: Any, stop: Any = None, **options: Any
    ) -> Iterator[ChatGenerationChunk]:
        del messages, stop
        assert "run_manager" not in options
        self._calls += 1
        yield ChatGenerationChunk(message=AIMessageChunk(content="some text"))


class Open(Pool):
    """Takes calls from every loop."""

    def take(self) -> None:
        return


class Nothing:
    """A client that nobody would know as one."""

    def take(self) -> None:
        return


@pytest.mark.parametrize("client", [Open(), Nothing()])
def test_a_model_without_a_synchronous_way_is_called_as_ever(client: Any) -> None:
    sgd = SGDRunnable(large=OnlyAsync(async_client=client), constrain=False, retries=0)
    for _ in range(2):
        assert Report.from_message(asyncio.run(sgd.ainvoke(QUESTION))).status == "complete"


def test_nor_is_one_for_a_whole_answer() -> None:
    model = OnlyAsync(async_client=Open())

    async def call() -> str:
        return str((await for_this_loop(model).ainvoke("Why?")).text)

    assert [asyncio.run(call()) for _ in range(2)] == ["some text"] * 2


def test_in_threads_a_model_keeps_its_state() -> None:
    model = Plainly(async_client=Pool())
    sgd = SGDRunnable(large=model, constrain=False, retries=0)
    asyncio.run(sgd.ainvoke(QUESTION))
    for _ in range(2):
        assert Report.from_message(sgd.invoke(QUESTION)).status == "complete"
    assert model._calls == 6


def test_what_is_bound_to_a_configurable_model_stays_on_other_loops() -> None:
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - not for the other tests

    model = init_chat_model(
        "gpt-6-luna", model_provider="openai", api_key="x", configurable_fields=("temperature",)
    )
    bound = model.bind(stop=["END"]).with_config(tags=["mine"])

    async def found() -> Any:
        return for_this_loop(bound, {})

    assert asyncio.run(found()) is bound
    other = asyncio.run(found())
    assert other is not bound
    assert other.kwargs["stop"] == ["END"]
    assert other.config["tags"] == ["mine"]


async def test_models_that_share_a_client_have_one_owner() -> None:
    first, second = both_ways(), both_ways()
    second.async_client = first.async_client
    await SGDRunnable(large=first).ainvoke(QUESTION)
    await asyncio.to_thread(SGDRunnable(large=second, retries=0).invoke, QUESTION)
    assert set(second._ways) == {"thread"}


async def test_a_client_that_others_use_elsewhere_is_left_to_them() -> None:
    model = both_ways()
    await model.ainvoke("Why?")  # without us
    sgd = SGDRunnable(large=model, constrain=False, retries=0)
    message = await asyncio.to_thread(sgd.invoke, QUESTION)
    assert Report.from_message(message).status == "complete"
    assert set(model._ways[1:]) == {"thread"}


async def test_models_with_one_way_are_called_as_ever() -> None:
    stage = Stage()
    model = stage.model("large")
    assert for_this_loop(model) is model
    assert await asyncio.to_thread(lambda: asyncio.run(_chosen(model))) is model


async def _chosen(model: Any, config: RunnableConfig | None = None) -> Any:
    return for_this_loop(model, config)


async def test_a_class_in_threads_looks_the_same_to_traces() -> None:
    model = both_ways()
    disown(model)
    other = for_this_loop(model)
    assert type(other) is not type(model)
    assert isinstance(other, BothWays)
    assert type(other).__name__ == "BothWays"
    assert other._get_ls_params() == model._get_ls_params()
    assert other.lc_id() == model.lc_id()
    assert type(for_this_loop(model)) is type(other)  # made once
    assert (await other.ainvoke("Why?")).text == "some text"
    assert model._ways == ["thread"]


async def test_callbacks_stay_on_the_loop_and_the_context_goes_along() -> None:
    here, seen = asyncio.get_running_loop(), []

    class Handler(AsyncCallbackHandler):
        async def on_llm_end(self, *_: Any, **__: Any) -> None:
            seen.append(asyncio.get_running_loop() is here)

    model = both_ways()
    disown(model)
    ASKED.set(" asked")
    config: RunnableConfig = {"callbacks": [Handler()]}
    assert [c.text async for c in for_this_loop(model).astream("Why?", config)][:2] == [
        "some ",
        "text",
    ]
    assert seen == [True]
    assert model._ways == ["thread asked"]


def test_owners_are_forgotten_with_their_clients() -> None:
    gc.collect()
    before = len(loops._owners)
    model: BothWays | None = both_ways()
    for _ in range(3):
        asyncio.run(_chosen(model))
    assert len(loops._owners) == before + 1
    model = None
    gc.collect()
    assert len(loops._owners) == before


async def test_leaving_a_thread_s_stream_waits_for_nothing_and_closes_it() -> None:
    go, closed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            go.wait(20)
            yield 2
            yield 3
        finally:
            closed.set()

    async with aclosing(InThread(items)) as stream:
        assert await anext(stream) == 1
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not closed.is_set()
    go.set()
    assert await asyncio.to_thread(closed.wait, 20)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize("raised", [LookupError("no"), StopIteration()])
async def test_a_thread_s_error_is_raised_where_it_is_awaited(raised: Exception) -> None:
    class Items:
        def __iter__(self) -> Iterator[int]:
            raise raised

    with pytest.raises(LookupError if isinstance(raised, LookupError) else RuntimeError):
        await anext(InThread(lambda: iter(Items())))


def test_a_thread_whose_loop_has_ended_reads_no_more() -> None:
    go, closed, read = threading.Event(), threading.Event(), []

    def items() -> Iterator[int]:
        try:
            for n in range(9):
                if n:
                    go.wait(20)
                read.append(n)
                yield n
        finally:
            closed.set()

    async def main() -> None:
        stream = InThread(items)
        await anext(stream)

    asyncio.run(main())
    go.set()
    assert closed.wait(20)
    assert read == [0, 1]
