"""How much the parts of an answer repeat each other: shared runs of words, without a model.

Two parts repeat each other where the same run of words stands in both. The measure is the share of a
part's words that stand in such a run with an earlier part; linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from langchain_sgd.prose import WORD

_RUN: Final = 4
"""Words of a run. Shorter ones are phrases that any two texts on a subject share."""
Run = tuple[str, ...]
"""Words in a row, in small letters."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """One part repeats an earlier one."""

    part: str
    earlier: str
    share: float
    """Of the part's words: how many stand in a run that the earlier part has too; 0 to 1."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much the parts of one answer repeat each other."""

    share: float
    """Of all words: how many stand in a run that an earlier part has too; 0 to 1."""
    repeats: tuple[Repeat, ...]
    """Which parts repeat which, the most first."""


def overlap(parts: Mapping[str, str], *, run: int = _RUN) -> Overlap:
    """How much each part repeats the parts before it.

    Args:
        parts: Texts by the part's id, in the order of the answer.
        run: Words that two parts must have in common in a row.
    """
    owner: dict[Run, str] = {}
    repeats: list[Repeat] = []
    words_in_all = repeated_in_all = 0
    for part, text in parts.items():
        words = words_of(text)
        words_in_all += len(words)
        covered: dict[str, set[int]] = {}
        runs = runs_of(words, run)
        for at, seen in enumerate(runs):
            if (earlier := owner.get(seen)) is not None:
                covered.setdefault(earlier, set()).update(range(at, at + run))
        for seen in runs:
            owner.setdefault(seen, part)
        repeated_in_all += len(set[int]().union(*covered.values()))
        repeats += [Repeat(part, earlier, len(c) / len(words)) for earlier, c in covered.items()]
    repeats.sort(key=lambda repeat: -repeat.share)
    return Overlap(repeated_in_all / max(words_in_all, 1), tuple(repeats))


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters; a character each where a script puts no blanks between them."""
    return WORD.findall(text.casefold())


def runs_of(words: Sequence[str], run: int = _RUN) -> list[Run]:
    """All words in a row, one run for each word that it can begin with."""
    return [tuple(words[at : at + run]) for at in range(len(words) - run + 1)]


def repeated_share(words: Sequence[str], said: AbstractSet[Run], *, run: int = _RUN) -> float:
    """Which share of the words stand in a run that has been said; 0 to 1."""
    covered: set[int] = set()
    for at, one in enumerate(runs_of(words, run)):
        if one in said:
            covered.update(range(at, at + run))
    return len(covered) / max(len(words), 1)


def paragraphs(text: str) -> Sequence[str]:
    """The paragraphs of an undivided answer, to compare its repetition with that of parts."""
    return [block for block in re.split(r"\n\s*\n", text) if block.strip()]
