"""Sentences that an earlier part has said are left out of a later one; no model is asked.

Parts that are written at the same time cannot know each other's words. To have a model write such a part
again, with the earlier ones before it, made a small model copy more of them (docs/benchmarks.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from langchain_sgd.decoding.attempting import placed
from langchain_sgd.decoding.part import Written
from langchain_sgd.decoding.sentences import NO_SENTENCE, sentences
from langchain_sgd.events import Discarded, Emit, Event, Token
from langchain_sgd.repetition import Run, repeated_share, runs_of, words_of

_MOST: Final = 0.7
"""Of a sentence's words: with more of them in runs that were said, it says nothing new."""
_LEAST_WORDS: Final = 5
"""Of a sentence that may be left out. Shorter ones join two thoughts."""


def without_text(emit: Emit) -> Emit:
    """Tells of all but a part's text, which is shown when it is known what stays of it."""

    def tell(event: Event) -> None:
        if not isinstance(event, Token | Discarded):
            emit(event)

    return tell


class Repeats:
    """What an answer's parts have said so far; they are cut in the answer's order."""

    def __init__(self) -> None:
        self._said: set[Run] = set()

    def note(self, text: str) -> None:
        """A part says this."""
        self._said.update(runs_of(words_of(text)))

    def cut_part(self, written: Written) -> Written:
        """The next part without the sentences that were said; a part of parts stays as it is."""
        report = written.report
        text, left_out = (report.answer, ()) if report.parts else self.cut(report.answer)
        self.note(text)
        if not left_out:
            return written
        changes = {
            "answer": text,
            "left_out": left_out,
            "annotations": placed(report.annotations, report.answer, text),
        }
        return replace(written, report=report.model_copy(update=changes))

    def cut(self, text: str) -> tuple[str, tuple[str, ...]]:
        """A text without the sentences that were said, and those sentences; something always stays.

        Lists, tables, headings and code stay whole.
        """
        pieces = sentences(text)
        shares = [self._repeated(piece) for piece in pieces]
        if shares and min(shares) > _MOST:  # the least repeated one is what it has to say
            shares[shares.index(min(shares))] = 0.0
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

    def _repeated(self, sentence: str) -> float:
        """Which share of a sentence was said; none of what may not be left out."""
        words = words_of(sentence)
        is_prose = not (
            NO_SENTENCE.match(sentence) or sentence.startswith("#") or "\n" in sentence.strip()
        )
        return repeated_share(words, self._said) if is_prose and len(words) >= _LEAST_WORDS else 0.0
