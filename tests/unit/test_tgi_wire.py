from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi.answers import Delta, chat_delta, generate_delta, generated
from langchain_sgd.tgi.endings import ChatEnding
from langchain_sgd.tgi.messages import StopTrimmer, StreamReader, message_of
from langchain_sgd.tgi.wire import chat_messages, grammar, prompt_text

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def call(name: str | None = "add", arguments: Any = '{"a": 1}') -> dict[str, Any]:
    function = {"name": name, "description": None, "arguments": arguments}
    return {"index": 0, "id": "0", "type": "function", "function": function}


# --- messages


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (SystemMessage("s"), {"role": "system", "content": "s"}),
        (HumanMessage("h", name="ann"), {"role": "user", "content": "h", "name": "ann"}),
        (AIMessage("a"), {"role": "assistant", "content": "a"}),
        (AIMessageChunk(content="a"), {"role": "assistant", "content": "a"}),
        (ChatMessage(role="critic", content="c"), {"role": "critic", "content": "c"}),
        (
            HumanMessage([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]),
            {"role": "user", "content": "one two"},
        ),
        (
            ToolMessage("3", tool_call_id="call_1", name="add"),
            {"role": "tool", "tool_call_id": "call_1", "name": "add", "content": "3"},
        ),
    ],
)
def test_messages_on_the_wire(message: BaseMessage, expected: dict[str, Any]) -> None:
    assert chat_messages([message]) == [expected]


CALL = {"name": "add", "args": {"a": 1}, "id": "call_1"}


