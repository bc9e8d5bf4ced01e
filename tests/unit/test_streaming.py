"""Streams: order, liveness, equality with the invoked answer, restarts, and what closing them leaves."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator

from langchain_sgd import InvalidInputError, NodeDecodeError, Report, SGDRunnable, Skeleton
from langchain_sgd.answer import AGAIN, CUT, MISSING
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.events import Ended, Event, PlanEnded, Planned, Started, Token
from tests.support.models import PLANNER, Say, Stage, cut, others, planning, settle
from tests.support.skeletons import skeleton, skeletons

BROKEN = ConnectionError("lost")
QUESTION: dict[str, Any] = {"question": "Why?", "skeleton": skeleton("1", "2 <- 1", "3")}


async def streamed(sgd: SGDRunnable, value: Any) -> AIMessageChunk:
    chunks = [chunk async for chunk in sgd.astream(value)]
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert chunks[-1].chunk_position == "last"
    return total


# -- the text


@settings(max_examples=20, deadline=None)
@example(skeleton("1", "2"), ["", "last"] * 5, 9, set())
@example(skeleton("1!", "2!", "3!", "4"), ["", "", "", ";"] + [""] * 5, 1, set())
@given(
    skeletons(),
    st.lists(st.text(max_size=30), min_size=9, max_size=9),
    st.integers(1, 7),
    st.sets(st.integers(1, 9)),
)
def test_the_chunks_add_up_to_the_invoked_answer(
    planned: Skeleton, texts: list[str], size: int, failing: set[int]
) -> None:
    lines: dict[str, Say | Sequence[Say]] = {
        str(n): Say(cut(text, size), error=ValueError("no") if n in failing else None)
        for n, text in enumerate(texts, 1)
    }

    async def main() -> None:
        sgd = SGDRunnable(**Stage(lines).pair(), headings=size % 2 == 0)
        value = {"question": "Why?", "skeleton": planned}
        try:
            invoked = await sgd.ainvoke(value)
        except NodeDecodeError:
            with pytest.raises(NodeDecodeError):
                await streamed(sgd, value)
            return
        total = await streamed(sgd, value)
        if not any(len(node.attempts) > 1 for node in Report.from_message(invoked).nodes):
            assert total.text == invoked.text
        for mark in (MISSING, CUT):
            assert total.text.count(mark) == invoked.text.count(mark)

    asyncio.run(main())


async def test_the_first_node_is_live_while_the_others_decode() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2", "3 <- 1")), "1": Say(["live ", "text"])})
    stage.gated = True
    sgd = SGDRunnable(**stage.pair())
    stage.release(PLANNER, "1")
    stream = sgd.astream("Why?")
    text = ""
    while "live text" not in text:
        text += (await anext(stream)).text
    assert stage.of("2")[0].outcome == "open"
    stage.release("3")
    await settle(lambda: bool(stage.of("3")) and stage.of("3")[0].outcome == "done")
    assert stage.of("2")[0].outcome == "open"
    stage.release("2")
    text += "".join([chunk.text async for chunk in stream])
    places = [text.index(f"## Heading {n}") for n in "123"]
    assert places == sorted(places)


def test_each_piece_is_given_when_it_comes() -> None:
    stage = Stage({"1": Say(list("abc"), each_s=1.0), "2": Say(list("de"), each_s=1.0, then_s=9.0)})
    sgd = SGDRunnable(**stage.pair(), headings=False)
    value = {"question": "Why?", "skeleton": skeleton("1", "2")}

    async def main() -> dict[float, str]:
        clock = asyncio.get_running_loop().time
        seen: dict[float, str] = defaultdict(str)
        async for chunk in sgd.astream(value):
            seen[clock()] += chunk.text
        return seen

    assert run_virtual(main()) == {1.0: "a", 2.0: "b", 3.0: "c\n\nde", 11.0: ""}


async def test_the_streamed_message_carries_the_report() -> None:
    sgd = SGDRunnable(**Stage().pair())
    report = Report.from_message(cast("AIMessage", await streamed(sgd, QUESTION)))
    assert report.status == "complete"
    assert report.ttft_s is not None
    assert report.ttft_s <= report.wall_s


async def test_a_plain_answer_streams_too() -> None:
    stage = Stage({PLANNER: Say("PLAIN"), "plain": Say(["It ", "depends."])})
    total = await streamed(SGDRunnable(**stage.pair()), "Why?")
    assert total.text == "It depends."
    assert Report.from_message(cast("AIMessage", total)).status == "plain"


async def test_a_stream_goes_through_a_whole_chain() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2")), "1": Say(["live ", "text"])})
    stage.gated = True
    stage.release(PLANNER, "1")
    prompt = ChatPromptTemplate([("system", "Be brief."), ("human", "{question}")])
    chain = prompt | SGDRunnable(**stage.pair()) | StrOutputParser()
    stream = chain.astream({"question": "Why?"})
    text = ""
    async for piece in stream:
        text += piece
        if "live text" in text:
            stage.release("2")
    assert text.startswith("## Heading 1\n\nlive text\n\n## Heading 2\n\n")
    assert "Be brief." in stage.of("2")[0].prompt


# -- restarts


def restarted(first: Say, again: Say) -> tuple[Report, str]:
    stage = Stage({"1": [first, again]})
    sgd = SGDRunnable(**stage.pair(), headings=False)
    value = {"question": "Why?", "skeleton": skeleton("1", "2")}
    total = run_virtual(streamed(sgd, value))
    return Report.from_message(cast("AIMessage", total)), total.text.split("\n\ntext of 2")[0]


def test_a_restart_with_the_same_words_leaves_no_mark() -> None:
    report, text = restarted(
        Say(["one ", "two "], each_s=1.0, error=BROKEN), Say(["one ", "two ", "three"])
    )
    assert text == "one two three"
    assert report.status == "complete"
    assert not report.warnings


def test_a_restart_with_other_words_is_marked_where_it_was_shown() -> None:
    report, text = restarted(
        Say(["one ", "two "], each_s=1.0, error=BROKEN), Say(["first ", "second"])
    )
    assert text == f"one two\n\n{AGAIN}\n\nfirst second"
    assert report["1"].answer == "first second"
    assert any("node 1 broke off" in warning for warning in report.warnings)


def test_a_restart_that_nobody_saw_leaves_no_mark() -> None:
    stage = Stage(
        {
            "1": Say("slow", then_s=60.0),
            "2": [Say(["one ", "two"], error=BROKEN), Say("first")],
        }
    )
    sgd = SGDRunnable(**stage.pair(), headings=False)
    value = {"question": "Why?", "skeleton": skeleton("1", "2")}
    total = run_virtual(streamed(sgd, value))
    assert total.text == "slow\n\nfirst"
    assert not Report.from_message(cast("AIMessage", total)).warnings


def test_an_invoked_answer_shows_no_restart() -> None:
    stage = Stage({"1": [Say(["one ", "two "], each_s=1.0, error=BROKEN), Say("first")]})
    sgd = SGDRunnable(**stage.pair(), headings=False)
    value = {"question": "Why?", "skeleton": skeleton("1", "2")}
    message = run_virtual(sgd.ainvoke(value))
    assert AGAIN not in message.text
    assert message.text.startswith("first\n\n")


# -- events


async def test_events_tell_the_run_in_order() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1")), "1": Say(["a", "b"]), "2": Say("c")})
    sgd = SGDRunnable(**stage.pair())
    seen: list[Event | AIMessage] = [event async for event in sgd.aevents("Why?")]
    assert isinstance(seen[-1], AIMessage)
    of_one = [type(e) for e in seen[:-1] if getattr(e, "node_id", None) == "1"]
    assert of_one == [Started, Token, Token, Ended]
    assert [e.node.id for e in seen if isinstance(e, Planned)] == ["1", "2"]
    assert sum(isinstance(e, PlanEnded) for e in seen) == 1
    times = [e.at_s for e in seen if not isinstance(e, AIMessage)]
    assert times == sorted(times)


async def test_events_of_a_failed_run_end_with_its_error() -> None:
    sgd = SGDRunnable(**Stage({"1": Say(error=ValueError("no"))}).pair(), on_node_error="raise")
    seen = []
    events = cast("Any", sgd.aevents(QUESTION))
    with pytest.raises(NodeDecodeError):  # noqa: PT012 - the events before the error count
        while True:
            seen.append(await anext(events))
    assert any(isinstance(e, Ended) and e.status == "failed" for e in seen)


async def test_astream_events_names_the_nodes() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1")), "1": Say(["a", "b"])})
    sgd = SGDRunnable(**stage.pair())
    events = [event async for event in sgd.astream_events("Why?", version="v2")]
    assert events[0]["event"] == "on_chain_start"
    assert events[0]["name"] == "SGDRunnable"
    models = [e["name"] for e in events if e["event"] == "on_chat_model_start"]
    assert models == ["planner", "node:1", "node:2"]
    tokens = [
        e["data"]["chunk"].text
        for e in events
        if e["event"] == "on_chat_model_stream" and e["metadata"].get("sgd_node_id") == "1"
    ]
    assert "".join(tokens) == "ab"
    # LangGraph's own steps are machinery and show nowhere.
    assert {e["name"] for e in events} == {"SGDRunnable", "planner", "node:1", "node:2"}
    shown = [e["data"]["chunk"] for e in events if e["event"] == "on_chain_stream"]
    assert "".join(c.text for c in shown if isinstance(c, AIMessageChunk)).startswith(
        "## Heading 1"
    )


# -- the end of a stream


Leave = Callable[[SGDRunnable], Any]


async def leave_by_cancelling(sgd: SGDRunnable) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sgd.ainvoke(QUESTION))
        await settle()
        task.cancel()


async def leave_by_cancelling_a_stream(sgd: SGDRunnable) -> None:
    async def consume() -> None:
        async for _ in sgd.astream(QUESTION):
            pass

    async with asyncio.TaskGroup() as group:
        task = group.create_task(consume())
        await settle()
        task.cancel()


async def leave_by_aclose(sgd: SGDRunnable) -> None:
    stream = cast("Any", sgd.astream(QUESTION))
    await anext(stream)
    await settle()
    await stream.aclose()


async def leave_by_break(sgd: SGDRunnable) -> None:
    async for _ in sgd.astream(QUESTION):
        await settle()
        break
    gc.collect()
    await settle()


async def leave_a_chain_by_break(sgd: SGDRunnable) -> None:
    async for _ in (sgd | StrOutputParser()).astream(QUESTION):
        await settle()
        break
    gc.collect()
    await settle()


async def leave_astream_events(sgd: SGDRunnable) -> None:
    stream = cast("Any", sgd.astream_events(QUESTION, version="v2"))
    async for event in stream:
        if event["event"] == "on_chat_model_stream":
            break
    await settle()
    await stream.aclose()


async def leave_aevents(sgd: SGDRunnable) -> None:
    stream = cast("Any", sgd.aevents(QUESTION))
    async for event in stream:
        if isinstance(event, Token):
            break
    await settle()
    await stream.aclose()


async def leave_a_batch(sgd: SGDRunnable) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sgd.abatch([QUESTION, QUESTION]))
        await settle()
        task.cancel()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_cancelling,
        leave_by_cancelling_a_stream,
        leave_by_aclose,
        leave_by_break,
        leave_a_chain_by_break,
        leave_astream_events,
        leave_aevents,
        leave_a_batch,
    ],
)
async def test_leaving_a_run_closes_every_model_and_leaves_no_task(leave: Leave) -> None:
    before = others()
    stage = Stage({"1": Say("begun", hang=True), "3": Say("begun", hang=True)})
    sgd = SGDRunnable(**stage.pair())
    await leave(sgd)
    assert {call.part for call in stage.calls} == {"1", "3"}
    assert {call.outcome for call in stage.calls} <= {"cancelled", "closed"}
    assert stage.in_flight == 0
    assert others() == before


async def test_leaving_waits_for_a_model_that_is_slow_to_stop() -> None:
    stage = Stage({"1": Say("begun", hang=True, stubborn_s=0.01)})
    sgd = SGDRunnable(**stage.pair())
    before = others()
    await leave_by_aclose(sgd)
    assert stage.of("1")[0].outcome == "cancelled"
    assert others() == before


async def test_a_stream_that_is_never_read_starts_nothing() -> None:
    stage = Stage()
    stream = cast("Any", SGDRunnable(**stage.pair()).astream(QUESTION))
    await settle()
    await stream.aclose()
    assert stage.calls == []


async def test_a_wrong_input_is_told_at_the_first_chunk() -> None:
    stream = cast("Any", SGDRunnable(**Stage().pair()).astream(""))
    with pytest.raises(InvalidInputError, match="empty"):
        await anext(stream)


async def test_a_slow_reader_loses_nothing() -> None:
    stage = Stage({"1": Say(list("abcdefgh")), "2": Say(list("ijkl"))})
    sgd = SGDRunnable(**stage.pair(), headings=False)
    text = ""
    async for chunk in sgd.astream({"question": "Why?", "skeleton": skeleton("1", "2")}):
        text += chunk.text
        await settle(rounds=200)
    assert text == "abcdefgh\n\nijkl"


async def test_a_heading_comes_with_the_first_letter_of_a_text_that_begins_like_it() -> None:
    """Such a text is held back until it is clear that it is not the heading again."""
    seen = asyncio.Event()

    async def write(messages: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        prompt = "".join([str(each) async for each in messages])
        if "Write only part 1," in prompt:
            yield AIMessageChunk(content="Heading ")
            await seen.wait()  # for ever, if the heading were held back, too
        yield AIMessageChunk(content="1 is long.")

    sgd = SGDRunnable(large=RunnableGenerator(write))
    given = {"question": "Why?", "skeleton": skeleton("1", "2")}
    chunks: list[str] = []
    async with asyncio.timeout(20):
        async for chunk in sgd.astream(given):
            chunks.append(chunk.text)
            seen.set()
    assert chunks[0] == "## Heading 1\n\n"
    assert "".join(chunks).startswith("## Heading 1\n\nHeading 1 is long.\n\n## Heading 2\n\n")
