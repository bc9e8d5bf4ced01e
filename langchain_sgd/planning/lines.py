"""One line of a planner's text as a draft of a node: the wire format, and what models write instead.

Two kinds of lines are nodes. A *numbered* line is the wire format, or an item of a numbered list
(`2. **Costs**: fares and tolls`); its number must be the one that comes next. A line with *bars* has
fields: number, heading, scope, needed, difficulty, the last ones often missing. Whether a line is a node
is clear from its beginning: what matches `BEGUN_BAR`, or has a `begun_number`, gives a draft
whatever follows.
"""

from __future__ import annotations

import re
from typing import Final

from langchain_sgd.planning.drafts import ALL_EARLIER, Draft, clean_line
from langchain_sgd.skeleton import HARD

MAX_HEADING: Final = 100
"""Characters of a heading; what is longer has run on."""
_MAX_SCOPE: Final = 240
_FIELDS: Final = 5
"""Of a whole line with bars; then each field is what its place says."""

_NUMBERED = re.compile(
    r"""[^\w|{}]{0,8}(\d{1,2})
    (?:(?:[.):\u3001\uff0e](?:\s{1,8}|(?=[^\W\d]|\*))|\s{1,8})[^\w|\n]{0,4}\w|\ [^\s|])""",
    re.VERBOSE,
)
BEGUN_BAR: Final = re.compile(
    r"\W{0,20}(?:[A-Za-z]{1,20}\s{0,5})?\d{1,4}[^\w|]{0,20}\|\s{0,8}(?=[^\s|])"
)
_ESCAPED = re.compile(r"\W*\d{1,4}\\\|")
_ID = re.compile(r"\W*(?:[A-Za-z]+\s*)?(\d{1,4})\W*")
_RANGE = re.compile(r"(\d{1,4})(?:\s*(?:-|–|—|\.\.+|to)\s*(\d{1,4}))?")  # noqa: RUF001
_NEEDS = re.compile(
    r"""\s*(?:<-?|[(\[]|←|\bneeds\b|\bafter\b)\s*(?:needs?|after|uses?|depends\ on|<-?|←)?\s*:?\s*
    (all|\d{1,2}(?:\s{0,3}(?:,|;|&|、|and|-)\s{0,3}\d{1,2}){0,30})\s*[)\]>]?\s*\Z""",
    re.VERBOSE,
)
_STAR = re.compile(r"(?<![*\w])\*\s*\Z|(?<=\w)\*\s*\Z")
_SCOPE = re.compile(r"\*\*[:.]?\s+|[:：]\s+|\s[—–]\s|:\*\*\s*")  # noqa: RUF001
_FILLER = re.compile(r"\b[^\W\d]{1,6}\b")
_PUNCTUATION = re.compile(r"[\s,;&+#、/]+")
_NO_DEPENDENCIES = {"", "-", "–", "—", "/", "none", "n/a", "na", "nil", "no", "nothing", "null"}  # noqa: RUF001
_ALL_DEPENDENCIES = re.compile(
    r"all(?: (?:of )?(?:the )?(?:above|previous|earlier|others?))?(?: (?:parts|lines|nodes))?"
)
_DIFFICULTY = re.compile(r"(?:difficulty\s*[:=]?\s*)?(-?\d{1,4})(?:\.\d+)?(?:\s*/\s*\d+)?")
_REMARK = re.compile(r"(?:\(|[:–-]\s*[a-z]).*", re.DOTALL)  # noqa: RUF001
_WORDS = {
    "easy": 2,
    "simple": 2,
    "low": 2,
    "medium": 3,
    "moderate": 3,
    "hard": 4,
    "high": 4,
    "difficult": 4,
}
_DECORATION = "*_ \t#`\"'|"


def begun_number(line: str) -> int | None:
    """The number with which a numbered line begins; None if it is none."""
    match = _NUMBERED.match(line)
    return int(match[1]) if match else None


def parse_line(line: str) -> Draft | None:
    """One line of either kind; None if it is something else."""
    number = begun_number(line)
    return parse_bar(line) if number is None else parse_numbered(line, number)


