"""How long an answer's parts are to be, and where a part that runs on is ended.

A writer that is not told the length of its part writes the whole answer. So the answer has a target in
words, from the user, from the question, or from what is usual; each part has its share; the writer is told
it in words, and its text is ended at the end of a sentence when it goes far beyond.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from langchain_sgd.skeleton import HARD

PART_WORDS: Final = 50
"""Words of a part where nothing else is known: a solid paragraph."""
LEAST_WORDS: Final = 20
_MOST_WORDS: Final = 20_000
"""Of an answer: whoever names more words speaks of something else."""
_EXPECTED_PARTS: Final = 4
"""Parts that a plan has while it is not known how many."""
_PARAGRAPH_WORDS: Final = 150
_RANGE: Final = (0.85, 1.15)
"""Of a share: what the writer is told."""
_HARD_SHARE: Final = 1.2
_ROOM: Final = 1.1
"""A part may have this much more than its share before it is ended at a sentence."""
_TOKENS_PER_WORD: Final = 3
"""Far above what any language needs on average; a bound for the server, not a length."""
_SPARE_TOKENS: Final = 64

_UNITS = (
    *("words?", "w[öo]rtern?", "worten?", "mots?", "palabras?", "palavras?", "parole", "woorden"),
    *("ord", "s[łl][óo]w", r"слов\w*", "字", "单词", "단어"),
)
_NUMBER = r"\d{1,3}(?:[., ]?\d{3})*|\d+"
_ASKED = re.compile(
    rf"({_NUMBER})(?:\s*(?:-|–|to|bis|à|a)\s*(\d+))?[\s-]*(?:{'|'.join(_UNITS)})(?![A-Za-zÀ-ÿ])",  # noqa: RUF001
    re.IGNORECASE,
)
_BRIEF = re.compile(
    r"\b(?:brief(?:ly)?|short answer|concise(?:ly)?|in a nutshell|kurz|knapp|bri[eè]vement|en bref"
    r"|brevemente|en breve)\b",
    re.IGNORECASE,
)
_DETAILED = re.compile(
    r"\b(?:in (?:great )?detail|detailed|comprehensive(?:ly)?|thorough(?:ly)?|in[- ]depth"
    r"|ausführlich\w*|detailliert\w*|en détail|détaillée?|detallad\w*|en detalle)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Share:
    """The length of one part."""

    words: int

    def __str__(self) -> str:
        """For the writer. Small models keep to a range, and write too little for a bare number."""
        if self.words < LEAST_WORDS:
            return f"one sentence of at most {self.words} words"
        least, most = (_rounded(self.words * by) for by in _RANGE)
        what = "one paragraph" if self.words <= _PARAGRAPH_WORDS else "a few paragraphs"
        return f"{what} of {least} to {most} words"

    @property
    def most_words(self) -> int:
        """Where the text is ended at the next end of a sentence."""
        return round(self.words * _ROOM)

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
    def of(cls, question: str, words: int | None = None) -> Length:
        """From the user's option, else from what the question asks for."""
        if words is not None:
            return cls(words)
        if found := _ASKED.search(question):
            first = int(re.sub(r"\D", "", found[1]))
            last = int(found[2]) if found[2] else first
            if max(first, last) <= _MOST_WORDS:
                return cls(max(LEAST_WORDS, (first + last) // 2))
        if _BRIEF.search(question):
            return cls(factor=0.5)
        return cls(factor=1.7 if _DETAILED.search(question) else 1.0)

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
        return Share(max(LEAST_WORDS if self.words is None else 10, round(words)))


_CLOSING: Final = "\"'”’»)]*_`」』）"  # noqa: RUF001
_ENDING: Final = ".!?…。！？"  # noqa: RUF001
_WIDE_ENDING: Final = "。！？"  # noqa: RUF001
_NO_END = re.compile(
    r"\W*(?:\d+|(?:[A-Za-z]\.)*[A-Za-z]|Dr|Mr|Mrs|Ms|Prof|St|vs|etc|bzw|ca|Nr|usw)\.\W*"
)
"""Words whose full stop ends no sentence: numbers, initials, abbreviations."""
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WIDE_PER_WORD: Final = 1.6
_FENCES: Final = ("```", "~~~")
NO_SENTENCE: Final = re.compile(r"[-+\u2022|>\[{<$]|[*_]{1,3}\s|\d{1,3}[.)]|```|~~~")
"""How lists, tables, quotations, code and data begin, and no sentence."""


def count_words(text: str) -> int:
    """Words of a text; where a script puts no blanks between them, about as many as it says."""
    return round(sum(map(_weight, text.split())))


def _weight(word: str) -> float:
    return 1.0 if word.isascii() else max(1.0, len(_WIDE.findall(word)) / _WIDE_PER_WORD)


class SentenceEnd:
    """Lets a text through until it has enough words, and then to the end of its sentence or line.

    A fenced block is never cut, nor what follows a colon. Where chunks are cut makes no difference.
    """

    def __init__(self, words: int) -> None:
        self.done = False
        """The text is long enough and was ended: nothing more is let through."""
        self._enough = words
        self._heard = 0.0
        """Words that have ended."""
        self._word = ""
        self._spaces = ""
        """Held back until something follows."""
        self._first_word = True
        self._heading = False
        """The current line is a heading."""
        self._fence = ""
        """What closes the block we are in."""
        self._may_end = False
        """The last word ends a sentence, and there are enough words."""
        self._may_end_line = False
        """As `_may_end`, if a line break follows: items of lists end without a full stop."""

    @property
    def words(self) -> int:
        """Words of the text so far, counted as they come: about as many as `count_words` says."""
        return round(self._heard + (_weight(self._word) if self._word else 0.0))

    def feed(self, chunk: str) -> str:
        """What of a chunk belongs to the text."""
        bare = chunk[1:] if chunk[:1] == " " else chunk
        if bare.isalnum() and bare.isascii() and not self.done:
            return self._feed_letters(bare, begins=bare is not chunk)
        out: list[str] = []
        for char in chunk:
            if self.done:
                break
            if char.isspace():
                self._end_word()
                self._spaces += char
                continue
            if not self._word:
                self._begin_word(char)
                if self.done:
                    break
                out.append(self._spaces)
                self._spaces = ""
            elif self._word[-1] in _WIDE_ENDING and char not in _CLOSING + _WIDE_ENDING:
                self._end_word()
                self._begin_word(char)
                if self.done:
                    break
            self._word += char
            out.append(char)
        return "".join(out)

    def _feed_letters(self, letters: str, *, begins: bool) -> str:
        """What most chunks are: a word or a piece of one, in one step."""
        if begins:
            self._end_word()
            self._spaces += " "
        elif self._word and self._word[-1] in _WIDE_ENDING:
            self._end_word()
        spaces = ""
        if not self._word:
            self._begin_word(letters[0])
            if self.done:
                return ""
            spaces, self._spaces = self._spaces, ""
        self._word += letters
        return spaces + letters

    def close(self) -> str:
        """What was held back, if the text ended by itself."""
        return "" if self.done else self._spaces

    def _begin_word(self, char: str) -> None:
        new_line = "\n" in self._spaces
        # A sentence goes on with a small letter; after a line break it does not.
        if (self._may_end and (new_line or not char.islower())) or (
            new_line and self._may_end_line
        ):
            self.done = True
        if new_line:
            self._first_word, self._heading = True, False
        self._may_end = self._may_end_line = False

    def _end_word(self) -> None:
        word, self._word = self._word, ""
        if not word:
            return
        if self._first_word:
            self._first_word = False
            self._heading = word.startswith("#")
            if self._fence:
                self._fence = "" if word.startswith(self._fence) else self._fence
            else:
                self._fence = next((f for f in _FENCES if word.startswith(f)), "")
        self._heard += _weight(word)
        is_enough = self._heard >= self._enough
        bare = word.rstrip(_CLOSING)
        self._may_end = (
            is_enough
            and not (self._fence or self._heading)
            and bare[-1:] in _ENDING
            and bool(bare)
            and not _NO_END.fullmatch(bare)
        )
        self._may_end_line = (
            is_enough and not (self._fence or self._heading) and not word.endswith((":", "："))  # noqa: RUF001
        )


def whole_sentences(text: str, *, least: float = 0.5) -> str | None:
    """A text that a token bound cut, up to the end of its last sentence; None if little would be left.

    Args:
        text: The text.
        least: Share of the text that must be left.
    """
    ends = list(_ends(text + " A"))
    kept = text[: ends[-1]].rstrip() if ends else ""
    return kept if ends and len(kept) >= least * len(text) else None


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, each with the space behind it; joined, they are the text."""
    cuts = [0, *_ends(text), len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts) if begin < end]


def _ends(text: str) -> Iterator[int]:
    """Where sentences and lines begin that follow another one."""
    meter = SentenceEnd(0)
    for at, char in enumerate(text):
        meter.feed(char)
        if meter.done:
            yield at
            meter = SentenceEnd(0)
            meter.feed(char)
