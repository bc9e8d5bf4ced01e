"""A schema written anew as TGI compiles it in seconds: what costs states is left out, to be checked later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import Expression
from langchain_sgd.tgi.errors import TGIGrammarError
from langchain_sgd.tgi.schema_parts import FORMATS, References, Schema, number, place, typed

_SCALARS: Final = (str, int, float, bool, type(None))
_LISTED_INTEGERS: Final = 20
"""Integers between two bounds that are written out: TGI knows no bounds."""
_PATTERN_STATES: Final = 60
"""States up to which a string's pattern is sent; the answer is checked against it in any case."""
_CANNOT_BE_READ: Final = '"\\' + "".join(map(chr, range(32)))
"""Characters that a pattern must not match: they would end the JSON string or break it."""


def fitted(schema: Schema, *, descriptions: bool = False) -> dict[str, Any]:
    """Make of a schema the one to send.

    References are written out. Lengths, numbers' bounds, items' counts and unknown formats are left out:
    check the answer against the schema itself. An object of optional properties only must have all of
    them, since TGI would write out every choice; where one is required, the others stay optional.

    Args:
        schema: As pydantic or a user wrote it.
        descriptions: Whether to keep them, as for tools, which the model reads.

    Raises:
        TGIGrammarError: It refers to itself, or leaves the type of something open.
    """
    made = Fit(schema, descriptions=descriptions).any(schema, "the schema", ())
    if "properties" not in made:
        msg = (
            "The schema is no object with properties, and TGI takes no other. Put the value into a "
            'field of one: {"type": "object", "properties": {"answer": ...}}.'
        )
        raise TGIGrammarError(msg)
    return made


class Fit:
    """Writes a schema anew, part by part."""

    def __init__(self, root: Schema, *, descriptions: bool, optional: bool = False) -> None:
        self._references = References(root)
        self._descriptions = descriptions
        self._optional = optional
        self._written = 0

    def any(self, schema: Any, where: str, open_: tuple[str, ...]) -> dict[str, Any]:
        """Fit any part."""
        self._written += 1
        if self._written > 2000:
            msg = f"{place(where)} is too large once its references are written out: use fewer levels."
            raise TGIGrammarError(msg)
        schema = typed(schema, where)
        made = self._kind(schema, where, open_)
        if self._descriptions and isinstance(schema.get("description"), str):
            made["description"] = schema["description"]
        return made

    def _kind(self, schema: Schema, where: str, open_: tuple[str, ...]) -> dict[str, Any]:
        if isinstance(reference := schema.get("$ref"), str):
            target = self._references.target(reference, where, open_)
            return self.any(target, where, (*open_, reference))
        for name in ("anyOf", "oneOf"):
            if isinstance(choices := schema.get(name), list) and choices:
                return {"anyOf": [self.any(choice, where, open_) for choice in choices]}
        if isinstance(parts := schema.get("allOf"), list) and parts:
            return self.any(self._merged(schema, parts, where, open_), where, open_)
        for name in ("enum", "const"):
            if name in schema:
                return {name: _scalars(schema[name], where)}
        kind = schema.get("type")
        if isinstance(kind, list):
            return {"anyOf": [self.any({**schema, "type": one}, where, open_) for one in kind]}
        match kind:
            case "string":
                return _string(schema)
            case "integer":
                return _integer(schema)
            case "number" | "boolean" | "null":
                return {"type": kind}
            case "array":
                return self._array(schema, where, open_)
        return self._object(schema, where, open_)

    def _merged(
        self, schema: Schema, parts: Sequence[Any], where: str, open_: tuple[str, ...]
    ) -> dict[str, Any]:
        """Make one schema of those that must all hold."""
        whole: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            found = typed(part, where)
            while isinstance(reference := found.get("$ref"), str):
                found = self._references.target(reference, where, open_)
                open_ = (*open_, reference)
            for key, value in found.items():
                if key == "properties":
                    whole[key] = {**whole.get(key, {}), **value}
                elif key == "required":
                    whole[key] = [*whole.get(key, []), *value]
                else:
                    whole.setdefault(key, value)
        return whole

    def _array(self, schema: Schema, where: str, open_: tuple[str, ...]) -> dict[str, Any]:
        if isinstance(first := schema.get("prefixItems"), list) and first:
            fit = [self.any(item, f"{where}[{at}]", open_) for at, item in enumerate(first)]
            return {"type": "array", "prefixItems": fit}
        made = {"type": "array", "items": self.any(schema.get("items"), f"{where}[]", open_)}
        return {**made, "minItems": 1} if number(schema, "minItems") else made

    def _object(self, schema: Schema, where: str, open_: tuple[str, ...]) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or (
            not properties and isinstance(schema.get("additionalProperties"), Mapping)
        ):
            values = self.any(schema.get("additionalProperties"), f"{where}.*", open_)
            return {"type": "object", "additionalProperties": values}
        made = {
            name: self.any(value, name if where.startswith("the ") else f"{where}.{name}", open_)
            for name, value in properties.items()
        }
        asked = schema.get("required")
        required = [name for name in made if isinstance(asked, list) and name in asked]
        if not required and not self._optional:
            required = list(made)
        fit = {"type": "object", "properties": made}
        return {**fit, "required": required} if required else fit


def _scalars(values: Any, where: str) -> Any:
    each = values if isinstance(values, list) else [values]
    if not all(isinstance(value, _SCALARS) for value in each):
        msg = f"{place(where)} lists objects or lists as its values, which TGI cannot: give a type instead."
        raise TGIGrammarError(msg)
    return values


def _string(schema: Schema) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "string"}
    if schema.get("format") in FORMATS:
        return {**made, "format": schema["format"]}
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        bare = pattern.removeprefix("^").removesuffix("$")
        try:
            expression = Expression(bare)
        except ExpressionError:
            return made
        whole = pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$")
        if whole and _suits(expression):
            return {**made, "pattern": bare}
    return {**made, "minLength": 1} if number(schema, "minLength") else made


def _suits(expression: Expression) -> bool:
    small = expression.states(_PATTERN_STATES) <= _PATTERN_STATES
    return small and not expression.can_match_any_of(_CANNOT_BE_READ)


def _integer(schema: Schema) -> dict[str, Any]:
    low, high = number(schema, "minimum"), number(schema, "maximum")
    above, below = number(schema, "exclusiveMinimum"), number(schema, "exclusiveMaximum")
    low = above + 1 if low is None and above is not None else low
    high = below - 1 if high is None and below is not None else high
    if isinstance(low, int) and isinstance(high, int) and 0 <= high - low < _LISTED_INTEGERS:
        return {"enum": list(range(low, high + 1))}
    return {"type": "integer"}
