"""The domain: launch briefs whose sections invent facts that other sections must repeat.

A question names a product, a town, an audience, a price limit, a delivery fee and some wanted sections.
Wanted sections need others, which are written too: the first of them invent a name, a price, a place;
those that need them repeat exactly these facts, several at once, and some compute with them. Nothing
that a section invents can be looked up in the question, so who does not read the sections it needs can
agree with them by luck alone.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from langchain_sgd.embedded.briefs import grammar
from langchain_sgd.embedded.briefs.texts import (
    BRIEF_QUESTIONS,
    MONTHS,
    NAME_PARTS,
    PLACE_PARTS,
    PLAIN_QUESTIONS,
    SCOPES,
    SECTIONS,
    VALUES,
    Slot,
)
from langchain_sgd.skeleton import Node, NodeId, Skeleton

Facts = Mapping[str, str]

QUESTION_FACTS = ("product", "town", "audience", "limit", "fee")

NEEDS: Mapping[str, tuple[str, ...]] = {
    "Name": (),
    "Price": (),
    "Launch": (),
    "Slogan": ("Name",),
    "Design": ("Name",),
    "Care": ("Name",),
    "Reminder": ("Launch",),
    "Delivery": ("Price",),
    "Offer": ("Name", "Price"),
    "Bundle": ("Name", "Price"),
    "Poster": ("Slogan", "Launch"),
    "Invitation": ("Name", "Launch", "Offer"),
    "Summary": ("Name", "Price", "Launch", "Offer"),
    "Thanks": ("Invitation",),
}
"""The sections whose facts a section repeats; every one stands after those it needs."""

DIFFICULTY: Mapping[str, int] = {
    "Name": 1,
    "Price": 1,
    "Launch": 1,
    "Slogan": 2,
    "Design": 2,
    "Care": 2,
    "Reminder": 2,
    "Delivery": 4,
    "Offer": 4,
    "Poster": 4,
    "Thanks": 4,
    "Bundle": 5,
    "Invitation": 5,
    "Summary": 5,
}
"""1-2: at most three facts of one other section. 4-5: many facts, several sections, or sums."""

OWNERS: Mapping[str, str] = {
    "name": "Name",
    "colour": "Name",
    "material": "Name",
    "price": "Price",
    "years": "Price",
    "place": "Launch",
    "day": "Launch",
    "date": "Launch",
    "hour": "Launch",
    "adj1": "Slogan",
    "adj2": "Slogan",
    "days": "Delivery",
    "total": "Delivery",
    "cut": "Offer",
    "club": "Offer",
    "three": "Bundle",
    "bundle": "Bundle",
    "save": "Bundle",
}
"""The section that invents or computes a fact; all others repeat it."""

COMPUTED = ("total", "club", "three", "bundle", "save")

ALTERNATIVES: Mapping[str, int] = {
    "name": 3840,
    "colour": 20,
    "material": 16,
    "price": 19,
    "years": 7,
    "place": 192,
    "day": 7,
    "date": 336,
    "hour": 10,
    "adj1": 24,
    "adj2": 23,
    "club": 19,
}
"""Among how many values a writer guesses who does not know the section that invented a fact."""

MIN_SECTIONS, MAX_SECTIONS = 5, 8
MAX_WIDTH = 4
DEPTHS: Mapping[int, float] = {2: 0.6, 3: 0.3, 4: 0.1}
"""Share of the questions whose longest chain of needs has so many sections."""


def computed(facts: Facts) -> dict[str, str]:
    """The sums that follow from the price, the fee and the cut, as far as these are known."""
    price = int(facts["price"])
    out = {"three": 3 * price}
    if "fee" in facts:
        fee = int(facts["fee"])
        out |= {"total": price + fee, "bundle": 3 * price + fee, "save": 2 * fee}
    if "cut" in facts:
        out["club"] = price - int(facts["cut"])
    return {fact: str(value) for fact, value in out.items()}


def facts_of(heading: str) -> frozenset[str]:
    """The facts that every text of a section states."""
    return grammar.facts_of_slots(SECTIONS[heading])


def inherited(heading: str) -> tuple[str, ...]:
    """The facts that a section repeats from others."""
    return tuple(sorted(f for f in facts_of(heading) if f in OWNERS and OWNERS[f] != heading))


def closure(wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted sections and all that they need, in the order of `NEEDS`."""
    found: set[str] = set()
    pending = list(wanted)
    while pending:
        heading = pending.pop()
        if heading not in found:
            found.add(heading)
            pending += NEEDS[heading]
    return tuple(h for h in NEEDS if h in found)


def skeleton(order: Sequence[str]) -> Skeleton:
    """The skeleton of these sections in this order."""
    ids = {heading: NodeId(str(index)) for index, heading in enumerate(order, 1)}
    return Skeleton(
        nodes=tuple(
            Node(
                id=ids[heading],
                heading=heading,
                scope=SCOPES[heading],
                dependencies=tuple(sorted(ids[n] for n in NEEDS[heading])),
                difficulty=DIFFICULTY[heading],
            )
            for heading in order
        )
    )


