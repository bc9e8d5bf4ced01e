"""What is answered: the end of a decoding, bodies, events, function calls, metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.embedded._bodies import Tool, ToolChoice
from langchain_sgd.embedded._decoding import Decoding, FinishReason, Output
from langchain_sgd.embedded._errors import Kind, ProtocolError
from langchain_sgd.embedded._metrics import Metrics
from langchain_sgd.embedded._tools import (
    Call,
    begun_call,
    parse_call,
    selected_tools,
    tool_schema,
    with_tools,
)
from langchain_sgd.embedded._validation import Limits
from langchain_sgd.embedded.engine import EngineInfo, Token
from langchain_sgd.embedded.protocol import (
    ChatAnswer,
    CompletionAnswer,
    GenerateAnswer,
    dumps,
    event,
    info_body,
    simple_tokens,
)

EOS = Token(2, "</s>", logprob=-0.1, special=True)


def tokens(*texts: str) -> list[Token]:
    return [Token(10 + at, text, logprob=-0.5) for at, text in enumerate(texts)]


def output(
    *texts: str, reason: FinishReason = "eos_token", eos: bool = True, **more: Any
) -> Output:
    made = tokens(*texts) + ([EOS] if eos else [])
    text = "".join(texts)
    return Output(text=text, tokens=made, finish_reason=reason, prompt_tokens=3, **more)


def parsed(data: bytes) -> Any:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    return json.loads(data[6:])


class TestDecoding:
    def run(self, *made: Token, most: int = 100, stop: tuple[str, ...] = ()) -> Any:
        decoding = Decoding(most, stop)
        reasons = [decoding.push(token) for token in made]
        assert all(reason is None for reason in reasons[:-1])
        return reasons[-1], decoding.text

    def test_eos_ends_and_is_not_in_the_text(self) -> None:
        assert self.run(*tokens("a", " b"), EOS) == ("eos_token", "a b")

    def test_length_comes_before_eos(self) -> None:
        assert self.run(*tokens("a"), EOS, most=2) == ("length", "a")
        assert self.run(*tokens("a", "b"), most=2) == ("length", "ab")

    @pytest.mark.parametrize(
        ("texts", "stop"),
        [
            (("one", " END"), "END"),
            (("E", "N", "D"), "END"),
            (("END\n",), "END"),
            (("a", "\n\n"), "\n\n"),
            (("the end", "."), "end."),
        ],
    )
    def test_a_stop_text_ends_and_stays(self, texts: tuple[str, ...], stop: str) -> None:
        assert self.run(*tokens(*texts), stop=(stop,)) == ("stop_sequence", "".join(texts))

    @pytest.mark.parametrize("texts", [("ENDING",), ("an END.",), ("END\n\n",), ("EN", "d")])
    def test_a_stop_text_inside_a_token_is_not_seen(self, texts: tuple[str, ...]) -> None:
        assert self.run(*tokens(*texts), stop=("END",))[0] is None

    def test_any_stop_text_counts(self) -> None:
        assert self.run(*tokens("a", "bb"), stop=("longer than all", "b"))[0] == "stop_sequence"

    @given(st.lists(st.text("ab\n", max_size=4), max_size=8), st.text("ab", min_size=1, max_size=3))
    def test_agrees_with_tgis_regular_expression(self, texts: list[str], stop: str) -> None:
        decoding, so_far = Decoding(100, (stop,)), ""
        for token in tokens(*texts):
            so_far += token.text
            expected = so_far.endswith((stop, f"{stop}\n"))
            assert (decoding.push(token) == "stop_sequence") == expected


class TestGenerateEvents:
    ANSWER = GenerateAnswer(details=True)

    @given(st.text(), st.sampled_from([None, -0.25, -1e-7]), st.booleans())
    def test_a_token(self, text: str, logprob: float | None, special: bool) -> None:  # noqa: FBT001
        token = Token(7, text, logprob=logprob, special=special)
        assert parsed(self.ANSWER.token(1, token)) == {
            "index": 1,
            "token": {"id": 7, "text": text, "logprob": logprob or 0.0, "special": special},
            "generated_text": None,
            "details": None,
        }

    def test_half_a_surrogate_pair_does_not_break_the_stream(self) -> None:
        assert parsed(self.ANSWER.token(1, Token(7, "\ud800")))["token"]["text"] == "?"

    def test_the_last_token_carries_the_whole(self) -> None:
        last = parsed(self.ANSWER.last(output("Hi", " you", seed=5)))
        assert last == {
            "index": 3,
            "token": {"id": 2, "text": "</s>", "logprob": -0.1, "special": True},
            "generated_text": "Hi you",
            "details": {
                "finish_reason": "eos_token",
                "generated_tokens": 3,
                "seed": 5,
                "input_length": 3,
            },
        }

    def test_details_and_full_text_only_where_wanted(self) -> None:
        answer = GenerateAnswer(details=False, prompt="Say: ")
        last = parsed(answer.last(output("Hi")))
        assert (last["generated_text"], last["details"]) == ("Say: Hi", None)
        assert answer.body(output("Hi")) == {"generated_text": "Say: Hi"}

    def test_body_with_best_of(self) -> None:
        body = self.ANSWER.body(output("a"), [output("b", eos=False, reason="length")])
        assert body["details"]["tokens"][0] == {
            "id": 10,
            "text": "a",
            "logprob": -0.5,
            "special": False,
        }
        (other,) = body["details"]["best_of_sequences"]
        assert (other["generated_text"], other["finish_reason"]) == ("b", "length")


class TestChatEvents:
    @given(st.text(), st.sampled_from(["m", "\0", 'a\0"b']))
    def test_text(self, text: str, model: str) -> None:
        chunk = parsed(ChatAnswer(model).token(Token(7, text)))
        assert chunk["choices"] == [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": None,
            }
        ]
        shown = (chunk["object"], chunk["model"], chunk["id"])
        assert shown == ("chat.completion.chunk", model, "")
        assert chunk["usage"] is None

    @pytest.mark.parametrize(
        ("reason", "shown"),
        [("eos_token", "stop"), ("length", "length"), ("stop_sequence", "stop_sequence")],
    )
    def test_finish_reasons(self, reason: FinishReason, shown: str) -> None:
        answer, made = ChatAnswer("m"), output("a", reason=reason)
        assert parsed(answer.last(made))["choices"][0]["finish_reason"] == shown
        assert answer.body(made)["choices"][0]["finish_reason"] == shown

    def test_special_tokens_show_no_text(self) -> None:
        answer = ChatAnswer("m")
        assert parsed(answer.token(EOS))["choices"][0]["delta"]["content"] == ""
        assert parsed(answer.last(output()))["choices"][0]["delta"]["content"] == ""

    def test_usage(self) -> None:
        chunk = parsed(ChatAnswer("m").usage(output("a", cached_tokens=2)))
        assert chunk["choices"] == []
        assert chunk["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 2},
        }

    def test_logprobs(self) -> None:
        answer = ChatAnswer("m", logprobs=True)
        shown = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}
        assert parsed(answer.token(tokens("a")[0]))["choices"][0]["logprobs"] == shown
        assert len(answer.body(output("a"))["choices"][0]["logprobs"]["content"]) == 2

    def test_a_call(self) -> None:
        body = ChatAnswer("m").body(output("x"), Call("f", '{"a":1}'))
        assert body["choices"][0]["message"] == {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "0",
                    "type": "function",
                    "function": {"description": None, "name": "f", "arguments": '{"a":1}'},
                }
            ],
        }


class TestCompletions:
    def test_streams_name_tgis_reason_and_bodies_openais(self) -> None:
        answer = CompletionAnswer("m")
        last = parsed(answer.last(1, output("a")))
        assert last["choices"] == [
            {"index": 1, "text": "</s>", "logprobs": None, "finish_reason": "eos_token"}
        ]
        body = answer.body([output("a"), output("b", "c")])
        assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "stop"]
        assert body["usage"]["total_tokens"] == 3 + 2 + 3 + 3

    def test_other_tokens_have_an_empty_reason(self) -> None:
        chunk = parsed(CompletionAnswer("m").token(0, tokens("a")[0]))
        assert chunk["choices"][0]["finish_reason"] == ""
        assert chunk["object"] == "text_completion"


def test_errors_have_a_shape_per_route() -> None:
    error = ProtocolError(Kind.OVERLOADED)
    assert error.status == 429
    assert parsed(event(error.body)) == {
        "error": "Model is overloaded",
        "error_type": "overloaded",
    }
    assert parsed(event(error.chat_event)) == {
        "error": {"message": "Model is overloaded", "http_status_code": 422}
    }


def test_json_is_compact_and_not_escaped() -> None:
    assert dumps({"a": ["é", None]}) == '{"a":["é",null]}'.encode()


def test_tokens_know_their_place_in_the_text() -> None:
    made = [Token(1, "", special=True, start=0, stop=0), *tokens("Hé", " you")]
    places = [(each["start"], each["stop"]) for each in simple_tokens(made)]
    assert places == [(0, 0), (0, 2), (2, 6)]


def test_tokens_of_one_character_share_its_place() -> None:
    made = [Token(n, "🙂", start=0, stop=1) for n in range(3)] + [Token(4, " ok", start=1, stop=4)]
    assert [(each["start"], each["stop"]) for each in simple_tokens(made)] == [(0, 1)] * 3 + [
        (1, 4)
    ]


def test_info_says_what_is_enforced() -> None:
    limits = Limits(max_total_tokens=100, max_concurrent_requests=3)
    info = info_body(EngineInfo("org/m", max_total_tokens=100, slots=8, dtype="q8_0"), limits)
    assert info["router"].startswith("text-generation-router")
    wanted = ("model_id", "max_total_tokens", "max_input_tokens", "max_concurrent_requests")
    assert [info[name] for name in wanted] == ["org/m", 100, 99, 3]


class TestTools:
    WEATHER = Tool(
        "weather", "d", {"properties": {"city": {"type": "string"}}, "required": ["city"]}
    )
    CLOCK = Tool("clock", None, {"type": "object", "properties": {}})

    def test_selection(self) -> None:
        both = (self.WEATHER, self.CLOCK)
        assert selected_tools(None, ToolChoice("auto")) == ()
        assert selected_tools((), ToolChoice("required")) == ()
        assert selected_tools(both, ToolChoice("none")) == ()
        assert selected_tools(both, ToolChoice("required")) == both
        assert selected_tools(both, ToolChoice("function", "clock")) == (self.CLOCK,)
        assert [tool.name for tool in selected_tools(both, ToolChoice("auto"))] == [
            "weather",
            "clock",
            "no_tool",
        ]
        with pytest.raises(ProtocolError, match="Tool error: Tool with name x not found") as caught:
            selected_tools(both, ToolChoice("function", "x"))
        assert caught.value.status == 422

    def test_schema_of_calls(self) -> None:
        assert tool_schema([self.WEATHER]) == {
            "type": "object",
            "properties": {
                "function": {
                    "type": "object",
                    "properties": {
                        "_name": {"type": "string", "const": "weather"},
                        "city": {"type": "string"},
                    },
                    "required": ["_name", "city"],
                    "additionalProperties": False,
                }
            },
            "required": ["function"],
        }
        several = tool_schema([self.WEATHER, self.CLOCK])["properties"]["function"]["anyOf"]
        assert [each["properties"]["_name"]["const"] for each in several] == ["weather", "clock"]

    @pytest.mark.parametrize(
        ("parameters", "required"),
        [
            (5, []),
            (None, []),
            ([], []),
            ("str", []),
            ({"properties": 3}, []),
            ({"required": 7}, []),
            ({"type": "bogus", "required": ["a", 7]}, ["a"]),
        ],
    )
    def test_of_a_schema_nothing_counts_but_properties(
        self, parameters: Any, required: list[str]
    ) -> None:
        function = tool_schema([Tool("f", None, parameters)])["properties"]["function"]
        assert function["properties"] == {"_name": {"type": "string", "const": "f"}}
        assert function["required"] == ["_name", *required]

    @pytest.mark.parametrize("name", ["", "a/b", "a#b"])
    def test_a_function_must_have_a_name_to_refer_to(self, name: str) -> None:
        with pytest.raises(ProtocolError, match="cannot compile regex from schema") as caught:
            tool_schema([Tool(name, None, {})])
        assert (caught.value.status, caught.value.error_type) == (422, "validation")

    def test_functions_are_shown_after_the_last_message(self) -> None:
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
        first, last = with_tools(messages, [self.WEATHER], "Call!", template_uses_tools=False)
        assert first == messages[0]
        assert last["content"].startswith("q\n---\n[")
        assert '"name": "weather"' in last["content"]
        assert last["content"].endswith("\nCall!")
        assert messages[1]["content"] == "q"
        (only,) = with_tools(messages[1:], [self.WEATHER], None, template_uses_tools=True)
        assert "weather" not in only["content"]

    def test_whole_calls(self) -> None:
        assert parse_call('{"function": {"_name": "f", "a": 1}}') == Call("f", '{"a":1}')
        assert parse_call('{"function": {"_name": "no_tool"}}') is None

    @pytest.mark.parametrize(
        "text", ["", "hello", "[]", "{}", '{"function": {}}', '{"function": 1}']
    )
    def test_what_is_no_call(self, text: str) -> None:
        with pytest.raises(ProtocolError, match="Tool error: Failed to parse generated text"):
            parse_call(text)

    @pytest.mark.parametrize(
        ("text", "call"),
        [
            ('{"function": {"_name": "f", "a": {"b": 1', Call("f", '{"a": {"b": 1')),
            ('{"function":{"_name":"get\\"it"', Call('get"it', "{")),
            ('{"function": {"_name": "f', None),
            ('{"function": {"_name": "no_tool"}', None),
            ("no call", None),
        ],
    )
    def test_what_there_is_of_a_call_that_was_cut(self, text: str, call: Call | None) -> None:
        assert begun_call(text) == call


def test_metrics() -> None:
    metrics = Metrics()
    metrics.requested()
    metrics.finished(output("a", cached_tokens=2), 0.5)
    metrics.failed("overloaded")
    metrics.failed("incomplete_generation_stream")
    lines = metrics.render('my"model').splitlines()
    assert r'tgi_request_count{model="my\"model"} 1' in lines
    assert r'tgi_request_failure{model="my\"model",err="incomplete"} 1' in lines
    assert r'tgi_request_duration_sum{model="my\"model"} 0.5' in lines
    assert r'langchain_sgd_cached_prompt_tokens{model="my\"model"} 2' in lines
    assert r'tgi_request_generated_tokens_sum{model="my\"model"} 2' in lines
