"""Sentences with facts: writing them, and reading the facts back.

A section is a sequence of slots; its text is one sentence of every slot, joined by spaces. Reading is
loose about values (any capitalised word may be a name), so that a wrong fact is seen as a wrong fact and
not as a broken sentence; which values are right is the checker's question.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from langchain_sgd.embedded.briefs.texts import Slot

_PIECE = re.compile(r"\{(\w+)\}|\[([^\]]+)\]")

_MONEY = r"\d{1,3}"
_WORD = r"[a-z]+"
_PATTERNS = {
    "name": r"[A-Z][a-z]+ [A-Z][a-z]+",
    "town": r"[A-Z][a-z]+",
    "day": r"[A-Z][a-z]+",
    "place": r"[A-Z][a-z]+ [A-Z][a-z]+",
    "date": r"\d{1,2} [A-Z][a-z]+",
    "hour": r"noon|\d{1,2} [ap]m",
    "wanted": r"[a-z]+(?:(?:, | and )[a-z]+)*",
} | dict.fromkeys(
    ("limit", "fee", "price", "total", "cut", "club", "three", "bundle", "save"), _MONEY
)


class Span(NamedTuple):
    """Where a fact stands in a rendered text."""

    fact: str
    start: int
    end: int


def facts_of(sentence: str) -> frozenset[str]:
    """The facts that a sentence states."""
    return frozenset(m[1] for m in _PIECE.finditer(sentence) if m[1])


def facts_of_slots(slots: tuple[Slot, ...]) -> frozenset[str]:
    """The facts that every text of these slots states."""
    return frozenset[str]().union(*(facts_of(slot[0]) for slot in slots))


def render(
    slots: tuple[Slot, ...], facts: Mapping[str, str], rng: random.Random
) -> tuple[str, list[Span]]:
    """Write one text of these slots, and say where its facts stand."""
    text = ""
    spans: list[Span] = []
    for slot in slots:
        text += " " if text else ""
        sentence = rng.choice(slot)
        copied = 0
        for piece in _PIECE.finditer(sentence):
            text += sentence[copied : piece.start()]
            copied = piece.end()
            fact, choice = piece.groups()
            value = facts[fact] if fact else rng.choice(choice.split("|"))
            if fact:
                spans.append(Span(fact, len(text), len(text) + len(value)))
            text += value
        text += sentence[copied:]
    return text, spans


def read(slots: tuple[Slot, ...], text: str) -> dict[str, str] | None:
    """The facts of a text that follows these slots; None if it does not."""
    return next(_readings(slots, text, 0, {}), None)


def _readings(
    slots: tuple[Slot, ...], text: str, start: int, facts: dict[str, str]
) -> Iterator[dict[str, str]]:
    """Every way to read the rest of the text, sentence by sentence."""
    if not slots:
        if start == len(text):
            yield facts
        return
    last = len(slots) == 1
    for sentence in slots[0]:
        pattern = _compiled(sentence)
        match = pattern.fullmatch(text, start) if last else pattern.match(text, start)
        if match is None:
            continue
        if last:
            yield facts | match.groupdict()
        elif text[match.end() : match.end() + 1] == " ":
            yield from _readings(slots[1:], text, match.end() + 1, facts | match.groupdict())


@cache
def _compiled(sentence: str) -> re.Pattern[str]:
    out = ""
    copied = 0
    for piece in _PIECE.finditer(sentence):
        out += re.escape(sentence[copied : piece.start()])
        copied = piece.end()
        fact, choice = piece.groups()
        if fact:
            out += f"(?P<{fact}>{_PATTERNS.get(fact, _WORD)})"
        else:
            out += f"(?:{'|'.join(map(re.escape, choice.split('|')))})"
    return re.compile(out + re.escape(sentence[copied:]))