def depth(headings: Sequence[str]) -> int:
    """Sections on the longest chain of needs."""
    steps: dict[str, int] = {}
    for heading in headings:
        steps[heading] = 1 + max((steps[n] for n in NEEDS[heading]), default=0)
    return max(steps.values())


@cache
def wanted_sets() -> Mapping[int, Sequence[tuple[str, ...]]]:
    """Every set of wanted sections that makes an answer of the right size and width, by depth."""
    askable = [heading for heading in NEEDS if NEEDS[heading]]
    sets: dict[int, list[tuple[str, ...]]] = {depth: [] for depth in DEPTHS}
    for count in range(2, 6):
        for wanted in itertools.combinations(askable, count):
            headings = closure(wanted)
            if (
                MIN_SECTIONS <= len(headings) <= MAX_SECTIONS
                and skeleton(headings).width <= MAX_WIDTH
            ):
                sets[depth(headings)].append(wanted)
    return sets


@dataclass(frozen=True)
class Brief:
    """A question that decomposes."""

    question: str
    facts: Facts
    """The facts of the question."""
    wanted: tuple[str, ...]

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """The sections that the answer must have."""
        return closure(self.wanted)

    def order(self, rng: random.Random) -> tuple[str, ...]:
        """The sections in a random order in which every section stands after those it needs."""
        left = list(self.headings)
        order: list[str] = []
        while left:
            ready = [h for h in left if all(n in order for n in NEEDS[h])]
            order.append(rng.choice(ready))
            left.remove(order[-1])
        return tuple(order)

    def invent(self, rng: random.Random) -> dict[str, str]:
        """The question's facts with a fresh set of invented ones and the sums that follow."""
        limit = int(self.facts["limit"])
        adj1, adj2 = rng.sample(VALUES["adj"], 2)
        facts = dict(self.facts)
        facts |= {fact: rng.choice(VALUES[fact]) for fact in ("colour", "material", "years")}
        facts |= {fact: rng.choice(VALUES[fact]) for fact in ("days", "day", "hour", "cut")}
        facts |= {
            "name": " ".join(map(rng.choice, NAME_PARTS)),
            "place": " ".join(map(rng.choice, PLACE_PARTS)),
            "date": f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
            "price": str(rng.randint(limit - 19, limit - 1)),
            "adj1": adj1,
            "adj2": adj2,
        }
        return facts | computed(facts)


@dataclass(frozen=True)
class Plain:
    """A question that is answered in one short paragraph."""

    question: str
    facts: Facts
    slots: tuple[Slot, ...]


def briefs(seed: int, *, held_out: bool) -> Iterator[Brief]:
    """An unlimited stream of questions that decompose, from one side of the split."""
    rng = random.Random(seed)  # noqa: S311 - data, not secrets
    while True:
        facts = _question_facts(rng)
        longest = rng.choices(list(DEPTHS), list(DEPTHS.values()))[0]
        wanted = list(rng.choice(wanted_sets()[longest]))
        rng.shuffle(wanted)
        names = [heading.lower() for heading in wanted]
        both = rng.random() < 0.5
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if both else ", ".join(names)
        question = rng.choice(BRIEF_QUESTIONS).format(wanted=listed, **facts)
        if is_held_out(question) == held_out:
            yield Brief(question, facts, tuple(wanted))


def plains(seed: int, *, held_out: bool) -> Iterator[Plain]:
    """An unlimited stream of questions that do not decompose, from one side of the split."""
    rng = random.Random(seed)  # noqa: S311 - data, not secrets
    while True:
        questions, slots = rng.choice(PLAIN_QUESTIONS)
        facts = _question_facts(rng)
        facts |= {"price": str(rng.randint(21, 89)), "cut": rng.choice(VALUES["cut"])}
        template = rng.choice(questions)
        question = template.format(**facts)
        stated = grammar.facts_of(template)
        facts = {fact: value for fact, value in facts.items() if fact in stated}
        if "price" in facts:
            facts |= computed(facts)
        if is_held_out(question) == held_out:
            yield Plain(question, facts, slots)


def is_held_out(question: str) -> bool:
    """Whether a question belongs to the test side: one in 32, by hash."""
    return hashlib.sha256(question.encode()).digest()[0] < 8


def read_question(question: str) -> Brief | Plain | None:
    """What a question asks for; None if it is none of this domain."""
    for template in BRIEF_QUESTIONS:
        facts = grammar.read(((template,),), question)
        if facts is not None:
            names = re.split(r", | and ", facts.pop("wanted"))
            wanted = tuple(name.capitalize() for name in names)
            return Brief(question, facts, wanted) if set(wanted) <= set(NEEDS) else None
    for questions, slots in PLAIN_QUESTIONS:
        for template in questions:
            facts = grammar.read(((template,),), question)
            if facts is not None:
                if "price" in facts:
                    facts |= computed(facts)
                return Plain(question, facts, slots)
    return None


def _question_facts(rng: random.Random) -> dict[str, str]:
    return {fact: rng.choice(VALUES[fact]) for fact in QUESTION_FACTS}
