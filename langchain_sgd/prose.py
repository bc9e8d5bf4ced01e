"""How text is built, in any script: ends of sentences, words, and blocks of Markdown that are open.

Sources: Unicode's property Sentence_Terminal (UAX #29), CommonMark for fences.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

WIDE_ENDS: Final = frozenset("\u3002\uff01\uff1f\uff61")
"""Ends of sentences behind which no blank follows: Chinese and Japanese."""
SENTENCE_ENDS: Final = WIDE_ENDS | frozenset(
    ".!?\u2026\u203c\u203d\u2047\u2048\u2049"
    "\u0589"  # Armenian
    "\u061f\u06d4"  # Arabic, Urdu
    "\u0964\u0965"  # Hindi, Bengali and their kin
    "\u104b"  # Burmese
    "\u1362\u1367"  # Amharic
    "\u17d4\u17d5"  # Khmer
    "\u0f0d\u0f0e"  # Tibetan
    "\u1803\u1809"  # Mongolian
)
"""Signs that end a sentence."""
_QUOTES: Final = frozenset("\"'`*_~“„‟‘‚’")  # noqa: RUF001
"""Beside what Unicode calls closing: marks that stand on both sides, and quotation marks that open in one
language and close in another."""
_NOTE = re.compile(r"(?:\[\^?\w{1,8}\]|\(\d{1,3}\)|[\u00b9\u00b2\u00b3\u2070-\u2079])\Z")
"""A footnote behind a sentence."""
_ABBREVIATIONS: Final = (
    "Dr|Mr|Mrs|Ms|Prof|St|vs|etc|Jr|Sr|Gov|Sen|Rep|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Mt|Ft|Ave|Blvd|Rd|Inc"
    "|Ltd|Corp|Dept|Univ|Bros|Nos|Vol|Figs?|Eqs?|Sec|pp|eds?|approx|al|cf|viz"
    "|Jan|Feb|Apr|Aug|Sept|Oct|Nov|Dec"
    # German
    "|bzw|ca|Nr|usw|Mio|Mrd|Tsd|inkl|exkl|zzgl|abzgl|ggf|evtl|sog|bspw|Abs|Bd|Hrsg|Jh|Std|Sek|Str|Tel"
    "|vgl|geb|gest|Kap|Aufl|allg|dt|engl|franz|lat|Hl|Fa|Dipl|Ing"
    # French, Spanish, Portuguese, Italian, Dutch, Polish
    "|MM|Mme|Mlle|av|env|éd|Sra|Srta|Dra|Uds?|EE|UU|pág|núm|aprox|Sig|Dott|pag|bijv|enz|dhr|mevr"
    "|np|itd|itp|tzw|ul|mgr|wyd"
    "|гг|ул|руб|млн|млрд|тыс|им|обл|рис|табл|проф|акад"  # noqa: RUF001 - Cyrillic letters are meant
)
_NO_END = re.compile(rf"\W*(?:\d+|(?:[^\W\d_]\.)*[^\W\d_]|{_ABBREVIATIONS})\.\W*", re.IGNORECASE)
"""Words whose full stop ends no sentence: numbers, initials, abbreviations."""

_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_WIDE_PER_WORD: Final = 1.6
"""Characters that say as much as a word: in Chinese and Japanese,"""
_LONG = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_LONG_PER_WORD: Final = 5.0
"""and in Thai, Lao, Burmese and Khmer."""
_WITHOUT_ENDS = re.compile(r"[\u0e00-\u0eff]")
"""Of Thai and Lao, whose sentences end with a blank and no sign."""
WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
    # The vowel signs of other scripts are no letters to `re`.
    r"|[\w\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff]+"
)
"""A word; a character where a script puts no blanks between words."""


def weight(word: str) -> float:
    """How many words a piece of text without blanks is; about as many as it says."""
    if word.isascii():
        return 1.0
    wide = len(_WIDE.findall(word)) / _WIDE_PER_WORD
    return max(1.0, wide + len(_LONG.findall(word)) / _LONG_PER_WORD)


def is_closing(char: str) -> bool:
    """Whether a sign may stand between the end of a sentence and the blank behind it."""
    return char in _QUOTES or unicodedata.category(char) in {"Pe", "Pf", "Pi"}


def ends_sentence(word: str) -> bool:
    """Whether a sentence ends with this word, be there quotation marks or footnotes behind its end."""
    end = len(word)
    while end and word[end - 1] not in SENTENCE_ENDS:
        if note := _NOTE.search(word, 0, end):
            end = note.start()
        elif is_closing(word[end - 1]):
            end -= 1
        else:
            return False
    return bool(end) and not _NO_END.fullmatch(word, 0, end)


def is_without_ends(char: str) -> bool:
    """Whether a script's sentences end with a blank and no sign."""
    return bool(_WITHOUT_ENDS.match(char))


