"""Prices: what a run cost, beside an estimate for plain decoding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_sgd import Costs, Price, Report, SGDRunnable
from langchain_sgd.report import Usage
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

PRICES: dict[str, Any] = {"small": (1, 2), "large": (10, 30, 1)}
MILLION = 1_000_000


def stage(**lines: Say) -> Stage:
    said = {
        PLANNER: planning(skeleton("1", "2! <- 1"), usage=(1000, 50)),
        "1": Say("one", usage=(1100, 200)),
        "2": Say("two", usage=(1400, 300)),
    }
    return Stage({**said, **lines})


async def costs_of(on: Stage, question: Any = "Why?", **options: Any) -> Costs:
    sgd = SGDRunnable(**{**on.pair(), "prices": PRICES, **options})
    costs = Report.from_message(await sgd.ainvoke(question)).costs
    assert costs is not None
    return costs


async def test_each_call_costs_what_its_tier_costs() -> None:
    costs = await costs_of(stage())
    assert costs.planner == pytest.approx((1000 * 10 + 50 * 30) / MILLION)
    assert costs.nodes == {
        "1": pytest.approx((1100 * 1 + 200 * 2) / MILLION),
        "2": pytest.approx((1400 * 10 + 300 * 30) / MILLION),
    }
    assert costs.total == pytest.approx(costs.planner + sum(costs.nodes.values()))
    assert costs.tiers == {
        "planner": costs.planner,
        "small": costs.nodes["1"],
        "large": costs.nodes["2"],
    }
    assert costs.uncounted_calls == 0


async def test_plain_decoding_is_estimated_from_the_same_output_and_the_question_once() -> None:
    on = stage()
    costs = await costs_of(on, "Why? " * 400)
    prompt = "".join(str(message.text) for message in on.of(PLANNER)[0].messages)
    question = round(1000 * 2000 / len(prompt))
    assert costs.plain_estimate == pytest.approx((question * 10 + 500 * 30) / MILLION)


async def test_a_plain_runs_estimate_is_its_cost_without_the_planner() -> None:
    on = stage(**{PLANNER: Say("PLAIN", usage=(900, 1)), "plain": Say("short", usage=(80, 7))})
    costs = await costs_of(on, mode="never")
    assert costs.total == costs.plain_estimate == pytest.approx((80 * 10 + 7 * 30) / MILLION)


async def test_discarded_attempts_are_paid_and_not_in_the_estimate() -> None:
    on = stage(**{"small/1": Say("", usage=(1100, 9)), "large/1": Say("one", usage=(1100, 200))})
    costs = await costs_of(on)
    assert costs.tiers["small"] == pytest.approx((1100 * 1 + 9 * 2) / MILLION)
    assert costs.nodes["1"] == pytest.approx(
        costs.tiers["small"] + (1100 * 10 + 200 * 30) / MILLION
    )
    whole = await costs_of(stage())
    assert costs.plain_estimate == whole.plain_estimate


async def test_calls_that_nobody_counted_are_said() -> None:
    costs = await costs_of(stage(**{"1": Say("one")}))
    assert costs.uncounted_calls == 1
    assert costs.nodes["1"] == 0
    assert costs.plain_estimate is None


async def test_a_planner_of_its_own_has_its_own_price() -> None:
    on = stage()
    costs = await costs_of(
        on, planner=on.model("third"), prices={**PRICES, PLANNER: Price(input=100, output=0)}
    )
    assert costs.planner == pytest.approx(1000 * 100 / MILLION)


async def test_without_prices_there_are_no_costs() -> None:
    report = Report.from_message(await SGDRunnable(**stage().pair()).ainvoke("Why?"))
    assert report.costs is None
    assert report.to_json()["costs"] is None


async def test_costs_stand_in_the_report_and_survive_json() -> None:
    sgd = SGDRunnable(**stage().pair(), prices=PRICES)
    message = await sgd.ainvoke("Why?")
    report = Report.from_message(message)
    assert report.costs is not None
    assert message.response_metadata["sgd"]["costs"]["total"] == report.costs.total
    assert Report.model_validate_json(report.model_dump_json()).costs == report.costs


tokens = st.integers(0, 10**7)
rates = st.floats(0, 1000)


@given(tokens, tokens, tokens, rates, rates, rates)
def test_cached_tokens_have_their_own_price(
    fresh: int, cached: int, output: int, a: float, b: float, c: float
) -> None:
    usage = Usage(input_tokens=fresh + cached, cached_tokens=cached, output_tokens=output)
    expected = (fresh * a + cached * c + output * b) / MILLION
    assert Price(input=a, output=b, cached=c).of(usage) == pytest.approx(expected)
    without = (fresh + cached) * a + output * b
    assert Price(input=a, output=b).of(usage) == pytest.approx(without / MILLION)


@pytest.mark.parametrize(
    ("prices", "complaint"),
    [
        ({"small": (1, 2)}, r"missing for \['large'\]"),
        ({**PRICES, "huge": (1, 2)}, r"\['huge'\], but the tiers are"),
        ({**PRICES, "large": (1, -2)}, "greater than or equal to 0"),
        ({**PRICES, "large": (1, float("nan"))}, "finite"),
        ({**PRICES, "large": 3}, "prices.large"),
        ({**PRICES, "large": (1, 2, 3, 4)}, "prices.large"),
    ],
)
def test_prices_that_cannot_be_meant_are_refused(prices: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SGDRunnable(**stage().pair(), prices=prices)


def test_a_planner_of_its_own_needs_a_price() -> None:
    on = stage()
    with pytest.raises(ValidationError, match=r"missing for \['planner'\]"):
        SGDRunnable(**on.pair(), planner=on.model("third"), prices=PRICES)


def test_prices_are_written_as_tuples_or_values() -> None:
    sgd = SGDRunnable(**stage().pair(), prices={"small": Price(input=1, output=2), "large": (3, 4)})
    assert sgd.prices == {
        "small": Price(input=1, output=2),
        "large": Price(input=3, output=4, cached=None),
    }
