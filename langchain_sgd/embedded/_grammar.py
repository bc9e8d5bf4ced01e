"""Grammars that hold a model's output, as regular expressions: what engines and TGI itself make of schemas.

An expression that an engine cannot follow would end everybody's requests (OpenVINO), or be dropped without
a word (llama.cpp's server). So it is read here first, and refused in words.
"""

from __future__ import annotations

import importlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from langchain_sgd.embedded.engine import EngineInputError, Grammar

MAX_STATES: Final = 4000
"""States of the largest automaton; engines compile about a thousand in a second on large vocabularies."""
_MAX_PARTS: Final = 2000
"""Parts of the largest schema, references replaced by what they stand for."""
_TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")
# The standard library's own reader of expressions; nothing public shows what an expression is made of.
_PARSER: Final[Any] = importlib.import_module("re._parser")
_SINGLE: Final = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "CATEGORY", "RANGE", "NEGATE"})
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT"})
_REFUSED: Final = {
    "AT": "holds an anchor or a word boundary (^, $, \\b); leave it out, the whole output must match anyway",
    "ASSERT": "looks ahead or behind; write out what may follow instead",
    "ASSERT_NOT": "looks ahead or behind; write out what may follow instead",
    "GROUPREF": "refers back to a group; write the group out",
    "GROUPREF_EXISTS": "refers back to a group; write the group out",
}


class BadExpressionError(EngineInputError):
    """A regular expression that no engine can follow."""


class TooLargeError(EngineInputError):
    """A grammar that would keep the engine from its work."""


def grammar_regex(grammar: Grammar) -> str:
    """The expression that the whole output must match.

    Raises:
        EngineInputError: The grammar cannot be followed; the message says why.
    """
    if grammar.kind == "regex":
        expression = grammar.value
        if not isinstance(expression, str):
            msg = f"A regex grammar needs a string, not {type(expression).__name__}"
            raise BadExpressionError(msg)
    else:
        expression = json_regex(grammar.value)
    check_regex(expression)
    return expression


def check_regex(expression: str) -> None:
    """Refuse an expression that engines cannot follow.

    Raises:
        BadExpressionError: Its syntax is wrong, or it asks for more than to match from start to end.
        TooLargeError: Its automaton has too many states.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _PARSER.parse(expression)
        if parsed.state.flags & ~int(re.UNICODE) or parsed.state.groupdict:
            msg = f"The regular expression {_short(expression)} uses flags or names of groups; leave them out"
            raise BadExpressionError(msg)
        states = _states(parsed)
    except (re.error, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        msg = f"The regular expression {_short(expression)} is not valid: {reason}"
        raise BadExpressionError(msg) from error
    except _UnfitError as error:
        msg = f"The regular expression {_short(expression)} {error}"
        raise BadExpressionError(msg) from error
    if states > MAX_STATES:
        msg = (
            f"The grammar has about {states} states, more than {MAX_STATES}: counted repetitions such as"
            " {0,500} make as many; write + or *, and bound the length by the number of tokens"
        )
        raise TooLargeError(msg)


def _states(parsed: Iterable[Any]) -> int:
    total = 0
    for operation, argument in parsed:
        name = str(operation)
        if name in _SINGLE:
            total += 1
        elif name in _REPEATS:
            least, most, inner = argument
            times = int(least) + 1 if most is _PARSER.MAXREPEAT else int(most)
            total += max(1, times) * _states(inner)
        elif name == "BRANCH":
            total += sum(_states(branch) for branch in argument[1])
        elif name == "SUBPATTERN":
            if argument[1] or argument[2]:
                msg = "uses flags; leave them out"
                raise _UnfitError(msg)
            total += _states(argument[3])
        else:
            raise _UnfitError(_REFUSED.get(name, f"uses {name.lower()}, which engines do not know"))
    return total


class _UnfitError(Exception):
    """Why an expression cannot be followed."""


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


# -- schemas


def json_regex(schema: Any) -> str:
    """A schema as TGI reads it: the expression that outlines-core makes of it.

    Raises:
        EngineInputError: There is none.
    """
    import outlines_core  # noqa: PLC0415 - only grammars need it

    schema = read_schema(schema)
    try:
        made: str = outlines_core.json_schema.build_regex_from_schema(json.dumps(schema))
    except Exception as error:  # the package raises what it likes
        msg = f"cannot compile regex from schema: {error}"
        raise EngineInputError(msg) from error
    # No text holds the characters between; xgrammar would complain of each, hundreds of times.
    return made.replace(r"\x7F-\x9F", r"\x7F")


def read_schema(schema: Any) -> Mapping[str, Any]:
    """A schema in one of the forms in which clients send it, checked as TGI's router does.

    Raises:
        EngineInputError: It cannot be used, in TGI's words.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            _not_valid(f"{error}")
        if not isinstance(schema, Mapping):
            _not_valid(f'{json.dumps(schema)} is not of types "boolean", "object"')
    if not isinstance(schema, Mapping):
        msg = "grammar is not supported"
        raise EngineInputError(msg)
    if "properties" not in schema:
        _not_valid("Grammar must have a 'properties' field")
    _SchemaCheck(schema).visit(schema, ())
    return schema