_MARKS_OF_LISTS = re.compile(r"[\s>*+-]*(?:\d{1,3}[.)]\s+)?")
_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_LATEX = re.compile(r"\\(begin|end)\{(\w{1,40}\*?)\}|\$\$|\\\[|\\\]")
_TAG = re.compile(r"<(/?)(details|table|pre)\b[^<>]{0,200}>", re.IGNORECASE)
_TABLE_HEAD: Final = 2
"""Lines of a table that are nothing without a further one."""


class Blocks:
    """Feed it a text's lines, one by one: it knows which blocks of Markdown are open behind them.

    Fenced code, displayed formulas, blocks of HTML; and the head of a table, which nothing closes but a row.
    """

    def __init__(self) -> None:
        self._fence = ""
        """What has opened the code that we are in."""
        self._formulas: list[str] = []
        """What closes the formulas, the outermost first; a blank line does so, too."""
        self._tags: list[str] = []
        """What closes the blocks of HTML, the outermost first."""
        self._rows = 0
        """Lines of a table so far, up to its first row."""

    @property
    def is_open(self) -> bool:
        """Whether a text that ends here would be broken."""
        return bool(self.closing) or 0 < self._rows <= _TABLE_HEAD

    @property
    def closing(self) -> str:
        """What closes all that is open, each on a line of its own."""
        ends = [self._fence, *reversed(self._formulas), *reversed(self._tags)]
        return "".join(f"\n{end}" for end in ends if end)

    def feed(self, line: str) -> None:
        """Go on over one line, without its end."""
        bare = line[_MARKS_OF_LISTS.match(line).end() :].rstrip()  # type: ignore[union-attr]
        if self._fence:
            if bare.startswith(self._fence) and not bare.strip(self._fence[0]):
                self._fence = ""
            return
        if found := _FENCE.match(bare):
            self._fence = found[1] or found[2]
            return
        self._rows = min(self._rows + 1, _TABLE_HEAD + 1) if bare.startswith("|") else 0
        if not bare:
            self._formulas.clear()
        # A formula in a line of text begins and ends there.
        if self._formulas or bare.startswith(("$$", "\\[", "\\begin")) or bare.endswith("$$"):
            for mark in _LATEX.finditer(bare):
                self._take(mark)
        if self._tags or bare.startswith("<"):
            for tag in _TAG.finditer(bare):
                end = f"</{tag[2].lower()}>"
                _close(self._tags, end) if tag[1] else self._tags.append(end)

    def _take(self, mark: re.Match[str]) -> None:
        sign = mark[0]
        if sign == "$$" and sign in self._formulas:
            _close(self._formulas, sign)
        elif sign == "$$":
            self._formulas.append(sign)
        elif sign == "\\[":
            self._formulas.append("\\]")
        elif sign == "\\]":
            _close(self._formulas, sign)
        elif mark[1] == "begin":
            self._formulas.append(f"\\end{{{mark[2]}}}")
        else:
            _close(self._formulas, sign)


def _close(ends: list[str], end: str) -> None:
    """A block ends, and with it what was left open inside; an end of nothing is text."""
    if end in ends:
        while ends.pop() != end:
            pass


def closed(text: str) -> str:
    """What closes the blocks that a text leaves open; mostly nothing."""
    blocks = Blocks()
    for line in text.split("\n"):
        blocks.feed(line)
    return blocks.closing
