"""What `tests/servers/writers.py` makes of answers."""

from __future__ import annotations

from typing import Any

from langchain_sgd import Prompts, Report, SGDRunnable
from tests.servers.writers import VARIANTS, figures, plans
from tests.support.models import Say, Stage
from tests.support.skeletons import skeleton

QUESTION = "Which lamps last?"


async def answered(**texts: Say) -> Report:
    on = Stage({name.removeprefix("_"): said for name, said in texts.items()})
    sgd = SGDRunnable(large=on.model("large"))
    given = {"question": QUESTION, "skeleton": skeleton(*on.lines)}
    return Report.from_message(await sgd.ainvoke(given))


async def test_figures_are_those_of_the_parts() -> None:
    report = await answered(
        _1=Say("Which lamps last is told by their cold light. It stays.", usage=(9, 9)),
        _2=Say("By their cold light you know them.", usage=(9, 9)),
    )
    found = figures([(QUESTION, report)])
    assert (found.parts, found.words, found.ended) == (2, 9.0, 0.0)
    # The first part's first sentence has all of "which lamps last", the second's has none.
    assert found.echo == 0.5
    # "by their cold light" stands in both.
    assert found.repeated == 4 / 18
    assert found.seconds == report.wall_s


async def test_a_part_that_ran_on_is_counted_as_ended() -> None:
    sentence = "One two three four five six seven eight nine ten. "
    report = await answered(_1=Say([sentence] * 40, usage=(9, 400)), _2=Say("Short.", usage=(9, 1)))
    assert figures([(QUESTION, report)]).ended == 0.5


def test_plans_with_several_parts_are_taken() -> None:
    def node(number: int) -> dict[str, object]:
        return {"id": str(number), "heading": f"Heading {number}", "dependencies": []}

    rows: list[dict[str, Any]] = [
        {"question": "Whole?", "nodes": None},
        {"question": "Two?", "nodes": [node(1), node(2)]},
        {"question": "Three?", "nodes": [node(1), node(2), node(3)]},
    ]
    assert [(question, len(plan)) for question, plan in plans(rows)] == [("Three?", 3)]


def test_the_ways_differ_in_one_thing_each() -> None:
    told, shown, cut = (
        SGDRunnable(large=Stage().model("large"), **way) for way in VARIANTS.values()
    )
    assert told.prompts.writer_examples == ()
    examples = {"writer_examples": shown.prompts.writer_examples}
    assert shown.prompts == Prompts() == told.prompts.model_copy(update=examples)
    assert cut.prompts == shown.prompts
    assert [sgd.cut_repeats for sgd in (told, shown, cut)] == [False, False, True]
