"""How large the automaton is that TGI makes of a schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import states_of
from langchain_sgd.tgi.errors import TGIGrammarError
from langchain_sgd.tgi.schema_parts import FORMATS, References, Schema, number, typed

_PLAIN_STATES: Final[Mapping[str, int]] = {
    "string": 3, "integer": 2, "number": 9, "boolean": 7, "null": 4,
}  # fmt: skip
"""States of a value in a member of an object, measured with TGI's own compilers (outlines-core at
`ba10c619`, interegular 0.3.3), as the other numbers here are."""
_TOO_MANY: Final = 10_000_000


def states_of_schema(schema: Schema, *, named: bool = False) -> int:
    """Estimate the states of the automaton that TGI makes of a schema, within a few in a hundred.

    Args:
        schema: As it is sent.
        named: Whether the router adds a required property, as it does for tools.

    Raises:
        TGIGrammarError: It refers to itself, leaves a type open, or can hold nothing.
    """
    return min(_TOO_MANY, _Count(schema, named=named).value(schema, "the schema", ()))


class _Count:
    def __init__(self, root: Schema, *, named: bool) -> None:
        self._references = References(root)
        self._named = named
        self._seen = 0

    def value(self, schema: Any, where: str, open_: tuple[str, ...]) -> int:
        self._seen += 1
        if self._seen > 20_000:
            return _TOO_MANY
        schema = typed(schema, where)
        if isinstance(reference := schema.get("$ref"), str):
            target = self._references.target(reference, where, open_)
            return self.value(target, where, (*open_, reference))
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(parts := schema.get(name), list) and parts:
                return sum(self.value(part, where, open_) for part in parts)
        if "enum" in schema or "const" in schema:
            return _listed(schema["enum"] if "enum" in schema else [schema["const"]])
        kind = schema.get("type")
        if isinstance(kind, list):
            return sum(self.value({**schema, "type": one}, where, open_) for one in kind)
        if kind == "string":
            return _string_states(schema)
        if kind == "array":
            return self._array(schema, where, open_)
        if isinstance(kind, str) and kind in _PLAIN_STATES:
            return _PLAIN_STATES[kind]
        return self._object(schema, where, open_)

    def _array(self, schema: Schema, where: str, open_: tuple[str, ...]) -> int:
        if isinstance(first := schema.get("prefixItems"), list) and first:
            return 3 + sum(3 + self.value(item, where, open_) for item in first)
        item = self.value(schema.get("items"), f"{where}[]", open_)
        least = int(number(schema, "minItems") or 0)
        most = number(schema, "maxItems")
        times = max(2, least) if most is None else int(most)
        return times * (item + 3) + 2

    def _object(self, schema: Schema, where: str, open_: tuple[str, ...]) -> int:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or (
            not properties and isinstance(schema.get("additionalProperties"), Mapping)
        ):
            values = self.value(schema.get("additionalProperties"), f"{where}.*", open_)
            return 2 * (values + 3) + 19
        members = [
            len(json.dumps(name, ensure_ascii=False)) + 8 + self.value(value, name, open_)
            for name, value in properties.items()
        ]
        required = schema.get("required")
        fixed = self._named or (
            isinstance(required, list) and any(name in properties for name in required)
        )
        if fixed or len(members) < 2:
            return 2 + sum(members)
        # Every choice of optional properties is written out.
        return 2 + (sum(members) // len(members) - 4) * ((1 << min(len(members), 24)) - 1)


def _string_states(schema: Schema) -> int:
    least, most = number(schema, "minLength"), number(schema, "maxLength")
    if most is not None:
        return 3 * int(most) + 1
    if least is not None:
        return 3 * int(least) + 2
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        bare = pattern.removeprefix("^").removesuffix("$")
        try:
            return 2 + states_of(bare, 4096)
        except ExpressionError as error:
            msg = f"TGI cannot take the pattern {pattern!r}: {error}"
            raise TGIGrammarError(msg) from None
    return FORMATS.get(str(schema.get("format")), _PLAIN_STATES["string"])


def _listed(values: Iterable[Any]) -> int:
    """Count the states of some texts to choose from, which share their beginnings."""
    texts = sorted(json.dumps(value, ensure_ascii=False) for value in values)
    shared = sum(_common(one, other) for one, other in pairwise(texts))
    return max(1, sum(map(len, texts)) - shared)


def _common(one: str, other: str) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0
    )