def test_a_message_with_calls_goes_without_content() -> None:
    for empty in ("", "\n"):
        (wire,) = chat_messages([AIMessage(empty, tool_calls=[CALL])])
        assert "content" not in wire
        assert wire["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}


def test_text_beside_calls_goes_with_them_as_tgi_writes_calls_into_the_prompt() -> None:
    """TGI drops the calls of a message that has content, and renders others as this JSON."""
    (wire,) = chat_messages([AIMessage("thinking", tool_calls=[CALL])])
    text, _, calls = wire["content"].partition("\n")
    assert "tool_calls" not in wire
    assert text == "thinking"
    function = {"description": None, "name": "add", "arguments": '{"a": 1}'}
    assert json.loads(calls) == [{"id": "call_1", "type": "function", "function": function}]


def test_an_image_stays_a_block() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://x/y.png"}}
    (wire,) = chat_messages([HumanMessage([{"type": "text", "text": "see"}, image])])
    assert wire["content"] == [{"type": "text", "text": "see"}, image]


def test_a_raw_prompt_is_the_messages_texts() -> None:
    assert prompt_text([SystemMessage("one"), HumanMessage([{"type": "text", "text": "two"}])]) == (
        "one\n\ntwo"
    )


# --- grammars


@pytest.mark.parametrize(
    ("given_form", "expected"),
    [
        ({"type": "json", "value": SCHEMA}, {"type": "json", "value": SCHEMA}),
        ({"type": "json_object", "value": SCHEMA}, {"type": "json_object", "value": SCHEMA}),
        ({"type": "regex", "value": "[0-9]+"}, {"type": "regex", "value": "[0-9]+"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
            {"type": "json", "value": SCHEMA},
        ),
        ({"type": "json_object", "schema": SCHEMA}, {"type": "json", "value": SCHEMA}),
        ({"type": "text"}, None),
    ],
)
def test_every_form_becomes_tgis(
    given_form: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert grammar(given_form) == expected


@pytest.mark.parametrize(
    "form", [{"type": "json_object"}, {"type": "json_schema"}, {"type": "ebnf", "value": "x"}, {}]
)
def test_a_form_without_a_schema_is_refused_with_the_way_out(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="JSON schema"):
        grammar(form)


# --- stop texts

alphabet = st.sampled_from("ab\n")
stops_strategy = st.lists(st.text(alphabet, min_size=1, max_size=4), min_size=0, max_size=3)


@given(
    body=st.text(alphabet, max_size=30),
    stops=stops_strategy,
    stopped=st.booleans(),
    newline=st.booleans(),
    data=st.data(),
)
def test_where_the_text_is_cut_never_matters(
    body: str, stops: list[str], *, stopped: bool, newline: bool, data: st.DataObject
) -> None:
    stopped = stopped and bool(stops)
    stop = data.draw(st.sampled_from(stops)) if stopped else ""
    text = body + stop + ("\n" if stopped and newline else "")
    whole = StopTrimmer(stops)
    expected = whole.feed(text) + whole.end(stopped=stopped)

    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    trimmer = StopTrimmer(stops)
    shown = "".join(trimmer.feed(text[a:b]) for a, b in pairwise(cuts))
    assert text.startswith(shown)
    assert shown + trimmer.end(stopped=stopped) == expected
    if stopped:
        assert len(expected) <= len(body) + (1 if newline and stop else 0)
        assert body.startswith(expected) or expected.startswith(body)
    else:
        assert expected == text


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("The end.\nQ:", ["Q:"], "The end.\n"),
        ("The end.END\n", ["END"], "The end."),
        ("x THE END", ["END", "THE END"], "x "),
        ("no stop here", ["END"], "no stop here"),
    ],
)
def test_the_stop_text_is_no_part_of_the_answer(text: str, stops: list[str], expected: str) -> None:
    answer = Delta(text=text, finish_reason="stop_sequence")
    assert message_of(answer, {}, stops).content == expected


@pytest.mark.parametrize(
    "events",
    [
        [Delta("since"), Delta(" ST")],
        [Delta("since", finish_reason="eos_token"), Delta(" ST")],
        [Delta("since"), Delta(" ST", finish_reason="")],
    ],
)
def test_held_text_is_shown_at_the_end_whatever_ends_the_stream(events: list[Delta]) -> None:
    message = read(events, ["STOP"])
    assert message.content == "since ST"
    assert message.response_metadata["finish_reason"] == "stop"
    assert read([Delta("ST")], ["STOP"]).content == "ST"


def test_only_what_may_be_a_stop_text_is_held_back() -> None:
    trimmer = StopTrimmer(["END"])
    assert trimmer.feed("a B") == "a B"
    assert trimmer.feed(" E") == " "
    assert trimmer.feed("N") == ""
    assert trimmer.feed("ough") == "ENough"
    assert trimmer.feed(" EN") == " "
    assert trimmer.end(stopped=False) == "EN"


# --- answers


def chunk(text: str | None = None, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    message = {"role": "assistant", **({} if text is None else {"content": text}), **delta}
    choice = {"index": 0, "delta": message, "logprobs": None, "finish_reason": reason}
    return {"model": "m", "system_fingerprint": "f", "choices": [choice], "usage": None}


def test_the_calls_of_old_servers_are_read() -> None:
    """A delta has its call without a list, and each part its name."""
    parts = [
        chunk(tool_calls={"index": 0, "id": "", "function": {"name": "f", "arguments": part}})
        for part in ("{", '"a": 1', "}")
    ]
    ending = ChatEnding(tools=False)
    for part in parts:
        ending.see(part)
    assert ending.reached(done=True)
    message = read([chat_delta(part) for part in parts])
    (call,) = message.tool_calls
    assert (call["name"], call["args"]) == ("f", {"a": 1})
    assert message.response_metadata["finish_reason"] == "stop"


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
COUNTED = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def read(events: list[Delta], stops: list[str] | None = None) -> AIMessageChunk:
    reader = StreamReader(stops or [])
    chunks = [made for event in events for made in reader.feed([event])]
    total = summed([*chunks, reader.last({"ttft_s": 0.1})])

    together = StreamReader(stops or [])
    shown = summed([*together.feed(events), together.last({"ttft_s": 0.1})])
    assert (shown.content, shown.usage_metadata, shown.response_metadata) == (
        total.content,
        total.usage_metadata,
        total.response_metadata,
    )
    assert arguments_of(shown) == arguments_of(total)
    return total


def arguments_of(message: AIMessageChunk) -> list[dict[str, Any]]:
    return [call["args"] for call in message.tool_calls]


def summed(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = AIMessageChunk(content="")
    for each in chunks:
        total = total + each
    return total


def test_a_chat_stream_becomes_a_message() -> None:
    events = [chunk("Hel"), chunk("lo"), chunk("", "eos_token"), {"choices": [], "usage": USAGE}]
    message = read([chat_delta(event) for event in events])
    assert message.content == "Hello"
    assert message.usage_metadata == COUNTED
    assert message.response_metadata == {
        "finish_reason": "stop",
        "tgi_finish_reason": "eos_token",
        "model_provider": "tgi",
        "model_name": "m",
        "system_fingerprint": "f",
        "tgi": {"ttft_s": 0.1},
    }


def test_cached_tokens_are_told_where_the_server_tells_them() -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 2}}
    delta = chat_delta({"choices": [], "usage": usage})
    assert delta.usage == {**COUNTED, "input_token_details": {"cache_read": 2}}


def test_an_unknown_finish_reason_is_passed_on() -> None:
    message = read([chat_delta(chunk("x", "speculative_abort"))])
    assert message.response_metadata["finish_reason"] == "speculative_abort"


def test_what_arrives_together_is_joined_and_calls_stay_apart() -> None:
    call = chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}])
    more = chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])
    end = [chunk("d", "eos_token"), {"choices": [], "usage": USAGE}]
    reader = StreamReader([])
    events = [chunk("a"), chunk("b"), call, chunk("c"), more, *end]
    chunks = reader.feed(map(chat_delta, events))
    shown = [(each.content, len(each.tool_call_chunks)) for each in chunks]
    assert shown == [("ab", 1), ("c", 1), ("d", 0)]
    last = reader.last({})
    assert last.usage_metadata == COUNTED
    assert last.response_metadata["tgi_finish_reason"] == "eos_token"
    assert last.response_metadata["model_name"] == "m"


