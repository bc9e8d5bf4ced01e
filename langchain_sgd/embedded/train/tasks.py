"""Training examples: what the package will send at run time, and what a good model answers.

Prompts are made by the package itself, so that a model meets nothing at run time that it has not seen.
Kinds of example: the skeleton of a brief, the plain route, a node with the answers it needs, a node
without them (Skeleton-of-Thought asks that; the model can only invent), the whole answer undivided, a
plain short answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.domain import Brief, Plain
from langchain_sgd.embedded.briefs.grammar import Span
from langchain_sgd.embedded.briefs.texts import SECTIONS
from langchain_sgd.embedded.briefs.turns import node_prompt, planner_prompt, skeleton_text
from langchain_sgd.prompts import PLAIN_WORD

MIX: Mapping[str, float] = {
    "node": 0.56,
    "root": 0.10,
    "blind": 0.06,
    "whole": 0.16,
    "plan": 0.08,
    "plain": 0.02,
    "plain_plan": 0.02,
}
"""Share of each kind among the examples (not among the tokens)."""

EMPHASIS: Mapping[str, float] = {
    "Bundle": 4.0,
    "Delivery": 3.0,
    "Offer": 2.0,
    "Summary": 2.0,
    "Invitation": 1.5,
    "Poster": 1.5,
}
"""How much more often than its share a section is trained as a node: sums are learned last."""


class Example(NamedTuple):
    """One user turn and the answer to it."""

    kind: str
    prompt: str
    answer: str
    spans: tuple[Span, ...] = ()
    """Where facts stand in the answer."""

    def known(self) -> list[bool]:
        """For every span, whether the fact follows from the prompt or from the text before it."""
        told: set[str] = set(domain.QUESTION_FACTS) | set(domain.COMPUTED)
        if self.kind == "plain":
            return [True] * len(self.spans)
        if self.kind in domain.NEEDS:
            told |= set(domain.inherited(self.kind))
        out: list[bool] = []
        for span in self.spans:
            blind_sum = self.kind.startswith("blind") and span.fact == "club" and "cut" not in told
            out.append(span.fact in told and not blind_sum)
            told.add(span.fact)
        return out


@dataclass(slots=True)
class Tasks:
    """An unlimited stream of examples in a fixed mix."""

    seed: int
    held_out: bool = False

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random(self.seed)  # noqa: S311 - data, not secrets
        briefs = domain.briefs(rng.getrandbits(32), held_out=self.held_out)
        plains = domain.plains(rng.getrandbits(32), held_out=self.held_out)
        kinds, weights = list(MIX), list(MIX.values())
        while True:
            kind = rng.choices(kinds, weights)[0]
            if kind == "plain":
                yield plain_answer(next(plains), rng)
            elif kind == "plain_plan":
                plain = next(plains)
                yield Example(kind, planner_prompt(plain.question), PLAIN_WORD)
            elif kind == "plan":
                yield plan(next(briefs), rng)
            elif kind == "whole":
                yield whole(next(briefs), rng)
            else:
                yield _some_node(kind, next(briefs), rng)


def plan(brief: Brief, rng: random.Random) -> Example:
    """The skeleton of a brief."""
    skeleton = domain.skeleton(brief.order(rng))
    return Example("plan", planner_prompt(brief.question), skeleton_text(skeleton))


def plain_answer(plain: Plain, rng: random.Random) -> Example:
    """A short answer to a question that does not decompose."""
    text, spans = grammar.render(plain.slots, plain.facts, rng)
    return Example("plain", plain.question, text, tuple(spans))


def whole(brief: Brief, rng: random.Random) -> Example:
    """The whole answer, assembled as the package assembles node answers."""
    facts = brief.invent(rng)
    text = ""
    spans: list[Span] = []
    for heading in brief.order(rng):
        text += f"{'' if not text else chr(10) * 2}## {heading}\n\n"
        section, stated = grammar.render(SECTIONS[heading], facts, rng)
        spans += [Span(s.fact, s.start + len(text), s.end + len(text)) for s in stated]
        text += section
    return Example("whole", brief.question, text, tuple(spans))


def node(brief: Brief, heading: str, rng: random.Random, *, blind: bool = False) -> Example:
    """One section, given the sections it needs; if `blind`, without them."""
    skeleton = domain.skeleton(brief.order(rng))
    facts = brief.invent(rng)
    answers = {
        needed: grammar.render(SECTIONS[needed], facts, rng)[0]
        for needed in domain.NEEDS[heading]
        if not blind
    }
    text, spans = grammar.render(SECTIONS[heading], facts, rng)
    prompt = node_prompt(brief.question, skeleton, heading, answers)
    return Example(f"{'blind:' if blind else ''}{heading}", prompt, text, tuple(spans))


def _some_node(kind: str, brief: Brief, rng: random.Random) -> Example:
    headings = [h for h in brief.headings if bool(domain.NEEDS[h]) == (kind != "root")]
    weights = [EMPHASIS.get(h, 1.0) for h in headings]
    return node(brief, rng.choices(headings, weights)[0], rng, blind=kind == "blind")
