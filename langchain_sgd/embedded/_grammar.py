"""Grammars that hold a model's output, as regular expressions: what engines and TGI itself make of schemas.

An expression that an engine cannot follow would end everybody's requests (OpenVINO), or be dropped without
a word (llama.cpp's server). So it is read here first, and refused in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from langchain_sgd.embedded.engine import EngineInputError, Grammar
from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import Expression

MAX_STATES: Final = 4000
"""States of the largest automaton; engines compile about a thousand in a second on large vocabularies."""
_MAX_PARTS: Final = 2000
"""Parts of the largest schema, references replaced by what they stand for."""


class BadExpressionError(EngineInputError):
    """A regular expression that no engine can follow."""


def grammar_regex(grammar: Grammar) -> str:
    """The expression that the whole output must match, as engines read it.

    Raises:
        BadExpressionError: A regular expression is wrong, or asks for more than to match from start to end.
        EngineInputError: The grammar cannot be followed; the message says why.
    """
    expression = grammar.value if grammar.kind == "regex" else _json_regex(grammar.value)
    if not isinstance(expression, str):
        msg = f"A regex grammar needs a string, not {type(expression).__name__}"
        raise BadExpressionError(msg)
    shown = repr(expression if len(expression) <= 80 else f"{expression[:77]}...")
    try:
        read = Expression(expression)
    except ExpressionError as error:
        msg = f"The regular expression {shown} cannot be followed: {error}"
        raise BadExpressionError(msg) from None
    states = read.positions
    if states > MAX_STATES:
        # More would keep the engine from its work.
        msg = (
            f"The grammar has about {states} states, more than {MAX_STATES}: counted repetitions such as"
            " {0,500} make as many; write + or *, and bound the length by the number of tokens"
        )
        raise EngineInputError(msg)
    return read.text or "()"


def _json_regex(schema: Any) -> str:
    """A schema as TGI reads it: the expression that outlines-core makes of it.

    Raises:
        EngineInputError: There is none.
    """
    import outlines_core  # noqa: PLC0415 - only grammars need it

    try:
        made: str = outlines_core.json_schema.build_regex_from_schema(
            json.dumps(read_schema(schema))
        )
    except ValueError as error:
        _not_compiled(str(error))
    return made


def read_schema(schema: Any) -> Mapping[str, Any]:
    """A schema in one of the forms in which clients send it, checked as TGI's router does.

    Raises:
        EngineInputError: It cannot be used, in TGI's words.
    """
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - only schemas need it

    try:
        if isinstance(schema, str):
            schema = json.loads(schema)
            if not isinstance(schema, Mapping):
                _not_valid(f'{json.dumps(schema)} is not of types "boolean", "object"')
        if not isinstance(schema, Mapping):
            msg = "grammar is not supported"
            raise EngineInputError(msg)
        if "properties" not in schema:
            _not_valid("Grammar must have a 'properties' field")
        _count(schema, schema, (), 0)  # first, for what follows takes milliseconds for each part
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        _not_valid(error.message)
    except (ValueError, RecursionError) as error:
        _not_valid(str(error))
    return schema


def _count(part: Any, root: Mapping[str, Any], seen: tuple[str, ...], parts: int) -> int:
    """How many parts there are from here on, added to those before, references followed.

    outlines-core follows a reference into itself three times, and doubles its work with every one that is
    used twice; here both are errors.
    """
    parts += 1
    if parts > _MAX_PARTS:
        msg = (
            f"The schema has more than {_MAX_PARTS} parts once its references are replaced by what"
            " they stand for; use fewer or shallower references"
        )
        raise EngineInputError(msg)
    if isinstance(part, list):
        for each in part:
            parts = _count(each, root, seen, parts)
    elif isinstance(part, Mapping):
        if isinstance(part.get("type"), list):
            _not_compiled("'type' must be a string")
        listed = part.get("enum")
        if isinstance(listed, list) and any(isinstance(each, list | dict) for each in listed):
            _not_compiled("Unsupported data type in enum")
        for name, value in part.items():
            if name == "$ref" and isinstance(value, str):
                parts = _count(_target(value, root, seen), root, (*seen, value), parts)
            elif part is not root or name not in ("$defs", "definitions"):
                parts = _count(value, root, seen, parts)
    return parts


def _target(reference: str, root: Mapping[str, Any], seen: tuple[str, ...]) -> Any:
    if not reference.startswith("#"):
        _not_compiled(f"external references are not supported: {reference}")
    if reference in seen:
        _not_compiled(f"recursive reference {reference}")
    target: Any = root
    for key in filter(None, reference.removeprefix("#").split("/")):
        name = key.replace("~1", "/").replace("~0", "~")
        if not (isinstance(target, Mapping) and name in target):
            _not_compiled(f"unresolved reference {reference}")
        target = target[name]
    return target


def _not_valid(reason: str) -> NoReturn:
    msg = f"grammar is not valid: {reason}"
    raise EngineInputError(msg) from None


def _not_compiled(reason: str) -> NoReturn:
    msg = f"cannot compile regex from schema: {reason}"
    raise EngineInputError(msg) from None
