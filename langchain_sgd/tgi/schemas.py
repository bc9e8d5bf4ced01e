"""JSON schemas in the form that TGI compiles in seconds, and what must not be sent to it at all.

The router makes a regular expression of a schema and the model server an automaton of that, at 0.1 to 0.2
seconds a state, in the thread that decodes. A counted length is a state for each character, an untyped
value some thousands, and a schema that refers to itself ends the router. So a schema is `fitted`: what
costs states is taken out, to be checked when the answer is there; and what is sent is `checked`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from langchain_sgd.expressions import Expression, ExpressionError, states_of
from langchain_sgd.tgi import wire
from langchain_sgd.tgi.errors import TGIGrammarError

Schema = Mapping[str, Any]

_SCALARS: Final = (str, int, float, bool, type(None))
_FORMATS: Final[Mapping[str, int]] = {"uuid": 36, "date-time": 37, "date": 16, "time": 15}
"""The formats that TGI knows, and the states of each."""
_PLAIN_STATES: Final[Mapping[str, int]] = {
    "string": 3, "integer": 2, "number": 9, "boolean": 7, "null": 4,
}  # fmt: skip
"""States of a value in a member of an object, measured with TGI's own compilers (outlines-core at
`ba10c619`, interegular 0.3.3), as the other numbers here are."""
_LISTED_INTEGERS: Final = 20
"""Integers between two bounds that are written out: TGI knows no bounds."""
_PATTERN_STATES: Final = 60
"""States up to which a string's pattern is sent; the answer is checked against it in any case."""
_CANNOT_BE_READ: Final = '"\\' + "".join(map(chr, range(32)))
"""Characters that a pattern must not match: they would end the JSON string or break it."""
_LONGEST_PLACE: Final = 60
"""Characters by which a message names a part."""
_TOO_MANY: Final = 10_000_000
_BOUNDS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
)


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
    fit = _Fit(schema, descriptions=descriptions)
    made = fit.any(schema, "the schema", ())
    if "properties" not in made:
        msg = (
            "The schema is no object with properties, and TGI takes no other. Put the value into a "
            'field of one: {"type": "object", "properties": {"answer": ...}}.'
        )
        raise TGIGrammarError(msg)
    return made


def check(schema: Schema, bound: int | None) -> None:
    """Refuse a schema that would abort the server, or keep it busy for minutes.

    Args:
        schema: The one to be sent.
        bound: Most states of its automaton; None is no bound.

    Raises:
        TGIGrammarError: It is such a schema; the message says what to write instead.
    """
    states = states_of_schema(schema)
    if bound is not None and states > bound:
        raise TGIGrammarError(too_large("schema", bound))


def check_expression(text: str, bound: int | None) -> None:
    """Refuse a regular expression as `check` does a schema.

    Raises:
        TGIGrammarError: TGI cannot take it.
    """
    try:
        states = states_of(text, bound or 0)
    except ExpressionError as error:
        msg = f"TGI cannot take this regular expression: {error}"
        raise TGIGrammarError(msg) from None
    if bound is not None and states > bound:
        raise TGIGrammarError(too_large("regular expression", bound))


def too_large(what: str, bound: int) -> str:
    """Say that something makes too large an automaton."""
    return (
        f"This {what} makes an automaton of more than {bound} states, which keeps a TGI server from "
        "answering anybody for minutes. Leave out counted lengths such as {0,80}, maxLength and maxItems "
        "(bound the answer by max_tokens), or use fewer fields. If the server compiles faster, raise "
        "max_grammar_states."
    )


def check_tools(functions: Sequence[Schema], bound: int | None) -> None:
    """Refuse tools whose calls together make too large an automaton.

    Raises:
        TGIGrammarError: They do.
    """
    names = [str(function.get("name", "")) for function in functions]
    states = 40 + sum(
        len(name)
        + 20
        + states_of_schema(function.get("parameters") or {"properties": {}}, named=True)
        for name, function in zip(names, functions, strict=True)
    )
    if bound is not None and states > bound:
        shown = ", ".join(names)
        msg = f"{too_large('set of tools', bound)} The tools are {shown}."
        raise TGIGrammarError(msg)


