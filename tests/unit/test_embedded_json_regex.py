"""JSON schemas as regular expressions."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.embedded._json_regex import json_regex
from langchain_sgd.embedded.engine import EngineInputError

NODE = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 12},
        "heading": {"type": "string", "minLength": 1, "maxLength": 5},
        "deps": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        "difficulty": {"enum": ["easy", "hard (very)"]},
        "note": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/note"}]},
    },
    "required": ["id", "heading", "deps", "difficulty"],
    "$defs": {
        "note": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    },
}
EXAMPLES: list[tuple[dict[str, Any], Any]] = [
    (NODE, {"id": 3, "heading": 'a"b', "deps": [1, 2], "difficulty": "hard (very)"}),
    (NODE, {"id": 12, "heading": "x", "deps": [0], "difficulty": "easy", "note": {"ok": True}}),
    ({"type": ["string", "null"]}, None),
    ({"const": {"a": [1, None, "."]}}, {"a": [1, None, "."]}),
    ({"type": "array", "items": {"type": "number"}}, []),
    ({"type": "array", "items": {"type": "number"}, "maxItems": 0}, []),
    ({"type": "number"}, -12.5e-3),
    ({"type": "string", "pattern": "^[a-c]+$"}, "abc"),
    ({"type": "integer", "maximum": 9}, 0),
    ({"type": "object"}, {}),
]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(("schema", "value"), EXAMPLES)
def test_what_fits_is_matched(
    schema: dict[str, Any], value: Any, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, separators=separators)
    assert re.fullmatch(json_regex(schema, separators), text)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_matched_is_json_that_fits(data: st.DataObject) -> None:
    schema, _ = data.draw(st.sampled_from(EXAMPLES))
    expression = re.compile(json_regex(schema, (",", ":")), re.ASCII)
    text = data.draw(st.from_regex(expression, fullmatch=True))
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"id": 13, "heading": "x", "deps": [1], "difficulty": "easy"}, False),
        ({"id": 1, "heading": "", "deps": [1], "difficulty": "easy"}, False),
        ({"id": 1, "heading": "x", "deps": [], "difficulty": "easy"}, False),
        ({"id": 1, "heading": "x", "deps": [1, 2, 3, 4], "difficulty": "easy"}, False),
        ({"id": 1, "heading": "x", "deps": [1], "difficulty": "hard"}, False),
        ({"id": 1, "heading": "x", "deps": [1]}, False),
        ({"id": 1, "heading": "x", "deps": [1], "difficulty": "easy"}, True),
    ],
)
def test_bounds_hold(value: Any, fits: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, separators=(",", ":"))
    assert bool(re.fullmatch(json_regex(NODE, (",", ":")), text)) is fits


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string", "format": "date"}, "keyword 'format'"),
        ({"not": {"type": "string"}}, "keyword 'not'"),
        ({}, "type None"),
        ({"type": "integer", "minimum": 1}, "only in pairs"),
        ({"type": "integer", "minimum": 1, "maximum": 10**9}, "only in pairs"),
        ({"$ref": "#/$defs/none"}, "which it does not hold"),
        ({"$ref": "#"}, "does not hold"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "recursive"),
        ({"enum": []}, "leaves no choice"),
        ({"properties": {"a": {"type": "null"}}}, "'a', must be required"),
        ({"properties": {"a": 1}, "required": ["a"]}, "must be an object, not int"),
    ],
)
def test_what_cannot_be_said_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineInputError, match=reason):
        json_regex(schema, (",", ":"))
