"""From examples to tensors: padded batches of similar length, the loss on answers only."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from langchain_sgd.embedded.train.tasks import Mix, Tasks
from langchain_sgd.embedded.train.tokenizer import PAD, Encoded, encode

POOL = 384
"""Examples that are sorted by length together; batches of one pool are shuffled."""

_SEEDS = 1_000_003
"""Pools of one seed are drawn from seeds of their own, so that a resumed run need not replay."""


class Batch(NamedTuple):
    """Padded ids, and where in them the answers are to be predicted."""

    ids: Tensor
    chosen: Tensor
    """Flat positions before each answer token."""
    targets: Tensor
    """The answer tokens."""
    weights: Tensor
    """What each of them counts."""


def batches(
    tokenizer: Tokenizer,
    *,
    seed: int,
    tokens: int,
    emphasis: Callable[[], float],
    mix: Callable[[int], Mix],
    pool: int = 0,
) -> Iterator[list[Batch]]:
    """The batches of pool after pool, each of about `tokens` padded tokens.

    Args:
        tokenizer: Of both models.
        seed: Of the training run.
        tokens: Most padded tokens in a batch.
        emphasis: How much a fact that can be known counts beside other tokens; asked for every pool.
        mix: What a pool is made of.
        pool: The first pool; a resumed run goes on with the next one.
    """
    for index in itertools.count(pool):
        tasks = Tasks(seed * _SEEDS + index, mix(index))
        examples = itertools.islice(tasks, POOL)
        weight = emphasis()
        encoded = sorted((encode(tokenizer, e, emphasis=weight) for e in examples), key=_length)
        out: list[Batch] = []
        group: list[Encoded] = []
        for item in encoded:
            if group and (len(group) + 1) * _length(item) > tokens:
                out.append(padded(group))
                group = []
            group.append(item)
        out.append(padded(group))
        random.Random(index).shuffle(out)  # noqa: S311 - data, not secrets
        yield out


def padded(group: list[Encoded]) -> Batch:
    """One batch of these prompts and answers, in their order."""
    longest = -(-max(map(_length, group)) // 16) * 16
    ids = torch.full((len(group), longest), PAD)
    chosen: list[Tensor] = []
    for row, (prompt, answer, _) in enumerate(group):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        start = row * longest + len(prompt) - 1
        chosen.append(torch.arange(start, start + len(answer)))
    targets = torch.tensor([token for item in group for token in item.answer])
    weights = torch.tensor([weight for item in group for weight in item.weights])
    return Batch(ids, torch.cat(chosen), targets, weights)


def _length(item: Encoded) -> int:
    return len(item.prompt) + len(item.answer)
