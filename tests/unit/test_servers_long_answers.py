"""What `tests/servers/long_answers.py` asks, and what it makes of the answers."""

from __future__ import annotations

from tests.servers.long_answers import EXPANDED, PARTS, PLAIN, Row, figures, measure
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

OUTER, INNER = skeleton("1", "2"), skeleton("21", "22")


async def test_the_ways_differ_in_how_deep_they_split() -> None:
    plans = [planning(plan) for plan in (OUTER, OUTER, INNER, INNER)]
    on = Stage({PLANNER: plans}, default=Say("Some words."))
    rows = await measure({"large": on.model("large")}, ["Why?"], words=2000, expand=400)
    assert [(row.way, row.parts) for row in rows] == [(PLAIN, 1), (PARTS, 2), (EXPANDED, 4)]
    assert all("Why? Write about 2000 words." in call.prompt for call in on.calls)
    assert {row.status for row in rows} == {"plain", "complete"}


def test_figures_are_ratios_to_the_plain_answer_of_the_same_question() -> None:
    def row(way: str, question: str, words: int, seconds: float) -> Row:
        return Row(way, question, "complete", 3, words, 0.25, seconds)

    rows = [
        row(PARTS, "A", 300, 5.0),
        row(PLAIN, "A", 100, 10.0),
        row(PLAIN, "B", 100, 1.0),
        row(PARTS, "B", 100, 1.5),
    ]
    assert figures(rows)[PLAIN]["time_to_plain"] == 1
    assert figures(rows)[PARTS] == {
        "answers": 2,
        "split": 2,
        "parts": 3,
        "words": 200,
        "repeated": 0.25,
        "time_to_plain": 1.0,
        "words_to_plain": 2.0,
        "words_a_second_to_plain": 3.33,
    }
