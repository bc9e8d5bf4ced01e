# ruff: noqa: RUF001 - several alphabets
"""What length a question asks for, in any of thirteen languages.

A number of words is a wish where something says so: "in 300 words", "a 300-word essay", "(300 words)". Most
texts that name words speak of something else, or were pasted. So it is read in what orders or asks something,
at the beginning and the end of a text, outside of quotations and code.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

from langchain_sgd.decoding import wish_words as say


class Wish(NamedTuple):
    """What a text asks for; at most one of `words` and `each` is known."""

    words: int | None = None
    """Of the whole answer."""
    each: int | None = None
    """Words of each of several texts."""
    factor: float = 1.0
    """Of what is usual: less for a brief answer, more for a detailed one."""


def wished(*texts: str) -> Wish:
    """The length that the first of the texts asks for which names one; a number counts before a manner."""
    read = [[*_sentences(text)] for text in texts]
    for sentences in read:
        for sentence in sentences:
            if (wish := _number_in(sentence)) is not None:
                return wish
    for sentences in read:
        factor = _manner_in(sentences)
        if factor != 1.0:
            return Wish(factor=factor)
    return Wish()


_BRIEF: Final = 0.5
_DETAILED: Final = 1.7
_MOST_WORDS: Final = 20_000
"""Of an answer: whoever names more words speaks of something else."""
_FEW_WORDS: Final = 20
"""Fewer are a wish only where they begin or end a sentence."""
_ITEM_WORDS: Final = 50
"""Each of several texts with fewer words is less than a part."""
_PER_WORD: Final = {"signs": 1.6, "syllables": 4.0}
"""Characters of Chinese and Japanese, and of Korean, as texts are counted in words."""
_HEAD, _TAIL, _EDGE = 6, 4, 2_000
"""Sentences that are read at both ends of a text, and characters in which they are looked for."""


# -- which sentences are read


@functools.cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compiled when it is needed: most questions name no length, and the expressions are large."""
    return re.compile(expression, re.IGNORECASE)


class _Sentence(NamedTuple):
    text: str
    is_first: bool
    """Of the whole text: that is the user's own."""

    @property
    def asks(self) -> bool:
        """Whether it orders or asks something, or is what the text begins with."""
        return self.is_first or self.text.endswith(("?", "？")) or self.orders

    @property
    def orders(self) -> bool:
        return bool(_compiled(_ORDERS).search(self.text))


_ORDERS = (
    rf"(?:^|[,:;(])\W{{0,8}}(?:(?:{say.POLITE}|\d+[.)]|[a-z]\))[\s,]+){{0,3}}"
    rf"(?:{say.ASK}|{say.REQUEST}|{say.SUBJECT})(?!\w)|{say.ORDER_SIGNS}"
)
_NOT_SAID = re.compile(
    r"```.*?(?:```|\Z)|^[ \t]*>[^\n]*$|`[^`\n]{1,300}`|\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”"
    r"|„[^“”\n]{1,300}[“”]|«[^»\n]{1,300}»|»[^«\n]{1,300}«|「[^」\n]{1,300}」|《[^》\n]{1,300}》"
    r"|(?<!\w)['‘][^'’\n]{1,300}['’](?!\w)",
    re.DOTALL | re.MULTILINE,
)
"""Code and quotations."""
_ENDS = re.compile(r"\n+|(?<=[!?])\s+|(?<=[。！？])\s*|(?<=\.)\s+(?=[^\W\da-zà-ÿа-я]|[(\[\"])")


def _sentences(text: str) -> Iterator[_Sentence]:
    """The sentences and lines of both ends of a text, without what is quoted."""
    if len(text) > 2 * _EDGE:
        text = f"{text[:_EDGE]}\n{text[-_EDGE:]}"
    said = [*filter(None, map(str.strip, _ENDS.split(_NOT_SAID.sub("…", text))))]
    if len(said) > _HEAD + _TAIL:
        said = said[:_HEAD] + said[-_TAIL:]
    for number, sentence in enumerate(said):
        yield _Sentence(sentence, number == 0)


