"""Sentences that an earlier part has said are left out, if the user wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.decoding.part import Written
from langchain_sgd.decoding.repeats import Repeats
from langchain_sgd.decoding.sentences import sentences
from langchain_sgd.repetition import repeated_share, runs_of, words_of
from langchain_sgd.report import NodeReport
from langchain_sgd.skeleton import NodeId, Skeleton
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton
from tests.support.staged import THREAD

SAID = "Trains reach the middle of the town without any transfer."
AGAIN = "So trains reach the middle of the town without any transfer."
NEW = "Planes are quick, but airports lie far outside."
MORE = "A bus costs less than both of them."


def cut_repeats(text: str, earlier: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    repeats = Repeats()
    for each in earlier:
        repeats.note(each)
    return repeats.cut(text)


def test_a_sentence_that_was_said_is_left_out() -> None:
    assert cut_repeats(f"{NEW} {AGAIN} {MORE}", [SAID]) == (f"{NEW} {MORE}", (AGAIN,))


def test_a_text_with_nothing_said_before_is_the_same_text() -> None:
    text = f"{NEW}\n\n{MORE}\n"
    assert cut_repeats(text, [SAID]) == (text, ())
    assert cut_repeats(f"{SAID} {SAID}", []) == (f"{SAID} {SAID}", ())
    assert cut_repeats("", [SAID]) == ("", ())


def test_two_earlier_parts_may_have_said_it_between_them() -> None:
    halves = [
        "Trains reach the middle of the town.",
        "Of the town without any transfer we say no more.",
    ]
    assert cut_repeats(f"{NEW} {SAID}", halves) == (NEW, (SAID,))


def test_a_part_keeps_the_sentence_that_repeats_the_least() -> None:
    nearly = f"{SAID[:-1]}, and even at night."
    assert cut_repeats(f"{SAID} {nearly} {SAID}", [SAID]) == (nearly, (SAID, SAID))
    assert cut_repeats(SAID, [SAID]) == (SAID, ())


def test_paragraphs_stay_paragraphs() -> None:
    assert cut_repeats(f"{NEW} {SAID}\n\n{MORE}", [SAID])[0] == f"{NEW}\n\n{MORE}"
    assert cut_repeats(f"{SAID}\n\n{MORE} {NEW}", [SAID])[0] == f"{MORE} {NEW}"


@pytest.mark.parametrize(
    "line",
    [
        f"- {SAID}",
        f"2. {SAID}",
        f"> {SAID}",
        f"| {SAID} |",
        f"# {SAID}",
        f"```\n{SAID}\n```",
        f"This is how:\n{SAID}",
    ],
)
def test_what_is_no_prose_stays_whole(line: str) -> None:
    text = f"{NEW}\n\n{line}\n\n{MORE}"
    assert cut_repeats(text, [SAID]) == (text, ())


def test_short_sentences_stay() -> None:
    assert cut_repeats(f"{NEW} It is so. {MORE}", ["It is so."])[1] == ()


def test_languages_without_blanks() -> None:
    assert cut_repeats("飞机很快但是机场很远。火车到达市中心。", ["火车到达市中心。"]) == (
        "飞机很快但是机场很远。",
        ("火车到达市中心。",),
    )


def written(text: str, **known: Any) -> Written:
    times = {"planned_s": 0, "ready_s": 0, "ended_s": 1}
    report = NodeReport(
        id=NodeId("2"), status="complete", tier="large", answer=text, **times, **known
    )
    return Written(report)


def test_citations_stay_at_their_words_and_go_with_them() -> None:
    text = f"{SAID} {NEW}"
    of_said = {"start_index": 0, "end_index": len(SAID), "url": "a"}
    of_new = {"start_index": text.index("airports"), "end_index": len(text), "url": "b"}
    repeats = Repeats()
    repeats.note(SAID)
    report = repeats.cut_part(written(text, annotations=(of_said, of_new))).report
    [kept] = report.annotations
    assert report.answer == NEW
    assert (report.answer[kept["start_index"] : kept["end_index"]], kept["url"]) == (
        "airports lie far outside.",
        "b",
    )


def test_a_part_of_parts_stays_as_it_is_and_counts_as_said() -> None:
    repeats = Repeats()
    repeats.note(SAID)
    parts = Report(status="complete", wall_s=1)
    nested = written(f"{SAID} {NEW}", parts=parts)
    assert repeats.cut_part(nested) is nested
    assert repeats.cut_part(written(f"{NEW} {MORE}")).report.answer == MORE


_TEXTS = st.lists(st.sampled_from([SAID, AGAIN, NEW, MORE, "Yes.", "- a list\n", "\n\n", "1.5 m"]))


@given(_TEXTS, st.lists(_TEXTS, max_size=3))
def test_nothing_is_lost_but_what_was_said(pieces: list[str], before: list[list[str]]) -> None:
    text = " ".join(pieces).strip()
    kept, left_out = cut_repeats(text, [" ".join(each) for each in before])
    assert bool(kept.strip()) == bool(text.strip())
    assert sorted((kept + " " + " ".join(left_out)).split()) == sorted(text.split())
    said = {run for each in before for run in runs_of(words_of(" ".join(each)))}
    assert all(repeated_share(words_of(sentence), said) > 0.7 for sentence in left_out)
    assert cut_repeats(kept, [" ".join(each) for each in before])[0] == kept


@given(st.text(st.sampled_from("aB.!? \n-`1。字"), max_size=60))
def test_sentences_add_up_to_their_text(text: str) -> None:
    assert "".join(sentences(text)) == text


# -- in a run


def stage(**lines: Say) -> Stage:
    said = {"1": Say(f"{NEW} {SAID}"), "2": Say(f"{AGAIN} {MORE}")}
    return Stage({**said, **{key.strip("_"): say for key, say in lines.items()}})


async def asked(on: Stage, planned: Skeleton, **options: Any) -> Report:
    sgd = SGDRunnable(**on.pair(), cut_repeats=True, **options)
    answer = await sgd.ainvoke({"question": "Why?", "skeleton": planned})
    streamed = [c.text async for c in sgd.astream({"question": "Why?", "skeleton": planned})]
    assert "".join(streamed) == answer.text
    return Report.from_message(answer)


@pytest.mark.parametrize("first_s", [0, 9])
def test_a_later_part_does_not_say_it_again(first_s: float) -> None:
    on = stage(_1=Say((f"{NEW} ", SAID), each_s=first_s))
    report = run_virtual(asked(on, skeleton("1", "2")))
    one, two = report.nodes
    assert (one.answer, one.left_out) == (f"{NEW} {SAID}", ())
    assert (two.answer, two.left_out) == (MORE, (AGAIN,))
    assert report.status == "complete"
    assert report.overlap.share == 0


def test_by_default_every_word_stays() -> None:
    async def plain() -> Report:
        question = {"question": "Why?", "skeleton": skeleton("1", "2")}
        return Report.from_message(await SGDRunnable(**stage().pair()).ainvoke(question))

    assert run_virtual(plain()).nodes[1].answer == f"{AGAIN} {MORE}"


def test_dependents_wait_for_nothing_but_what_they_need() -> None:
    on = stage(_1=Say(SAID, then_s=50), _3=Say("It builds on the second part.", then_s=5))
    report = run_virtual(asked(on, skeleton("1", "2", "3 <- 2")))
    assert f"{AGAIN} {MORE}" in on.of("3")[0].prompt  # what was written
    assert report.nodes[1].answer == MORE
    assert report.wall_s == pytest.approx(50)


def test_a_dependent_is_not_late_for_parts_that_it_does_not_need() -> None:
    on = stage(_1=Say(SAID, hang=True), _3=Say("It builds on the second part.", then_s=5))
    report = run_virtual(asked(on, skeleton("1", "2", "3 <- 2"), deadline_s=20))
    assert [node.status for node in report.nodes] == ["truncated", "complete", "complete"]


def test_the_first_part_grows_and_later_ones_come_whole() -> None:
    on = stage(_1=Say((f"{NEW} ", SAID), each_s=1), _2=Say((f"{AGAIN} ", MORE), each_s=5))

    async def main() -> list[str]:
        sgd = SGDRunnable(**on.pair(), cut_repeats=True, headings=False)
        question = {"question": "Why?", "skeleton": skeleton("1", "2")}
        return [chunk.text async for chunk in sgd.astream(question) if chunk.text.strip()]

    assert [text.strip() for text in run_virtual(main())] == [NEW, SAID, MORE]


def test_a_part_without_an_answer_holds_nobody_up() -> None:
    on = stage(_1=Say(error=ValueError("no")))
    report = run_virtual(asked(on, skeleton("1", "2", "3"), retries=0))
    assert [node.status for node in report.nodes] == ["failed", "complete", "complete"]
    assert report.nodes[1].answer == f"{AGAIN} {MORE}"


def test_a_part_that_hangs_holds_nobody_up_for_longer_than_the_deadline() -> None:
    on = stage(_1=Say(SAID, hang=True))
    report = run_virtual(asked(on, skeleton("1", "2"), deadline_s=20))
    assert report.wall_s == pytest.approx(20)
    assert report.nodes[0].status == "truncated"
    assert report.nodes[1].answer == MORE


async def test_a_resumed_run_says_the_same_and_asks_for_nothing_again() -> None:
    on = stage(_3=Say(error=ValueError("no")))
    on.lines[PLANNER] = planning(skeleton("1", "2", "3"))
    sgd = SGDRunnable(
        **on.pair(),
        cut_repeats=True,
        checkpointer=InMemorySaver(),
        on_node_error="raise",
        retries=0,
    )
    with pytest.raises(Exception, match="no"):
        await sgd.ainvoke("Why?", THREAD)
    on.lines["3"] = Say("At last there is something to say here.")
    report = Report.from_message(await sgd.ainvoke(None, THREAD))
    assert [len(on.of(part)) for part in ("1", "2")] == [1, 1]
    assert (report.nodes[1].answer, report.nodes[1].left_out) == (MORE, (AGAIN,))


def test_what_was_said_in_a_thought_was_not_said() -> None:
    on = stage()
    on.lines[PLANNER] = Say(["1 A\n2 B\n3 C\n", "</think>", "1 D\n2 E\n"], each_s=1)

    async def main() -> Report:
        sgd = SGDRunnable(**on.pair(), cut_repeats=True)
        return Report.from_message(await sgd.ainvoke("Why?"))

    report = run_virtual(main())
    assert len(on.of("1")) == 2  # one of the thought, whose text had come
    assert [node.answer for node in report.nodes] == [f"{NEW} {SAID}", MORE]


def test_cancelling_leaves_nothing_that_waits_for_earlier_parts() -> None:
    on = stage(_1=Say(SAID, hang=True))

    async def main() -> None:
        sgd = SGDRunnable(**on.pair(), cut_repeats=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2")})
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
    assert [call.outcome for call in on.calls] == ["cancelled", "done"]
