"""The first sentence of an answer, taken from its text as it comes."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final

from langchain_sgd.decoding.sentences import NO_SENTENCE, SentenceEnd
from langchain_sgd.prose import ends_sentence

BROKEN_OFF: Final = " \u2026"
"""Ends an opening whose call failed or fell silent."""
OPENING_TOKENS: Final = 64
"""About what an opening costs, with what is written until the plan is known."""
_LEAST_WORDS: Final = 3
"""Of an opening: "Sure!" is followed by another sentence."""
_PATIENCE_S: Final = 5.0
"""How long parts wait for it at most: a few times what one sentence takes."""
_UNCLEAR = re.compile(r"[*_]{1,3}|\d{1,3}|`{1,3}|~{1,3}")
_TITLE = re.compile(r"#|[*_]{2,3}\S[^\n]*[*_]{2,3}$")


def may_stand(text: str) -> bool:
    """Whether a text may stand as it is, though its sentence was not to end there."""
    *_, last = text.split()
    return last.endswith(":") or ends_sentence(last)


class SharedOpening:
    """A run's opening, for the parts that go on from it."""

    def __init__(self) -> None:
        self._text = ""
        self._is_settled = asyncio.Event()
        self._is_settled.set()

    def begin(self) -> None:
        """One is being written."""
        self._is_settled.clear()

    def settle(self, text: str) -> None:
        """It is whole, or there is none."""
        self._text = text
        self._is_settled.set()

    async def whole(self) -> str:
        """Its text once it is whole; empty where there is none, or it takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._is_settled.wait()
        return self._text


class OpeningText:
    """Feed it a text; it lets the first sentence through, or the first line if that ends sooner.

    A title before it is let through as well. Where chunks are cut makes no difference.
    """

    def __init__(self) -> None:
        self.done = False
        """The opening is whole, or there is none: nothing more is let through."""
        self._end = SentenceEnd(_LEAST_WORDS)
        self._line: list[str] = []
        """The current line as far as it has come, without its indentation."""
        self._held = ""
        """The first letters of a line, until it is clear whether they begin a sentence."""
        self._is_clear = False

    def feed(self, chunk: str) -> str:
        """What of a chunk belongs to the opening."""
        out: list[str] = []
        for char in chunk:
            if self.done:
                break
            out.append(self._end_line() if char == "\n" else self._take(char))
        return "".join(out)

    def _take(self, char: str) -> str:
        if not self._line and char.isspace():
            return self._end.feed(char)
        self._line.append(char)
        if not self._is_clear:
            self._held += char
            if _UNCLEAR.fullmatch(self._held):
                return ""
            if NO_SENTENCE.match(self._held):
                self.done = True
                return ""
            self._is_clear = True
            char, self._held = self._held, ""
        shown = self._end.feed(char)
        self.done = self._end.done
        return shown

    def _end_line(self) -> str:
        line, held = "".join(self._line).strip(), self._held
        self._line, self._held, self._is_clear = [], "", False
        if NO_SENTENCE.match(line):
            self.done = True
            return ""
        shown = self._end.feed(held)
        is_title = bool(_TITLE.match(line))
        self.done = len(line.split()) >= _LEAST_WORDS and not is_title
        if self.done:
            return shown
        if is_title:  # a sentence is still to come
            shown += self._end.close()
            self._end = SentenceEnd(_LEAST_WORDS)
        return shown + self._end.feed("\n")
