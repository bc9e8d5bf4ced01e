"""`opening=True`: the plain answer begins beside the planner, and its first sentence opens the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessageChunk
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import NodeDecodeError, Report, SGDRunnable
from langchain_sgd.answer import AGAIN
from langchain_sgd.decoding.opening import OpeningText
from langchain_sgd.limits import Limit, Slots
from tests.support.chunks import cut as cuts
from tests.support.models import PLAIN, PLANNER, Say, Stage, others, plan_lines, planning, settle
from tests.support.skeletons import skeleton

SPLIT = planning(skeleton("1", "2"))
UNDIVIDED = Say("PLAIN")


def stage(planner: Any, **lines: Any) -> Stage:
    return Stage({PLANNER: planner, PLAIN: Say(["It ", "is ", "so."]), **lines})


def opening(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**{**on.pair(), "opening": True, **options})


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert not others()


async def streamed(sgd: SGDRunnable, value: Any, config: Any = None) -> AIMessageChunk:
    total = AIMessageChunk(content="")
    async for chunk in sgd.astream(value, config):
        total += chunk
    return total


async def answer(sgd: SGDRunnable) -> tuple[str, Report]:
    message = await sgd.ainvoke("Why?")
    return message.text, Report.from_message(message)


async def test_its_first_sentence_is_shown_while_the_planner_thinks() -> None:
    on = stage(UNDIVIDED, **{PLAIN: Say(["It ", "is ", "so. ", "And ", "more."])})
    on.gated = True
    chunks: list[str] = []

    async def ask() -> None:
        async for chunk in opening(on).astream("Why?"):
            chunks.append(str(chunk.text))  # noqa: PERF401 - looked at before the stream ends

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await settle(lambda: set(on.parts()) == {PLANNER, PLAIN})
        on.release(PLAIN)
        await settle(lambda: "".join(chunks) == "It is so." and on.of(PLAIN)[0].outcome == "done")
        await settle()  # whether the rest is wanted is not known yet
        assert "".join(chunks) == "It is so."
        on.release(PLANNER)
    assert "".join(chunks) == "It is so. And more."


@pytest.mark.parametrize(
    ("planner", "order"), [("large", [PLAIN, PLANNER]), ("own", [PLANNER, PLAIN])]
)
async def test_it_goes_first_where_it_would_wait_for_the_planner(
    planner: str, order: list[str]
) -> None:
    on = stage(UNDIVIDED)
    on.gated = True
    own = {"planner": on.model("planner")} if planner == "own" else {}
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(opening(on, **own).ainvoke("Why?"))
        await settle(lambda: len(on.calls) == 2)
        assert on.parts() == order
        on.release(PLANNER, PLAIN)
    assert asking.result().text == "It is so."


async def test_it_is_asked_once_and_reported_as_what_it_is() -> None:
    on = stage(UNDIVIDED)
    text, report = await answer(opening(on))
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
        stream = opening(on).astream("Why?")
        async for chunk in stream:
            seen.append(str(chunk.text))
            if "".join(seen) == "a b c":
                break
        await stream.aclose()


SENTENCES = ["It ", "is ", "so. ", "And ", "more."]


async def test_a_plan_stops_it_after_its_first_sentence() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES, hang=True)}, **{"1": Say("one"), "2": Say("two")})
    text, report = await answer(opening(on))
    assert text == "It is so.\n\n## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert (await streamed(opening(on), "Why?")).text == text
    assert on.of(PLAIN)[0].outcome in {"cancelled", "closed"}
    assert report.status == "complete"
    assert report.warnings == ()
    assert report.opening == "It is so."
    assert PLAIN not in {node.id for node in report.nodes}
    assert report.planner is not None
    assert (stopped := report.planner.hedge) is not None
    assert stopped.tier == "large"
    assert stopped.usage is not None
    assert stopped.usage.estimated
    assert stopped.usage.output_tokens >= 3
    assert report.usage["large"].output_tokens >= stopped.usage.output_tokens


async def test_parts_wait_for_the_end_of_its_sentence() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES), "1": Say(["o", "ne"], hang=True), "2": Say("two")})
    on.gated = True
    chunks: list[str] = []

    async def ask() -> None:
        async for chunk in opening(on).astream("Why?"):
            chunks.append(str(chunk.text))  # noqa: PERF401 - looked at before the stream ends

    on.lines[PLAIN] = Say(["It is", " so. And", " more."])
    asking = asyncio.get_running_loop().create_task(ask())
    await settle(lambda: set(on.parts()) == {PLANNER, PLAIN})
    on.lines[PLAIN] = Say("never")
    on.release(PLANNER)
    await settle(lambda: {"1", "2"} <= set(on.parts()))
    assert chunks == []
    on.release(PLAIN)
    await settle(lambda: "".join(chunks) == "It is so.")
    on.release("1")
    await settle(lambda: "".join(chunks) == "It is so.\n\n## Heading 1\n\none")
    asking.cancel()
    await asyncio.wait([asking])


async def test_no_part_waits_longer_for_it_than_for_itself() -> None:
    on = stage(SPLIT, **{PLAIN: Say(["It ", "is "], hang=True), "1": Say("one"), "2": Say("two")})
    text, report = await answer(opening(on))
    assert text == "It is \u2026\n\n## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert report.status == "complete"
    assert (await streamed(opening(on), "Why?")).text == text


async def test_it_does_not_come_after_the_parts_have_begun() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES), "1": Say("one"), "2": Say("two")})
    on.gated = True
    asking = asyncio.get_running_loop().create_task(opening(on).ainvoke("Why?"))
    on.release(PLANNER)
    await settle(lambda: {PLAIN, "1", "2"} <= set(on.parts()))
    on.release("2")
    await settle(lambda: on.of(PLAIN)[0].ended is not None)
    assert on.of(PLAIN)[0].outcome in {"cancelled", "closed"}
    on.release("1", PLAIN)
    message = await asking
    assert message.text == "## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert Report.from_message(message).opening == ""


async def test_where_it_breaks_off_that_can_be_seen() -> None:
    broken = Say(["It ", "is "], error=ValueError("gone"))
    on = stage(planning(skeleton("1", "2"), each_s=0.001), **{PLAIN: broken, "1": Say("one")})
    text, report = await answer(opening(on))
    assert text.startswith("It is \u2026\n\n## Heading 1")
    assert report.opening == "It is \u2026"


@pytest.mark.parametrize("again", ["It is so.", "So it is."])
async def test_an_undivided_answer_goes_on_after_a_repeat(again: str) -> None:
    broken = Say(["It ", "is "], error=ConnectionError("gone"))
    on = stage(Say("PLAIN", each_s=0.02), **{PLAIN: [broken, Say(again)]})
    total = await streamed(opening(on), "Why?")
    same = again.startswith("It is")
    assert total.text == (again if same else f"It is\n\n{AGAIN}\n\n{again}")
    assert Report.from_message(total).restarted is not same


@pytest.mark.parametrize("said", ["- one\n- two", "1. one\n2. two", "```\nx\n```"])
async def test_a_list_is_no_opening(said: str) -> None:
    on = stage(SPLIT, **{PLAIN: Say(list(said), hang=True), "1": Say("one"), "2": Say("two")})
    text, report = await answer(opening(on))
    assert text == "## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert report.opening == ""


async def test_a_human_who_approves_sees_none() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES)})
    sgd = opening(on, approve=True, checkpointer=InMemorySaver())
    chunks = [c.text async for c in sgd.astream("Why?", {"configurable": {"thread_id": "1"}})]
    assert "".join(chunks) == ""
    assert PLAIN not in on.parts()


async def test_a_given_skeleton_has_none() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES)})
    await opening(on).ainvoke({"question": "Why?", "skeleton": skeleton("1", "2")})
    assert PLAIN not in on.parts()


async def test_a_resumed_run_has_the_same_one() -> None:
    lines = {PLAIN: [Say(SENTENCES), Say("Other words here.")], "1": Say("one")}
    on = stage(SPLIT, **lines, **{"2": Say("", hang=True)})
    sgd = opening(on, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    asking = asyncio.get_running_loop().create_task(sgd.ainvoke("Why?", thread))
    await settle(lambda: len(on.of("1")) == 1 and on.of("1")[0].outcome == "done")
    await settle()
    asking.cancel()  # killed
    await asyncio.wait([asking])
    on.lines["2"] = Say("two")
    chunks = [str(chunk.text) async for chunk in sgd.astream(None, thread)]
    assert "".join(chunks) == "It is so.\n\n## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert len(on.of(PLAIN)) == 1


async def test_a_run_that_is_resumed_in_the_middle_of_its_plan_begins_none() -> None:
    plan = plan_lines(skeleton("1", "2", "3"))
    lines = {PLAIN: Say([], hang=True), "1": Say("one"), "2": Say([], hang=True), "3": Say("three")}
    on = stage([Say([*plan[:2], plan[2], "4"], hang=True), Say(plan[2])], **lines)
    sgd = opening(on, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    asking = asyncio.get_running_loop().create_task(sgd.ainvoke("Why?", thread))
    await settle(lambda: len(on.of("1")) == 1 and on.of("1")[0].outcome == "done")
    await settle()
    asking.cancel()  # killed, with nothing of an opening said
    await asyncio.wait([asking])
    on.lines |= {PLAIN: Say(["It ", "grows "], hang=True), "2": Say("two")}
    total = await streamed(sgd, None, thread)
    text = "\n\n".join(
        f"## Heading {n}\n\n{t}" for n, t in zip("123", ("one", "two", "three"), strict=True)
    )
    assert total.text == text
    assert Report.from_message(total).opening == ""
    assert len(on.of(PLAIN)) == 1


class TestText:
    """What of a text is its opening."""

    @staticmethod
    def of(chunks: Iterable[str]) -> tuple[str, bool]:
        opening = OpeningText()
        return "".join(opening.feed(chunk) for chunk in chunks), opening.done

    CASES: ClassVar = {
        "It is so. And more.": "It is so.",
        "It is so, e.g. here. And more.": "It is so, e.g. here.",
        "Here are some ways:\n\n1. One": "Here are some ways:",
        "Sure! Here are some ways:\n- One": "Sure! Here are some ways:",
        "Sure!\n\nHere are some ways. One": "Sure!\n\nHere are some ways.",
        "# A title of it\n\nIt is so. And": "# A title of it\n\nIt is so.",
        "**A title of it**\n\nIt is so. And": "**A title of it**\n\nIt is so.",
        "**It** is so. And": "**It** is so.",
        "3 of them are so. And": "3 of them are so.",
        "2024 was so. And": "2024 was so.",
        "\n\nIt is so. And": "\n\nIt is so.",
        "- One. And": "",
        "* One. And": "",
        "1. One. And": "",
        "12) One. And": "",
        "```python\nx = 1": "",
        '{"a": 1} and': "",
        "| a | b |": "",
        "> It is so. And": "",
        "# A title of it\n\n1. One": "# A title of it",
    }

    @pytest.mark.parametrize("text", CASES)
    def test_its_first_sentence_or_line(self, text: str) -> None:
        assert self.of([text]) == (self.CASES[text], True)

    @given(st.sampled_from(sorted(CASES)), st.data())
    def test_cuts_make_no_difference(self, text: str, data: st.DataObject) -> None:
        assert self.of(data.draw(cuts(text))) == (self.CASES[text], True)

    @pytest.mark.parametrize("junk", ["x", " ", "x ", "\n ", "*", "# x", "1"])
    def test_the_cost_is_linear(self, junk: str) -> None:
        began = time.process_time()
        self.of([junk] * 100_000)
        # Quadratic work on this much takes a minute.
        assert time.process_time() - began < 5.0

    @given(st.text())
    def test_it_is_always_the_beginning(self, text: str) -> None:
        assert text.startswith(self.of([text])[0])


async def test_without_it_nothing_is_begun() -> None:
    on = stage(SPLIT)
    _, report = await answer(opening(on, opening=False))
    assert PLAIN not in on.parts()
    assert report.planner is not None
    assert report.planner.hedge is None


async def test_it_opens_what_must_be_split_too() -> None:
    on = stage(SPLIT, **{PLAIN: Say(SENTENCES), "1": Say("one"), "2": Say("two")})
    text, report = await answer(opening(on, mode="always"))
    assert text == "It is so.\n\n## Heading 1\n\none\n\n## Heading 2\n\ntwo"
    assert report.status == "complete"


async def test_where_nothing_is_split_there_is_no_opening() -> None:
    on = stage(SPLIT)
    _, report = await answer(opening(on, mode="never"))
    assert on.parts() == [PLAIN]
    assert report.opening == ""


async def test_an_answer_that_is_whole_before_its_plan_needs_none() -> None:
    on = stage(planning(skeleton("1", "2"), each_s=0.01))
    text, report = await answer(opening(on))
    assert text == "It is so."
    assert (report.status, report.reason) == ("plain", "the answer was whole before its plan")
    assert on.parts() == [PLAIN, PLANNER]
    assert report.warnings == ()
    assert report.planner is not None
    assert [attempt.error for attempt in report.planner.attempts] == [
        "stopped: the undivided answer was whole first"
    ]


async def test_that_a_plan_came_too_late_is_no_plan_to_keep() -> None:
    cache = InMemoryCache()
    late = stage(planning(skeleton("1", "2"), each_s=0.01))
    await answer(opening(late, plan_cache=cache))
    in_time = stage(SPLIT, **{"1": Say("one"), "2": Say("two")})
    _, report = await answer(opening(in_time, plan_cache=cache))
    assert PLANNER in in_time.parts()
    assert report.status == "complete"


async def test_what_it_costs_counts_with_the_parts() -> None:
    said = {"1": Say("one"), "2": Say("two"), PLANNER: planning(skeleton("1", "2"), each_s=0.05)}
    prices = {"small": (1, 1), "large": (1, 1)}
    most: dict[str, Any] = {"prices": prices, "max_cost": 3000 / 1_000_000, "length": 20}
    short = Stage({**said, PLAIN: Say(["It ", "is ", "so. ", "More "], hang=True)})
    assert (await answer(opening(short, **most)))[1].status == "complete"
    long = Stage({**said, PLAIN: Say(["It ", "is ", "so. ", *["more "] * 4000], hang=True)})
    with pytest.raises(NodeDecodeError, match="not started"):
        await opening(long, **most).ainvoke("Why?")


async def test_under_load_there_is_nothing_to_hedge() -> None:
    on = stage(SPLIT)
    _, report = await answer(opening(on, busy=lambda: True))
    assert on.parts() == [PLAIN]
    assert report.reason == "the models are busy"


@pytest.mark.parametrize("where", ["tier", "config"])
async def test_it_takes_no_slot_that_others_wait_for(where: str) -> None:
    on = stage(UNDIVIDED)
    on.gated = True
    limits = {"limits": {"large": 1}} if where == "tier" else {}
    config: Any = {"max_concurrency": 1} if where == "config" else {}
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(opening(on, **limits).ainvoke("Why?", config))
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
        asking = group.create_task(opening(on, limits={"large": limit}).ainvoke("Why?"))
        await settle(lambda: len(on.calls) == 2)
        assert limit.in_flight == 2
        assert not limit.has_room()
        on.release(PLANNER, PLAIN)
    assert asking.result().text == "It is so."
    assert limit.in_flight == 0
    async with Slots([limit]):
        assert limit.has_room()


async def test_when_it_fails_it_is_asked_again_like_any_call() -> None:
    lines = {PLAIN: [Say(error=ConnectionError("gone")), Say("Better.")]}
    on = stage(UNDIVIDED, **lines)
    text, report = await answer(opening(on))
    assert text == "Better."
    assert [a.error is None for a in report.nodes[0].attempts] == [False, True]


async def test_when_nothing_helps_the_run_raises() -> None:
    on = stage(UNDIVIDED, **{PLAIN: Say(error=ValueError("no"))})
    with pytest.raises(NodeDecodeError, match="no"):
        await answer(opening(on))


async def test_when_it_fails_and_the_question_is_split_nobody_minds() -> None:
    on = stage(planning(skeleton("1", "2"), each_s=0.001), **{PLAIN: Say(error=ValueError("no"))})
    _, report = await answer(opening(on))
    assert report.status == "complete"
    assert report.warnings == ()


async def test_when_the_planner_fails_its_answer_is_there() -> None:
    on = stage(Say(error=ValueError("broken")))
    text, report = await answer(opening(on))
    assert text == "It is so."
    assert len(on.of(PLAIN)) == 1
    assert report.reason == "the planner failed"


async def test_a_plan_of_one_part_is_answered_by_the_same_call() -> None:
    on = stage(Say("1|A|a|-|1\n"))
    text, report = await answer(opening(on))
    assert text == "It is so."
    assert report.reason == "the plan has one part only"
    assert len(on.of(PLAIN)) == 1


async def test_cancelling_the_run_stops_it() -> None:
    on = stage(Say("PL", hang=True), **{PLAIN: Say(["never"], hang=True)})
    asking = asyncio.get_running_loop().create_task(opening(on).ainvoke("Why?"))
    await settle(lambda: len(on.calls) == 2)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert all(call.ended is not None for call in on.calls)


async def test_its_time_is_that_of_a_node_from_its_own_beginning() -> None:
    lines = {PLAIN: Say(["Half"], hang=True)}
    on = stage(Say("PLAIN", each_s=0.02), **lines)
    text, report = await answer(opening(on, node_timeout_s=0.05))
    assert text.startswith("Half")
    (attempt,) = report.nodes[0].attempts
    assert 0.04 < attempt.ended_s - attempt.started_s < 5
    assert report.nodes[0].status == "truncated"


# -- without the option: from the first letter of the planner's refusal on


def plainly(on: Stage, **options: Any) -> SGDRunnable:
    return opening(on, opening=False, **options)


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

    await opening(stage(UNDIVIDED)).ainvoke("Why?", {"callbacks": [Names()]})
    assert sorted(names) == ["plain begun beside the planner", "planner None"]
