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
from langchain_sgd.wire import PLAIN_WORD


class Mix(NamedTuple):
    """What a model is shown, in shares of the examples (not of the tokens)."""

    kinds: Mapping[str, float]
    dependents: Mapping[str, float]
    """Share of each section among the dependent nodes: what is learned last is seen most."""
    shuffled: bool = True
    """Skeletons and whole answers in any valid order, so that nothing is copied by its position.

    Later in the order of `domain.NEEDS`: which section comes next then follows from the one before, and
    a model of this size leaves out none.
    """


COPYING = Mix(
    {
        "node": 0.62,
        "root": 0.06,
        "blind": 0.05,
        "whole": 0.13,
        "plan": 0.06,
        "plain": 0.06,
        "plain_plan": 0.02,
    },
    {
        "Slogan": 0.03,
        "Design": 0.03,
        "Care": 0.03,
        "Reminder": 0.03,
        "Delivery": 0.17,
        "Offer": 0.15,
        "Bundle": 0.20,
        "Poster": 0.11,
        "Invitation": 0.08,
        "Summary": 0.13,
        "Thanks": 0.04,
    },
)
"""Until facts are copied."""

SUMS = Mix(
    {
        "drill": 0.15,
        "node": 0.43,
        "root": 0.07,
        "blind": 0.03,
        "whole": 0.12,
        "plan": 0.16,
        "plain": 0.02,
        "plain_plan": 0.02,
    },
    {
        "Slogan": 0.02,
        "Design": 0.02,
        "Care": 0.02,
        "Reminder": 0.02,
        "Delivery": 0.20,
        "Offer": 0.27,
        "Bundle": 0.20,
        "Poster": 0.14,
        "Invitation": 0.03,
        "Summary": 0.05,
        "Thanks": 0.03,
    },
)
"""Then: short questions that drill sums, and the sections that need them."""

ORDER = Mix(
    {
        "drill": 0.04,
        "node": 0.36,
        "root": 0.08,
        "blind": 0.03,
        "whole": 0.21,
        "plan": 0.23,
        "plain": 0.03,
        "plain_plan": 0.02,
    },
    {
        "Slogan": 0.05,
        "Design": 0.04,
        "Care": 0.04,
        "Reminder": 0.04,
        "Delivery": 0.13,
        "Offer": 0.17,
        "Bundle": 0.13,
        "Poster": 0.17,
        "Invitation": 0.07,
        "Summary": 0.09,
        "Thanks": 0.07,
    },
    shuffled=False,
)
"""Then: skeletons and whole answers that leave out no section."""

PAIRS = Mix(
    {
        "drill": 0.03,
        "node": 0.44,
        "root": 0.07,
        "blind": 0.03,
        "whole": 0.21,
        "plan": 0.17,
        "plain": 0.03,
        "plain_plan": 0.02,
    },
    {
        "Slogan": 0.05,
        "Design": 0.03,
        "Care": 0.03,
        "Reminder": 0.03,
        "Delivery": 0.09,
        "Offer": 0.11,
        "Bundle": 0.10,
        "Poster": 0.40,
        "Invitation": 0.05,
        "Summary": 0.07,
        "Thanks": 0.04,
    },
    shuffled=False,
)
"""At last: which of two facts of one kind is which."""

EASY = Mix(
    {
        "node": 0.62,
        "root": 0.17,
        "blind": 0.05,
        "whole": 0.06,
        "plan": 0.03,
        "plain": 0.05,
        "plain_plan": 0.02,
    },
    {
        "Slogan": 0.16,
        "Design": 0.16,
        "Care": 0.16,
        "Reminder": 0.12,
        "Delivery": 0.06,
        "Offer": 0.06,
        "Bundle": 0.06,
        "Poster": 0.06,
        "Invitation": 0.05,
        "Summary": 0.06,
        "Thanks": 0.05,
    },
)
"""What a small model is for: mostly easy sections."""

STRUCTURE = "structure"
"""Stands for a fact where a span is the name of a section: chosen, but not freely."""


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
        if self.kind in ("plain", "plan"):
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
    mix: Mix = COPYING

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random(self.seed)  # noqa: S311 - data, not secrets
        briefs = domain.briefs(rng.getrandbits(32), held_out=False)
        plains = domain.plains(rng.getrandbits(32), held_out=False)
        kinds, weights = list(self.mix.kinds), list(self.mix.kinds.values())
        while True:
            kind = rng.choices(kinds, weights)[0]
            if kind == "plain":
                yield plain_answer(next(plains), rng)
            elif kind == "drill":
                yield plain_answer(next(p for p in plains if "price" in p.facts), rng)
            elif kind == "plain_plan":
                plain = next(plains)
                yield Example(kind, planner_prompt(plain.question), PLAIN_WORD)
            elif kind == "plan":
                yield plan(next(briefs), rng, shuffled=self.mix.shuffled)
            elif kind == "whole":
                yield whole(next(briefs), rng, shuffled=self.mix.shuffled)
            else:
                yield _some_node(kind, briefs, rng, self.mix)


def plan(brief: Brief, rng: random.Random, *, shuffled: bool = False) -> Example:
    """The skeleton of a brief; what a node needs counts as a fact, what it is called as structure."""
    skeleton = domain.skeleton(brief.order(rng) if shuffled else brief.headings)
    text = skeleton_text(skeleton)
    spans: list[Span] = []
    start = 0
    for line in text.splitlines(keepends=True):
        number, heading, scope, _, _ = line.split("|")
        at = start + len(number) + 1 + len(heading)
        spans.append(Span(STRUCTURE, start, at))
        at += 1 + len(scope)
        start += len(line)
        spans.append(Span("needs", at, start))
    return Example("plan", planner_prompt(brief.question), text, tuple(spans))


def plain_answer(plain: Plain, rng: random.Random) -> Example:
    """A short answer to a question that does not decompose."""
    text, spans = grammar.render(plain.slots, plain.facts, rng)
    return Example("plain", plain.question, text, tuple(spans))


def whole(brief: Brief, rng: random.Random, *, shuffled: bool = False) -> Example:
    """The whole answer, assembled as the package assembles node answers."""
    facts = brief.invent(rng)
    text = ""
    spans: list[Span] = []
    for heading in brief.order(rng) if shuffled else brief.headings:
        text += "\n\n## " if text else "## "
        spans.append(Span(STRUCTURE, len(text), len(text) + len(heading)))
        text += f"{heading}\n\n"
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


def _some_node(kind: str, briefs: Iterator[Brief], rng: random.Random, mix: Mix) -> Example:
    if kind == "root":
        heading = rng.choice([h for h, needs in domain.NEEDS.items() if not needs])
    else:
        heading = rng.choices(list(mix.dependents), list(mix.dependents.values()))[0]
    brief = next(b for b in briefs if heading in b.headings)
    return node(brief, heading, rng, blind=kind == "blind")