def test_what_shows_nothing_makes_no_chunk() -> None:
    events = [chunk(""), {"choices": [], "usage": USAGE}]
    assert StreamReader([]).feed(map(chat_delta, events)) == []


def test_a_stop_text_is_taken_off_wherever_the_stream_was_cut() -> None:
    events = [chunk("The E"), chunk("NOD"), chunk(". EN"), chunk("D"), chunk("\n", "stop_sequence")]
    for cut in range(len(events) + 1):
        reader = StreamReader(["END"])
        batches = [events[:cut], events[cut:]]
        chunks = [made for batch in batches for made in reader.feed(map(chat_delta, batch))]
        assert "".join(str(made.content) for made in chunks) == "The ENOD. "


def test_a_generate_stream_becomes_a_message_without_the_end_token() -> None:
    details = {"finish_reason": "eos_token", "generated_tokens": 4, "input_length": 3}
    events: list[dict[str, Any]] = [
        {"token": {"text": "Hi", "special": False}, "generated_text": None, "details": None},
        {
            "token": {"text": "</s>", "special": True},
            "generated_text": "Hi",
            "details": details,
        },
    ]
    message = read([generate_delta(event) for event in events])
    assert message.content == "Hi"
    assert message.usage_metadata == COUNTED
    assert message.response_metadata["finish_reason"] == "stop"


