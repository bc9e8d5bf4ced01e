from __future__ import annotations

import io
import random

from rich.console import Console

from langchain_sgd.commands.demo import Compared, compare, steps_in_sequence, table
from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.domain import Brief
from langchain_sgd.embedded.briefs.texts import SECTIONS
from langchain_sgd.runnable import SGDRunnable
from tests.support.models import Say, Stage, planning
from tests.support.reports import every_case, plain
from tests.support.skeletons import skeleton


def brief() -> Brief:
    return next(domain.briefs(3, held_out=True))


def right_answer(asked: Brief) -> str:
    rng = random.Random(5)
    facts = asked.invent(rng)
    texts = {h: grammar.render(SECTIONS[h], facts, rng)[0] for h in asked.headings}
    return "\n\n".join(f"## {heading}\n\n{texts[heading]}" for heading in asked.headings)


def test_steps_in_sequence_are_the_longest_chain_and_the_plan_up_to_it() -> None:
    # 1 (100), 2 (100), 5 (1300) of planner's 100; node 3's chain is 200, its discarded attempt included.
    assert 1500 < steps_in_sequence(every_case()) < 1600
    assert steps_in_sequence(plain()) == 100


async def test_every_way_answers_every_question_and_is_checked() -> None:
    asked = brief()
    right = Stage({"plain": Say(right_answer(asked))})
    wrong = Stage({"planner": planning(skeleton("1", "2"))})
    found = await compare(
        {"right": SGDRunnable(mode="never", **right.pair()), "wrong": SGDRunnable(**wrong.pair())},
        [asked, asked],
    )
    assert found["right"].tally.exactness.value == 1.0
    assert found["wrong"].tally.exactness.value == 0.0
    assert [len(each.reports) for each in found.values()] == [2, 2]

    made = Console(file=io.StringIO(), width=120)
    made.print(table(found))
    assert isinstance(made.file, io.StringIO)
    rows = made.file.getvalue()
    assert "100%" in next(line for line in rows.splitlines() if "right" in line and "%" in line)
    assert "2 of 2" in rows
    assert "0 of 2" in rows


def test_a_way_without_times_or_facts_has_gaps() -> None:
    report = plain().model_copy(update={"ttft_s": None})
    made = Console(file=io.StringIO(), width=120)
    made.print(table({"plain decoding": Compared(reports=[report])}))
    assert isinstance(made.file, io.StringIO)
    assert "The same 1 question," in made.file.getvalue()
