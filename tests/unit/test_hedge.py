"""`hedge=True`: the plain answer begins beside the planner, and is thrown away if the question is split."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler

from langchain_sgd import NodeDecodeError, Report, SGDRunnable
from langchain_sgd.limits import Limit, slots
from tests.support.models import PLAIN, PLANNER, Say, Stage, others, planning, settle
from tests.support.skeletons import skeleton

SPLIT = planning(skeleton("1", "2"))
UNDIVIDED = Say("PLAIN")


def stage(planner: Any, **lines: Any) -> Stage:
    return Stage({PLANNER: planner, PLAIN: Say(["It ", "is ", "so."]), **lines})


def hedged(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**on.pair(), **{"hedge": True, **options})


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert not others()


async def answer(sgd: SGDRunnable) -> tuple[str, Report]:
    message = await sgd.ainvoke("Why?")
    return message.text, Report.from_message(message)


async def test_the_plain_answer_is_written_while_the_planner_thinks() -> None:
    on = stage(UNDIVIDED)
    on.gated = True
    chunks: list[str] = []

    async def ask() -> None:
        async for chunk in hedged(on).astream("Why?"):
            chunks.append(str(chunk.text))  # noqa: PERF401 - looked at before the stream ends

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await settle(lambda: set(on.parts()) == {PLANNER, PLAIN})
        on.release(PLAIN)
        await settle(lambda: on.of(PLAIN)[0].outcome == "done")
        assert chunks == []  # it is not known yet whether it is wanted
        on.release(PLANNER)
    assert "".join(chunks) == "It is so."


async def test_it_is_asked_once_and_reported_as_what_it_is() -> None:
    on = stage(UNDIVIDED)
    text, report = await answer(hedged(on))
    assert text == "It is so."
    assert sorted(on.parts()) == [PLAIN, PLANNER]
    assert report.status == "plain"
    assert report.warnings == ()
    (node,) = report.nodes
    (attempt,) = node.attempts
    assert attempt.error is None
    assert attempt.model == "large-model"
    assert report.planner is not None
    assert report.planner.hedge is None


async def test_after_the_planner_has_spoken_it_is_shown_as_it_comes() -> None:
    on = stage(UNDIVIDED, **{PLAIN: Say(["a ", "b ", "c"], each_s=0.001, hang=True)})
    seen: list[str] = []
    async with asyncio.timeout(20):
        stream = hedged(on).astream("Why?")
        async for chunk in stream:
            seen.append(str(chunk.text))
            if "".join(seen) == "a b c":
                break
        await stream.aclose()


async def test_a_plan_stops_it_at_its_first_token() -> None:
    on = stage(
        Say(["1", "|A|a|-|1\n2|B|b|-|1\n"], each_s=0.001), **{PLAIN: Say(["never"], hang=True)}
    )
    text, report = await answer(hedged(on))
    assert report.status == "complete"
    assert "never" not in text
    assert on.of(PLAIN)[0].outcome in {"cancelled", "closed"}
    first_node = min(call.began for call in on.calls if call.part in {"1", "2"})
    assert (on.of(PLAIN)[0].ended or 0) <= first_node
    assert report.planner is not None
    assert report.planner.hedge is not None
    assert report.planner.hedge.tier == "large"
    assert PLAIN not in {node.id for node in report.nodes}


async def test_without_it_nothing_is_begun() -> None:
    on = stage(SPLIT)
    _, report = await answer(hedged(on, hedge=False))
    assert PLAIN not in on.parts()
    assert report.planner is not None
    assert report.planner.hedge is None


@pytest.mark.parametrize("mode", ["always", "never"])
async def test_it_needs_a_planner_that_may_refuse(mode: Any) -> None:
    on = stage(SPLIT)
    await answer(hedged(on, mode=mode))
    assert (PLAIN in on.parts()) == (mode == "never")


async def test_under_load_there_is_nothing_to_hedge() -> None:
    on = stage(SPLIT)
    _, report = await answer(hedged(on, busy=lambda: True))
    assert on.parts() == [PLAIN]
    assert report.reason == "the models are busy"


@pytest.mark.parametrize("where", ["tier", "config"])
async def test_it_takes_no_slot_that_others_wait_for(where: str) -> None:
    on = stage(UNDIVIDED)
    on.gated = True
    limits = {"limits": {"large": 1}} if where == "tier" else {}
    config: Any = {"max_concurrency": 1} if where == "config" else {}
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(hedged(on, **limits).ainvoke("Why?", config))
        await settle(lambda: on.parts() == [PLANNER])
        await settle()
        assert on.parts() == [PLANNER]
        on.release(PLANNER, PLAIN)
    assert asking.result().text == "It is so."
    assert on.peak == 1


async def test_it_holds_a_slot_of_its_own() -> None:
    limit = Limit(2)
    on = stage(UNDIVIDED)
    on.gated = True
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(hedged(on, limits={"large": limit}).ainvoke("Why?"))
        await settle(lambda: len(on.calls) == 2)
        assert limit.in_flight == 2
        assert not limit.has_room()
        on.release(PLANNER, PLAIN)
    assert asking.result().text == "It is so."
    assert limit.in_flight == 0
    async with slots([limit]):
        assert limit.has_room()


async def test_when_it_fails_it_is_asked_again_like_any_call() -> None:
    lines = {PLAIN: [Say(error=ConnectionError("gone")), Say("Better.")]}
    on = stage(UNDIVIDED, **lines)
    text, report = await answer(hedged(on))
    assert text == "Better."
    assert [a.error is None for a in report.nodes[0].attempts] == [False, True]


async def test_when_nothing_helps_the_run_raises() -> None:
    on = stage(UNDIVIDED, **{PLAIN: Say(error=ValueError("no"))})
    with pytest.raises(NodeDecodeError, match="no"):
        await answer(hedged(on))


async def test_when_it_fails_and_the_question_is_split_nobody_minds() -> None:
    on = stage(planning(skeleton("1", "2"), each_s=0.001), **{PLAIN: Say(error=ValueError("no"))})
    _, report = await answer(hedged(on))
    assert report.status == "complete"
    assert report.warnings == ()


async def test_when_the_planner_fails_its_answer_is_there() -> None:
    on = stage(Say(error=ValueError("broken")))
    text, report = await answer(hedged(on))
    assert text == "It is so."
    assert len(on.of(PLAIN)) == 1
    assert report.reason == "the planner failed"


async def test_a_plan_of_one_part_is_answered_by_a_new_call() -> None:
    on = stage(Say(["1", "|A|a|-|1\n"], each_s=0.001))
    text, report = await answer(hedged(on))
    assert text == "It is so."
    assert report.reason == "the plan has one part only"
    assert len(on.of(PLAIN)) == 2


async def test_cancelling_the_run_stops_it() -> None:
    on = stage(Say("PL", hang=True), **{PLAIN: Say(["never"], hang=True)})
    asking = asyncio.get_running_loop().create_task(hedged(on).ainvoke("Why?"))
    await settle(lambda: len(on.calls) == 2)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert all(call.ended is not None for call in on.calls)


async def test_its_time_is_that_of_a_node_from_its_own_beginning() -> None:
    lines = {PLAIN: Say(["Half"], hang=True)}
    on = stage(Say("PLAIN", each_s=0.02), **lines)
    text, report = await answer(hedged(on, node_timeout_s=0.05))
    assert text.startswith("Half")
    (attempt,) = report.nodes[0].attempts
    assert 0.04 < attempt.ended_s - attempt.started_s < 5
    assert report.nodes[0].status == "truncated"


# -- without the option: from the first letter of the planner's refusal on


def plainly(on: Stage, **options: Any) -> SGDRunnable:
    return hedged(on, hedge=False, **options)


async def test_the_plain_answer_begins_while_the_planner_says_the_word() -> None:
    on = stage(Say("PL", hang=True))
    asking = asyncio.get_running_loop().create_task(plainly(on).ainvoke("Why?"))
    await settle(lambda: bool(on.of(PLAIN)) and on.of(PLAIN)[0].outcome == "done")
    assert on.of(PLANNER)[0].outcome == "open"
    asking.cancel()
    await asyncio.wait([asking])


@pytest.mark.parametrize("pieces", ["PLAIN", [" ", "\n", "P", "L", "AI", "N"], ["PLAIN", "\n"]])
async def test_it_is_asked_once(pieces: Any) -> None:
    on = stage(Say(pieces, each_s=0.001))
    text, report = await answer(plainly(on))
    assert text == "It is so."
    assert on.parts() == [PLANNER, PLAIN]
    assert report.reason == "the planner chose to answer undivided"
    assert report.warnings == ()


@pytest.mark.parametrize(
    "pieces",
    [["Pl", "an:\n"], ["Here", " is"], ["1", "|PLAIN|A"], ["<think>", "PLAIN?", "</think>"]],
)
async def test_other_words_begin_nothing(pieces: Any) -> None:
    on = stage(Say(pieces, hang=True))
    asking = asyncio.get_running_loop().create_task(plainly(on).ainvoke("Why?"))
    await settle(lambda: on.parts() == [PLANNER])
    await settle()
    assert on.parts() == [PLANNER]
    asking.cancel()
    await asyncio.wait([asking])


async def test_the_call_ends_when_the_word_turns_out_to_be_another_one() -> None:
    on = stage(
        [Say(["P", "lease wait.\n"], each_s=0.001, then_s=0.05), SPLIT],
        **{PLAIN: Say("never", hang=True)},
    )
    text, _ = await answer(plainly(on))
    assert "never" not in text
    (plain,) = on.of(PLAIN)
    assert plain.outcome in {"cancelled", "closed"}
    assert (plain.ended or 0) < (on.of(PLANNER)[0].ended or 0)


async def test_the_plan_that_follows_such_a_word_is_decoded() -> None:
    on = stage(
        Say(["P", "lan:\n", "1", "|A|a|-|1\n2|B|b|-|1\n"], each_s=0.001),
        **{PLAIN: Say(["never"], hang=True)},
    )
    text, report = await answer(plainly(on))
    assert report.status == "complete"
    assert "never" not in text
    assert report.planner is not None
    assert report.planner.hedge is not None


@pytest.mark.parametrize("second", [UNDIVIDED, SPLIT])
async def test_a_planner_that_fails_in_the_word_may_say_another_one(second: Say) -> None:
    lost = Say("PL", error=ConnectionError("lost"), then_s=0.001)
    on = stage([lost, second])
    text, report = await answer(plainly(on))
    assert on.parts().count(PLAIN) == 1
    assert report.status == ("plain" if second is UNDIVIDED else "complete")
    assert ("It is so." in text) == (second is UNDIVIDED)


@pytest.mark.parametrize("where", ["tier", "config"])
async def test_the_word_takes_no_slot_that_others_wait_for(where: str) -> None:
    on = stage(Say(["PL", "AIN"], each_s=0.001))
    limits = {"limits": {"large": 1}} if where == "tier" else {}
    config: Any = {"max_concurrency": 1} if where == "config" else {}
    message = await plainly(on, **limits).ainvoke("Why?", config)
    assert message.text == "It is so."
    assert on.parts() == [PLANNER, PLAIN]
    assert on.peak == 1


async def test_where_it_must_split_the_word_begins_nothing() -> None:
    on = stage([UNDIVIDED, SPLIT])
    _, report = await answer(plainly(on, mode="always"))
    assert report.status == "complete"
    assert PLAIN not in on.parts()


async def test_the_trace_says_what_it_is() -> None:
    names: list[str] = []

    class Names(AsyncCallbackHandler):
        async def on_chat_model_start(self, *_: Any, **kwargs: Any) -> None:
            names.append(f"{kwargs.get('name')} {kwargs['metadata'].get('sgd_plain')}")

    await hedged(stage(UNDIVIDED)).ainvoke("Why?", {"callbacks": [Names()]})
    assert sorted(names) == ["plain begun beside the planner", "planner None"]
