"""Synchronous callers: scripts, notebooks, servers with threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableParallel
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import (
    InvalidInputError,
    NodeDecodeError,
    Plan,
    Report,
    SGDRunnable,
    portal,
)
from langchain_sgd.langgraph import host
from langchain_sgd.portal import iterate_sync, run_sync
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton
from tests.unit.test_chains import stage

QUESTION: dict[str, Any] = {"question": "Why?", "skeleton": skeleton("1", "2 <- 1", "3")}


def still_running() -> int:
    """Tasks that go on, on the process's loop, beside the one that keeps it open.

    All tests of the process share that loop. Streams that an earlier one has left half read are closed there
    when they are collected, which may be now.
    """

    async def left() -> int:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        ended = others
        while len(others) > 1 and ended:
            ended, others = await asyncio.wait(others, timeout=5, return_when="FIRST_COMPLETED")
        return len(others) - 1

    return portal.run_sync(left)


def test_invoke_in_a_script() -> None:
    report = Report.from_message(SGDRunnable(**Stage().pair()).invoke(QUESTION))
    assert report.status == "complete"


async def test_invoke_where_a_loop_is_running() -> None:
    # As in a notebook: the cell's code is synchronous, the kernel's loop runs around it.
    report = Report.from_message(SGDRunnable(**Stage().pair()).invoke(QUESTION))
    assert report.status == "complete"
    assert still_running() == 0


def test_invoke_twice_uses_two_loops_and_a_contended_limit() -> None:
    # An asyncio.Semaphore that had to wait once belongs to that loop for good.
    stage = Stage(default=Say(then_s=0.001))
    sgd = SGDRunnable(**stage.pair(), limits={"small": 1})
    for _ in range(3):
        assert (
            Report.from_message(sgd.invoke(QUESTION, {"max_concurrency": 1})).status == "complete"
        )
    assert stage.peak == 1


def test_invoke_from_several_threads_at_once() -> None:
    sgd = SGDRunnable(**Stage().pair(), limits={"small": 1})
    with ThreadPoolExecutor(4) as pool:
        messages = list(pool.map(lambda _: sgd.invoke(QUESTION), range(8)))
    assert {Report.from_message(message).status for message in messages} == {"complete"}


def test_errors_are_raised_in_the_callers_thread() -> None:
    sgd = SGDRunnable(**Stage({"1": Say(error=ValueError("no"))}).pair(), on_node_error="raise")
    with pytest.raises(NodeDecodeError):
        sgd.invoke(QUESTION)
    with pytest.raises(NodeDecodeError):
        list(sgd.stream(QUESTION))
    with pytest.raises(InvalidInputError):
        sgd.batch(["Why?", ""])


async def test_errors_are_raised_where_a_loop_is_running() -> None:
    sgd = SGDRunnable(**Stage({"1": Say(error=ValueError("no"))}).pair(), on_node_error="raise")
    with pytest.raises(NodeDecodeError):
        sgd.invoke(QUESTION)


def test_batch_in_a_script_and_in_a_notebook() -> None:
    stage = Stage(default=Say(then_s=0.001))
    sgd = SGDRunnable(**stage.pair())
    assert len(sgd.batch([QUESTION, QUESTION], {"max_concurrency": 2})) == 2
    assert stage.peak == 2
    assert sorted(i for i, _ in sgd.batch_as_completed([QUESTION, QUESTION])) == [0, 1]

    async def notebook() -> int:
        return len(sgd.batch([QUESTION, QUESTION]))

    assert asyncio.run(notebook()) == 2


def test_plan_in_a_script() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1"))})
    plan = SGDRunnable(**stage.pair()).plan("Why?")
    assert isinstance(plan, Plan)
    assert plan.skeleton is not None
    assert len(plan.skeleton) == 2
    assert stage.parts() == [PLANNER]


# -- streams


def test_stream_gives_the_text_in_order() -> None:
    chunks = list(SGDRunnable(**Stage().pair()).stream(QUESTION))
    text = "".join(chunk.text for chunk in chunks)
    assert [text.index(f"## Heading {n}") for n in "123"] == sorted(
        text.index(f"## Heading {n}") for n in "123"
    )
    assert chunks[-1].chunk_position == "last"


async def test_stream_where_a_loop_is_running() -> None:
    assert list(SGDRunnable(**Stage().pair()).stream(QUESTION))
    assert still_running() == 0


def test_a_sync_stream_is_live() -> None:
    stage = Stage({"1": Say("live")})
    stage.gated = True
    stage.release("1")
    seen = ""
    stream = SGDRunnable(**stage.pair()).stream(QUESTION)
    while "live" not in seen:
        seen += next(stream).text
    assert {call.part for call in stage.calls if call.outcome == "open"} >= {"3"}
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["close", "break", "error"])
def test_leaving_a_sync_stream_stops_the_models(how: str) -> None:
    stage = Stage({"1": Say("begun", hang=True), "3": Say("begun", hang=True)})
    sgd = SGDRunnable(**stage.pair())
    if how == "close":
        stream = sgd.stream(QUESTION)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    elif how == "break":
        for _ in sgd.stream(QUESTION):
            break
    else:
        with pytest.raises(LookupError):  # noqa: PT012 - the loop body is what raises
            for _ in sgd.stream(QUESTION):
                raise LookupError
    gc.collect()
    assert {call.outcome for call in stage.calls} <= {"cancelled", "closed"}
    assert stage.in_flight == 0
    assert still_running() == 0


def test_a_sync_chain_streams_through() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2")), "1": Say(["live ", "text"])})
    prompt = ChatPromptTemplate([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | SGDRunnable(**stage.pair()) | StrOutputParser()
    pieces = list(chain.stream({"question": "Why?"}))
    assert "".join(pieces).startswith("## Heading 1\n\nlive text\n\n## Heading 2\n\n")
    assert "Be brief." in stage.of("2")[0].prompt


def test_transform_reads_its_input_only_when_it_is_read() -> None:
    read = []

    def questions() -> Any:
        read.append(1)
        yield "Why?"

    stream = SGDRunnable(**Stage().pair()).transform(questions())
    assert read == []
    list(stream)
    assert read == [1]


def test_a_sync_run_is_traced_as_one_tree() -> None:
    collector = RunCollectorCallbackHandler()
    config: RunnableConfig = {"callbacks": [collector]}
    chain = SGDRunnable(**Stage().pair()) | StrOutputParser()
    chain.invoke(QUESTION, config)
    list(chain.stream(QUESTION, config))
    assert [run.name for run in collector.traced_runs] == ["RunnableSequence", "RunnableSequence"]
    for root in collector.traced_runs:
        inside = next(run for run in root.child_runs if run.name == "SGDRunnable")
        assert {run.name for run in inside.child_runs} == {"node:1", "node:2", "node:3"}


@pytest.mark.parametrize("running", [False, True])
def test_an_interrupted_wait_stops_the_models(*, running: bool) -> None:
    """Ctrl-C in a script; a notebook's stop button, where the kernel's own handler raises."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    stopped = []

    async def hang(_: Any) -> Any:
        while sys._current_frames()[main_thread].f_code is not portal._next.__code__:  # noqa: ASYNC110
            await asyncio.sleep(0)  # until the caller waits
        signal.pthread_kill(main_thread, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(1)
        yield "never"

    sgd = SGDRunnable(large=RunnableGenerator(hang), mode="never")

    async def notebook() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sgd.invoke("Why?")

    # As in a shell's foreground job, however this process was started.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(notebook()) if running else sgd.invoke("Why?")
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped == [1]
    assert still_running() == 0


# -- the bridge itself


def test_the_bridge_keeps_context_variables() -> None:
    variable = ContextVar("variable", default="unset")
    variable.set("set")

    async def read() -> str:
        return variable.get()

    async def items() -> Any:
        yield variable.get()

    async def notebook() -> tuple[str, list[str]]:
        return run_sync(read), list(iterate_sync(items))

    assert run_sync(read) == "set"
    assert asyncio.run(notebook()) == ("set", ["set"])


def test_the_bridge_ends_with_its_generators_error() -> None:
    async def items() -> Any:
        yield 1
        raise LookupError

    seen = []
    with pytest.raises(LookupError):  # noqa: PT012 - what came before the error counts
        for item in iterate_sync(items):
            seen.append(item)  # noqa: PERF402
    assert seen == [1]


def test_the_bridge_waits_for_the_generators_cleanup() -> None:
    cleaned = []

    async def items() -> Any:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    stream = iterate_sync(items)
    assert next(stream) == 1
    stream.close()  # type: ignore[attr-defined]
    assert cleaned == [1]


def test_the_bridge_s_loop_closes_a_forgotten_iterator_without_waiting_for_itself() -> None:
    stopped = threading.Event()

    async def items() -> Any:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            stopped.set()

    stream = iterate_sync(items)
    assert next(stream) == 1

    async def collect() -> None:  # as the garbage collector does, on whatever thread it runs
        stream.close()  # type: ignore[attr-defined]

    run_sync(collect)
    assert stopped.wait(20)


def test_a_loop_that_ends_before_the_call_is_an_error() -> None:
    begun, loops = threading.Event(), []

    async def other() -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.to_thread(begun.wait, 20)

    async def items() -> Any:
        yield 1
        begun.set()
        await asyncio.Event().wait()

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    while not loops:
        threading.Event().wait(0.001)
    with pytest.raises(RuntimeError, match="has ended before the call"):
        list(iterate_sync(items, on=loops[0]))
    thread.join(20)


def test_calls_inside_calls_share_one_more_thread() -> None:
    def inner() -> str:
        return run_sync(name)

    async def name() -> str:
        return threading.current_thread().name

    async def outer() -> str:
        return inner()

    run_sync(outer)
    before = threading.active_count()
    for _ in range(5):
        run_sync(outer)
    assert threading.active_count() == before


async def test_a_call_does_not_wait_for_the_loop_that_its_caller_blocks() -> None:
    # As a notebook does: one cell awaits, the next one is synchronous and asks in threads.
    stage = Stage()
    sgd = SGDRunnable(**stage.pair())
    await sgd.ainvoke(QUESTION)
    both = RunnableParallel(a=sgd, b=sgd).invoke(QUESTION)
    assert both["a"].text == both["b"].text


async def test_a_saver_s_loop_that_others_block_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = asyncio.get_running_loop()
    assert await asyncio.to_thread(portal.answers, here, 20)
    monkeypatch.setattr(host, "answers", functools.partial(portal.answers, within_s=0.01))

    class OnItsLoop(InMemorySaver):
        loop = here

    stage = Stage()
    sgd = SGDRunnable(**stage.pair(), checkpointer=OnItsLoop())
    with ThreadPoolExecutor(1) as pool:  # this thread, whose loop it is, waits for the call
        asked = pool.submit(sgd.invoke, QUESTION, {"configurable": {"thread_id": "1"}})
        with pytest.raises(InvalidInputError, match="would block the event loop"):
            asked.result(20)
    assert stage.calls == []


async def test_what_a_subclass_overrides_answers_synchronous_calls_and_streams_too() -> None:
    calls: list[str] = []

    class Noted(SGDRunnable):
        async def ainvoke(self, input: Any, config: Any = None, **options: Any) -> AIMessage:
            calls.append("ainvoke")
            return await super().ainvoke(input, config, **options)

        def atransform(self, input: Any, config: Any = None, **options: Any) -> Any:
            calls.append("atransform")
            return super().atransform(input, config, **options)

    sgd = Noted(**stage().pair())
    await asyncio.to_thread(sgd.invoke, "Why?")
    _ = [chunk async for chunk in sgd.astream("Why?")]
    await asyncio.to_thread(lambda: [*sgd.stream("Why?")])
    assert calls == ["ainvoke", "atransform", "atransform"]
