"""Grammars are looked at before the engine sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from langchain_sgd.embedded._grammar import grammar_text
from langchain_sgd.embedded.engine import EngineInputError, Grammar

COMPACT = (",", ":")


def test_json_allows_no_whitespace_but_its_separators() -> None:
    kind, text = grammar_text(Grammar("json", {"type": "object"}), (", ", ": "))
    assert kind == "json"
    assert json.loads(text)["x-guidance"] == {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
    }


def test_a_schemas_own_style_is_kept() -> None:
    style = {"whitespace_flexible": True}
    _, text = grammar_text(Grammar("json", {"x-guidance": style}), COMPACT)
    assert json.loads(text)["x-guidance"] == style


def test_a_schema_may_be_text() -> None:
    _, text = grammar_text(Grammar("json", '{"type": "integer"}'), COMPACT)
    assert json.loads(text)["type"] == "integer"


def test_a_regex_goes_through_as_it_is() -> None:
    assert grammar_text(Grammar("regex", "[a-z]+\n"), COMPACT) == ("regex", "[a-z]+\n")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be an object, not list"),
        ({"type": "objekt"}, "Unknown type 'objekt' in the schema"),
        ({"type": ["string", "text"]}, "Unknown type 'text'"),
        ({"type": 3}, "Unknown type 3"),
        ({"properties": ["a"]}, "'properties' in the schema must be an object, not list"),
        ({"properties": {"a": {"type": "int"}}}, "Unknown type 'int' in property 'a'"),
        ({"enum": [{1, 2}]}, "cannot be written as JSON"),
    ],
)
def test_what_the_engine_would_ignore_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(EngineInputError, match=reason):
        grammar_text(Grammar("json", value), COMPACT)


@pytest.mark.parametrize(("value", "reason"), [({"a": 1}, "needs a string"), ("a\0b", "NUL")])
def test_a_regex_must_be_text(value: Any, reason: str) -> None:
    with pytest.raises(EngineInputError, match=reason):
        grammar_text(Grammar("regex", value), COMPACT)
