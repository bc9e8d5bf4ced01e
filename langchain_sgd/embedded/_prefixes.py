"""Which computed prefixes are kept, and which one a new prompt may build on.

The nodes of a skeleton share most of their prompts with the planner and with each other. A prompt takes
over the longest beginning that any sequence in the key-value cache already has, a running one too; what
finished requests leave behind is kept while it is recent and small. Small matters: attention passes over
every cell in use, and 1024 kept tokens make a step of a small model 10 to 30 % slower.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


class Source(NamedTuple):
    """A sequence whose first `length` tokens a prompt can take over."""

    sequence: int
    length: int


def common_length(first: Ids, second: Ids) -> int:
    """How many tokens two texts share at their beginning."""
    size = min(len(first), len(second))
    differs = first[:size] != second[:size]
    at = int(differs.argmax()) if size else 0
    return at if size and differs[at] else size


def longest(prompt: Ids, candidates: Iterable[tuple[int, Ids]]) -> Source | None:
    """The candidate that shares the longest beginning with `prompt`, None where none shares any.

    The last token of the prompt is never taken over: it must be computed to predict the next one.
    """
    best: Source | None = None
    for sequence, tokens in candidates:
        length = min(common_length(prompt, tokens), len(prompt) - 1)
        if length > (best.length if best else 0):
            best = Source(sequence, length)
    return best


class Kept:
    """Sequences that finished requests left in the cache, least recently used first."""

    def __init__(self, *, budget: int, limit: int) -> None:
        """Keep at most `limit` sequences with together at most `budget` tokens of their own."""
        self.budget = budget
        self._limit = limit
        self._kept: OrderedDict[int, tuple[Ids, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[tuple[int, Ids]]:
        return ((sequence, tokens) for sequence, (tokens, _) in self._kept.items())

    def used(self, sequence: int) -> None:
        """A prompt has built on this sequence."""
        if sequence in self._kept:
            self._kept.move_to_end(sequence)

    def add(self, sequence: int, tokens: Ids, own: int) -> list[int]:
        """Keep a sequence.

        Args:
            sequence: Its number in the cache.
            tokens: What was computed for it.
            own: How many of them it did not take over from another one.

        Returns:
            Sequences to remove from the cache; `sequence` itself where it adds nothing.
        """
        for known, _ in self._kept.values():
            if common_length(known, tokens) == len(tokens):
                return [sequence]
        removed = [
            other
            for other, (known, _) in self._kept.items()
            if common_length(known, tokens) == len(known)
        ]
        for other in removed:
            own += self._kept.pop(other)[1]
        self._kept[sequence] = tokens, own
        while len(self._kept) > self._limit or (
            sum(size for _, size in self._kept.values()) > self.budget
        ):
            removed.append(self._kept.popitem(last=False)[0])
        return removed

    def oldest(self) -> int | None:
        """Give up the sequence that was not used for longest, None where none is kept."""
        return self._kept.popitem(last=False)[0] if self._kept else None

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
