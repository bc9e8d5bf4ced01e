"""A JSON schema as a regular expression, for engines whose JSON grammars cannot bound whitespace.

The same reading as TGI's: properties come in the schema's order, whitespace is fixed, strings hold no
control characters, and what an expression cannot say is refused rather than ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_sgd.embedded.engine import EngineInputError

_CHARACTER: Final = r'([^"\\\x00-\x1f]|\\["\\/bfnrt])'
_SIMPLE: Final = {
    "integer": r"-?(0|[1-9][0-9]*)",
    "number": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    "boolean": "(true|false)",
    "null": "null",
}
_IGNORED: Final = frozenset(
    {"$schema", "$id", "title", "description", "default", "examples", "x-guidance", "$defs"}
    | {"definitions", "type", "additionalProperties"}
)
_KNOWN: Final = {
    "string": {"minLength", "maxLength", "pattern"},
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required"},
}
_DEEPEST: Final = 32
_MANY_NUMBERS: Final = 1000


def json_regex(schema: Mapping[str, Any], separators: tuple[str, str]) -> str:
    """An expression that matches just the JSON texts that fit a schema, in one fixed layout.

    Args:
        schema: The schema.
        separators: Between items, and between keys and values.

    Raises:
        EngineInputError: A keyword cannot be expressed, or a reference leads nowhere or in a circle.
    """
    return _Writer(schema, separators).value(schema, 0)


class _Writer:
    def __init__(self, root: Mapping[str, Any], separators: tuple[str, str]) -> None:
        self._root = root
        self._separators = separators
        self._item, self._key = map(_escaped, separators)

    def value(self, schema: Any, depth: int) -> str:
        if not isinstance(schema, Mapping):
            msg = f"A JSON schema must be an object, not {type(schema).__name__}"
            raise EngineInputError(msg)
        if depth > _DEEPEST:
            msg = "The JSON schema is recursive or nested too deeply for this engine"
            raise EngineInputError(msg)
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return self._literal(schema["const"])
        if "enum" in schema:
            return _either(self._literal(value) for value in schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return _either(self.value(each, depth + 1) for each in schema[keyword])
        named = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(named, list):
            return _either(self.value({**schema, "type": each}, depth + 1) for each in named)
        return self._typed(named, schema, depth)

    def _typed(self, named: Any, schema: Mapping[str, Any], depth: int) -> str:
        if named == "integer" and {"minimum", "maximum"} & schema.keys():
            return self._bounded(schema)
        known = _KNOWN.get(str(named), set())
        unknown = [key for key in schema if key not in known and key not in _IGNORED]
        if unknown or (named not in _SIMPLE and named not in _KNOWN):
            what = f"type {named!r}" if not unknown else f"keyword {unknown[0]!r}"
            msg = f"This engine cannot express the {what} of a JSON schema; the default engine can"
            raise EngineInputError(msg)
        if named == "string":
            return self._string(schema)
        if named == "array":
            return self._array(schema, depth)
        if named == "object":
            return self._object(schema, depth)
        return _SIMPLE[named]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            return f'"({str(schema["pattern"]).removeprefix("^").removesuffix("$")})"'
        return f'"{_CHARACTER}{_count(schema, "minLength", "maxLength")}"'

    def _bounded(self, schema: Mapping[str, Any]) -> str:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is None and isinstance(high, int):
            low = 0  # as small models read it: ids and scores count up from there
        if (
            not isinstance(low, int)
            or not isinstance(high, int)
            or not 0 <= high - low < _MANY_NUMBERS
        ):
            msg = (
                "This engine takes integer bounds only in pairs that are less than"
                f" {_MANY_NUMBERS} apart, not minimum {low!r} and maximum {high!r}"
            )
            raise EngineInputError(msg)
        return _either(str(number) for number in range(low, high + 1))

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        item = self.value(schema.get("items", {"type": "string"}), depth + 1)
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        rest = f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
        if most == 0:
            return r"\[\]"
        filled = f"({item})({self._item}({item})){rest}"
        return rf"\[{filled}\]" if least else rf"\[({filled})?\]"

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        required = set(schema.get("required", ()))
        written, separator = "", ""
        for name, inner in schema.get("properties", {}).items():
            key = self._literal(name)
            part = f"{separator}{key}{self._key}{self.value(inner, depth + 1)}"
            if name not in required:
                if not separator:
                    msg = (
                        f"The first property, {name!r}, must be required: this engine writes"
                        " properties in the schema's order"
                    )
                    raise EngineInputError(msg)
                part = f"({part})?"
            written += part
            separator = self._item
        return rf"\{{{written}\}}"

    def _literal(self, value: Any) -> str:
        return _escaped(json.dumps(value, ensure_ascii=False, separators=self._separators))

    def _resolve(self, reference: Any) -> Any:
        found: Any = self._root
        try:
            for part in str(reference).removeprefix("#/").split("/"):
                found = found[part]
        except (KeyError, TypeError) as error:
            msg = f"The JSON schema refers to {reference!r}, which it does not hold"
            raise EngineInputError(msg) from error
        return found


def _escaped(text: str) -> str:
    """Text as an expression; `re.escape` escapes more than other dialects take."""
    return re.sub(r"[][\\.^$*+?{}|()/]", r"\\\g<0>", text)


def _either(parts: Any) -> str:
    choices: Sequence[str] = list(parts)
    if not choices:
        msg = "The JSON schema leaves no choice: an enum or anyOf is empty"
        raise EngineInputError(msg)
    return f"({'|'.join(choices)})"


def _count(schema: Mapping[str, Any], least: str, most: str) -> str:
    low, high = schema.get(least, 0), schema.get(most)
    return "*" if not low and high is None else f"{{{low},{'' if high is None else high}}}"
