"""OpenAI's Responses API as a client sees it, over scripted models and without sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.asgi import Asked, ask
from tests.support.models import Say
from tests.unit.test_proxy_chat import TEXT, a_stage, an_app

CUT = Say(["In one", " piece"], usage=(7, 4), finish="length")


def asked(model: str = "sgd", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": "Which way?", **more}


async def respond(app: Any, body: dict[str, Any] | None = None) -> Asked:
    return await ask(app, "/v1/responses", body or asked())


def events_of(answer: Asked) -> list[Any]:
    """Each event's data; its name is told twice, and both times the same."""
    found = []
    for event in answer.body.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


# -- whole answers


async def test_a_whole_answer_has_the_form_of_a_response_and_the_tokens_of_all_calls() -> None:
    answer = await respond(an_app(a_stage()), asked(metadata={"a": "b"}, temperature=0.5))
    assert answer.status == 200
    body = answer.json
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    assert body["id"] == f"resp_{answer.headers['x-sgd-run']}"
    [item] = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert [(part["type"], part["text"]) for part in item["content"]] == [("output_text", TEXT)]
    usage = body["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (150, 37, 187)
    assert (body["metadata"], body["temperature"]) == ({"a": "b"}, 0.5)
    assert body["sgd"]["nodes"] == 3


async def test_tokens_that_no_server_counted_are_not_made_up() -> None:
    answer = await respond(an_app(a_stage(plain=Say("Text."))), asked("plain"))
    assert answer.json["usage"] is None


async def test_an_answer_cut_by_its_limit_is_incomplete() -> None:
    stage = a_stage(plain=CUT)
    whole = (await respond(an_app(stage), asked("plain", max_output_tokens=4))).json
    assert whole["status"] == whole["output"][0]["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["output"][0]["content"][0]["text"] == "In one piece"
    assert stage.of("plain")[0].options["max_tokens"] == 4
    streamed = events_of(await respond(an_app(a_stage(plain=CUT)), asked("plain", stream=True)))
    assert streamed[-1]["type"] == "response.incomplete"


# -- what is asked


async def test_instructions_history_and_pictures_reach_the_models() -> None:
    stage = a_stage()
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    items = [
        {"role": "user", "content": "Hello"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, picture]},
    ]
    given = {"model": "plain", "instructions": "Be brief.", "input": items, "top_p": 0.5}
    assert (await respond(an_app(stage), given)).status == 200
    [call] = stage.calls
    assert [message.type for message in call.messages] == ["system", "human", "ai", "human"]
    assert [message.text for message in call.messages[:3]] == ["Be brief.", "Hello", "Hi."]
    shown = {"type": "image_url", "image_url": {"url": picture["image_url"], "detail": "low"}}
    assert call.messages[3].content == [{"type": "text", "text": "What is this?"}, shown]
    assert call.options["top_p"] == 0.5


async def test_a_schema_is_passed_on_and_the_answer_is_not_split() -> None:
    stage = a_stage(plain=Say("{}"))
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    answer = await respond(an_app(stage), asked(text={"format": form}))
    assert answer.headers["x-sgd-undivided"] == "response_format"
    assert stage.calls[0].options["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
    }


async def test_what_nobody_knows_is_named_and_what_asks_for_nothing_is_not() -> None:
    given = asked(tools=[], background=False, truncation="auto", user="me", wings=2)
    assert (await respond(an_app(a_stage()), given)).json["sgd"]["ignored"] == ["wings"]


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        ({"tools": [{"type": "web_search"}]}, None, "tools is not supported"),
        ({"previous_response_id": "resp_1"}, None, "previous_response_id is not supported"),
        ({"conversation": "c"}, None, "conversation is not supported"),
        ({"background": True}, None, "background is not supported"),
        ({"input": []}, None, "input is empty"),
        ({"input": [{"type": "reasoning"}]}, "input", "no message"),
        ({"n": 2}, None, "n must be 1"),
        ({"logprobs": True}, None, "logprobs is not supported"),
        ({"stop": 5}, "stop", "stop"),
        ({"seed": "x"}, "seed", "seed"),
        ({"text": {"format": "json"}}, "text", "text.format must be an object"),
        ({"messages": []}, "messages", "a response has input"),
        ({"response_format": {}}, "response_format", "a response has text.format"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "has max_output_tokens"),
        ({"input": None}, "input", "input"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        (
            {"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]},
            "input",
            "input.0: an item of type 'function_call_output'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "1"}]}]},
            "input",
            "input.0.content: a part of type 'input_file'",
        ),
        ({"input": [{"role": "pope", "content": "x"}]}, "messages", "cannot be read"),
    ],
)
async def test_what_cannot_be_honored_is_refused_by_name(
    more: dict[str, Any], param: str | None, says: str
) -> None:
    stage = a_stage()
    answer = await respond(an_app(stage), {**asked(), **more})
    assert answer.status == 400
    error = answer.json["error"]
    assert says in error["message"]
    assert (error["param"] or "").partition(".")[0] == (param or "")
    assert stage.calls == []


async def test_an_unknown_model_is_named() -> None:
    answer = await respond(an_app(a_stage()), asked("gpt-9"))
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")


# -- streams


async def test_a_stream_tells_the_answer_piece_by_piece_and_ends_with_all_of_it() -> None:
    events = events_of(await respond(an_app(a_stage()), asked(stream=True)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert kinds[-4:] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event["delta"] for event in events[4:-4]) == TEXT
    assert len(events[4:-4]) > 3
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    last = events[-1]["response"]
    assert events[-4]["text"] == events[-3]["part"]["text"] == TEXT
    assert last["output"] == [events[-2]["item"]]
    assert last["id"] == events[0]["response"]["id"]
    assert last["usage"]["total_tokens"] == 187
    places = {event["item_id"] for event in events if "item_id" in event}
    assert places == {last["output"][0]["id"]}


async def test_a_stream_that_breaks_says_what_there_was_and_why() -> None:
    stage = a_stage(plain=Say(["Some text"], error=ValueError("gone")))
    events = events_of(
        await respond(an_app(stage, sgd={"retries": 0}), asked("plain", stream=True))
    )
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert failed["status"] == "failed"
    assert "gone" in failed["error"]["message"]
    assert failed["output"][0]["content"][0]["text"].startswith("Some text")


async def test_an_error_before_the_first_text_is_a_status() -> None:
    stage = a_stage(plain=Say("", error=ValueError("gone")))
    answer = await respond(an_app(stage, sgd={"retries": 0}), asked("plain", stream=True))
    assert answer.status == 502
    assert "gone" in answer.json["error"]["message"]


async def test_half_a_character_that_is_echoed_costs_no_answer() -> None:
    answer = await respond(
        an_app(a_stage()), asked(metadata={"a": "\ud83d"}, instructions="\ud83d")
    )
    assert (answer.status, answer.json["metadata"]) == (200, {"a": "\ufffd"})