# -- numbers


_EDGES = r"\W{0,8}"
_NUMBERED = rf"(?:(?:{say.IN}|{say.NEAR})\s+){{0,3}}{say.AMOUNT}"
_FOLLOWS = rf"(?:\s*{say.AFTER_SIGNS}|\s*{say.AFTER}(?!\w))"
_LABEL = rf"(?:{say.LENGTH}|{say.WORD_COUNT}|{say.SIGN_COUNT}|{say.SYLLABLE_COUNT})\s*[:：]\s*"
_COUNTED = (
    rf"(?:{say.WORD_COUNT}|(?P<signs>{say.SIGN_COUNT})|(?P<syllables>{say.SYLLABLE_COUNT}))"
    rf"\s*[:：]\s*(?:{say.NEAR}\s*)?{say.RANGE}"
)
_WORDS_OF = rf"(?:[\s-]+(?!{say.ELSEWHERE}\s)[\w'-]+){{0,3}}?[\s-]+{say.TEXT}"
"""What stands between a number of words and the kind of text."""
_NO_SUBJECT = rf"(?!\s+{say.NO_WISH}(?!\w))"
_ALONE = (
    rf"^{_EDGES}(?:{_LABEL})?(?:{say.IN_SIGNS}\s*)?{_NUMBERED}{_FOLLOWS}?{_EDGES}$",
    rf"^{_EDGES}{_COUNTED}{_EDGES}$",
    rf"^{_EDGES}{_NUMBERED}\s+{say.ON}(?!\w)",
)
"""Sentences and lines that are about nothing else, or begin so."""
_BOUND = (
    rf"(?<!\w){say.IN}\s+{_NUMBERED}{_NO_SUBJECT}",
    rf"{say.IN_SIGNS}\s*(?:{say.NEAR}\s*)?{say.AMOUNT}",
    rf"{say.AMOUNT}{_FOLLOWS}",
    rf"[写寫書]\w{{0,4}}?\s*{say.AMOUNT}",
    rf"[(（]\s*{_NUMBERED}{_FOLLOWS}?\s*[)）]",
    rf"(?:[,;:–—-]|(?<!\w)(?P<each>{say.EACH}))\s*{_NUMBERED}{_FOLLOWS}?(?=,\s|{_EDGES}$)",
)
"""In what asks, or at its beginning."""
_TEXTS = (
    (
        rf"(?<!\ba )(?<!\ban )(?<!\bthe )(?<!\beinen ){say.COUNT}(?P<first>\d[\d.,]*)"
        rf"[\s-]*(?:words?|wörter)(?:[\s-]lang\w*)?{_WORDS_OF}"
    ),
    rf"{say.AMOUNT}(?:[\s-]lang\w*)?{_WORDS_OF}",
    rf"(?:{say.COUNT}(?:[\w-]+\s+){{0,2}}?)?{say.TEXT}\s+(?:[\w-]+\s+)?{say.OF}\s+{_NUMBERED}{_NO_SUBJECT}",
)
"""In orders, right behind what is ordered, or at a sentence's beginning."""
_WRITTEN = (
    (
        rf"(?<!\w){say.WRITE}(?:\s+(?:me|us|mir|uns))?\s+{_NUMBERED}"
        rf"(?=\s*(?:[.,;:!?()–—-]|$|{say.ON}(?!\w)))"
    ),
    rf"(?<!\w){say.WITH}\s+{_NUMBERED}{_EDGES}$",
)
"""In orders."""
_ORDERED = (
    rf"(?<!\w)(?:{say.ASK}|{say.REQUEST})"
    rf"(?:\s+(?!(?:{say.ELSEWHERE}|{say.GIVEN})\s)[\w'’-]+){{0,5}}\s*$"
)
_BEGINS = rf"^{_EDGES}(?:{say.POLITE}[\s,]+){{0,3}}$"
_BEGINS_NEARLY = rf"^{_EDGES}(?:an?|one|eine?n?|une?|una?|um|een|en|ett)?\s*(?:[\w-]+\s+)?$"
_HOW = (
    r"how (?:many|much|long|to|(?:can|do|should|could|would) (?:i|we|one))\b|wie (?:viele?|lange)\b"
)
_OF_EACH = rf"[\s,]*{say.EACH}(?!\w)"
_IN_EACH = rf"(?<!\w){say.EACH}(?!\w)[^,.;:!?]{{0,40}}$"
_MANY = r"(?<![sui])s$"


