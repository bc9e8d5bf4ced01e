"""Where a part that runs on is ended: at the end of a sentence or a line, in any script, and in no block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from langchain_sgd.prose import (
    WIDE_ENDS,
    Blocks,
    ends_sentence,
    is_closing,
    is_without_ends,
    weight,
)

NO_SENTENCE: Final = re.compile(r"[-+\u2022|>\[{<$]|[*_]{1,3}\s|\d{1,3}[.)]|```|~~~")
"""How lists, tables, quotations, code and data begin, and no sentence."""
_COLONS: Final = (":", "：")  # noqa: RUF001 - other scripts' signs are meant


def count_words(text: str) -> int:
    """Words of a text; where a script puts no blanks between them, about as many as it says."""
    return round(sum(map(weight, text.split())))


class SentenceEnd:
    """Lets a text through until it has enough words, and then to the end of its sentence or line.

    A block of code, a formula, a table's head and the like are never cut, nor what follows a colon. Where
    chunks are cut makes no difference.
    """

    def __init__(self, words: int) -> None:
        self.done = False
        """The text is long enough and was ended: nothing more is let through."""
        self._enough = words
        self._heard = 0.0
        """Words that have ended."""
        self._word = ""
        self._is_over = False
        """The word has the end of a sentence behind which no blank follows."""
        self._spaces = ""
        """Held back until something follows."""
        self._blocks = Blocks()
        self._line: list[str] = []
        """The current line so far."""
        self._is_prose = True
        """The current line is no heading, and stands in no block."""
        self._may_end = False
        """The last word ends a sentence, and there are enough words."""
        self._may_end_blank = False
        """As `_may_end`, if the script has no sign for it."""
        self._may_end_line = False
        """As `_may_end`, if a line break follows: items of lists end without a full stop."""

    @property
    def words(self) -> int:
        """Words of the text so far, counted as they come: about as many as `count_words` says."""
        return round(self._heard + (weight(self._word) if self._word else 0.0))

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
                if char == "\n":
                    self._end_line()
                continue
            if not self._word:
                self._begin_word(char)
                if self.done:
                    break
                out.append(self._spaces)
                self._spaces = ""
            elif char in WIDE_ENDS:
                self._is_over = True
            elif self._is_over and not is_closing(char):
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
        elif self._is_over:
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
        self.done = (
            (self._may_end and (new_line or not char.islower()))
            or (self._may_end_blank and is_without_ends(char))
            or (new_line and self._may_end_line)
        )
        self._is_over = char in WIDE_ENDS
        self._may_end = self._may_end_blank = self._may_end_line = False

    def _end_word(self) -> None:
        word, self._word = self._word, ""
        if not word:
            return
        self._is_over = False
        if not self._line:
            self._is_prose = not word.startswith("#")
        self._line.append(word)
        self._heard += weight(word)
        if self._heard >= self._enough and self._is_prose and not self._blocks.is_open:
            self._may_end = ends_sentence(word)
            self._may_end_blank = is_without_ends(word[-1])

    def _end_line(self) -> None:
        line, is_prose = self._line, self._is_prose
        self._line, self._is_prose = [], True
        self._blocks.feed(" ".join(line))
        if self._blocks.is_open:
            self._may_end = self._may_end_blank = self._may_end_line = False
        elif line:
            is_enough = self._heard >= self._enough
            self._may_end_line = is_enough and is_prose and not line[-1].endswith(_COLONS)


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
