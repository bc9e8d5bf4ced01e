"""What rows of `bench embedded` come to, in all figures and in short."""

from __future__ import annotations

import math
from typing import Any

import pytest

from langchain_sgd.bench import _embedded_figures as figures
from langchain_sgd.bench._embedded_figures import (
    ADAPTIVE,
    METHODS,
    OPENED,
    PLAIN,
    PLANNED,
    SGD,
    SOT,
)
from tests.support.bench import has_nan
from tests.support.briefs import QUESTIONS, SHORTS, answer, brief_row, short_row

Rows = list[dict[str, Any]]
ALL = range(len(QUESTIONS))


def runs(method: str, wall_s: float = 1.0, **more: Any) -> Rows:
    return [brief_row(method, n, wall_s, **more) for n in ALL]


def faulty(method: str, wrong: int) -> Rows:
    """So many sections of all answers are wrong."""
    rows = runs(method)
    for index in range(wrong):
        rows[index]["answer"] = answer(QUESTIONS[index], wrong=1)
    return rows


def apart(method: str) -> Rows:
    """No section knows another one's facts."""
    return [{**r, "answer": answer(QUESTIONS[n], alone=True)} for n, r in enumerate(runs(method))]


def shorts(method: str, wall_s: float = 1.0) -> Rows:
    return [short_row(method, n, wall_s) for n in range(len(SHORTS))]


def summed_up(*groups: Rows, checked: bool = True) -> dict[str, Any]:
    rows = [each for group in groups for each in group]
    return figures.summary(rows, checked=checked)


def told(*groups: Rows) -> dict[str, float]:
    return {each["name"]: each["found"] for each in summed_up(*groups)["in_short"]}


SECTIONS = sum(len(question.headings) for question in QUESTIONS)

CASES: list[tuple[str, list[Rows], float]] = [
    (
        "SGD large: decode steps, times fewer than plain large",
        [runs(PLAIN, steps=240), runs(SGD, steps=100)],
        2.4,
    ),
    (
        "SGD large: whole answer, times sooner than plain large",
        [runs(PLAIN, 1.5), runs(SGD, 1.0)],
        1.5,
    ),
    (
        "SGD large: first text, times as late as plain large",
        [runs(PLAIN, 1.0), runs(SGD, 1.25)],
        1.25,
    ),
    (
        "SGD, opened: first text, times as late as plain large",
        [runs(PLAIN, 1.0), runs(SGD, 1.4), runs(OPENED, 1.2)],
        1.2,
    ),
    ("SGD large: prompts of parts that were cached", [runs(PLAIN), runs(SGD, cached=74)], 74),
    ("SGD, plan first: more time than SGD large", [runs(PLANNED, 1.2), runs(SGD)], 20),
    ("SGD large: sections right, more than plain large", [runs(PLAIN), runs(SGD)], 0),
    (
        "SGD large: sections right, more than plain large",
        [runs(PLAIN), faulty(SGD, 3)],
        -300 / SECTIONS,
    ),
    ("SGD large: facts that agree, more than Skeleton-of-Thought", [runs(SOT), runs(SGD)], 0),
    (
        "SGD adaptive: tokens of the large model, fewer than SGD large",
        [runs(SGD), runs(ADAPTIVE, large=130, small=90)],
        35,
    ),
    (
        "SGD adaptive: sections right, more than SGD large",
        [runs(SGD), faulty(ADAPTIVE, 4)],
        -400 / SECTIONS,
    ),
    (
        "SGD large: questions that stay whole, more time than plain large",
        [shorts(PLAIN, 1.0), shorts(SGD, 1.06)],
        6,
    ),
]


@pytest.mark.parametrize(("name", "groups", "wanted"), CASES)
def test_what_one_wants_to_know_first(name: str, groups: list[Rows], wanted: float) -> None:
    assert told(*groups)[name] == pytest.approx(wanted, abs=0.01)


def test_sections_that_know_nothing_of_each_other_do_not_agree() -> None:
    found = told(runs(SGD), apart(SOT))
    assert found["SGD large: facts that agree, more than Skeleton-of-Thought"] > 50


def test_only_what_was_measured_is_told_in_short() -> None:
    assert summed_up()["in_short"] == []
    assert told(runs(PLAIN)) == {}
    assert set(told(runs(SGD))) == {"SGD large: prompts of parts that were cached"}
    different = [brief_row(PLAIN, n) for n in ALL[:5]], [brief_row(SGD, n) for n in ALL[5:]]
    assert not any("times" in name for name in told(*different))
    failed = [brief_row(SGD, n, error="Error: no", report=None, answer="") for n in ALL]
    assert not any("times" in name for name in told(runs(PLAIN), failed))


