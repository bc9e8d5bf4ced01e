"""Requests of the right shape are judged by TGI's rules, with its texts."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from langchain_sgd.embedded._bodies import Parameters
from langchain_sgd.embedded._errors import ProtocolError
from langchain_sgd.embedded._validation import (
    Limits,
    check_best_of,
    check_parameters,
    check_stream,
    compile_grammar,
    new_tokens,
    sampling,
)
from langchain_sgd.embedded.engine import Grammar, Sampling

LIMITS = Limits(max_total_tokens=100)


def text_of(error: ProtocolError) -> str:
    assert (error.status, error.error_type) == (422, "validation")
    assert error.message.startswith("Input validation error: ")
    return error.message.removeprefix("Input validation error: ")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (Parameters(temperature=0), "`temperature` must be strictly positive"),
        (Parameters(temperature=-1), "`temperature` must be strictly positive"),
        (Parameters(repetition_penalty=0), "`repetition_penalty` must be strictly positive"),
        (Parameters(frequency_penalty=2.1), "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        (Parameters(frequency_penalty=-2.1), "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        (Parameters(top_p=1), "`top_p` must be > 0.0 and < 1.0"),
        (Parameters(top_p=0), "`top_p` must be > 0.0 and < 1.0"),
        (Parameters(typical_p=1), "`typical_p` must be > 0.0 and < 1.0"),
        (Parameters(top_k=0), "`top_k` must be strictly positive"),
        (Parameters(max_new_tokens=0), "`max_new_tokens` must be strictly positive"),
        (Parameters(stop=("a",) * 5), "`stop` supports up to 4 stop sequences. Given: 5"),
        (Parameters(best_of=2), "you must use sampling when `best_of` is > 1"),
        (
            Parameters(best_of=2, do_sample=True, seed=1),
            "`seed` must not be set when `best_of` > 1",
        ),
        (Parameters(top_n_tokens=6), "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        (
            Parameters(temperature=1e-38),
            (
                "`temperature` must be at least 0.0001: below, numbers overflow. Leave it out"
                " (chat: send 0) to decode greedily"
            ),
        ),
        (
            Parameters(truncate=0),
            "`truncate` must be strictly positive and less than 99. Given: 0",
        ),
        (
            Parameters(truncate=100),
            "`truncate` must be strictly positive and less than 99. Given: 100",
        ),
        # The first broken rule speaks.
        (
            Parameters(temperature=0, top_p=1, stop=("a",) * 9),
            "`temperature` must be strictly positive",
        ),
    ],
)
def test_broken_rules(parameters: Parameters, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_parameters(parameters, "hi", LIMITS)
    assert text_of(caught.value) == text


def test_inputs_may_not_be_empty() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_parameters(Parameters(), "", LIMITS)
    assert text_of(caught.value) == "`inputs` cannot be empty"


def test_values_at_the_bounds_pass() -> None:
    parameters = Parameters(
        temperature=1e-3,
        top_p=0.999,
        typical_p=0.001,
        top_k=1,
        frequency_penalty=-2,
        stop=("a",) * 4,
        best_of=1,
        seed=0,
        truncate=99,
        max_new_tokens=1,
        top_n_tokens=0,
    )
    check_parameters(parameters, "x", LIMITS)
    check_stream(parameters)


def test_rules_of_streams() -> None:
    with pytest.raises(
        ProtocolError, match="`best_of` != 1 is not supported when streaming tokens"
    ):
        check_stream(Parameters(best_of=2))
    with pytest.raises(ProtocolError, match="`decoder_input_details` == true is not supported"):
        check_stream(Parameters(decoder_input_details=True))


def test_best_of_is_bounded() -> None:
    check_best_of(2, LIMITS)
    with pytest.raises(ProtocolError, match=r"`best_of` must be > 0 and <= 2\. Given: 3"):
        check_best_of(3, LIMITS)


class TestTokenBudget:
    def test_no_number_takes_what_is_left(self) -> None:
        assert new_tokens(Parameters(), 60, LIMITS) == 40
        assert new_tokens(Parameters(max_new_tokens=40), 60, LIMITS) == 40

    def test_more_than_is_left_is_cut_to_it(self) -> None:
        assert new_tokens(Parameters(max_new_tokens=41), 60, LIMITS) == 40

    def test_the_prompt_must_leave_room_for_one_token(self) -> None:
        for length in (100, 150):
            with pytest.raises(ProtocolError) as caught:
                new_tokens(Parameters(), length, LIMITS)
            assert (
                text_of(caught.value) == f"`inputs` must have less than 99 tokens. Given: {length}"
            )


class TestSampling:
    @pytest.mark.parametrize(
        "parameters",
        [
            Parameters(),
            Parameters(seed=3),
            Parameters(temperature=1.0),
            Parameters(greedy=True, top_p=0.5),
        ],
    )
    def test_greedy(self, parameters: Parameters) -> None:
        assert sampling(parameters) == Sampling()

    def test_greedy_keeps_penalties(self) -> None:
        drawn = sampling(Parameters(repetition_penalty=1.25, frequency_penalty=0.5))
        assert drawn == Sampling(repetition_penalty=1.25, frequency_penalty=0.5)

    def test_any_warper_samples(self) -> None:
        assert sampling(Parameters(do_sample=True, seed=7)) == Sampling(temperature=1.0, seed=7)
        assert sampling(Parameters(temperature=0.25, seed=7)) == Sampling(temperature=0.25, seed=7)
        assert sampling(Parameters(top_k=4, seed=7)) == Sampling(temperature=1.0, top_k=4, seed=7)

    def test_a_request_without_a_seed_is_given_one(self) -> None:
        seeds = {sampling(Parameters(do_sample=True)).seed for _ in range(20)}
        assert None not in seeds
        assert len(seeds) > 1


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}


class TestGrammars:
    @pytest.mark.parametrize(
        "schema",
        [
            SCHEMA,
            json.dumps(SCHEMA),
            {"properties": {}},
            {"properties": {"a": {}}},
            {"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
            {"properties": {"a": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3}}},
            {
                "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": "object", "properties": {"c": {"const": 1}}}},
            },
        ],
    )
    def test_schemas_that_compile(self, schema: Any) -> None:
        grammar = compile_grammar(Grammar("json", schema))
        assert grammar is not None
        assert grammar.value == (json.loads(schema) if isinstance(schema, str) else schema)

    @pytest.mark.parametrize(
        ("schema", "text"),
        [
            ({}, "grammar is not valid: Grammar must have a 'properties' field"),
            ({"type": "object"}, "grammar is not valid: Grammar must have a 'properties' field"),
            ("{", "grammar is not valid: "),
            ("[]", 'grammar is not valid: [] is not of types "boolean", "object"'),
            ([], "grammar is not supported"),
            (None, "grammar is not supported"),
            ({"properties": []}, "grammar is not valid: [] is not of type 'object'"),
            ({"properties": {}, "required": "a"}, "is not of type 'array'"),
            (
                {"properties": {"a": 3}},
                "grammar is not valid: 3 is not of type 'object', 'boolean'",
            ),
            (
                {"properties": {"a": {"title": "A"}}},
                "cannot compile regex from schema: Unsupported",
            ),
            ({"properties": {"a": {"type": ["string", "null"]}}}, "'type' must be a string"),
            ({"properties": {"a": {"type": "text"}}}, "'text' is not valid under any of"),
            ({"properties": {"a": {"anyOf": []}}}, "grammar is not valid: [] "),
            ({"properties": {"a": {"type": "string", "pattern": "("}}}, "is not a 'regex'"),
            ({"properties": {"a": {"type": "array", "items": {"type": "x"}}}}, "'x' is not valid"),
            ({"properties": {"a": {"$ref": "#/$defs/B"}}}, "unresolved reference #/$defs/B"),
            ({"properties": {"a": {"$ref": "http://x"}}}, "external references"),
            (
                {
                    "properties": {"a": {"$ref": "#/$defs/A"}},
                    "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}},
                },
                "recursive reference #/$defs/A",
            ),
            ({"properties": {"a": {"$ref": "#"}}}, "recursive reference #"),
        ],
    )
    def test_schemas_that_do_not(self, schema: Any, text: str) -> None:
        with pytest.raises(ProtocolError) as caught:
            compile_grammar(Grammar("json", schema))
        assert text in text_of(caught.value)

    def test_a_schema_that_doubles_with_every_reference_is_refused_at_once(self) -> None:
        parts = {
            f"d{n}": {"properties": {x: {"$ref": f"#/$defs/d{n + 1}"} for x in "ab"}}
            for n in range(40)
        }
        schema = {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**parts, "d40": {}}}
        with pytest.raises(ProtocolError, match="more than 2000 parts"):
            compile_grammar(Grammar("json", schema))

    @pytest.mark.parametrize(
        "part", [{"anyOf": [{"type": "string"}] * 3000}, {"prefixItems": [{"type": "null"}] * 5000}]
    )
    def test_a_large_schema_is_refused_before_anything_else_reads_it(
        self, monkeypatch: pytest.MonkeyPatch, part: dict[str, Any]
    ) -> None:
        monkeypatch.setattr(jsonschema.Draft202012Validator, "check_schema", None)
        with pytest.raises(ProtocolError, match="more than 2000 parts"):
            compile_grammar(Grammar("json", {"properties": {"a": part}}))

    def test_regular_expressions(self) -> None:
        grammar = compile_grammar(Grammar("regex", "a+\n"))
        assert grammar is not None
        assert grammar.value == "a+\n"
        assert compile_grammar(Grammar("regex", "")) is None

    @pytest.mark.parametrize("expression", ["[a", "^ab$", "(?=a)b", r"\bword"])
    def test_expressions_over_which_the_real_server_stumbles(self, expression: str) -> None:
        with pytest.raises(ProtocolError) as caught:
            compile_grammar(Grammar("regex", expression))
        assert (caught.value.status, caught.value.error_type) == (424, "generation")

    @pytest.mark.parametrize(
        "expression",
        [
            "a{100000000}",
            "(((a{0,1000}){0,1000}){0,1000}){0,1000}",
            "((a{100}){100}){100}",
            "[^a]" * 9000,
        ],
    )
    def test_what_would_take_for_ever_is_refused(self, expression: str) -> None:
        with pytest.raises(ProtocolError, match="states") as caught:
            compile_grammar(Grammar("regex", expression))
        assert caught.value.status == 422

    def test_what_is_nested_without_end_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="groups in one another"):
            compile_grammar(Grammar("regex", "(?:" * 200_000 + "a" + ")" * 200_000))
        deep: Any = {"type": "string"}
        for _ in range(3000):
            deep = {"type": "array", "items": deep}
        with pytest.raises(ProtocolError, match="recursion"):
            compile_grammar(Grammar("json", {"properties": {"a": deep}}))
