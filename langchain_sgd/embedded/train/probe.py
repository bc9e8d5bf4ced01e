"""What a model in training has learned: per kind of fact, whether it is copied, computed or only guessed.

Teacher-forced on held-out questions: a fact counts when every one of its tokens is the model's first
choice. Facts that a section invents itself stand beside as the level of guessing.
"""
# torch is no part of the environment in which types are checked.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Mapping

import torch
from tokenizers import Tokenizer

from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.train.batches import padded
from langchain_sgd.embedded.train.model import Llama
from langchain_sgd.embedded.train.tasks import STRUCTURE, Example, node, plan, whole
from langchain_sgd.embedded.train.tokenizer import encode

_SEED = 271828
_TOGETHER = 12


def probe_examples(per_heading: int) -> list[Example]:
    """Held-out gold nodes of every heading, and as many skeletons and whole answers."""
    rng = random.Random(_SEED)  # noqa: S311 - data, not secrets
    briefs = domain.briefs(_SEED, held_out=True)
    out: list[Example] = []
    for heading in domain.NEEDS:
        with_it = (b for b in briefs if heading in b.headings)
        out += [node(b, heading, rng) for b in itertools.islice(with_it, per_heading)]
    out += [plan(b, rng) for b in itertools.islice(briefs, per_heading)]
    out += [whole(b, rng) for b in itertools.islice(briefs, per_heading)]
    return out


@torch.no_grad()
def probe(
    model: Llama, tokenizer: Tokenizer, examples: list[Example]
) -> Mapping[str, dict[str, float]]:
    """Shares of facts that are the model's first choice, by fact and by section.

    Returns:
        `copied` and `invented` by fact; `section`: all copied and computed facts of a node right.
    """
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    examples = sorted(examples, key=lambda e: len(e.prompt) + len(e.answer))
    for start in range(0, len(examples), _TOGETHER):
        group = examples[start : start + _TOGETHER]
        batch = padded([encode(tokenizer, example) for example in group])
        right = (model(batch.ids, batch.chosen).argmax(-1) == batch.targets).tolist()
        at = 0
        for example in group:
            encoding = tokenizer.encode(example.answer, add_special_tokens=False)
            count = len(encoding.ids)
            ok = right[at : at + count]
            at += count + 1
            _count(example, encoding.offsets, ok, hits)
    return {
        kind: {name: round(sum(v) / len(v), 3) for name, v in sorted(values.items())}
        for kind, values in sorted(hits.items())
    }


def _count(
    example: Example,
    offsets: list[tuple[int, int]],
    ok: list[bool],
    hits: dict[str, dict[str, list[bool]]],
) -> None:
    given: list[bool] = []
    for span, known in zip(example.spans, example.known(), strict=True):
        if span.fact == STRUCTURE:
            continue
        fact_right = all(
            right
            for right, (start, end) in zip(ok, offsets, strict=True)
            if start < span.end and end > span.start
        )
        where = "whole" if example.kind == "whole" else "node"
        hits[f"{where} {'given' if known else 'invented'}"][span.fact].append(fact_right)
        if known:
            given.append(fact_right)
    hits["section"][example.kind].append(all(given))
