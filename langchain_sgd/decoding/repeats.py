"""Sentences that an earlier part has said are left out of a later one; no model is asked.

Parts that are written at the same time cannot know each other's words. To have a model write such a part
again, with the earlier ones before it, made a small model copy more of them (docs/benchmarks.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from langchain_sgd.decoding.attempting import placed
from langchain_sgd.decoding.length import sentences
from langchain_sgd.decoding.part import Written
from langchain_sgd.events import Discarded, Emit, Event, Token
from langchain_sgd.repetition import Run, repeated_share, runs_of, words_of

_MOST: Final = 0.7
"""Of a sentence's words: with more of them in runs that were said, it says nothing new."""
_LEAST_WORDS: Final = 5
"""Of a sentence that may be left out. Shorter ones join two thoughts."""
_NO_PROSE = re.compile(r"[-+*#>|`~<$\[]|\d{1,3}[.)]\s")
"""How lists, headings, tables, quotations and code begin: to take a line out of one breaks it."""


def without_text(emit: Emit) -> Emit:
    """Tells of all but a part's text, which is shown when it is known what stays of it."""

    def tell(event: Event) -> None:
        if not isinstance(event, Token | Discarded):
            emit(event)

    return tell


def without_repeats(written: Written, earlier: Iterable[str]) -> Written:
    """A part without the sentences that earlier parts have said; a part of parts stays as it is.

    Args:
        written: The part.
        earlier: The texts of the parts before it.
    """
    report = written.report
    if report.parts is not None:
        return written
    text, left_out = cut_repeats(report.answer, earlier)
    if not left_out:
        return written
    changes = {
        "answer": text,
        "left_out": left_out,
        "annotations": placed(report.annotations, report.answer, text),
    }
    return replace(written, report=report.model_copy(update=changes))


def cut_repeats(text: str, earlier: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """A text without the sentences that were said, and those sentences; something always stays.

    Lists, tables, headings and code stay whole.
    """
    said: set[Run] = {run for each in earlier for run in runs_of(words_of(each))}
    pieces = sentences(text)
    shares = [_repeated(piece, said) for piece in pieces]
    if all(share > _MOST for share in shares):  # the least repeated one is what it has to say
        least = shares.index(min(shares, default=0.0)) if shares else 0
        shares = [0.0 if at == least else share for at, share in enumerate(shares)]
    kept: list[str] = []
    left_out: list[str] = []
    for piece, share in zip(pieces, shares, strict=True):
        if share <= _MOST:
            kept.append(piece)
            continue
        body = piece.rstrip()
        left_out.append(body)
        if kept and "\n" in (gap := piece[len(body) :]):  # the paragraph ends all the same
            kept[-1] = kept[-1].rstrip() + gap
    return "".join(kept).rstrip() if left_out else text, tuple(left_out)


def _repeated(sentence: str, said: set[Run]) -> float:
    words = words_of(sentence)
    if len(words) < _LEAST_WORDS or _NO_PROSE.match(sentence) or "\n" in sentence.strip():
        return 0.0
    return repeated_share(words, said)
