"""Runs that are left: whoever cancels, and however, no model call goes on and none starts."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import ChatSGD, NodeDecodeError, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLAIN, PLANNER, Say, Stage, others, planning, settle
from tests.support.skeletons import skeleton

PLANNED = skeleton("1", "2!", "3", "4 <- 1")


def long_winded(**options: Any) -> tuple[Stage, SGDRunnable]:
    """A run of many words, a second each."""
    stage = Stage({PLANNER: planning(PLANNED, each_s=1)}, default=Say(["w "] * 60, each_s=1))
    return stage, SGDRunnable(**stage.pair(), **options)


def nothing_goes_on(stage: Stage, asked: int) -> None:
    assert len(stage.calls) == asked
    assert stage.in_flight == 0
    assert {call.outcome for call in stage.calls} <= {"done", "cancelled", "closed", "failed"}
    assert others() == set()


@pytest.mark.parametrize("after_s", [0.5, 1.5, 2.0, 3.5, 10.5, 40.0])
@pytest.mark.parametrize("saved", [False, True], ids=["unsaved", "saved"])
def test_a_scope_that_cancels_again_and_again(after_s: float, saved: bool) -> None:  # noqa: FBT001
    """AnyIO's scopes, which stand behind many web frameworks, cancel whatever a task waits for."""
    stage, sgd = long_winded(checkpointer=InMemorySaver() if saved else None)

    async def main() -> None:
        with anyio.move_on_after(after_s):
            await sgd.ainvoke("Why?", {"configurable": {"thread_id": "1"}})
        asked = len(stage.calls)
        await asyncio.sleep(300)
        nothing_goes_on(stage, asked)

    run_virtual(main())


@pytest.mark.parametrize("opening", [False, True])
@pytest.mark.parametrize("saved", [False, True], ids=["unsaved", "saved"])
def test_a_cancellation_at_any_turn_of_the_loop(saved: bool, opening: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        turns = 0
        while True:
            turns += 1
            stage = Stage({PLANNER: planning(PLANNED)}, default=Say(["w "] * 3))
            sgd = SGDRunnable(
                **{**stage.pair(), "opening": opening},
                checkpointer=InMemorySaver() if saved else None,
            )
            run = asyncio.ensure_future(sgd.ainvoke("Why?", {"configurable": {"thread_id": "1"}}))
            for _ in range(turns):
                await asyncio.sleep(0)
            if run.done():
                assert turns > 20
                return
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            asked = len(stage.calls)
            await asyncio.sleep(5)
            nothing_goes_on(stage, asked)

    run_virtual(main())


def test_questions_that_are_left_unread_are_not_answered() -> None:
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: [Say("quick"), Say(["w "] * 60, each_s=1)]})
    sgd = SGDRunnable(**stage.pair())

    async def main() -> None:
        answers = sgd.abatch_as_completed(["A?", "B?", "C?"])
        async for _, answer in answers:
            assert getattr(answer, "text", None) == "quick"
            break
        await answers.aclose()
        asked = len(stage.calls)
        await asyncio.sleep(100)
        nothing_goes_on(stage, asked)

    run_virtual(main())


def test_a_batch_that_raises_ends_its_other_questions() -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: [no, Say(["w "] * 60, each_s=1)]})
    sgd = SGDRunnable(**stage.pair())

    async def main() -> None:
        with pytest.raises(NodeDecodeError):
            await sgd.abatch(["A?", "B?", "C?"])
        asked = len(stage.calls)
        await asyncio.sleep(100)
        nothing_goes_on(stage, asked)

    run_virtual(main())


Made = Callable[[SGDRunnable], Any]


@pytest.mark.parametrize("saved", [False, True], ids=["unsaved", "saved"])
@pytest.mark.parametrize(
    "make",
    [
        lambda sgd: sgd.astream("Why?", {"configurable": {"thread_id": "1"}}),
        lambda sgd: sgd.aevents("Why?", {"configurable": {"thread_id": "1"}}),
        lambda sgd: ChatSGD(sgd).astream("Why?", {"configurable": {"thread_id": "1"}}),
        lambda sgd: sgd.astream_events("Why?", {"configurable": {"thread_id": "1"}}, version="v2"),
    ],
    ids=["astream", "aevents", "chat", "astream_events"],
)
def test_a_half_read_stream_at_the_end_of_the_loop_is_no_news(
    make: Made,
    saved: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage, sgd = long_winded(checkpointer=InMemorySaver() if saved else None)

    async def main() -> None:
        async for _ in make(sgd):
            await settle(lambda: bool(stage.calls))
            break

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        run_virtual(main())
        gc.collect()
    assert caplog.records == []
    assert stage.in_flight == 0


async def test_a_stream_that_nobody_holds_any_more_ends() -> None:
    stage = Stage(default=Say("begun", hang=True))
    sgd = SGDRunnable(**stage.pair())

    async def first(stream: AsyncIterator[Any]) -> None:
        async for _ in stream:
            return

    await first(sgd.astream({"messages": [HumanMessage("Why?")], "skeleton": PLANNED}))
    gc.collect()
    await settle(lambda: stage.in_flight == 0 and not others())
