"""JSON schemas in the form that TGI compiles soonest, and what must not be sent to it at all.

The router makes a regular expression of a schema and the model server an automaton of that, at 0.1 to 0.2
seconds a state, in the thread that decodes. A counted length is a state for each character, an untyped
value some thousands, and a schema that refers to itself ends the router. So a schema is `fitted`: what
costs states is taken out, to be checked when the answer is there; and what is sent is `checked`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import states_of
from langchain_sgd.tgi import wire
from langchain_sgd.tgi.errors import TGIGrammarError
from langchain_sgd.tgi.fitting import Fit, fitted
from langchain_sgd.tgi.schema_parts import Schema
from langchain_sgd.tgi.schema_states import states_of_schema

MAX_GRAMMAR_STATES: Final = 300
"""States of the largest automaton that is sent where nothing else is said: 30 to 60 s of a server's time,
once for each process. Below, ordinary sets of tools would be refused."""


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
        states = states_of(text, bound or 1)
    except ExpressionError as error:
        msg = f"TGI cannot take this regular expression: {error}"
        raise TGIGrammarError(msg) from None
    if states == 1 and text:  # the empty expression is none at all
        msg = (
            "TGI cannot take this regular expression: only the empty text matches it. Leave the grammar out, "
            "or name what the answer may hold."
        )
        raise TGIGrammarError(msg)
    if bound is not None and states > bound:
        raise TGIGrammarError(too_large("regular expression", bound))


def too_large(what: str, bound: int) -> str:
    """Say that something makes too large an automaton."""
    return (
        f"This {what} makes an automaton of more than {bound} states. A TGI server takes 0.1 to 0.2 s for "
        f"each, {_times(bound)} s for {bound}, and answers nobody meanwhile. Leave out counted lengths such "
        "as {0,80}, maxLength and maxItems (bound the answer by max_tokens), or use fewer fields. If the "
        "server compiles faster, raise max_grammar_states."
    )


def _times(states: int) -> str:
    return f"{states / 10:.0f} to {states / 5:.0f}"


def check_tools(functions: Sequence[Schema], bound: int | None) -> None:
    """Refuse tools whose calls together make too large an automaton.

    Raises:
        TGIGrammarError: They do.
    """
    names = [str(function.get("name", "")) for function in functions]
    states = 40 + sum(
        len(name) + 20 + _arguments(json.dumps(function.get("parameters") or {"properties": {}}))
        for name, function in zip(names, functions, strict=True)
    )
    if bound is not None and states > bound:
        shown = ", ".join(names)
        msg = f"{too_large('set of tools', bound)} The tools are {shown}."
        raise TGIGrammarError(msg)


@functools.lru_cache(maxsize=256)
def _arguments(parameters: str) -> int:
    return states_of_schema(json.loads(parameters), named=True)


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
    fit = Fit(schema, descriptions=True, optional=True)
    return json.dumps(fit.any({"type": "object", **schema}, "the parameters", ()))


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
    check_tools(_callable(made, choice), bound)
    return made


def _callable(tools: Sequence[Any], choice: Any) -> list[Schema]:
    """Give the functions that may be called."""
    functions = [
        tool["function"]
        for tool in tools
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    ]
    if isinstance(choice, Mapping) and isinstance(named := choice.get("function"), Mapping):
        functions = [each for each in functions if each.get("name") == named.get("name")]
    return functions


def check_body(body: Schema, bound: int | None) -> None:
    """Refuse a body of any of TGI's routes whose grammar or tools would harm the server.

    What TGI refuses by itself, such as a form that it does not know, is left to it.

    Raises:
        TGIGrammarError: It is such a body.
    """
    parameters = body.get("parameters")
    grammar = parameters.get("grammar") if isinstance(parameters, Mapping) else None
    for form in (body.get("response_format"), grammar):
        if isinstance(form, Mapping) and "value" in form and form.get("type") in wire.TGI_GRAMMARS:
            sendable(form, bound)
    tools = body.get("tools")
    if isinstance(tools, list) and body.get("tool_choice") != "none":
        check_tools(_callable(tools, body.get("tool_choice")), bound)
