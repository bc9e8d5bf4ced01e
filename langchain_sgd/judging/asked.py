"""What a judge is asked: a pair in one order; and what all that costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from langchain_core.messages import BaseMessage

from langchain_sgd.costs import Price
from langchain_sgd.judging.pairs import Pair

_CHARACTERS_A_TOKEN: Final = 4
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: a pair in one order."""

    pair: Pair
    method_first: bool
    messages: tuple[BaseMessage, ...]
    digest: str

    @property
    def shown(self) -> tuple[str, str]:
        """The answers in this order."""
        return shown(self.pair, method_first=self.method_first)


def shown(pair: Pair, *, method_first: bool) -> tuple[str, str]:
    """Both answers, in the order in which the judge sees them."""
    return (pair.answer, pair.other) if method_first else (pair.other, pair.answer)


@dataclass(frozen=True, slots=True)
class Cost:
    """What judging will take, told before it is begun.

    An unusable verdict is asked for once more, which comes on top.
    """

    calls: int
    kept: int
    """Verdicts that are there from an earlier run and need no call."""
    input_tokens: int
    """Estimated at 4 characters a token; the servers' own counts will differ."""
    output_tokens: int | None
    """At most; None where the judge's replies have no known limit."""

    @classmethod
    def of(cls, calls: Collection[Asked], *, kept: int, reply_tokens: int | None) -> Self:
        """Of these calls, each with a reply of at most so many tokens."""
        characters = sum(len(message.text) for each in calls for message in each.messages)
        return cls(
            calls=len(calls),
            kept=kept,
            input_tokens=-(-characters // _CHARACTERS_A_TOKEN),
            output_tokens=None if reply_tokens is None else len(calls) * reply_tokens,
        )

    def price(self, price: Price) -> float | None:
        """The most that it costs; None where the replies have no known limit."""
        if self.output_tokens is None:
            return None
        return (self.input_tokens * price.input + self.output_tokens * price.output) / _MILLION
