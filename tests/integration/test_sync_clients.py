"""Synchronous calls with clients and savers that belong to an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_sgd import ChatSGD, InvalidInputError, Report, SGDRunnable
from tests.openai_server import OpenAIServer
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

QUESTION = {"question": "Why?", "skeleton": skeleton("1", "2", "3 <- 1,2")}
TEXT = "".join(f"## Heading {n}\n\nsome text\n\n" for n in "123").strip()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """In a loop of its own, for tests that have none."""
    serving = asyncio.new_event_loop()
    thread = threading.Thread(target=serving.run_forever, daemon=True)
    thread.start()
    server = OpenAIServer("vllm")
    asyncio.run_coroutine_threadsafe(server.__aenter__(), serving).result(30)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), serving).result(30)
    serving.call_soon_threadsafe(serving.stop)
    thread.join(30)
    serving.close()


@pytest.fixture
def url(server: OpenAIServer) -> str:
    return server.url


def pooled(url: str) -> SGDRunnable:
    """A runnable whose client keeps its connections for the loop that opened them."""
    model = ChatOpenAI(model="lab/model", base_url=f"{url}/v1", api_key="key", max_retries=0)
    return SGDRunnable(large=model, constrain=False, retries=0)


def test_one_call_after_another(url: str) -> None:
    sgd = pooled(url)
    for _ in range(3):
        assert sgd.invoke(QUESTION).text == TEXT
        assert "".join(chunk.text for chunk in sgd.stream(QUESTION)) == TEXT
    assert [message.text for message in sgd.batch([QUESTION, QUESTION])] == [TEXT, TEXT]
    assert sgd.as_tool().invoke({"question": "Why?"}) == "some text"
    assert ChatSGD(sgd).invoke("Why?").text == "some text"


def test_from_many_threads_at_once(url: str) -> None:
    sgd = pooled(url)
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda _: sgd.invoke(QUESTION), range(24))]
    assert {answer.text for answer in answers} == {TEXT}
    assert {Report.from_message(answer).status for answer in answers} == {"complete"}


def test_between_asynchronous_calls(url: str) -> None:
    sgd = pooled(url)

    async def main() -> None:
        assert (await sgd.ainvoke(QUESTION)).text == TEXT
        for _ in range(2):
            assert (await asyncio.to_thread(sgd.invoke, QUESTION)).text == TEXT
            assert sgd.invoke(QUESTION).text == TEXT  # as a notebook does
            assert (await sgd.ainvoke(QUESTION)).text == TEXT

    for _ in range(2):  # the second loop finds connections of the first
        asyncio.run(main())
    assert sgd.invoke(QUESTION).text == TEXT


async def test_asynchronous_first_and_then_from_threads(url: str) -> None:
    sgd = pooled(url)
    assert (await sgd.ainvoke(QUESTION)).text == TEXT
    for ask in (
        lambda: sgd.invoke(QUESTION).text,
        lambda: "".join(chunk.text for chunk in sgd.stream(QUESTION)),
        lambda: sgd.batch([QUESTION, QUESTION])[1].text,
        lambda: [str(getattr(m, "text", m)) for _, m in sgd.batch_as_completed([QUESTION] * 2)][1],
        lambda: "".join(chunk.text for chunk in sgd.transform(iter([QUESTION]))),
        lambda: TEXT.replace(sgd.as_tool().invoke({"question": "Why?"}), "some text"),
        lambda: TEXT.replace(ChatSGD(sgd).invoke("Why?").text, "some text"),
    ):
        for _ in range(2):
            assert await asyncio.to_thread(ask) == TEXT
            assert (await sgd.ainvoke(QUESTION)).text == TEXT


async def test_many_threads_beside_an_application_s_loop(url: str) -> None:
    first, second = pooled(url), pooled(url)  # langchain-openai has one client for both
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(each.ainvoke(QUESTION)) for each in (first, second) * 4]
        asked += [
            group.create_task(asyncio.to_thread(each.invoke, QUESTION))
            for each in (second, first) * 8
        ]
    answers = [task.result() for task in asked]
    assert {answer.text for answer in answers} == {TEXT}
    assert {Report.from_message(answer).status for answer in answers} == {"complete"}


def test_loops_one_after_another_send_nothing_twice(url: str, server: OpenAIServer) -> None:
    sgd = pooled(url)
    for _ in range(4):
        assert asyncio.run(sgd.ainvoke(QUESTION)).text == TEXT
    assert len(server.bodies) == 4 * 3  # a stale connection would have carried a request, too


async def test_a_thread_s_stream_that_is_closed_early_ends_its_calls(url: str) -> None:
    sgd = pooled(url)
    await sgd.ainvoke(QUESTION)

    def begin() -> None:
        stream = sgd.stream(QUESTION)
        next(stream)
        stream.close()  # type: ignore[attr-defined]

    for _ in range(3):
        await asyncio.to_thread(begin)
        assert (await sgd.ainvoke(QUESTION)).text == TEXT
    for thread in [t for t in threading.enumerate() if t.name == "sgd-call"]:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()


def saved(saver: AsyncSqliteSaver) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    return stage, SGDRunnable(**stage.pair(), checkpointer=saver)


def thread_of(number: int) -> RunnableConfig:
    return {"configurable": {"thread_id": str(number)}}


async def test_a_synchronous_call_runs_on_the_saver_s_loop(tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        _, sgd = saved(saver)
        for number in range(3):
            message = await asyncio.to_thread(sgd.invoke, "Why?", thread_of(number))
            assert Report.from_message(message).status == "complete"
        again = await sgd.ainvoke(None, thread_of(0))
        assert Report.from_message(again).status == "complete"


async def test_a_call_that_would_block_the_saver_s_loop_is_refused(tmp_path: Path) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        stage, sgd = saved(saver)
        with pytest.raises(InvalidInputError, match="would block the event loop"):
            sgd.invoke("Why?", thread_of(1))
        with pytest.raises(InvalidInputError, match="would block the event loop"):
            next(iter(sgd.stream("Why?", thread_of(1))))
        assert stage.calls == []
        # and the saver has come to no harm
        message = await sgd.ainvoke("Why?", thread_of(1))
        assert Report.from_message(message).status == "complete"
