"""Answers to the questions of the briefs domain, right ones and wrong ones, and bench rows of them."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

from langchain_sgd.bench._embedded_figures import BRIEF, SHORT
from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.texts import SECTIONS
from langchain_sgd.events import PLAIN_ID
from tests.support.bench import report, row

QUESTIONS = tuple(itertools.islice(domain.briefs(1, held_out=True), 10))
SHORTS = tuple(itertools.islice(domain.plains(1, held_out=True), 4))


@functools.cache
def _right(index: int) -> str:
    return answer(QUESTIONS[index])


def answer(brief: domain.Brief, *, wrong: int = 0, alone: bool = False) -> str:
    """An answer to a brief.

    Args:
        brief: The question.
        wrong: How many of its last sections are nonsense.
        alone: Whether every section invents its own facts, as if none knew another.
    """
    rng = random.Random(brief.question)
    facts = brief.invent(rng)
    order = brief.order(rng)
    texts = [
        grammar.render(SECTIONS[h], brief.invent(rng) if alone else facts, rng)[0] for h in order
    ]
    texts[len(texts) - wrong :] = ["Nonsense."] * wrong
    return "\n\n".join(f"## {h}\n\n{text}" for h, text in zip(order, texts, strict=True))


def short_answer(asked: domain.Plain) -> str:
    """A right answer to a question that does not decompose."""
    return grammar.render(asked.slots, asked.facts, random.Random(1))[0]


def engines(large: int, small: int, *, steps: int, busy_s: float) -> dict[str, dict[str, float]]:
    """What the engines counted in a run."""
    return {
        name: {
            "steps": steps if name == "large" else 0,
            "generated_tokens": tokens,
            "computed_prompt_tokens": 40,
            "cached_prompt_tokens": 10,
            "busy_s": busy_s if name == "large" else 0.0,
        }
        for name, tokens in (("large", large), ("small", small))
    }


def brief_row(
    method: str,
    index: int,
    wall_s: float = 1.0,
    *,
    steps: int = 100,
    large: int = 200,
    small: int = 0,
    cached: int = 80,
    **more: Any,
) -> dict[str, Any]:
    """A row of `bench embedded` for a question that decomposes, with a right answer."""
    asked = QUESTIONS[index]
    made = domain.skeleton(asked.order(random.Random(1)))
    told = report(
        made, {str(n.id): 20 for n in made.nodes}, plan=15, wall_s=wall_s, prompt=100, cached=cached
    )
    return row(
        method,
        f"{BRIEF} {index}",
        wall_s,
        **{
            "category": BRIEF,
            "question": asked.question,
            "answer": _right(index),
            "report": told,
            "steps": steps,
            "path_tokens": 50.0,
            "engines": engines(large, small, steps=steps, busy_s=0.5),
            "client_cpu_s": 0.01,
            "server_cpu_s": 0.9,
            **more,
        },
    )


def short_row(method: str, index: int, wall_s: float = 1.0, **more: Any) -> dict[str, Any]:
    """A row of `bench embedded` for a question that does not decompose."""
    asked = SHORTS[index]
    told = report(None, {PLAIN_ID: 20}, plan=1, wall_s=wall_s)
    base = brief_row(method, 0, wall_s)
    short = {"category": SHORT, "question": asked.question, "answer": short_answer(asked)}
    return {**base, "question_id": f"{SHORT} {index}", "report": told, **short, **more}
