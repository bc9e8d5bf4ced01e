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
        ({"properties": {"a": {"type": "int"}}}, "Unknown type 'int' in properties 'a'"),
        ({"items": {"type": "int"}}, "Unknown type 'int' in items of the schema"),
        ({"anyOf": [{"type": "int"}]}, "Unknown type 'int' in anyOf of the schema"),
        ({"$defs": {"a": {"type": "int"}}}, r"Unknown type 'int' in \$defs 'a'"),
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


def test_objects_hold_what_their_schema_names_and_no_more() -> None:
    inner = {"properties": {"b": {"type": "null"}}}
    schema = {"properties": {"a": inner}, "anyOf": [inner], "$defs": {"c": inner}, "items": inner}
    _, text = grammar_text(Grammar("json", schema), COMPACT)
    read = json.loads(text)
    for part in (read, read["properties"]["a"], read["anyOf"][0], read["$defs"]["c"]):
        assert part["type"] == "object"
        assert part["additionalProperties"] is False
    assert "type" not in schema


def test_what_a_schema_says_itself_stands() -> None:
    schema = {"type": ["object", "null"], "properties": {}, "additionalProperties": True}
    _, text = grammar_text(Grammar("json", schema), COMPACT)
    read = json.loads(text)
    assert (read["type"], read["additionalProperties"]) == (["object", "null"], True)
    parts = {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]}
    assert "additionalProperties" not in json.loads(
        grammar_text(Grammar("json", parts), COMPACT)[1]
    )
