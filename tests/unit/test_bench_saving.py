"""What the benchmark of saving takes for late and for early."""

from __future__ import annotations

import asyncio

from langchain_sgd.bench import saving
from langchain_sgd.skeleton import NodeId
from tests.support.skeletons import skeleton

ONE, TWO, THREE = NodeId("1"), NodeId("2"), NodeId("3")


def life() -> saving.Life:
    return saving.Life(
        skeleton("1", "2 <- 1", "3"),
        asked=1.0,
        started={ONE: 1.0, TWO: 2.5, THREE: 1.5},
        written={ONE: 2.0, TWO: 3.0, THREE: 2.0},
        saved={ONE: 2.5, TWO: 3.25, THREE: 2.0},
    )


def test_calls_that_wait_for_what_they_rest_on_are_not_early() -> None:
    assert life().delays == [0.5, 0.25, 0.0]
    assert life().early == 0


def test_a_call_before_its_question_or_its_dependency_is_saved_is_early() -> None:
    made = life()
    made.started[TWO] = 2.25
    assert made.early == 1
    made.asked = 1.75
    assert made.early == 3
    made = life()
    del made.saved[ONE]
    assert made.early == 1


def test_delays_are_told_by_percentile() -> None:
    found = saving.figures([life(), life()])
    assert (found["parts"], found["median_ms"], found["max_ms"]) == (6, 250, 500)
    assert (found["calls"], found["calls_too_early"]) == (6, 0)


def test_runs_are_measured_as_they_are() -> None:
    lives = asyncio.run(saving.measure("memory", 2, 2, 0.001))
    found = saving.figures(lives)
    assert (found["parts"], found["calls"], found["calls_too_early"]) == (16, 16, 0)
