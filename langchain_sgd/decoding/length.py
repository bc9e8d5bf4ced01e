"""How long an answer's parts are to be.

A writer that is not told the length of its part writes the whole answer. So the answer has a target in
words, from the user, from the question, or from what is usual; each part has its share; the writer is told
it in words, and its text is ended at the end of a sentence when it goes far beyond (`sentences`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from langchain_sgd.decoding.wish import wished
from langchain_sgd.skeleton import HARD

PART_WORDS: Final = 50
"""Words of a part where nothing else is known: a solid paragraph."""
LEAST_WORDS: Final = 20
_EXPECTED_PARTS: Final = 4
"""Parts that a plan has while it is not known how many."""
_PARAGRAPH_WORDS: Final = 150
_RANGE: Final = (0.85, 1.15)
"""Of a share: what the writer is told."""
_BEGUN_RANGE: Final = (1.6, 2.0)
"""Of a share: what is said where a writer goes on with a begun answer. Of that, small models write two
thirds."""
_HARD_SHARE: Final = 1.2
_ROOM: Final = 1.1
"""A part may have this much more than its share before it is ended at a sentence."""
_TOKENS_PER_WORD: Final = 3
"""Far above what any language needs on average; a bound for the server, not a length."""
_SPARE_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Share:
    """The length of one part."""

    words: int
    is_wished: bool = False
    """Somebody wants the answer to have its length; otherwise a part may have twice as much."""
    is_begun: bool = False
    """Its writer goes on with a begun answer."""

    @property
    def begun(self) -> Share:
        """The same for a writer that goes on with a begun answer."""
        return replace(self, is_begun=True)

    def __str__(self) -> str:
        """For the writer. Small models keep to a range, and write too little for a bare number."""
        if self.words < LEAST_WORDS:
            return f"one sentence of at most {self.words} words"
        least, most = (
            _rounded(self.words * by) for by in (_BEGUN_RANGE if self.is_begun else _RANGE)
        )
        one = "a full paragraph" if self.is_begun else "one paragraph"
        what = one if self.is_paragraph else "a few paragraphs"
        return f"{what} of {least} to {most} words"

    @property
    def is_paragraph(self) -> bool:
        """Whether it is to be no longer than one paragraph."""
        return self.words * (_BEGUN_RANGE[1] if self.is_begun else 1) <= _PARAGRAPH_WORDS

    @property
    def most_words(self) -> int:
        """Where the text is ended at the next end of a sentence."""
        has_room = self.is_begun and not self.is_wished
        return round(self.words * (_BEGUN_RANGE[1] if has_room else _ROOM))

    @property
    def max_tokens(self) -> int:
        """A bound for the server; the text is mostly ended long before."""
        return self.most_words * _TOKENS_PER_WORD + _SPARE_TOKENS


def _rounded(words: float) -> int:
    return max(5, 5 * round(words / 5))


@dataclass(frozen=True, slots=True)
class Length:
    """The length of a whole answer, in words; None where each part has what is usual."""

    words: int | None = None
    factor: float = 1.0
    """Of what is usual, if there are no words."""

    @classmethod
    def of(cls, question: str, words: int | None = None, standing: str = "") -> Length:
        """From the user's option, else from what the question asks for, else its system prompt."""
        if words is not None:
            return cls(words)
        wish = wished(question, standing)
        if wish.words is not None:
            return cls(max(LEAST_WORDS, wish.words))
        return cls(factor=wish.factor if wish.each is None else wish.each / PART_WORDS)

    def share(self, *, planned: int, complete: bool, difficulty: int = 0) -> Share:
        """The length of one of the parts.

        Args:
            planned: Parts that are planned so far.
            complete: No further part will come.
            difficulty: The part's own; a hard part has more than an easy one.
        """
        parts = planned if complete else max(planned, _EXPECTED_PARTS)
        words = PART_WORDS * self.factor if self.words is None else self.words / max(parts, 1)
        if difficulty >= HARD:
            words *= _HARD_SHARE
        is_wished = self.words is not None or self.factor != 1
        return Share(max(LEAST_WORDS if self.words is None else 10, round(words)), is_wished)