def _number_in(sentence: _Sentence) -> Wish | None:
    if not any(map(str.isnumeric, sentence.text)) or not _finds(
        f"{say.AMOUNT}|{_LABEL}", sentence.text
    ):
        return None
    return next(filter(None, map(_as_wish, _asked_for(sentence))), None)


def _asked_for(sentence: _Sentence) -> Iterator[re.Match[str]]:
    """Where a number of words is a wish."""
    text = sentence.text
    yield from _found(_ALONE, text)
    asks = sentence.asks and not _compiled(_HOW).match(text)
    for match in _found(_BOUND, text):
        if asks or _finds(_BEGINS, text[: match.start()]):
            yield match
    for match in _found(_TEXTS, text):
        before = text[: match.start()]
        if (sentence.orders and _finds(_ORDERED, before)) or (
            _finds(_BEGINS_NEARLY, before) and not text.endswith("?")
        ):
            yield match
    if sentence.orders:
        yield from _found(_WRITTEN, text)


def _found(expressions: tuple[str, ...], text: str) -> Iterator[re.Match[str]]:
    for expression in expressions:
        yield from _compiled(expression).finditer(text)


def _finds(expression: str, text: str) -> bool:
    return bool(_compiled(expression).search(text))


def _as_wish(match: re.Match[str]) -> Wish | None:
    found = match.groupdict()
    first = _value(found["first"])
    last = _value(found.get("last") or found["first"])
    words = (first + last) / 2 if first < last else last
    for unit, size in _PER_WORD.items():
        words /= size if found.get(unit) else 1
    before, behind = match.string[: match.start()], match.string[match.end() :]
    if words < _FEW_WORDS and behind.strip(" .!?。！？)）…") and before.strip():
        return None
    if count := found.get("count"):
        words *= int(count) if count.isdecimal() else 1 + say.COUNTS.index(count.lower())
    elif (
        found.get("each")
        or _compiled(_OF_EACH).match(behind)
        or _finds(_IN_EACH, before)
        or _finds(_MANY, found.get("text") or "")
    ):
        return Wish(each=round(words)) if _ITEM_WORDS <= words <= _MOST_WORDS else None
    return Wish(round(words)) if words and words <= _MOST_WORDS else None


def _value(figures: str) -> int:
    """Of a number in digits, with or without signs between thousands, or in Chinese characters."""
    if digits := re.sub(r"\D", "", figures):
        return int(digits)
    total = digit = 0
    for char in figures:
        value = int(unicodedata.numeric(char))
        if value < 10:
            digit = value
        else:
            total, digit = (
                (((total + digit) or 1) * value if value > 1000 else total + (digit or 1) * value),
                0,
            )
    return total + digit


# -- manners


