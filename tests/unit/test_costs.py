"""Prices: what a run cost, beside an estimate for plain decoding."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import ValidationError

from langchain_sgd import Costs, NodeDecodeError, Price, Report, SGDRunnable
from langchain_sgd.report import Usage
from tests.support.models import PLAIN, PLANNER, Say, ScriptedChat, Stage, planning
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


async def test_a_plain_answer_that_was_begun_and_stopped_is_paid() -> None:
    on = stage(**{PLAIN: Say(["It ", "is ", "so. ", "And"], hang=True)})
    message = await SGDRunnable(**{**on.pair(), "prices": PRICES, "opening": True}).ainvoke("Why?")
    report = Report.from_message(message)
    assert report.costs is not None
    assert report.planner is not None
    assert report.planner.hedge is not None
    stopped = report.planner.hedge.usage
    assert stopped is not None
    paid = (stopped.input_tokens * 10 + stopped.output_tokens * 30) / MILLION
    assert paid > 0
    assert report.costs.total == pytest.approx(
        report.costs.planner + sum(report.costs.nodes.values()) + paid
    )
    assert report.costs.total == pytest.approx(sum(report.costs.tiers.values()))


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
        ({**PRICES, "large": (1, 2, 3, 4, 5)}, "prices.large"),
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


@given(tokens, tokens, tokens, rates, rates, rates)
def test_tokens_put_into_a_cache_have_their_own_price(
    fresh: int, cached: int, written: int, a: float, b: float, c: float
) -> None:
    usage = Usage(
        input_tokens=fresh + cached + written, cached_tokens=cached, cache_write_tokens=written
    )
    price = Price.model_validate((a, 0, b, c))
    assert price == Price(input=a, output=0, cached=b, cache_write=c)
    assert price.of(usage) == pytest.approx((fresh * a + cached * b + written * c) / MILLION)
    without = fresh * a + cached * b + written * a
    assert Price(input=a, output=0, cached=b).of(usage) == pytest.approx(without / MILLION)


async def test_the_opening_s_call_costs() -> None:
    plan = planning(skeleton("1", "2"), each_s=0.05, usage=(0, 0))
    none = Say("one two three.", usage=(0, 0))
    on = Stage({PLANNER: plan, "1": none, "2": none})
    on.lines[PLAIN] = Say("It is so. And more.", usage=(5000, 2000))
    sgd = SGDRunnable(
        large=on.model("large"), mode="always", prices={"large": (1, 1)}, least_share=0
    )
    report = Report.from_message(await sgd.ainvoke("Why?"))
    assert report.planner is not None
    assert report.planner.hedge is not None
    assert report.planner.hedge.usage == Usage(input_tokens=5000, output_tokens=2000)
    assert report.costs is not None
    assert report.costs.opening == report.costs.total == pytest.approx(0.007)


class CountsItsPromptFirst(ScriptedChat):
    """As Anthropic does: what was written is counted at the end only."""

    async def _astream(self, *args: Any, **options: Any) -> AsyncIterator[ChatGenerationChunk]:
        began: Any = {"input_tokens": 500, "output_tokens": 1, "total_tokens": 501}
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=began))
        async for chunk in super()._astream(*args, **options):
            yield chunk


async def test_a_part_that_we_ended_counts_what_was_written() -> None:
    on = Stage(default=Say(["word "] * 60 + ["end. "] + ["Word "] * 60))
    sgd = SGDRunnable(large=CountsItsPromptFirst(name="large", stage=on))
    question = {"question": "Why?", "skeleton": skeleton("1")}
    usage = Report.from_message(await sgd.ainvoke(question)).usage["large"]
    assert usage.input_tokens == 500
    assert 61 <= usage.output_tokens < 70
    assert usage.estimated


# -- max_cost


def test_a_bound_needs_prices() -> None:
    with pytest.raises(ValidationError, match=r"max_cost needs prices: give prices="):
        SGDRunnable(**stage().pair(), max_cost=1)


FOUR = skeleton("1", "2", "3", "4 <- 3")
EACH = (0, 10)
"""So that one word a million costs 10: a part of 60 words, 90 tokens, is expected to cost 900."""


def four(**lines: Say) -> Stage:
    said = {PLANNER: planning(FOUR, usage=(0, 10))}
    said |= {id_: Say(f"Text {id_}.", usage=(0, 90)) for id_ in "1234"}
    return Stage({**said, **lines})


async def bounded(on: Stage, max_cost: float, **options: Any) -> Report:
    sgd = SGDRunnable(
        large=on.model("large"),
        prices={"large": EACH},
        max_cost=max_cost / MILLION,
        length=240,
        execution="planned",
        **{"opening": False, **options},
    )
    return Report.from_message(await sgd.ainvoke("Why?"))


async def test_nodes_that_would_pass_the_bound_together_are_not_started_together() -> None:
    on = four()
    report = await bounded(on, 2000)  # the plan 100, a part 900
    assert sorted(on.parts()) == ["1", "2", PLANNER]
    assert [node.status for node in report.nodes] == ["complete", "complete", "skipped", "skipped"]
    assert report.status == "partial"
    assert report.costs is not None
    assert report.costs.total == pytest.approx(1900 / MILLION)
    reason = "not started: with it the run would cost about 0.0028, more than max_cost=0.002"
    assert f"node 3: {reason}" in report.warnings
    assert any("node 4: not decoded: its dependency 3" in warning for warning in report.warnings)


async def test_what_was_expected_and_not_spent_is_free_again() -> None:
    on = four(**{"3": Say("Short.", usage=(0, 10))})
    report = await bounded(on, 2950)  # 100 + 900 + 900 + 100, and then 900
    assert report.status == "complete"
    assert sorted(on.parts()) == ["1", "2", "3", "4", PLANNER]


async def test_calls_that_nobody_counted_are_estimated() -> None:
    on = four(**{"3": Say([*"a" * 200])})  # a piece a token
    report = await bounded(on, 4000)  # 100 + 900 + 900 + 2000, and then 900
    assert [node.status for node in report.nodes][2:] == ["complete", "skipped"]


async def test_a_bound_that_the_plan_has_passed_leaves_no_answer() -> None:
    on = four()
    with pytest.raises(NodeDecodeError, match="not started: with it the run would cost"):
        await bounded(on, 50)
    assert on.parts() == [PLANNER]


async def test_the_opening_keeps_to_the_bound_too() -> None:
    on = four(**{PLAIN: Say(["It ", "is ", "so. ", "And"], hang=True)})
    report = await bounded(on, 4000, opening=True)
    assert report.opening == "It is so."
    on = four()
    with pytest.raises(NodeDecodeError, match="not started: with it the run would cost"):
        await bounded(on, 50, opening=True)
    assert on.parts() == [PLANNER]


async def test_the_literal_graph_keeps_to_the_bound_too() -> None:
    on = four()
    sgd = SGDRunnable(
        large=on.model("large"),
        prices={"large": EACH},
        max_cost=2000 / MILLION,
        length=240,
        execution="superstep",
    )
    report = Report.from_message(await sgd.ainvoke("Why?"))
    assert [node.status for node in report.nodes] == ["complete", "complete", "skipped", "skipped"]


async def test_what_an_earlier_life_has_paid_counts() -> None:
    on = four()
    saver = InMemorySaver()
    thread: Any = {"configurable": {"thread_id": "t"}}
    sgd = SGDRunnable(
        large=on.model("large"),
        prices={"large": EACH},
        max_cost=3650 / MILLION,
        length=240,
        approve=True,
        checkpointer=saver,
    )
    await sgd.ainvoke("Why?", thread)
    given = skeleton("1", "2", "3").model_dump(mode="json")
    first = Report.from_message(await sgd.ainvoke(Command(resume=given), thread))
    assert first.nodes[2].status == "skipped"  # 100 for the plan, 3 * 1200
