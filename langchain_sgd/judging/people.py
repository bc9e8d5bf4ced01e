"""Pairs for people to read: blind, in both orders, in one file that takes their verdicts. Pure.

The file is Markdown. Questions and answers stand behind `>`, so nothing that a model wrote can be taken
for a verdict. Which method wrote what is not in it: a pair's mark is a digest, which only somebody who has
the answers' file can resolve.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from langchain_sgd.judging.verdicts import Verdict, parse_verdict

_HEAD: Final = """\
# Which answer is better?

Behind each `Verdict:`, write A, B or tie; behind `Why:`, in a few words, what you disliked in the other one.
Each pair comes twice, the answers changed over, far from each other. Do not look back: judge each one as it
stands. You may stop anywhere; what has no verdict is left out.
"""
_PAIR: Final = re.compile(r"^## \d+ of \d+, mark ([0-9a-f]{8,64})\s*$")
_FIELD: Final = re.compile(r"^\W*(verdict|why)\W*:[\s*_]*(.*?)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as it is shown, in one order."""

    mark: str
    question: str
    a: str
    b: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What somebody said of a pair."""

    mark: str
    verdict: Verdict
    why: str


def sheet(pairs: Sequence[Shown]) -> str:
    """The file for people to read: all pairs in one order, then all in the other, each time mixed.

    Marks alone decide what comes where, so the same pairs always make the same file.
    """
    mixed = sorted(pairs, key=lambda pair: hashlib.sha256(pair.mark.encode()).digest())
    times: Counter[tuple[str, frozenset[str]]] = Counter()
    rounds: list[tuple[int, Shown]] = []
    for pair in mixed:
        key = (pair.question, frozenset({pair.a, pair.b}))
        rounds.append((times[key], pair))
        times[key] += 1
    ordered = [pair for _, pair in sorted(rounds, key=itemgetter(0))]
    blocks = [_HEAD]
    for number, pair in enumerate(ordered, 1):
        reference = (
            [] if pair.reference is None else ["### A right answer", _quoted(pair.reference)]
        )
        blocks += [
            f"## {number} of {len(ordered)}, mark {pair.mark}",
            "### Question",
            _quoted(pair.question),
            *reference,
            "### Answer A",
            _quoted(pair.a),
            "### Answer B",
            _quoted(pair.b),
            "Verdict:",
            "Why:",
        ]
    return "\n\n".join(blocks) + "\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines() or [""])


def read_sheet(text: str) -> tuple[list[Read], list[str]]:
    """The verdicts of a file that somebody has filled in, and what of it is no verdict, a line each."""
    found: list[Read] = []
    unclear: list[str] = []
    for mark, fields in _filled(text.splitlines()):
        said = " ".join(fields.get("verdict", [])).strip()
        if not said:
            continue
        verdict = parse_verdict(said)
        if verdict is None:
            unclear.append(f"mark {mark}: {said!r} is none of A, B and tie; left out")
        else:
            found.append(Read(mark, verdict, " ".join(fields.get("why", [])).strip()))
    return found, unclear


def _filled(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each pair's mark and what stands behind its fields, on further lines too."""
    mark = ""
    fields: dict[str, list[str]] = {}
    field = ""
    for line in lines:
        if head := _PAIR.match(line):
            if mark:
                yield mark, fields
            mark, fields, field = head[1], {}, ""
        elif line.startswith((">", "#")):
            field = ""
        elif filled := _FIELD.match(line):
            field = filled[1].lower()
            fields[field] = [filled[2]]
        elif field and line.strip():
            fields[field].append(line.strip())
    if mark:
        yield mark, fields
