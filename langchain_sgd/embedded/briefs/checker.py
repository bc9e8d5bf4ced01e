"""Whether an answer is right: by grammar and arithmetic, no judge.

A section is right when its text follows the grammar of its heading, the question's facts in it are the
question's, the facts it repeats are those that the answer's own sections invented, invented facts are
possible, and its sums agree. An answer is exact when it has the sections that the question needs, each
once and right, and nothing else.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.domain import ALTERNATIVES, OWNERS, QUESTION_FACTS, Brief, Plain
from langchain_sgd.embedded.briefs.texts import MONTHS, NAME_PARTS, PLACE_PARTS, SECTIONS, VALUES

_YEAR, _HOURS = 2026, 12

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SectionCheck:
    """What the checker found in one section."""

    heading: str
    found: bool
    """The answer has this section, once."""
    read: bool = False
    """Its text follows the grammar."""
    question_facts: bool = False
    """What it repeats of the question is the question's."""
    agreeing: int = 0
    """Facts of other sections that it repeats as they were invented."""
    repeated: int = 0
    """Facts of other sections that it has to repeat."""
    possible: bool = False
    """What it invents is among what can be invented."""
    sums: bool = False
    """What it computes is right."""

    @property
    def right(self) -> bool:
        """All of it."""
        return (
            self.found
            and self.read
            and self.question_facts
            and self.agreeing == self.repeated
            and self.possible
            and self.sums
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checker found in one answer."""

    sections: tuple[SectionCheck, ...]
    """The sections that the question needs; one nameless section for a plain question."""
    surplus: tuple[str, ...]
    """Headings that nobody asked for, and repeated ones."""

    @property
    def exact(self) -> bool:
        """Every section is there and right, and nothing else."""
        return not self.surplus and all(section.right for section in self.sections)


@dataclass(frozen=True, slots=True)
class Share:
    """Successes out of trials, with what guessing would give."""

    successes: float
    trials: int
    chance: float = 0.0
    """The share that a writer reaches who knows the question and the grammar, but no other section."""

    @property
    def value(self) -> float:
        """The share; NaN without trials."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        if not self.trials:
            return (math.nan, math.nan)
        z, n, p = 1.959964, self.trials, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return (max(0.0, middle - reach), min(1.0, middle + reach))

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        low, high = self.interval
        out = {"value": self.value, "low": low, "high": high, "trials": self.trials}
        return {k: round(v, 4) for k, v in (out | {"chance": self.chance}).items()}


@dataclass(slots=True)
class Tally:
    """Collects checked answers."""

    answers: list[tuple[Brief | Plain, Checked]] = field(default_factory=list)

    def add(self, question: str, answer: str) -> Checked:
        """Check one more answer."""
        asked = _asked(question)
        checked = _check(asked, answer)
        self.answers.append((asked, checked))
        return checked

    @property
    def section_accuracy(self) -> Share:
        """Sections that are right."""
        checks = [(a, s) for a, c in self.answers for s in c.sections]
        chance = sum(section_chance(a, s.heading) for a, s in checks)
        return _share([s.right for _, s in checks], chance)

    @property
    def fact_consistency(self) -> Share:
        """Facts that sections repeat as other sections of the same answer invented them."""
        checks = [s for _, c in self.answers for s in c.sections]
        repeated = sum(s.repeated for s in checks)
        chance = sum(1 / ALTERNATIVES[f] for s in checks for f in _repeated(s.heading))
        agreeing = sum(s.agreeing for s in checks)
        return Share(agreeing, repeated, chance / repeated if repeated else 0.0)

    @property
    def exactness(self) -> Share:
        """Answers that are right as a whole."""
        chance = sum(
            math.prod(section_chance(a, s.heading) for s in c.sections) for a, c in self.answers
        )
        return _share([c.exact for _, c in self.answers], chance)

    def summary(self) -> dict[str, dict[str, float]]:
        """The three shares, for JSON."""
        return {
            "section accuracy": self.section_accuracy.as_dict(),
            "fact consistency": self.fact_consistency.as_dict(),
            "exactness": self.exactness.as_dict(),
        }


def check(question: str, answer: str) -> Checked:
    """Check one answer, assembled or decoded plainly.

    Raises:
        ValueError: The question is none of this domain.
    """
    return _check(_asked(question), answer)


def check_section(heading: str, text: str, facts: Mapping[str, str]) -> SectionCheck:
    """Check one section's text.

    Args:
        heading: Its heading.
        text: Its text, without the heading.
        facts: The question's facts and those that the sections it needs have stated.
    """
    repeated = _repeated(heading)
    stated = grammar.read(SECTIONS[heading], text.strip())
    if stated is None:
        return SectionCheck(heading, found=True, repeated=len(repeated))
    own = {f: v for f, v in stated.items() if OWNERS.get(f) == heading}
    return SectionCheck(
        heading,
        found=True,
        read=True,
        question_facts=all(stated[f] == facts[f] for f in QUESTION_FACTS if f in stated),
        agreeing=sum(stated[f] == facts.get(f) for f in repeated),
        repeated=len(repeated),
        possible=all(_possible(f, v, facts) for f, v in own.items()),
        sums=_sums_agree(own, {**facts, **stated}),
    )


def split(answer: str) -> list[tuple[str, str]]:
    """The sections of an answer: headings and texts."""
    marks = list(_HEADING.finditer(answer))
    ends = [*(mark.start() for mark in marks[1:]), len(answer)]
    return [
        (mark[1].strip(), answer[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=False)
    ]


def section_chance(asked: Brief | Plain, heading: str) -> float:
    """How often a section is right whose writer knows the question and the grammar alone."""
    if isinstance(asked, Plain):
        return 1.0
    return math.prod(1 / ALTERNATIVES[fact] for fact in _repeated(heading))


def _asked(question: str) -> Brief | Plain:
    asked = domain.read_question(question)
    if asked is None:
        msg = f"not a question of the briefs domain: {question!r}"
        raise ValueError(msg)
    return asked


def _check(asked: Brief | Plain, answer: str) -> Checked:
    if isinstance(asked, Plain):
        stated = grammar.read(asked.slots, answer.strip())
        right = stated is not None and all(asked.facts.get(f) == v for f, v in stated.items())
        section = SectionCheck(
            "",
            found=bool(answer.strip()),
            read=stated is not None,
            question_facts=right,
            possible=True,
            sums=right,
        )
        return Checked((section,), ())
    sections = split(answer)
    texts: dict[str, str] = {}
    surplus: list[str] = []
    for heading, text in sections:
        if heading in texts or heading not in asked.headings:
            surplus.append(heading)
        else:
            texts[heading] = text
    facts = dict(asked.facts)
    for heading, text in texts.items():
        stated = grammar.read(SECTIONS[heading], text) or {}
        facts |= {f: v for f, v in stated.items() if OWNERS.get(f) == heading}
    return Checked(
        tuple(
            check_section(h, texts[h], facts)
            if h in texts
            else SectionCheck(h, found=False, repeated=len(_repeated(h)))
            for h in asked.headings
        ),
        tuple(surplus),
    )


def _repeated(heading: str) -> tuple[str, ...]:
    return domain.inherited(heading) if heading else ()


def _possible(fact: str, value: str, facts: Mapping[str, str]) -> bool:
    if fact in domain.COMPUTED:
        return True
    if fact == "price":
        limit = int(facts["limit"])
        return 0 < int(value) < limit
    if fact == "hour":
        return value == "noon" or 1 <= int(value.split(maxsplit=1)[0]) <= _HOURS
    if fact in ("name", "place"):
        parts = NAME_PARTS if fact == "name" else PLACE_PARTS
        return all(word in part for word, part in zip(value.split(), parts, strict=True))
    if fact == "date":
        number, month = value.split()
        return month in MONTHS and 1 <= int(number) <= monthrange(_YEAR, MONTHS.index(month) + 1)[1]
    return value in VALUES["adj" if fact in ("adj1", "adj2") else fact]


def _sums_agree(own: Mapping[str, str], facts: Mapping[str, str]) -> bool:
    """Whether what a section computes follows from what it states."""
    stated = {fact: value for fact, value in own.items() if fact in domain.COMPUTED}
    if not stated:
        return True
    sums = domain.computed(facts)
    return all(sums[fact] == value for fact, value in stated.items())


def _share(rights: Iterable[bool], chance: float) -> Share:
    outcomes = list(rights)
    return Share(sum(outcomes), len(outcomes), chance / len(outcomes) if outcomes else 0.0)