def test_a_generated_text_counts_its_prompt_by_the_headers() -> None:
    body = {"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 4}}
    message = message_of(generated(body, {"prompt_tokens": 3}), {"prompt_tokens": 3}, [])
    assert message.usage_metadata == COUNTED
    assert message.response_metadata["finish_reason"] == "length"


def test_a_streamed_call_is_put_together() -> None:
    events = [
        chunk(tool_calls=[call("add", "{")]),
        chunk(tool_calls=[call(None, '"a": 1}')]),
        chunk("", "stop"),
    ]
    message = read([chat_delta(event) for event in events])
    (made,) = message.tool_calls
    assert (made["name"], made["args"]) == ("add", {"a": 1})
    assert made["id"] not in {None, "", "0"}


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_a_whole_call_gets_an_id_of_its_own(arguments: Any) -> None:
    answer = Delta(tool_calls=[call(arguments=arguments)], finish_reason="stop")
    ids = set()
    for _ in range(2):
        (made,) = message_of(answer, {}, []).tool_calls
        assert made["args"] == {"a": 1}
        ids.add(made["id"])
    assert len(ids) == 2  # TGI calls every call "0", which no conversation can keep apart


def test_a_call_that_is_no_json_is_kept_as_invalid() -> None:
    message = message_of(Delta(tool_calls=[call(arguments="{oops")], finish_reason="stop"), {}, [])
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == "{oops"


def test_answers_are_json_able() -> None:
    message = message_of(chat_delta(chunk("x", "stop")), {"queue_time_ms": 1}, [])
    assert json.loads(json.dumps(message.response_metadata))["tgi"] == {"queue_time_ms": 1}


# --- tools in streams, thoughts, logprobs


@pytest.mark.parametrize(
    "arguments", ['{"city": "Ro', '{"city"', "{", "", '{"a": [1, {"b": "x\\', '{"a": 1}}']
)
def test_incomplete_arguments_are_an_invalid_call(arguments: str) -> None:
    events = [chunk(tool_calls=[call("add", part)]) for part in arguments[:1]]
    events += [chunk(tool_calls=[call(None, arguments[1:])])] if arguments[1:] else []
    events = events or [chunk(tool_calls=[call("add", "")])]
    message = read([chat_delta(event) for event in events])
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert invalid["name"] == "add"
    assert str(invalid["args"]).startswith(arguments)
    cut = bool(arguments) and not arguments.endswith("}}")
    assert message.response_metadata["finish_reason"] == ("length" if cut or arguments else "stop")


def test_an_empty_last_part_ends_a_call() -> None:
    events = [chunk(tool_calls=[call("add", '{"a": 1}')]), chunk(tool_calls=[call(None, "")])]
    message = read([chat_delta(event) for event in events])
    assert message.tool_calls[0]["args"] == {"a": 1}
    assert message.response_metadata["finish_reason"] == "stop"


def test_two_calls_of_one_stream_have_two_ids() -> None:
    first, second = call("add", '{"a": 1}'), {**call("add", '{"a": 2}'), "index": 1}
    message = read([chat_delta(chunk(tool_calls=[first])), chat_delta(chunk(tool_calls=[second]))])
    assert [made["args"] for made in message.tool_calls] == [{"a": 1}, {"a": 2}]
    assert len({made["id"] for made in message.tool_calls}) == 2


@pytest.mark.parametrize("names", [("add", "add", "add"), ("add", "less", "less")])
@pytest.mark.parametrize("given", [{}, {"index": 0}])
@pytest.mark.parametrize("together", [True, False])
def test_whole_calls_under_one_index_are_calls_of_their_own(
    names: tuple[str, ...],
    given: dict[str, int],
    together: bool,  # noqa: FBT001
) -> None:
    calls = [
        {"function": {"name": name, "arguments": f'{{"a": {number}}}'}, **given}
        for number, name in enumerate(names)
    ]
    events = [chunk(tool_calls=each) for each in ([calls] if together else [[c] for c in calls])]
    ending = ChatEnding(tools=False)
    for event in events:
        ending.see(event)
    assert ending.reached(done=False)
    message = read([chat_delta(event) for event in events])
    assert [made["name"] for made in message.tool_calls] == list(names)
    assert arguments_of(message) == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert len({made["id"] for made in message.tool_calls}) == 3
    assert message.response_metadata["finish_reason"] == "stop"


def test_parts_belong_to_the_last_call_of_their_index() -> None:
    first, second = call("add", '{"a": 1}'), {**call("add", '{"a": 9}'), "index": 1}
    events = [[first], [call("add", '{"a":')], [call("add", " 2}")], [second], [call("add", "")]]
    message = read([chat_delta(chunk(tool_calls=each)) for each in events])
    assert arguments_of(message) == [{"a": 1}, {"a": 2}, {"a": 9}]
    cut = read([chat_delta(chunk(tool_calls=each)) for each in events[:2]])
    assert arguments_of(cut) == [{"a": 1}]
    assert len(cut.invalid_tool_calls) == 1
    assert cut.response_metadata["finish_reason"] == "length"


def test_nothing_at_all_is_a_cut_answer() -> None:
    message = read([])
    assert message.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("events", "done", "tools", "whole"),
    [
        ([chunk("Hi", "stop")], False, False, True),
        ([chunk("Hi")], True, False, False),
        ([chunk("Hi")], False, False, False),
        ([], True, False, False),
        ([], True, True, True),
        ([], False, True, False),
        ([chunk(tool_calls=[call("add", "{")])], False, True, False),
        ([chunk(tool_calls=[call("add", "{")])], True, False, True),
        ([chunk(tool_calls=[call("add", '{"a": 1}')])], False, True, True),
        (
            [chunk(tool_calls=[call("add", "{")]), chunk(tool_calls=[call(None, "")])],
            False,
            True,
            True,
        ),
        ([{"choices": [], "usage": USAGE}], True, True, True),
        ([{"choices": "x"}, {"choices": [3]}, {}], False, True, False),
    ],
)
def test_when_a_chat_stream_is_whole(
    events: list[dict[str, Any]], *, done: bool, tools: bool, whole: bool
) -> None:
    ending = ChatEnding(tools=tools)
    for event in events:
        ending.see(event)
    assert ending.reached(done=done) is whole


