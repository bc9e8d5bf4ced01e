"""What answers of a bench cost beside plain ones, by the user's prices and the servers' counts."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pytest

from langchain_sgd.bench import _compare, _costs, endpoints
from langchain_sgd.bench import _endpoints_page as endpoints_page
from langchain_sgd.costs import Price
from tests.support.bench import Page, has_nan, report, row
from tests.support.skeletons import skeleton

PRICES = {"large": Price(input=3, output=15, cached=1), "small": Price(input=1, output=2)}
PLAIN, SGD = endpoints.PLAIN, endpoints.SGD
Rows = list[dict[str, Any]]


def rows() -> Rows:
    """Of each question, a plain answer of 100 tokens and one of two parts, 60 of their 100 cached each."""
    return [
        row(name, n, users=1, began=0.0, report=told)
        for n in (1, 2, 3)
        for name, told in (
            (PLAIN, report(None, {"plain": 100})),
            (SGD, report(skeleton("1", "2"), {"1": 50, "2": 50}, plan=10, cached=60)),
        )
    ]


def costs(found: Rows) -> dict[str, Any]:
    return _compare.compare([_costs.with_cost(each, PRICES) for each in found], base=PLAIN)


def test_plain_and_sgd_stand_beside_each_other() -> None:
    plain, sgd = costs(rows()).values()
    assert plain["cost"]["median"] == pytest.approx((100 * 3 + 100 * 15) / 1e6)
    paid = 3 * (40 * 3 + 60 * 1) + (10 + 100) * 15  # the planner has the large model's price
    assert sgd["cost"]["median"] == pytest.approx(paid / 1e6)
    assert sgd["cost_ratio"]["median"] == pytest.approx(paid / 1800)
    assert (sgd["costed"], sgd["cost_ratio"]["questions"]) == (3, 3)
    assert (plain["prompt_tokens"], sgd["prompt_tokens"]) == (100, 300)
    assert (plain["cached_share"], sgd["cached_share"]) == (0, pytest.approx(0.6))


def test_each_tier_has_its_own_price() -> None:
    told = report(skeleton("1"), {"1": 50}, plan=10, tier="small")
    priced = _costs.with_cost(
        row(SGD, 1, report=told), {**PRICES, "planner": Price.model_validate((0, 100))}
    )
    assert priced["cost"] == pytest.approx((10 * 100 + 100 * 1 + 50 * 2) / 1e6)


def test_an_answer_that_was_not_counted_whole_is_left_out() -> None:
    found = rows()
    found[1]["report"]["nodes"][0]["attempts"][0]["usage"] = None
    sgd = costs(found)[SGD]
    assert (sgd["costed"], sgd["runs"], sgd["cost_ratio"]["questions"]) == (2, 3, 2)


def test_a_failed_run_has_no_cost() -> None:
    failed = row(SGD, 1, error="Error: no")
    assert _costs.with_cost(failed, PRICES) == failed


def test_without_prices_nothing_is_said_of_costs(capsys: pytest.CaptureFixture[str]) -> None:
    found, reports = endpoints_page.summary(rows(), {}, names_in_order=[PLAIN, SGD])
    endpoints_page.show_figures(found)
    assert "cost" not in capsys.readouterr().out
    assert "cost" not in "".join(endpoints_page.endpoints_page(found, reports, "bench"))
    assert math.isnan(found["users"]["1"]["methods"][SGD]["cost"]["median"])


def test_tables_and_page_show_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    priced = [_costs.with_cost(each, PRICES) for each in rows()]
    found, reports = endpoints_page.summary(priced, {}, names_in_order=[PLAIN, SGD])
    endpoints_page.show_figures(found)
    said = capsys.readouterr().out
    (shown,) = [line for line in said.splitlines() if "│ 1.22 │" in " ".join(line.split())]
    assert [cell.strip() for cell in shown.split("│")[1:-1]] == [
        SGD,
        "2.19",
        "1.22",
        "3",
        "300",
        "60 %",
    ]
    page = Page(endpoints_page.endpoints_page(found, reports, "bench"))
    assert "cost of 1,000 answers" in page.all("th")
    assert {"1.80", "1.22"} <= set(page.all("td"))
    assert not has_nan(said)


# -- the option


def test_a_price_is_written_as_its_numbers() -> None:
    assert _costs.named_price("large=3,15,0.3") == (
        "large",
        Price(input=3, output=15, cached=0.3),
    )


@pytest.mark.parametrize("text", ["large", "large=3", "large=3,x", "large=3,-1", "large=1,2,3,4,5"])
def test_what_is_no_price_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no price: write TIER=INPUT"):
        _costs.named_price(text)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["large=1,2", "huge=1,2"], r"--prices: prices for ['huge'], but the models are ['large']"),
        ([], "--prices: expected at least one argument"),
        (["large=1"], "'large=1' is no price"),
    ],
)
def test_wrong_prices_are_told_before_anything_is_asked(
    given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--large", "http://127.0.0.1:1", "--questions", __file__, "--prices"]
    with pytest.raises(SystemExit) as caught:
        endpoints.main([*command, *given])
    assert caught.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_every_model_needs_a_price() -> None:
    assert _costs.complaint(PRICES, ["small", "large"]) is None
    assert _costs.complaint(PRICES, ["small", "large", "planner"]) == (
        "prices are missing for ['planner']; give one for every model"
    )
