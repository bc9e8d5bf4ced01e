r"""The skeleton's wire format: one line a node, since the planner's tokens are the serial part of a run.

    number|heading|scope|needed|difficulty

or the single word `PLAIN`. For servers that can constrain decoding there is a regular expression of the
same language, and a JSON schema for those that know JSON only. Both are bounded and made once for each
limit, because servers cache a compiled grammar by its bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from langchain_sgd.prompts import PLAIN_WORD

MIN_NODES = 2
"""A skeleton of one node is plain decoding with an extra call."""

_TOKENS_PER_LINE = 64
_MOST_TOKENS = 1024

_LINE = r'[1-9][0-9]?\|[^|\s*_#`"][^|\n]{0,79}\|[^|\n]{0,240}\|(-|[1-9][0-9]?(,[1-9][0-9]?){0,15})\|[1-5]'


def planner_max_tokens(max_nodes: int) -> int:
    """Tokens that a plan of so many nodes may take: twice what lines mostly need.

    Never more than 1024: TGI restarts a grammar after so many (router, `infer/mod.rs`), which would break
    the plan. No more than needed: servers reserve memory for them and count them into the context.
    """
    return min(_MOST_TOKENS, _TOKENS_PER_LINE * max_nodes)


@cache
def skeleton_regex(max_nodes: int, *, plain: bool) -> str:
    """A regular expression for a skeleton of up to `max_nodes` lines, or, if `plain`, the plain word."""
    lines = f"{_LINE}(\\n{_LINE}){{{MIN_NODES - 1},{max_nodes - 1}}}\\n?"
    return f"({PLAIN_WORD}|{lines})" if plain else f"({lines})"


@cache
def skeleton_schema(max_nodes: int) -> dict[str, Any]:
    """The same as a JSON schema; an empty list of nodes means plain decoding.

    Flat, every field required and in the order in which it is written; bounds that TGI ignores
    (`minimum`) are spelt as an `enum`.
    """
    node = {
        "type": "object",
        "properties": {
            "id": {"type": "integer", "enum": list(range(1, max_nodes + 1))},
            "heading": {"type": "string", "maxLength": 80},
            "scope": {"type": "string", "maxLength": 240},
            "dependencies": {
                "type": "array",
                "items": {"type": "integer", "enum": list(range(1, max_nodes + 1))},
                "maxItems": max_nodes,
            },
            "difficulty": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
        },
        "required": ["id", "heading", "scope", "dependencies", "difficulty"],
        "additionalProperties": False,
    }
    return {
        "title": "skeleton",
        "type": "object",
        "properties": {"nodes": {"type": "array", "items": node, "maxItems": max_nodes}},
        "required": ["nodes"],
        "additionalProperties": False,
    }
