"""`busy=`: under load a question is answered undivided, and the planner is not asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.limits import Limit, Slots
from tests.support.models import PLAIN, PLANNER, Stage, planning
from tests.support.skeletons import skeleton


def a_stage() -> Stage:
    return Stage({PLANNER: planning(skeleton("1", "2"))})


async def status(sgd: SGDRunnable) -> str:
    return Report.from_message(await sgd.ainvoke("Why?")).status


async def test_a_limit_counts_who_holds_and_who_waits() -> None:
    limit = Limit(1)
    held = asyncio.Event()

    async def hold() -> None:
        async with Slots([limit, limit]):
            await held.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hold())
        await asyncio.sleep(0)
        assert limit.in_flight == 3
        held.set()
    assert limit.in_flight == 0


async def test_a_call_that_is_cancelled_while_it_waits_no_longer_counts() -> None:
    limit = Limit(1)
    async with Slots([limit]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), Slots([limit]):
                pass
        assert limit.in_flight == 1


@pytest.mark.parametrize(("in_flight", "expected"), [(1, "complete"), (2, "plain"), (3, "plain")])
async def test_from_so_many_calls_on_nothing_is_split(in_flight: int, expected: str) -> None:
    large, stage = Limit(None), a_stage()
    sgd = SGDRunnable(**stage.pair(), busy=2, limits={"large": large})
    large.in_flight = in_flight
    assert await status(sgd) == expected
    assert large.in_flight == in_flight
    asked = [call.part for call in stage.calls]
    assert (PLANNER in asked) == (expected == "complete")
    assert (PLAIN in asked) == (expected == "plain")


async def test_the_report_says_why() -> None:
    sgd = SGDRunnable(**a_stage().pair(), busy=lambda: True)
    report = Report.from_message(await sgd.ainvoke("Why?"))
    assert report.reason == "the models are busy"
    assert report.warnings == ()


async def test_your_own_test_is_asked_for_each_run() -> None:
    answers = iter([False, True, False])
    sgd = SGDRunnable(**a_stage().pair(), busy=lambda: next(answers))
    assert [await status(sgd) for _ in range(3)] == ["complete", "plain", "complete"]


async def test_always_means_always() -> None:
    sgd = SGDRunnable(**a_stage().pair(), busy=lambda: True, mode="always")
    assert await status(sgd) == "complete"


async def test_runs_that_begin_together_count_each_other() -> None:
    sgd = SGDRunnable(**a_stage().pair(), busy=2)
    messages = await sgd.abatch(["Why?"] * 5)
    found = [Report.from_message(message).status for message in messages]
    assert found.count("complete") == 2
    assert found.count("plain") == 3


@pytest.mark.parametrize("value", [0, -1, True])
def test_a_number_that_means_nothing_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="from 1 on"):
        SGDRunnable(**a_stage().pair(), busy=value)