_NOT_LATER = r"(?!\s+(?:vor|nach|bevor|nachdem|darauf|danach|gekommen|na|voor|before|after)(?!\w))"
_BETWEEN = rf"(?!{say.ELSEWHERE}\s|(?:met|aan|van|een|de|het|in|an|mit|von)\s)"
_MANNERS = (
    rf"{say.BRIEFLY}|{say.IN_BRIEF}|{say.BRIEF_SIGNS}|{say.BRIEF_KIND}|{say.BRIEF_BEHIND}|succinct|short"
    rf"|{say.IN_DETAIL}|{say.DETAIL_SIGNS}|detailed|{say.THOROUGHLY}|{say.THOROUGH}"
)
"""No sentence without one of them says how long an answer is to be."""
_BRIEF_ONES = (
    rf"(?<!\w){say.ASK}(?:\s+[\w'’-]+){{0,2}}\s+{say.BRIEFLY}(?!\w){_NOT_LATER}",
    rf"(?<!\w){say.BRIEFLY}(?:\s+(?:and|und|et|y|e|en|i)\s+\w+)?\s+{say.ASK}(?!\w)",
    rf"^{_EDGES}{say.BRIEFLY}\s*[,:–—-]",
    rf"[,;(–—-]\s*(?:but\s+|aber\s+)?{say.BRIEFLY}\s*(?:[,)]|{_EDGES}$)",
    rf"(?<!\w){say.IN_BRIEF}(?!\w)|{say.BRIEF_SIGNS}",
    (
        r"(?<!\w)(?:be|stay|remain|(?:keep|make)\s+(?:it|this|that|them|things"
        r"|(?:the|your|all|each|every)(?:\s+\w+){1,2}))"
        r"(?:\s+(?:very|as|more|short\s+and|clear\s+and))?\s+(?:brief|concise|succinct)(?!\w)"
    ),
    rf"(?<!\w)(?:short(?:\s+\w+)?\s+{say.SHORT_TEXT}|(?:keep|make)\s+(?:it|this)\s+short)(?!\w)",
    rf"(?<!\w)(?P<kind>{say.BRIEF_KIND})(?:\s+{_BETWEEN}[\w-]+){{0,2}}\s+{say.TEXT}",
    rf"(?<!\w){say.TEXTS}(?:\s+\w+)?\s+{say.BRIEF_BEHIND}(?!\w)",
)
_BRIEF_AT_END = rf"(?<!\w)(?<!\bso )(?<!\btoo )(?<!\bzu ){say.BRIEFLY}{_EDGES}$"
_DETAILED_ONES = (
    rf"(?<!\w){say.IN_DETAIL}(?!\w)|{say.DETAIL_SIGNS}",
    rf"(?<!\w){say.ASK}(?:\s+[\w'’-]+){{0,2}}\s+{say.THOROUGHLY}(?!\w)",
    rf"(?<!\w){say.THOROUGHLY}\s+{say.ASK}(?!\w)",
    (
        rf"(?<!\w)(?P<kind>{say.THOROUGH}|detailed)(?:,?\s+(?!{say.ELSEWHERE}\s)[\w-]+){{0,3}}"
        rf"\s+(?:{say.TEXT}|instructions|steps|list|breakdown|information|look)"
    ),
)


def _manner_in(sentences: list[_Sentence]) -> float:
    """Of what is usual; nothing said, or both, is as usual."""
    said = [each for each in sentences if _finds(_MANNERS, each.text) and each.asks]
    brief = any(map(_is_brief, said))
    detailed = any(_says(_DETAILED_ONES, each) for each in said)
    if brief is detailed:
        return 1.0
    return _BRIEF if brief else _DETAILED


def _is_brief(sentence: _Sentence) -> bool:
    return _says(_BRIEF_ONES, sentence) or (
        _finds(_BRIEF_AT_END, sentence.text) and sentence.orders
    )


def _says(expressions: tuple[str, ...], sentence: _Sentence) -> bool:
    """Whether it has one of them. A kind of text has a small letter: "A Brief History" is a name."""
    for match in _found(expressions, sentence.text):
        kind = match.groupdict().get("kind")
        before = sentence.text[: match.start()]
        if kind is None or kind[0].islower() or _finds(_BEGINS_NEARLY, before):
            return True
    return False