def fitted_tool(tool: Schema) -> dict[str, Any]:
    """Make of an OpenAI tool the one to send; its parameters are fitted, descriptions kept.

    Raises:
        TGIGrammarError: TGI cannot take its parameters; the message names the tool.
    """
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("parameters"), Mapping):
        return dict(tool)
    parameters = function["parameters"] or {"type": "object", "properties": {}}
    try:
        made = _fitted_tool(json.dumps(parameters))
    except TGIGrammarError as error:
        msg = f"TGI cannot take the tool {function.get('name')!r}: {error}"
        raise TGIGrammarError(msg) from None
    return {**tool, "function": {**function, "parameters": json.loads(made)}}


@functools.lru_cache(maxsize=256)
def _fitted_tool(parameters: str) -> str:
    schema = json.loads(parameters)
    fit = _Fit(schema, descriptions=True, optional=True)
    return json.dumps(fit.any({"type": "object", **schema}, "the parameters", ()))


class _References:
    """Follows the references of a schema and finds those that come back."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def target(self, reference: str, where: str, open_: tuple[str, ...]) -> Schema:
        if reference in open_:
            name = reference.rpartition("/")[2] or "itself"
            msg = (
                f"{_place(where)} refers to {name} inside {name}, which aborts a TGI server. Write the "
                "levels out that you need, or give a flat list with the number of each entry's parent."
            )
            raise TGIGrammarError(msg)
        found: Any = self._root
        if reference != "#":
            for part in reference.removeprefix("#/").split("/"):
                name = part.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, Mapping) else None
        if not reference.startswith("#") or not isinstance(found, Mapping):
            msg = f"{_place(where)} refers to {reference!r}, which is not in the schema: put it under $defs."
            raise TGIGrammarError(msg)
        return found


class _Fit:
    """Writes a schema anew, part by part."""

    def __init__(self, root: Schema, *, descriptions: bool, optional: bool = False) -> None:
        self._references = _References(root)
        self._descriptions = descriptions
        self._optional = optional
        self._written = 0

    def any(self, schema: Any, where: str, open_: tuple[str, ...]) -> dict[str, Any]:
        """Fit any part."""
        self._written += 1
        if self._written > 2000:
            msg = f"{_place(where)} is too large once its references are written out: use fewer levels."
            raise TGIGrammarError(msg)
        schema = _typed(schema, where)
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
            found = _typed(part, where)
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
        return {**made, "minItems": 1} if _number(schema, "minItems") else made

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


def _place(where: str) -> str:
    """Name a place that may lie deep."""
    return where if len(where) <= _LONGEST_PLACE else f"...{where[-_LONGEST_PLACE:]}"


def _typed(schema: Any, where: str) -> Schema:
    """Give a part that says what it is, and whose bounds leave something.

    Raises:
        TGIGrammarError: It does not.
    """
    if not isinstance(schema, Mapping) or not (
        schema.keys()
        & {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "prefixItems"}
    ):
        msg = (
            f"{_place(where)} has no type, which TGI writes out as every JSON value there is. Give it one: "
            "str instead of Any, list[str] instead of list, dict[str, str] instead of dict."
        )
        raise TGIGrammarError(msg)
    for least, most in _BOUNDS:
        low, high = _number(schema, least), _number(schema, most)
        if low is not None and high is not None and low > high:
            msg = f"{_place(where)} has {least} {low} above {most} {high}, so nothing fits: swap them."
            raise TGIGrammarError(msg)
    return schema


def _number(schema: Schema, name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scalars(values: Any, where: str) -> Any:
    each = values if isinstance(values, list) else [values]
    if not all(isinstance(value, _SCALARS) for value in each):
        msg = f"{_place(where)} lists objects or lists as its values, which TGI cannot: give a type instead."
        raise TGIGrammarError(msg)
    return values


def _string(schema: Schema) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "string"}
    if schema.get("format") in _FORMATS:
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
    return {**made, "minLength": 1} if _number(schema, "minLength") else made


def _suits(expression: Expression) -> bool:
    small = expression.states(_PATTERN_STATES) <= _PATTERN_STATES
    return small and not expression.can_match_any_of(_CANNOT_BE_READ)


def _integer(schema: Schema) -> dict[str, Any]:
    low, high = _number(schema, "minimum"), _number(schema, "maximum")
    above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    low = above + 1 if low is None and above is not None else low
    high = below - 1 if high is None and below is not None else high
    if isinstance(low, int) and isinstance(high, int) and 0 <= high - low < _LISTED_INTEGERS:
        return {"enum": list(range(low, high + 1))}
    return {"type": "integer"}


# --- what is sent


def sendable(response_format: Schema, bound: int | None) -> dict[str, Any] | None:
    """Give a `response_format` in TGI's form, one that does the server no harm; None for plain text.

    A schema in TGI's own form goes as it is or not at all. One in OpenAI's or llama.cpp's form, which
    others wrote for other servers, is fitted.

    Raises:
        InvalidInputError: It is in no form that TGI knows.
        TGIGrammarError: It would harm the server.
    """
    form = wire.grammar(response_format)
    if form is None:
        return None
    own = "value" in response_format
    value = form["value"]
    if form["type"] == "regex":
        if isinstance(value, str):
            check_expression(value, bound)
        return form
    text = value if isinstance(value, str) else json.dumps(value)
    schema = json.loads(_sendable(text, bound, fit=not own))
    # What is no schema at all, TGI refuses in better words.
    return form if own or schema is None else {**form, "value": schema}


@functools.lru_cache(maxsize=256)
def _sendable(text: str, bound: int | None, *, fit: bool) -> str:
    try:
        schema = json.loads(text)
    except ValueError:
        return "null"
    if not isinstance(schema, dict) or not (fit or "properties" in schema):
        return "null"
    made = fitted(schema) if fit else schema
    check(made, bound)
    return json.dumps(made)


def sendable_tools(tools: Sequence[Any], choice: Any, bound: int | None) -> list[Any]:
    """Give tools in a form that does the server no harm; see `fitted_tool`.

    Args:
        tools: In OpenAI's form.
        choice: TGI's `tool_choice`; of tools that cannot be called, nothing is compiled.
        bound: Most states of the automaton of all tools that may be called.

    Raises:
        TGIGrammarError: Their calls would harm the server.
    """
    if choice == "none":
        return list(tools)
    made = [fitted_tool(tool) if isinstance(tool, Mapping) else tool for tool in tools]
    functions = [
        tool["function"]
        for tool in made
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    ]
    if isinstance(choice, Mapping) and isinstance(named := choice.get("function"), Mapping):
        functions = [each for each in functions if each.get("name") == named.get("name")]
    check_tools(functions, bound)
    return made


# --- how large the automaton is


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
        self._references = _References(root)
        self._named = named
        self._seen = 0

    def value(self, schema: Any, where: str, open_: tuple[str, ...]) -> int:
        self._seen += 1
        if self._seen > 20_000:
            return _TOO_MANY
        schema = _typed(schema, where)
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
        least = int(_number(schema, "minItems") or 0)
        most = _number(schema, "maxItems")
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
    least, most = _number(schema, "minLength"), _number(schema, "maxLength")
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
    return _FORMATS.get(str(schema.get("format")), _PLAIN_STATES["string"])


def _listed(values: Iterable[Any]) -> int:
    """Count the states of some texts to choose from, which share their beginnings."""
    texts = sorted(json.dumps(value, ensure_ascii=False) for value in values)
    shared = sum(_common(one, other) for one, other in pairwise(texts))
    return max(1, sum(map(len, texts)) - shared)


def _common(one: str, other: str) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0
    )
