"""How much of an answer a bound of tokens shows, whatever its first part tells of their length."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage

from langchain_sgd.events import Ended, Token
from langchain_sgd.proxy.engine import Engine, Finished
from langchain_sgd.proxy.tally import Tally
from langchain_sgd.report import Attempt, NodeReport, Report, Usage
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import NodeId
from tests.support.models import Say, Stage, planning
from tests.support.skeletons import skeleton


async def finished(bound: int | None, **lines: Say) -> Finished:
    stage = Stage({"planner": planning(skeleton("1", "2")), "2": Say(["Tw", "o."]), **lines})
    engine = Engine(SGDRunnable(**stage.pair(), retries=0))
    options = {} if bound is None else {"max_tokens": bound}
    pieces = [piece async for piece in engine.answer("sgd", [HumanMessage("Which?")], options)]
    assert isinstance(pieces[-1], Finished)
    return pieces[-1]


@pytest.mark.parametrize(
    "first",
    [
        # Held back, until it is clear that it is not the heading again.
        Say(["- ", "On", "e."]),
        Say(["H", "e", " said one."]),
        Say(["## ", "Heading", " 1", "\n\nOne."]),
        # Short pieces, then long ones.
        Say(["O", "ne. " * 20]),
    ],
)
async def test_how_a_part_begins_does_not_use_up_the_bound(first: Say) -> None:
    whole, bounded = await finished(None, **{"1": first}), await finished(99, **{"1": first})
    assert (bounded.text, bounded.finish) == (whole.text, "stop")


async def test_a_part_without_text_says_nothing_of_how_long_tokens_are() -> None:
    lines = {"1": Say("", usage=(10, 40)), "2": Say(["Two. "] * 8, each_s=0.01, usage=(10, 40))}
    whole, bounded = await finished(None, **lines), await finished(99, **lines)
    assert (bounded.text, bounded.finish) == (whole.text, "stop")


def room(report: NodeReport, *, most: int = 10) -> int:
    """Characters that may be shown after a part with this report."""
    tally = Tally(most, question=0, plans=False)
    tally.feed(Ended(report.id, report.status, report.answer, 0, report=report))
    return len(tally.fitting("x" * 1000))


def a_report(**fields: object) -> NodeReport:
    usage = fields.pop("usage", Usage(output_tokens=50))
    attempt = Attempt(tier="large", started_s=0, ended_s=1, usage=usage)
    given = {"id": "1", "status": "complete", "tier": "large", "answer": "a" * 100}
    times = {"planned_s": 0, "ready_s": 0, "ended_s": 1}
    return NodeReport(**{**given, **times, "attempts": (attempt,), "answered_by": 0, **fields})


def test_a_part_that_a_server_has_counted_tells_how_long_tokens_are() -> None:
    assert room(a_report()) == 20
    assert room(a_report(left_out=("a" * 100,))) == 40
    thoughts = Usage(output_tokens=50, reasoning_tokens=25)
    assert room(a_report(usage=thoughts, reasoning="Well.")) == 40


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": ""},
        {"usage": None},
        {"usage": Usage(output_tokens=50, estimated=True)},
        {"reasoning": "Thoughts whose tokens are not told apart."},
        {"parts": Report(status="complete", wall_s=1)},
    ],
)
def test_a_count_of_more_than_the_text_does_not(fields: dict[str, object]) -> None:
    assert room(a_report(**fields)) == 45


def test_pieces_tell_it_once_there_are_some() -> None:
    tally = Tally(10, question=0, plans=False)
    for _ in range(15):
        tally.feed(Token(NodeId("1"), "ab", 0))
    assert tally.fitting("x" * 30) == "x" * 30
    tally.feed(Token(NodeId("1"), "ab", 0))
    assert tally.fitting("x") == ""
    assert tally.full