def test_thoughts_are_kept_beside_the_text() -> None:
    thought = chunk("", reasoning_content="Let me ")
    more = chunk("", reasoning_content="see.")
    message = read([chat_delta(each) for each in (thought, more, chunk("Yes."), chunk("", "stop"))])
    assert message.additional_kwargs["reasoning_content"] == "Let me see."
    assert message.content == "Yes."
    whole = chunk("Yes.", "stop", reasoning_content="Hm.")
    assert message_of(chat_delta(whole), {}, []).additional_kwargs == {"reasoning_content": "Hm."}


def test_text_beside_a_call_survives() -> None:
    both = chunk("I add. ", tool_calls=[call()])
    message = read([chat_delta(both), chat_delta(chunk("", "stop"))])
    assert (message.content, len(message.tool_calls)) == ("I add. ", 1)
    answer = message_of(chat_delta(both), {}, [])
    assert (answer.content, len(answer.tool_calls)) == ("I add. ", 1)


TOKEN = {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -0.7}]}


def test_logprobs_are_given_in_one_form() -> None:
    event = chunk("Hi", "stop")
    event["choices"][0]["logprobs"] = {"content": [TOKEN]}
    assert read([chat_delta(event)] * 2).response_metadata["logprobs"] == {"content": [TOKEN] * 2}
    top = [{"id": 2, "text": "Ho", "logprob": -0.7, "special": False}]
    token = {"id": 1, "text": "Hi", "logprob": -0.5, "special": False}
    streamed = generate_delta({"token": token, "top_tokens": top, "generated_text": None})
    assert list(streamed.logprobs) == [TOKEN]
    body = {"generated_text": "Hi", "details": {"tokens": [token], "top_tokens": [top]}}
    assert list(generated(body, {}).logprobs) == [TOKEN]


def test_pieces_that_do_not_add_up_are_told(caplog: pytest.LogCaptureFixture) -> None:
    token = {"text": "a b", "special": False}
    last = {"token": token, "generated_text": "a, b", "details": {"finish_reason": "length"}}
    message = read([generate_delta(last)])
    assert message.content == "a b"
    assert message.response_metadata["generated_text"] == "a, b"
    assert "add up" in message.response_metadata["warnings"][0]
    assert caplog.records[0].name == "langchain_sgd"


WRONG = [None, 3, "x", [], [3], {}, {"x": 1}]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "field", ["usage", "model", "system_fingerprint", "finish_reason", "logprobs", "tool_calls"]
)
def test_no_text_is_lost_for_what_stands_beside_it(field: str, wrong: Any) -> None:
    event = chunk("Hi")
    choice = event["choices"][0]
    place = event if field in event else choice if field in choice else choice["delta"]
    place[field] = wrong
    assert chat_delta(event).text == "Hi"
    assert read([chat_delta(event)]).content == "Hi"
    whole = {**event, "choices": [{**choice, "message": choice["delta"]}]}
    del whole["choices"][0]["delta"]
    assert message_of(chat_delta(whole), {}, []).content == "Hi"


@pytest.mark.parametrize("event", [{"choices": wrong} for wrong in WRONG])
def test_an_event_of_any_shape_is_read(event: dict[str, Any]) -> None:
    assert chat_delta(event).text == ""
    assert generate_delta({"token": event["choices"], "details": event["choices"]}).text == ""