def _not_valid(reason: str) -> NoReturn:
    msg = f"grammar is not valid: {reason}"
    raise EngineInputError(msg) from None


def _not_compiled(reason: str) -> NoReturn:
    msg = f"cannot compile regex from schema: {reason}"
    raise EngineInputError(msg) from None


class _SchemaCheck:
    """Walks a schema for what outlines-core cannot turn into a regular expression.

    The real router recurses without end into a recursive `$ref`, and doubles its work with every one that
    is used twice; here both are errors.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0

    def visit(self, schema: Any, references: tuple[str, ...]) -> None:
        """Check one schema; `references` are those that led to it."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            msg = (
                f"The schema has more than {_MAX_PARTS} parts once its references are replaced by what"
                " they stand for; use fewer or shallower references"
            )
            raise TooLargeError(msg)
        if not isinstance(schema, Mapping):
            _unsupported(schema)
        if not schema:
            return
        for name, check in self._PARTS:
            if name in schema:
                check(self, schema[name], schema, references)
                return
        _unsupported(schema)

    def _properties(self, value: Any, schema: Mapping[str, Any], seen: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping):
            _not_valid(f'{json.dumps(value)} is not of type "object"')
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            _not_valid(f'{json.dumps(required)} is not of type "array"')
        for part in value.values():
            self.visit(part, seen)

    def _every(self, value: Any, _: Mapping[str, Any], seen: tuple[str, ...]) -> None:
        if not isinstance(value, list) or not value:
            _not_valid(f'{json.dumps(value)} is not of type "array"')
        for part in value:
            self.visit(part, seen)

    def _values(self, value: Any, _: Mapping[str, Any], __: tuple[str, ...]) -> None:
        if not isinstance(value, list) or not value:
            _not_valid(f'{json.dumps(value)} is not of type "array"')
        for each in value:
            if isinstance(each, list | dict):
                _not_compiled(f"Unsupported data type in enum: {json.dumps(each)}")

    def _anything(self, _: Any, __: Mapping[str, Any], ___: tuple[str, ...]) -> None:
        """A constant may be any value."""

    def _reference(self, value: Any, _: Mapping[str, Any], seen: tuple[str, ...]) -> None:
        if not isinstance(value, str) or not value.startswith("#"):
            _not_compiled(f"external references are not supported: {value}")
        if value in seen:
            _not_compiled(f"recursive reference {value}")
        target: Any = self._root
        for key in value.removeprefix("#").strip("/").split("/"):
            unescaped = key.replace("~1", "/").replace("~0", "~")
            if unescaped and not (isinstance(target, Mapping) and unescaped in target):
                _not_compiled(f"unresolved reference {value}")
            target = target[unescaped] if unescaped else target
        self.visit(target, (*seen, value))

    def _typed(self, value: Any, schema: Mapping[str, Any], seen: tuple[str, ...]) -> None:
        if not isinstance(value, str):
            _not_compiled("'type' must be a string")
        if value not in _TYPES:
            _not_valid(f"{json.dumps(value)} is not valid under any of the given schemas")
        if value == "array" and "items" in schema:
            self.visit(schema["items"], seen)

    _PARTS: Final = (
        ("properties", _properties),
        ("allOf", _every),
        ("anyOf", _every),
        ("oneOf", _every),
        ("prefixItems", _every),
        ("enum", _values),
        ("const", _anything),
        ("$ref", _reference),
        ("type", _typed),
    )


def _unsupported(schema: Any) -> NoReturn:
    _not_compiled(
        f"Unsupported JSON Schema structure {json.dumps(schema, ensure_ascii=False)} \n"
        "Make sure it is valid to the JSON Schema specification and check if it's supported by "
        "Outlines.\nIf it should be supported, please open an issue."
    )