def parse_numbered(line: str, number: int) -> Draft | None:
    """A line that `begun_number` knows."""
    match = _NUMBERED.match(line)
    if match is None:
        return None
    rest = line[match.end(1) :].lstrip(" \t.):、．").rstrip()  # noqa: RUF001
    if "|" in rest:
        return parse_bar(f"{number}|{rest}")
    rest = rest.rstrip("`")
    hard, needs = False, ""
    for _ in range(2):  # in either order
        if not hard and not rest.startswith("*") and (star := _STAR.search(rest)):
            hard, rest = True, rest[: star.start()].rstrip()
        if not needs and (found := _NEEDS.search(rest)) and _is_needs(found, number):
            needs, rest = found[1], rest[: found.start()].rstrip()
    if rest.startswith("**") and (star := re.search(r"(?<=\*\*) \*\Z", rest)):
        hard, rest = True, rest[: star.start()]
    heading, _, scope = _divided(rest)
    return Draft(
        id=str(number),
        heading=heading_of(heading),
        scope=scope.strip(_DECORATION)[:_MAX_SCOPE],
        dependencies=(ALL_EARLIER,) if needs == "all" else numbers(needs),
        difficulty=HARD if hard else None,
    )


def _is_needs(found: re.Match[str], number: int) -> bool:
    """Numbers in round brackets are needs only if they can be: headings have years in brackets."""
    text = found[0].lstrip()
    return (
        text[0] not in "([" or found[1] == "all" or all(int(n) < number for n in numbers(found[1]))
    )


def _divided(text: str) -> tuple[str, str, str]:
    """Heading and scope of a list's item, such as `**Costs**: fares and tolls`."""
    found = _SCOPE.search(text, 1)
    if found is None:
        return (text, "", "")
    return text[: found.start()], found[0], text[found.end() :]


def parse_bar(line: str) -> Draft | None:
    """A line of fields between bars; None if it is something else."""
    if _ESCAPED.match(line):
        line = line.replace("\\|", "|")
    fields = [part.strip() for part in line.strip().strip("|`*").split("|")]
    if not (match := _ID.fullmatch(fields[0])):
        # `1. Intro | scope | - | 2`
        number = begun_number(fields[0])
        if number is None or len(fields) < 2:
            return None
        head = fields[0][_NUMBERED.match(fields[0]).end(1) :].lstrip(" \t.):")  # type: ignore[union-attr]
        return parse_bar("|".join([str(number), head, *fields[1:]]))
    if len(fields) < 2:
        return None
    rest = fields[2:]
    needs: tuple[str, ...] | None = None
    difficulty = difficulty_of(rest[-1]) if len(rest) > 1 else None
    if difficulty is not None or len(fields) == _FIELDS:
        rest = rest[:-1]
    if rest and (needs := dependencies_of(rest[-1])) is not None:
        rest = rest[:-1]
    elif len(rest) > 1 and len(fields) == _FIELDS:
        needs, rest = numbers(rest[-1]), rest[:-1]
    heading = fields[1].strip('*_ #`"')
    if not heading and not any(rest):
        return None
    return Draft(
        id=str(int(match[1])),
        heading=heading,
        scope=" | ".join(part for part in rest if part),
        dependencies=needs or (),
        difficulty=difficulty,
    )


def heading_of(text: str) -> str:
    """The text without the signs around it."""
    return clean_line(text).strip(_DECORATION).rstrip(":").rstrip(_DECORATION)


def dependencies_of(text: str) -> tuple[str, ...] | None:
    """The numbers in a field of dependencies, whatever language joins them; None if it is something else."""
    bare = text.strip(" []().*`<>").casefold()
    if bare in _NO_DEPENDENCIES:
        return ()
    if _ALL_DEPENDENCIES.fullmatch(bare):
        return (ALL_EARLIER,)
    without = _RANGE.sub(" ", bare)
    if without == bare or _PUNCTUATION.sub("", _FILLER.sub("", without)):
        return None
    words = _FILLER.findall(without)
    return numbers(bare) if len(words) <= len(_RANGE.findall(bare)) else None


def numbers(text: str) -> tuple[str, ...]:
    """The numbers in a text, ranges written out."""
    out: list[int] = []
    for match in _RANGE.finditer(text):
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        out += range(first, last + 1) if first <= last < first + 100 else (first, last)
    return tuple(str(number) for number in out)


def difficulty_of(text: str) -> int | None:
    """A difficulty as a number or a word; None if it is something else."""
    bare = _REMARK.sub("", text.strip(" .*()[]`").casefold()).strip()
    if bare in _WORDS:
        return _WORDS[bare]
    match = _DIFFICULTY.fullmatch(bare)
    return int(match[1]) if match else None
