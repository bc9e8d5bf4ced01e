"""The byte-level BPE of both models, learned from the domain.

Digits are never merged, so that numbers are read and written digit by digit. What every skeleton line
and every section has in common is one token each. It was learned once and stands beside this file, so
that models of all runs share it:

    python -m langchain_sgd.embedded.train.tokenizer
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from langchain_sgd.embedded.briefs.domain import NEEDS
from langchain_sgd.embedded.briefs.texts import MONTHS, NAME_PARTS, PLACE_PARTS, VALUES
from langchain_sgd.embedded.train.tasks import STRUCTURE, Example, Tasks

_PATH = Path(__file__).with_name("tokenizer.json")

_FACT_REPEATS = 400

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT = range(6)
SPECIAL = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>")

OPEN = "\n\n"
"""A turn that ends so has begun a section, which the answer goes on with."""

GLUE = (
    "\n\n## ",
    "## ",
    "\n\n",
    "\n\nPlan",
    "|-|1\n",
    "|-|2\n",
    "|1\n",
    "|2\n",
    "|4\n",
    "|5\n",
    *(f"|{heading}|" for heading in NEEDS),
)
"""What all answers have in common is one token each: a skeleton's line is about eight."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|eos|>"
    "{% elif message['role'] == 'system' %}<|system|>{{ message['content'] }}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt and messages[-1]['content'][-2:] != '\\n\\n' %}"
    "<|assistant|>{% endif %}"
)
"""Jinja, as it stands in the GGUF. A turn that ends with an open section is gone on with as it stands."""


def learn(size: int, *, seed: int, examples: int = 6000) -> Tokenizer:
    """A tokenizer of `size` pieces from the answers and questions of the domain."""
    tokenizer = Tokenizer(models.BPE())
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), by_bytes]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(GLUE),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        text
        for example in itertools.islice(Tasks(seed), examples)
        for text in (example.prompt, example.answer)
    )
    words = sorted({word for value in _values() for word in value.split() if word.isalpha()})
    # Every word that may be a fact is one piece, however rare it is.
    facts = (f" {word}" * _FACT_REPEATS for word in words)
    tokenizer.train_from_iterator(itertools.chain(texts, facts), trainer)
    tokenizer.add_tokens([AddedToken(glue, normalized=False) for glue in GLUE])
    # No merge holds a digit, so the plain GPT-2 splitting that llama.cpp knows gives the same pieces.
    tokenizer.pre_tokenizer = by_bytes
    return tokenizer


def _values() -> Iterator[str]:
    for values in VALUES.values():
        yield from values
    for parts in (*NAME_PARTS, *PLACE_PARTS, MONTHS):
        yield from parts


def load() -> Tokenizer:
    """The tokenizer of both models, as it was learned once."""
    return Tokenizer.from_str(_PATH.read_text())


class Encoded(NamedTuple):
    """An example as ids."""

    prompt: list[int]
    """The chat up to the answer."""
    answer: list[int]
    """The answer with its end."""
    weights: list[float]
    """What each token of the answer counts in the loss."""


def encode(tokenizer: Tokenizer, example: Example, *, emphasis: float = 1.0) -> Encoded:
    """An example as ids.

    Facts that can be known, the names of sections and the end of the answer count `emphasis` times as
    much as other tokens.
    """
    prompt = tokenizer.encode(example.prompt, add_special_tokens=False).ids
    answer = tokenizer.encode(example.answer, add_special_tokens=False)
    weights = [1.0] * len(answer.ids) + [emphasis]
    at = 0
    for span, known in zip(example.spans, example.known(), strict=True):
        if not known and span.fact != STRUCTURE:
            continue
        while answer.offsets[at][1] <= span.start:
            at += 1
        inside = at
        while inside < len(answer.ids) and answer.offsets[inside][0] < span.end:
            weights[inside] = emphasis
            inside += 1
    turn = [] if example.prompt.endswith(OPEN) else [ASSISTANT]
    return Encoded([BOS, USER, *prompt, *turn], [*answer.ids, EOS], weights)


if __name__ == "__main__":
    learn(1920, seed=0).save(str(_PATH), pretty=False)
