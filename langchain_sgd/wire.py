r"""The skeleton's wire format: one line a node, since the planner's tokens are the serial part of a run.

    1 Trains
    2 Planes
    3 Costs of both *
    4 Recommendation <1,2,3

or the single word `PLAIN`. A line is its number and a heading; what has its default is not written. `<`
stands before the numbers of the earlier lines whose text the writer must have read, `*` marks a hard part.

For servers that can constrain decoding there are three forms of the same language: a regular expression
and a GBNF grammar for lines, a JSON schema for servers that know JSON only (each line is a string). They
are the same bytes for every question and every limit, since servers compile a grammar once and cache it by
its bytes, and they count no characters: each counted character would be a state of the automaton, which
some servers take minutes to compile. A field that runs on is cut by `planner.plan` instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal

PLAIN_WORD: Final = "PLAIN"
"""The planner's whole output when the question is better answered undivided."""

Form = Literal["lines", "json"]
"""How the planner writes: the lines themselves, or a JSON object that holds them as strings."""

MIN_NODES: Final = 2
"""A skeleton of one node is plain decoding with an extra call."""
ALL_WORD: Final = "all"
"""Stands for the numbers of all lines before."""
JSON_KEY: Final = "parts"

_POSITIONS: Final = 6
"""Lines whose numbers are fixed by the grammar; later ones may need only these."""
_TOKENS_PER_LINE: Final = 24
_JSON_TOKENS_PER_LINE: Final = 30
_MOST_TOKENS: Final = 1024

_HEADING: Final = r"[^ \t\r\n<>|*#`_\\-][^\r\n<>|*]*"
_HARD: Final = r"( ?\*)?"


def planner_max_tokens(max_nodes: int, form: Form = "lines") -> int:
    """Tokens that a plan of so many nodes may take: three times what lines mostly need.

    Never more than 1024: TGI restarts a grammar after so many (router, `infer/mod.rs`), which would break
    the plan. No more than needed: servers reserve memory for them and count them into the context.
    """
    per_line = _JSON_TOKENS_PER_LINE if form == "json" else _TOKENS_PER_LINE
    return min(_MOST_TOKENS, per_line * max(max_nodes, MIN_NODES))


@cache
def skeleton_regex(*, plain: bool = True) -> str:
    """A regular expression for a skeleton, or, if `plain`, for the plain word as well.

    Line k begins with k and needs only smaller numbers, in ascending order.
    """
    later = rf"\n([7-9]|[1-9][0-9]) {_HEADING}( ?<({ALL_WORD}|[1-{_POSITIONS}](,[1-{_POSITIONS}])*))?{_HARD}"
    rest = f"({later})*"
    for number in range(_POSITIONS, MIN_NODES, -1):
        rest = rf"(\n{_line(number)}{rest})?"
    lines = r"\n".join(map(_line, range(1, MIN_NODES + 1))) + rest
    return f"({PLAIN_WORD}|{lines})" if plain else f"({lines})"


def _line(number: int) -> str:
    needs = f"( ?<({ALL_WORD}|{_ascending(number)}))?" if number > 1 else ""
    return f"{number} {_HEADING}{needs}{_HARD}"


def _ascending(number: int) -> str:
    """Numbers below this one, ascending, separated by commas; at least one."""
    return "|".join(
        str(first) + "".join(f"(,{n})?" for n in range(first + 1, number))
        for first in range(1, number)
    )


@cache
def skeleton_gbnf(*, plain: bool = True) -> str:
    """The same for llama.cpp's `grammar`."""
    rules = {
        "root": f'"{PLAIN_WORD}" | lines' if plain else "lines",
        "lines": r'line1 "\n" line2 more3?',
        "heading": r"[^ \t\r\n<>|*#`_\\-] [^\r\n<>|*]*",
        "hard": '" "? "*"',
        "line1": '"1 " heading hard?',
    }
    for number in range(2, _POSITIONS + 1):
        needs = " | ".join(
            f'"{first}"' + "".join(f' (",{n}")?' for n in range(first + 1, number))
            for first in range(1, number)
        )
        rules[f"line{number}"] = f'"{number} " heading (" "? "<" ("{ALL_WORD}" | {needs}))? hard?'
    for number in range(MIN_NODES + 1, _POSITIONS + 1):
        following = f"more{number + 1}?" if number < _POSITIONS else "later*"
        rules[f"more{number}"] = rf'"\n" line{number} {following}'
    earlier = f'[1-{_POSITIONS}] ("," [1-{_POSITIONS}])*'
    rules["later"] = (
        r'"\n" ([7-9] | [1-9] [0-9]) " " heading'
        f' (" "? "<" ("{ALL_WORD}" | {earlier}))? hard?'
    )
    return "".join(f"{name} ::= {rule}\n" for name, rule in rules.items())


def skeleton_schema() -> dict[str, Any]:
    """A JSON schema whose strings are the lines; an empty list means plain decoding.

    A fresh value at each call: clients change schemas that they are given.
    """
    return {
        "title": "plan",
        "type": "object",
        "properties": {JSON_KEY: {"type": "array", "items": {"type": "string"}}},
        "required": [JSON_KEY],
        "additionalProperties": False,
    }


def line_of(number: int, heading: str, needs: Sequence[str], *, hard: bool) -> str:
    """A node as the planner writes it."""
    needed = f" <{','.join(needs)}" if needs else ""
    return f"{number} {heading}{needed}{' *' if hard else ''}"


def as_json(plan: str) -> str:
    """A plan in lines as the JSON form spells it."""
    lines: Sequence[str] = [] if plan == PLAIN_WORD else plan.splitlines()
    return json.dumps({JSON_KEY: lines}, ensure_ascii=False, separators=(",", ":"))
