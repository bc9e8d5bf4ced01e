"""What the answers of a bench cost: the user's prices, and the tokens that the servers counted."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from langchain_sgd.costs import PLANNER, Price, Pricing
from langchain_sgd.files import Row
from langchain_sgd.report import Report


def named_price(text: str) -> tuple[str, Price]:
    """`large=3,15,0.3`: the tier, and its price as a tuple would give it.

    Raises:
        argparse.ArgumentTypeError: It is no such text.
    """
    name, _, numbers = text.partition("=")
    try:
        return name, Price.model_validate([float(each) for each in numbers.split(",")])
    except (ValueError, ValidationError) as error:
        msg = f"{text!r} is no price: write TIER=INPUT,OUTPUT[,CACHED[,CACHE_WRITE]], per million tokens"
        raise argparse.ArgumentTypeError(msg) from error


def complaint(prices: Mapping[str, Price], tiers: Iterable[str]) -> str | None:
    """What is wrong with prices for these tiers; the planner of its own is one of them."""
    if unknown := sorted(prices.keys() - set(tiers)):
        return f"prices for {unknown}, but the models are {sorted(tiers)}"
    if missing := sorted(set(tiers) - prices.keys()):
        return f"prices are missing for {missing}; give one for every model"
    return None


def with_cost(row: Row, prices: Mapping[str, Price]) -> Row:
    """The row with its `cost`, unless a server did not count a call.

    Rows that were measured before anybody gave prices can have one, too.

    Args:
        row: One run.
        prices: By the tier's name in the row's report, and the planner's under `planner`.
    """
    if not prices or row["report"] is None:
        return row
    pricing = Pricing(prices={PLANNER: prices["large"], **prices}, plain_tier="large")
    report = Report.model_validate(row["report"]).model_copy(update={"pricing": pricing})
    costs = report.costs
    return row if costs is None or costs.uncounted_calls else {**row, "cost": costs.total}
