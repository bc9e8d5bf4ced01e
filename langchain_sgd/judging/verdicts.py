"""Verdicts: read out of what a judge wrote, and both orders of a pair made one outcome. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal

from langchain_sgd.thoughts import without_thoughts

Verdict = Literal["A", "B", "tie"]
"""What a judge says of two answers, in the order in which it saw them."""

Outcome = Literal["win", "lose", "tie"]
"""What became of a method on a question, against another method."""

_LAST_LINES: Final = 3
"""A verdict may be followed by a polite line or two; further up, letters belong to the prose."""

_BRACKETED: Final = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
"""MT-bench's form, which many judges were trained on; its C is a tie."""

_LABELED: Final = re.compile(
    r"^\W*(?:(?:so|thus|therefore|hence|overall),? )?(?:my |the )?(?:final |overall )?"
    r"(?:verdict|winner)(?: is)?\W+"
    r"(?:answer |assistant |response )?(?:an? )?(?P<pick>a|b|tie|draw)"
    # The choice repeated ("A, B or tie") is no verdict; a reason behind it does no harm.
    r"(?=\W*$|\W*[.,;:!(\u2013\u2014-])(?![\s,]*(?:(?:or|and)\s+)?(?:a|b|tie|draw)\b)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W_]+")
_TIES: Final = frozenset({"tie", "tied", "draw", "equal", "equally", "neither", "both"})
_AROUND_TEXT: Final = """
so thus therefore overall hence i choose pick prefer judge would say it is s the my our this that final
verdict winner wins win judgment judgement decision choice conclusion result preference answer answers
response responses assistant option one and are goes to in an between better best stronger preferred
clearly slightly somewhat much good"""
_AROUND: Final = frozenset(_AROUND_TEXT.split())
"""The words that a line may have beside its verdict; a line with any other word is prose."""

_NAMING: Final = frozenset({"answer", "assistant", "option", "response"})
_NOUNS: Final = _NAMING | {"choice", "one"}
_ADJECTIVES: Final = frozenset(
    {"better", "best", "stronger", "preferred", "clearly", "slightly", "somewhat", "much", "good"}
)
"""Where these lead to a noun, "a" before them is the article: "a much better answer"."""


def parse_verdict(text: str) -> Verdict | None:
    """Find the verdict that ends a judge's text; None if there is none or it is not clear.

    Taken are a last line such as `A`, `**tie**`, `Verdict: B`, `[[A]]` or `Answer B is better.`,
    whatever prose stands before it. A line that says that it is the verdict may have a line or two
    behind it, and goes before what those seem to say. What a reasoning model thinks is left out.
    """
    lines = [line for line in without_thoughts(text).splitlines() if _WORD.search(line)][
        -_LAST_LINES:
    ]
    if not lines:
        return None
    if len(_WORD.findall(lines[-1])) == 1 and (found := _sentence(lines[-1])):
        return found
    marked = (found for line in reversed(lines) if (found := _marked(line)))
    return next(marked, None) or _sentence(lines[-1])


def _marked(line: str) -> Verdict | None:
    """A verdict that says that it is one."""
    if bracketed := {each.upper() for each in _BRACKETED.findall(line)}:
        return _verdict(bracketed.pop()) if len(bracketed) == 1 else None
    labeled = _LABELED.search(re.sub(r"[*`\"']", "", line))
    return _verdict(labeled["pick"].upper()) if labeled else None


def _verdict(pick: str) -> Verdict:
    if pick == "A":
        return "A"
    return "B" if pick == "B" else "tie"


def _sentence(line: str) -> Verdict | None:
    """A verdict in a line that says nothing else."""
    # "A is better than B": what stands behind names the other one.
    words, loser = _split(_WORD.findall(line), "than")
    sides: set[str] = set()
    is_tie = False
    for at, (before, word) in enumerate(zip(["", *words], words, strict=False)):
        if word.lower() in _TIES:
            is_tie = True
        elif word.lower() == "b" or _is_side(before, word, words[at + 1 :], compared=bool(loser)):
            sides.add(word.upper())
        elif word.lower() not in _AROUND | {"a"}:
            return None
    if any(word.lower() not in _AROUND | {"a", "b"} for word in loser):
        return None
    if is_tie:
        # "A and B are equal", but not "A, B, tie", which repeats the choice.
        return "tie" if not sides or (sides == {"A", "B"} and "and" in words) else None
    return _verdict(sides.pop()) if len(sides) == 1 else None


def _is_side(before: str, word: str, behind: list[str], *, compared: bool) -> bool:
    """Whether a word is the side A, and not the article.

    In lower case it is one at the end of a line or behind what it is the name of: "answer a wins".
    """
    if word not in {"A", "a"} or (behind and behind[0].lower() in _TIES):
        return False
    is_named = before.lower() in _NAMING
    if word == "A" and (is_named or compared):
        return True
    described = next((each.lower() for each in behind if each.lower() not in _ADJECTIVES), None)
    if described in _NOUNS:
        return False
    return word == "A" or is_named or not behind


def _split(words: list[str], at: str) -> tuple[list[str], list[str]]:
    place = words.index(at) if at in words else len(words)
    return words[:place], words[place + 1 :]


def outcome_of(method_first: Verdict | None, method_second: Verdict | None) -> Outcome:
    """One outcome of both orders: a side wins if both prefer it, and everything else is a tie.

    Args:
        method_first: The verdict where the method's answer was A; None if it could not be used.
        method_second: The verdict where it was B.
    """
    if (method_first, method_second) == ("A", "B"):
        return "win"
    return "lose" if (method_first, method_second) == ("B", "A") else "tie"
