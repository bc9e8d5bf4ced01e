"""What a run has cost so far, and whether one more node may be started under `max_cost`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import BaseMessage

from langchain_sgd.costs import Price, price_of
from langchain_sgd.decoding.reply import Reply, tokens_of
from langchain_sgd.report import Attempt, Usage


@dataclass(slots=True)
class _Call:
    """One call, under way or ended."""

    tier: str
    reply: Reply
    prompt: int
    """Tokens of what was asked, estimated."""
    expected: int
    """Tokens that its answer will probably have."""

    def usage(self) -> Usage:
        """What its server counted; before it ended, or without a count, about what it comes to."""
        reply = self.reply
        if reply.ended_at is not None and reply.usage is not None:
            return reply.usage
        counted = reply.usage or Usage()
        written = max(counted.output_tokens, reply.pieces)
        if reply.ended_at is None:
            written = max(written, self.expected)
        read = counted.input_tokens or self.prompt
        # A call that never got its slot has asked nothing.
        if reply.ended_at is not None and reply.began_at is None:
            read = 0
        return counted.model_copy(update={"input_tokens": read, "output_tokens": written})


class Spending:
    """Adds up one run's calls.

    Args:
        prices: By tier, and the planner's under `planner`; None adds nothing up.
        most: What the run may cost; None is no bound.
        within: Of the run that this one is a part of, whose bound holds too, and the tier that it is there.
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | None,
        most: float | None,
        within: tuple[Spending, str] | None = None,
    ) -> None:
        self._prices = prices
        self._most = most
        self._within = within
        self._calls: list[_Call] = []
        self._earlier = 0.0

    @property
    def is_bounded(self) -> bool:
        """Whether there is anything to add up for."""
        return self._most is not None or (self._within is not None and self._within[0].is_bounded)

    def note(self, reply: Reply, messages: Sequence[BaseMessage], expected: int = 0) -> None:
        """A call begins; its reply tells what becomes of it."""
        if self.is_bounded:
            self.add(_Call(reply.tier, reply, tokens_of(messages), expected))

    def add(self, call: _Call) -> None:
        """A call of this run, or of one that is a part of it."""
        if self._most is not None:
            self._calls.append(call)
        if self._within is not None:
            outer, tier = self._within
            outer.add(replace(call, tier=f"{tier}/{call.tier}"))

    def restore(self, calls: Iterable[tuple[str, Attempt]]) -> None:
        """Calls of an earlier life of the run, by the names of their tiers."""
        calls = list(calls)
        paid = [(tier, call.usage) for tier, call in calls if call.usage]
        self._earlier += sum(self._price(tier, usage) for tier, usage in paid)
        if self._within is not None:
            outer, name = self._within
            outer.restore([(f"{name}/{tier}", call) for tier, call in calls])

    def refusal(self, tier: str, messages: Sequence[BaseMessage], expected: int) -> str | None:
        """Why a node must not be started; None if it may be.

        What is under way counts with all that it is expected to write, so that nodes which begin together
        do not pass the bound together.
        """
        if self._within is not None:
            outer, name = self._within
            if (reason := outer.refusal(f"{name}/{tier}", messages, expected)) is not None:
                return reason
        if self._most is None:
            return None
        calls = sum(self._price(call.tier, call.usage()) for call in self._calls)
        usage = Usage(input_tokens=tokens_of(messages), output_tokens=expected)
        total = self._earlier + calls + self._price(tier, usage)
        if total <= self._most:
            return None
        return (
            f"not started: with it the run would cost about {total:.3g}, more than"
            f" max_cost={self._most:g}"
        )

    def _price(self, tier: str, usage: Usage) -> float:
        price = None if self._prices is None else price_of(self._prices, tier)
        return 0.0 if price is None else price.of(usage)
