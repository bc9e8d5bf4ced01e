"""Bodies are read, and refused, where TGI's deserializer does it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from langchain_sgd.embedded._bodies import (
    ChatBody,
    CompletionBody,
    GenerateBody,
    Parameters,
    Tool,
    ToolChoice,
    read,
)
from langchain_sgd.embedded._errors import RejectionError
from langchain_sgd.embedded._http import parse_json
from langchain_sgd.embedded.engine import Grammar

PREFIX = "Failed to deserialize the JSON body into the target type: "
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read_generate(body: Any) -> GenerateBody:
    return read(GenerateBody, body)


def read_chat(**body: Any) -> ChatBody:
    return read(ChatBody, {"messages": [USER], **body})


def read_completion(body: Any) -> CompletionBody:
    return read(CompletionBody, body)


def f32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


class TestJson:
    def test_parses_what_is_declared_as_json(self) -> None:
        raw = '{"inputs": "größer 🙂"}'.encode()
        for content_type in (
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.x+json",
        ):
            assert parse_json(raw, content_type) == {"inputs": "größer 🙂"}

    @pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-json", "json"])
    def test_other_content_types_are_415(self, content_type: str | None) -> None:
        with pytest.raises(RejectionError, match="Content-Type: application/json") as caught:
            parse_json(b"{}", content_type)
        assert caught.value.status == 415

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b'{"inputs": NaN}',
            b'{"inputs": Infinity}',
            b'{"inputs": "\xff"}',
            rb'{"inputs": "\ud800"}',
            b"[" * 100_000,
            '{"inputs": "x"}'.encode("utf-16"),
        ],
    )
    def test_what_is_no_json_is_400(self, raw: bytes) -> None:
        with pytest.raises(
            RejectionError, match="Failed to parse the request body as JSON: "
        ) as caught:
            parse_json(raw, "application/json")
        assert caught.value.status == 400

    def test_nesting_without_end_is_refused(self) -> None:
        def nested(depth: int) -> bytes:
            return b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2)

        assert parse_json(nested(126), "application/json")
        with pytest.raises(RejectionError, match="recursion limit exceeded"):
            parse_json(nested(1_000_000), "application/json")

    def test_what_follows_the_first_value_is_not_read(self) -> None:
        assert parse_json(b' {"a": 1} x', "application/json") == {"a": 1}

    def test_a_field_may_stand_there_once(self) -> None:
        with pytest.raises(RejectionError, match="duplicate field `inputs`") as caught:
            parse_json(b'{"inputs": "a", "inputs": "b", "x": 1}', "application/json")
        assert caught.value.status == 422

    def test_a_number_without_end_is_no_integer(self) -> None:
        assert parse_json(b"9" * 4000, "application/json") == math.inf

    def test_whole_surrogate_pairs_are_text(self) -> None:
        assert parse_json(rb'"\ud83d\ude42"', "application/json") == "🙂"


class TestGenerate:
    def test_missing_parameters_sample_and_given_ones_do_not(self) -> None:
        assert read_generate({"inputs": "a"}).parameters == Parameters(do_sample=True)
        assert read_generate({"inputs": "a", "parameters": {}}).parameters == Parameters()

    def test_every_parameter_is_read(self) -> None:
        given: dict[str, Any] = {
            "best_of": 2,
            "temperature": 0.5,
            "repetition_penalty": 1.1,
            "frequency_penalty": -1,
            "top_k": 10,
            "top_p": 0.9,
            "typical_p": 0.8,
            "do_sample": True,
            "max_new_tokens": 20,
            "return_full_text": False,
            "stop": ["x"],
            "truncate": 5,
            "watermark": True,
            "details": True,
            "decoder_input_details": True,
            "seed": 2**64 - 1,
            "top_n_tokens": 5,
            "grammar": {"type": "regex", "value": "a+"},
            "adapter_id": "lora",
            "unknown": {"is": "ignored"},
        }
        parameters = read_generate({"inputs": "a", "parameters": given}).parameters
        assert parameters == Parameters(
            best_of=2,
            temperature=0.5,
            repetition_penalty=f32(1.1),
            frequency_penalty=-1.0,
            top_k=10,
            top_p=f32(0.9),
            typical_p=f32(0.8),
            do_sample=True,
            max_new_tokens=20,
            return_full_text=False,
            stop=("x",),
            truncate=5,
            details=True,
            watermark=True,
            adapter_id="lora",
            decoder_input_details=True,
            seed=2**64 - 1,
            top_n_tokens=5,
            logprobs=True,
            grammar=Grammar("regex", "a+"),
        )

    def test_optional_parameters_may_be_null(self) -> None:
        nulls = dict.fromkeys(
            ("best_of", "temperature", "top_k", "seed", "grammar", "max_new_tokens", "truncate")
        )
        assert read_generate({"inputs": "a", "parameters": nulls}).parameters == Parameters()

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ([], "Input should be a valid dictionary"),
            ({}, "inputs: Field required"),
            ({"inputs": None}, "inputs: Input should be a valid string"),
            ({"inputs": 3}, "inputs: Input should be a valid string"),
            ({"inputs": ["a"]}, "inputs: Input should be a valid string"),
            ({"inputs": "a", "parameters": None}, "parameters: Input should be"),
            ({"inputs": "a", "stream": "yes"}, "stream: Input should be a valid boolean"),
        ],
    )
    def test_bodies_that_do_not_fit(self, body: Any, reason: str) -> None:
        with pytest.raises(RejectionError) as caught:
            read_generate(body)
        assert caught.value.status == 422
        assert caught.value.text.startswith(f"{PREFIX}{reason}")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", "hot"),
            ("temperature", True),
            ("seed", math.inf),
            ("seed", 2**64),
            ("max_new_tokens", 1.5),
            ("max_new_tokens", -1),
            ("max_new_tokens", 2**32),
            ("max_new_tokens", False),
            ("seed", -1),
            ("top_k", 2**31),
            ("stop", "x"),
            ("stop", None),
            ("do_sample", None),
            ("watermark", 1),
            ("adapter_id", 1),
        ],
    )
    def test_parameters_that_do_not_fit(self, name: str, value: Any) -> None:
        with pytest.raises(RejectionError) as caught:
            read_generate({"inputs": "a", "parameters": {name: value}})
        assert caught.value.text.startswith(f"{PREFIX}parameters.{name}: Input should be")

    def test_elements_are_named_by_their_place(self) -> None:
        with pytest.raises(RejectionError, match=r"parameters\.stop\[1\]: Input should be"):
            read_generate({"inputs": "a", "parameters": {"stop": ["x", 2]}})

    def test_what_only_the_app_may_set_is_ignored(self) -> None:
        given = {"greedy": True, "logprobs": True}
        assert read_generate({"inputs": "a", "parameters": given}).parameters == Parameters()


SCHEMA = {"properties": {"a": {"type": "string"}}}


class TestGrammarForms:
    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ({"type": "json", "value": SCHEMA}, Grammar("json", SCHEMA)),
            ({"type": "json_object", "value": SCHEMA}, Grammar("json", SCHEMA)),
            (
                {"type": "json", "value": json.dumps(SCHEMA)},
                Grammar("json", json.dumps(SCHEMA)),
            ),
            (
                {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}},
                Grammar("json", SCHEMA),
            ),
            ({"type": "regex", "value": "a+"}, Grammar("regex", "a+")),
        ],
    )
    def test_forms(self, form: Any, expected: Grammar) -> None:
        assert read_chat(response_format=form).parameters.grammar == expected
        parameters = read_generate({"inputs": "a", "parameters": {"grammar": form}}).parameters
        assert parameters.grammar == expected

    @pytest.mark.parametrize(
        "form",
        [
            {"type": "json_schema", "json_schema": {"schema": {}}},
            {"type": "json_object"},
            {"value": {}},
            {"type": "json_schema", "value": {"name": "x"}},
            {"type": "xml", "value": ""},
            {"type": "regex", "value": {}},
            "json",
        ],
    )
    def test_openai_forms_and_others_are_refused(self, form: Any) -> None:
        with pytest.raises(RejectionError) as caught:
            read_chat(response_format=form)
        assert caught.value.status == 422
        assert caught.value.text.startswith(f"{PREFIX}response_format: expected a `type`")


class TestChat:
    def test_no_temperature_samples_and_zero_is_greedy(self) -> None:
        assert read_chat().parameters.do_sample
        greedy = read_chat(temperature=0, top_p=0.5).parameters
        assert (greedy.do_sample, greedy.greedy, greedy.temperature) == (False, True, None)

    def test_presence_penalty_becomes_a_repetition_penalty(self) -> None:
        assert read_chat(presence_penalty=0).parameters.repetition_penalty == 2
        assert read_chat().parameters.repetition_penalty is None

    def test_max_completion_tokens_is_an_alias(self) -> None:
        assert read_chat(max_completion_tokens=7).parameters.max_new_tokens == 7
        with pytest.raises(RejectionError, match="duplicate field `max_tokens`"):
            read_chat(max_tokens=3, max_completion_tokens=7)

    def test_empty_stream_options_ask_for_nothing(self) -> None:
        assert read_chat(stream_options={}).include_usage is False

    def test_numbers_are_of_single_precision(self) -> None:
        read = read_generate({"inputs": "a", "parameters": {"temperature": 1e39, "top_p": 1e-46}})
        assert (read.parameters.temperature, read.parameters.top_p) == (math.inf, 0)

    def test_content_chunks_are_joined(self) -> None:
        chunks = [
            {"type": "text", "text": "see "},
            {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
        ]
        body = read_chat(messages=[{"role": "user", "content": chunks}])
        assert body.messages == [{"role": "user", "content": "see ![](http://x/y.png)"}]

    def test_content_wins_over_tool_calls(self) -> None:
        call = {"id": "0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        both = {"role": "assistant", "content": "text", "tool_calls": [call]}
        only = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert read_chat(messages=[both, only]).messages == [
            {"role": "assistant", "content": "text"},
            {"role": "assistant", "tool_calls": [call]},
        ]

    def test_ids_and_names_are_kept_for_templates(self) -> None:
        message = {"role": "tool", "content": "42", "tool_call_id": "0", "name": "f"}
        assert read_chat(messages=[message]).messages == [message]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (None, ToolChoice("auto")),
            ("auto", ToolChoice("auto")),
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            ("f", ToolChoice("function", "f")),
            ({"type": "function", "function": {"name": "f"}}, ToolChoice("function", "f")),
        ],
    )
    def test_tool_choice(self, choice: Any, expected: ToolChoice) -> None:
        assert read_chat(tools=[TOOL], tool_choice=choice).tool_choice == expected

    @pytest.mark.parametrize("name", ["parameters", "arguments"])
    def test_tools(self, name: str) -> None:
        function = {"name": "f", "description": "d", name: {"type": "object"}}
        tools = read_chat(tools=[{"type": "function", "function": function}]).tools
        assert tools == [Tool("f", "d", {"type": "object"})]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ({"messages": None}, "messages: Input should be a valid list"),
            ({"messages": [{"content": "x"}]}, "messages[0]: expected a message with a `role`"),
            ({"messages": [{"role": 3, "content": "x"}]}, "messages[0]: expected a message with a"),
            ({"messages": [{**USER, "name": 3}]}, "messages[0]: expected a string as `name`"),
            ({"messages": [{**USER, "tool_call_id": []}]}, "expected a string as `tool_call_id`"),
            ({"messages": [USER, {"role": "user"}]}, "messages[1]: data did not match any variant"),
            ({"messages": [{"role": "user", "content": None}]}, "messages[0]: data did not match"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "did not match"),
            ({"messages": [{"role": "a", "tool_calls": [{"id": "0"}]}]}, "did not match"),
            ({"stop": "x"}, "stop: Input should be"),
            ({"logit_bias": {"5": 1}}, "logit_bias: Input should be a valid list"),
            ({"stream": None}, "stream: Input should be a valid boolean"),
            ({"n": "1"}, "n: Input should be"),
            (
                {"tools": [{"type": "function", "function": {"name": "f"}}]},
                "tools[0]: expected {type, function",
            ),
            ({"tools": {}}, "tools: Input should be a valid list"),
            ({"tool_choice": {"function": {}}}, "tool_choice: data did not match any variant"),
        ],
    )
    def test_bodies_that_do_not_fit(self, body: dict[str, Any], reason: str) -> None:
        with pytest.raises(RejectionError) as caught:
            read_chat(**body)
        assert caught.value.status == 422
        assert reason in caught.value.text

    def test_messages_must_be_there(self) -> None:
        with pytest.raises(RejectionError, match="messages: Field required"):
            read(ChatBody, {})


class TestCompletions:
    def test_one_prompt_or_several(self) -> None:
        assert read_completion({"prompt": "a"}).prompts == ("a",)
        assert read_completion({"prompt": ["a", "b"]}).prompts == ("a", "b")

    @pytest.mark.parametrize("body", [{}, {"prompt": None}, {"prompt": [1]}, {"prompt": {}}])
    def test_other_prompts_are_refused(self, body: Any) -> None:
        with pytest.raises(RejectionError, match="prompt"):
            read_completion(body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (GenerateBody, {"inputs": "a", "parameters": {"stop": [], "watermark": False}}),
        (ChatBody, {"messages": [USER], "model": None, "tools": None, "stop": None}),
        (CompletionBody, {"prompt": "a", "suffix": None, "model": "tgi"}),
    ],
)
def test_what_clients_of_the_field_send_is_taken(kind: Any, body: dict[str, Any]) -> None:
    read(kind, body)
