"""Texts that a grammar allows, filled in from the words and numbers of a question."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonschema

from langchain_sgd.embedded.engine import EngineInputError, Grammar

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_STRINGS = (
    re.compile(r"[\u4e00-\u9fff]+"),
    re.compile(r"['\"`]([^'\"`\n]+)['\"`]"),
    re.compile(r"(?<=[a-z,] )[A-Z]\w+"),
    re.compile(r"\w{4,}"),
)
_FORMATS = {
    "date": "2024-01-31",
    "time": "12:30:00Z",
    "date-time": "2024-01-31T12:30:00Z",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,:;!?()[]{}|/\n\t"


def fits_grammar(text: str, grammar: Grammar) -> bool:
    """Whether the grammar allows this text."""
    if grammar.kind == "regex":
        return re.fullmatch(str(grammar.value), text) is not None
    try:
        jsonschema.validate(json.loads(text), dict(grammar.value))  # type: ignore[arg-type]
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def fill_grammar(grammar: Grammar, question: str) -> str:
    """A text that the grammar allows; JSON comes in schema order, without escapes or newlines."""
    if grammar.kind == "regex":
        return _fill_regex(str(grammar.value))
    assert isinstance(grammar.value, Mapping)
    value = _Filling(grammar.value, question).value(grammar.value)
    text = json.dumps(value, ensure_ascii=False)
    jsonschema.validate(value, _without_bounds(grammar.value))
    return text


def _without_bounds(schema: Any) -> Any:
    """The schema without what TGI's grammars ignore."""
    ignored = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "uniqueItems"}
    if isinstance(schema, Mapping):
        return {
            key: _without_bounds(value)
            for key, value in schema.items()
            if key not in ignored or isinstance(value, Mapping)
        }
    return [_without_bounds(item) for item in schema] if isinstance(schema, list) else schema


class _Filling:
    def __init__(self, root: Mapping[str, Any], question: str) -> None:
        self._root = root
        self._question = question
        self._numbers = iter(_NUMBER.findall(question))
        self._strings = _strings_of(question)

    def value(self, schema: Mapping[str, Any]) -> Any:
        match schema:
            case {"$ref": str(reference)}:
                return self.value(self._resolve(reference))
            case {"properties": properties}:
                return {name: self.value(part) for name, part in properties.items()}
            case {"allOf": [first, *_]}:
                return self.value(first)
            case {"anyOf": variants} | {"oneOf": variants}:
                return self.value(self._choose(variants))
            case {"prefixItems": parts}:
                return [self.value(part) for part in parts]
            case {"enum": values}:
                words = set(re.findall(r"\w+", self._question))
                mentioned = (value for value in values if str(value) in words)
                return next(mentioned, values[0])
            case {"const": constant}:
                return constant
            case _:
                return self._plain(schema)

    def _plain(self, schema: Mapping[str, Any]) -> Any:
        match schema.get("type"):
            case "string":
                return self._string(schema)
            case "integer":
                return int(float(next(self._numbers, "1")))
            case "number":
                return float(next(self._numbers, "1.5"))
            case "boolean":
                return True
            case "array":
                return self._array(schema)
            case "object":
                return {}
            case _:
                return None

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema and not {"minLength", "maxLength"} & set(schema):
            return _fill_regex(str(schema["pattern"]).removeprefix("^").removesuffix("$"))
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = next(self._strings, "text")
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
        return text.ljust(shortest, "x")[:longest]

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        count = max(schema.get("minItems", 0), min(2, schema.get("maxItems", 2)))
        items = schema.get("items", {"type": "string"})
        return [self.value(items) for _ in range(count)]

    def _choose(self, variants: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The variant that is meant; of function calls, the one that the question speaks of."""
        names = [_name_of(variant) for variant in variants]
        for variant, name in zip(variants, names, strict=True):
            if name is not None and self._speaks_of(name):
                return variant
        named = dict(zip(names, variants, strict=True))
        if "no_tool" in named:
            return named["no_tool"]
        return next((each for each in variants if each.get("type") != "null"), variants[0])

    def _speaks_of(self, name: str) -> bool:
        question = self._question.lower()
        if "<|answered|>" in question:
            return False
        parts = [part for part in re.split(r"[_\W]+", name.lower()) if len(part) > 3]
        return any(part in question for part in parts or [name.lower()])

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        target: Any = self._root
        for key in reference.removeprefix("#/").split("/"):
            target = target[key]
        assert isinstance(target, Mapping)
        return target


def _name_of(variant: Mapping[str, Any]) -> str | None:
    name = variant.get("properties", {}).get("_name", {}).get("const")
    return name if isinstance(name, str) else None


def _strings_of(question: str) -> Iterator[str]:
    for pattern in _STRINGS:
        for found in pattern.findall(question):
            clean = "".join(char for char in found if char not in '"\\' and char.isprintable())
            if clean:
                yield clean


# --- regular expressions


def _fill_regex(pattern: str) -> str:
    """A short text that the pattern matches."""
    parser: Any = getattr(re, "_parser")  # noqa: B009 - typeshed does not know it
    try:
        text = "".join(_parts(parser.parse(pattern)))
    except (re.error, NotImplementedError, StopIteration) as error:
        msg = f"cannot fill {pattern!r}: {error}"
        raise EngineInputError(msg) from error
    if re.fullmatch(pattern, text) is None:
        msg = f"cannot fill {pattern!r}"
        raise EngineInputError(msg)
    return text


def _parts(nodes: Any) -> Iterator[str]:
    for operation, argument in nodes:
        match str(operation), argument:
            case "LITERAL", code:
                yield chr(code)
            case "NOT_LITERAL", code:
                yield _character([("LITERAL", code)], negated=True)
            case "ANY", _:
                yield "a"
            case "IN", members:
                negated = str(members[0][0]) == "NEGATE"
                yield _character(members[1:] if negated else members, negated=negated)
            case "BRANCH", (_, branches):
                yield from _parts(branches[0])
            case "SUBPATTERN", (_, _, _, inner):
                yield from _parts(inner)
            case (("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT"), (low, high, inner)):
                for _ in range(max(low, min(1, high))):
                    yield from _parts(inner)
            case (("AT" | "ASSERT" | "ASSERT_NOT"), _):
                pass
            case name, _:
                raise NotImplementedError(name)


def _character(members: Any, *, negated: bool) -> str:
    known = _ALPHABET
    if not negated and str(members[0][0]) in ("LITERAL", "RANGE"):
        first = members[0][1]
        return chr(first if isinstance(first, int) else first[0])
    return next(char for char in known if _is_member(char, members) != negated)


def _is_member(char: str, members: Any) -> bool:
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                hit = ord(char) == argument
            case "RANGE":
                hit = argument[0] <= ord(char) <= argument[1]
            case _:
                category = str(argument).rpartition("_")[2]
                sense = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[category]
                hit = bool(re.fullmatch(sense, char)) != ("_NOT_" in str(argument))
        if hit:
            return True
    return False