def test_it_is_said_with_its_units() -> None:
    said = figures.in_short(summed_up(runs(PLAIN, 1.5), runs(SGD, 1.0, cached=74)))
    assert ("SGD large: whole answer, times sooner than plain large", "1.50x") in said
    assert ("SGD large: prompts of parts that were cached", "74 %") in said
    assert ("SGD large: sections right, more than plain large", "0.0 points") in said


def test_every_figure_of_the_work() -> None:
    found = summed_up(
        runs(PLAIN, 2.0, steps=200, large=200), runs(SGD, 1.0, steps=80, large=120, small=80)
    )
    assert found["questions"] == {"brief": len(QUESTIONS)}
    work = found["work"][SGD]
    assert work["steps"]["median"] == 80
    assert work["step_ratio"]["median"] == 2.5
    assert work["path_ratio"]["median"] == 1
    assert work["generated"] == {"large": 120, "small": 80}
    assert work["tokens_per_step"] == 2.5
    assert work["step_ms"] == pytest.approx(500 / 80)
    assert (work["prefill_computed"], work["prefill_cached"]) == (80, 20)
    assert work["node_prompts_cached"] == pytest.approx(0.8)
    assert work["server_cpu_ms"] == 900
    assert work["engine_busy_ms"] == 500
    assert found["methods"][SGD]["speedup"]["median"] == 2


def test_quality_is_checked_only_where_it_can_be() -> None:
    rows = (runs(PLAIN), faulty(SGD, 2), shorts(SGD, 1.0))
    found = summed_up(*rows)
    assert found["quality"][PLAIN]["section accuracy"]["value"] == 1
    share = found["quality"][SGD]["section accuracy"]
    assert share["value"] == pytest.approx(1 - 2 / SECTIONS, abs=1e-3)
    assert share["low"] < share["value"] < share["high"]
    assert found["quality"][SGD]["exactness"]["trials"] == len(QUESTIONS)
    assert found["short_quality"][SGD]["exactness"]["value"] == 1
    unchecked = summed_up(*rows, checked=False)
    assert unchecked["quality"] == unchecked["short_quality"] == {}
    assert not any("right" in each["name"] for each in unchecked["in_short"])


def test_a_failed_run_is_a_wrong_answer_but_no_time() -> None:
    rows = runs(SGD)
    rows[0] |= {"error": "Error: no", "report": None, "answer": "", "wall_s": 0.001}
    found = summed_up(runs(PLAIN, 2.0), rows)
    assert found["methods"][SGD]["failed"] == 1
    assert found["methods"][SGD]["speedup"]["low"] == 2
    assert found["quality"][SGD]["exactness"]["value"] == pytest.approx(1 - 1 / len(QUESTIONS))


def test_a_failed_run_is_no_work() -> None:
    rows = runs(SGD, steps=80, large=120, small=80)
    broken = brief_row(SGD, 0, steps=1, large=1, small=0, error="no", report=None, answer="")
    with_failure = [broken, *rows[1:]]
    assert (
        summed_up(runs(PLAIN), with_failure)["work"][SGD]
        == summed_up(runs(PLAIN), rows[1:])["work"][SGD]
    )


def test_methods_stand_in_their_order_and_the_example_is_one_question() -> None:
    groups = [runs(name, 1 + 0.1 * n) for n, name in enumerate(METHODS)]
    found = summed_up(*reversed(groups))
    assert tuple(found["methods"]) == METHODS
    assert set(found["reports"]) == set(METHODS)


def test_tables_show_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    step = {"streams": 4, "tokens_per_step": 3.5, "step_ms": 2.25, "wall_per_step_ms": 3.0}
    steps = [{**step, "tokens_per_s": 1234.0}]
    full = summed_up(runs(PLAIN, 2.0), runs(SGD), shorts(PLAIN, 1.0), shorts(SGD, 1.5))
    figures.show_summary({**full, "steps": steps})
    said = capsys.readouterr().out
    assert f"{len(QUESTIONS)} questions that decompose" in said
    assert f"{len(SHORTS)} questions that do not decompose" in said
    assert "│ 2.00 │" in " ".join(said.split())
    assert "1234" in said
    assert "In short" in said
    figures.show_summary({**summed_up(runs(SGD), checked=False), "steps": steps})
    assert not has_nan(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (
            {"value": 0.931, "low": 0.91, "high": 0.948, "trials": 9, "chance": 0.004},
            "93.1 % [91.0, 94.8] {0.4}",
        ),
        ({"value": math.nan, "low": math.nan, "high": math.nan, "trials": 0, "chance": 0}, "-"),
    ],
)
def test_shares_in_words(share: dict[str, float], text: str) -> None:
    assert figures.share_text(share) == text
