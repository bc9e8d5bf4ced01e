"""What a run cost, and about what plain decoding would have cost: pure arithmetic on the report.

Prices come from the user: a server of one's own has no price list. They are per million tokens, in any
currency, and so are the costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from langchain_sgd.report import Attempt, Report, Usage

PLANNER = "planner"
_MILLION = 1_000_000


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Price(_Value):
    """Price of a model per million tokens; may be written as a tuple of two, three or all four."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For input tokens that the server had in its prefix cache; like `input` if not given."""
    cache_write: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For input tokens that the server put into its prefix cache; like `input` if not given."""

    @model_validator(mode="before")
    @classmethod
    def _from_tuple(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) in {2, 3, 4}:
            return dict(zip(("input", "output", "cached", "cache_write"), value, strict=False))
        return value

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        return (
            fresh * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * self.output
        ) / _MILLION


if TYPE_CHECKING:
    PriceLike = Price | tuple[float, ...]
    """A price, or its two to four numbers, of which a price is made when they are read."""
else:
    PriceLike = Price


class Pricing(_Value):
    """What a report needs to know its costs."""

    prices: Mapping[str, Price]
    """By tier, and the planner's under `planner`."""
    plain_tier: str
    """The tier that would have answered the question undivided."""
    question_tokens: int | None = None
    """Tokens of the conversation alone, estimated from a longer prompt by its share of the characters;
    None if no server counted."""


class Costs(_Value):
    """What a run cost: every call that its server counted, discarded attempts included."""

    total: float
    planner: float
    opening: float = 0.0
    """Of the undivided answer that was begun and only opened the answer."""
    nodes: Mapping[str, float]
    tiers: Mapping[str, float]
    """By the tier that was asked, and the planner's under `planner`."""
    uncounted_calls: int
    """Calls whose servers reported no tokens; what they cost is missing in every figure here."""
    plain_estimate: float | None
    """What plain decoding on the largest tier would have cost for as many output tokens, its prompt being
    the conversation, once. An estimate: nobody knows how long that answer would have been. None where
    tokens were not counted."""


def costs_of(report: Report) -> Costs | None:
    """The costs of a run; None without prices."""
    if (pricing := report.pricing) is None:
        return None
    prices = _prices(report)
    nodes: dict[str, float] = {}
    tiers: dict[str, float] = {}
    uncounted = 0

    def cost(tier: str, attempt: Attempt) -> float:
        nonlocal uncounted
        price = price_of(prices, tier)
        if attempt.usage is None or price is None:
            uncounted += 1
            return 0.0
        paid = price.of(attempt.usage)
        tiers[tier] = tiers.get(tier, 0.0) + paid
        return paid

    attempts = report.planner.attempts if report.planner else ()
    planner = sum(cost(PLANNER, attempt) for attempt in attempts)
    hedge = report.planner.hedge if report.planner else None
    opening = 0.0 if hedge is None else cost(hedge.tier, hedge)
    for node in report.nodes:
        nodes[node.id] = sum(cost(tier, attempt) for tier, attempt in node.calls)
    return Costs(
        total=planner + opening + sum(nodes.values()),
        planner=planner,
        opening=opening,
        nodes=nodes,
        tiers=tiers,
        uncounted_calls=uncounted,
        plain_estimate=_plain_estimate(report, pricing),
    )


def _prices(report: Report) -> dict[str, Price]:
    """By tier, those of parts' own runs included where they have prices of their own."""
    prices = dict(report.pricing.prices) if report.pricing else {}
    for parts in (node.parts for node in report.nodes if node.parts is not None):
        prices |= {f"{parts.prefix}{tier}": price for tier, price in _prices(parts).items()}
    return prices


def price_of(prices: Mapping[str, Price], tier: str) -> Price | None:
    """A tier's, or that of the tier that it is inside."""
    while tier not in prices and "/" in tier:
        tier = tier.rpartition("/")[0]
    return prices.get(tier)


def _plain_estimate(report: Report, pricing: Pricing) -> float | None:
    leaves = report.leaves.values()
    written = [leaf.attempts[-1].usage for leaf in leaves if leaf.answer and leaf.attempts]
    counted = [usage for usage in written if usage is not None]
    if pricing.question_tokens is None or len(counted) < len(written):
        return None
    price = pricing.prices[pricing.plain_tier]
    output = sum(usage.output_tokens for usage in counted)
    return (pricing.question_tokens * price.input + output * price.output) / _MILLION
