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
def url() -> Iterator[str]:
    """Of a server in a loop of its own, for tests that have none."""
    serving = asyncio.new_event_loop()
    thread = threading.Thread(target=serving.run_forever, daemon=True)
    thread.start()
    server = OpenAIServer("vllm")
    asyncio.run_coroutine_threadsafe(server.__aenter__(), serving).result(30)
    yield server.url
    asyncio.run_coroutine_threadsafe(server.__aexit__(), serving).result(30)
    serving.call_soon_threadsafe(serving.stop)
    thread.join(30)
    serving.close()


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
