"""Chat completions as a client sees them, over scripted models and without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.proxy import Limits, make_app
from langchain_sgd.proxy.streaming import EventStream, Feed
from langchain_sgd.proxy.wire import usage_json
from langchain_sgd.report import Usage
from langchain_sgd.runnable import SGDRunnable
from tests.support.asgi import Asked, ask
from tests.support.models import Say, ScriptedChat, Stage, plan_lines, planning, settle
from tests.support.skeletons import skeleton

PLAN = skeleton("1", "2", "3! <- 1,2")
TEXT = "## Heading 1\n\nOne.\n\n## Heading 2\n\nTwo.\n\n## Heading 3\n\nThree."


def a_stage(**lines: Any) -> Stage:
    said = {
        "planner": planning(PLAN, usage=(100, 30)),
        "1": Say(["On", "e."], usage=(10, 2)),
        "2": Say(["Tw", "o."], usage=(10, 2)),
        "3": Say(["Three."], usage=(30, 3)),
        "plain": Say(["In one", " piece."], usage=(7, 4)),
    }
    return Stage({**said, **lines})


def an_app(stage: Stage, **options: Any) -> Any:
    runnable = SGDRunnable(**{**stage.pair(), **options.pop("sgd", {})})
    return make_app(runnable, **options)


def a_question(model: str = "sgd", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Which way?"}], **more}


async def complete(app: Any, body: dict[str, Any] | None = None, **how: Any) -> Asked:
    return await ask(app, "/v1/chat/completions", body or a_question(), **how)


def text_of(events: list[Any]) -> str:
    choices = [choice for event in events[:-1] for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# -- whole answers


async def test_a_whole_answer_has_openais_form_and_the_tokens_of_all_calls() -> None:
    answer = await complete(an_app(a_stage()))
    assert answer.status == 200
    body = answer.json
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "refusal": None, "content": TEXT}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": 150,
        "completion_tokens": 37,
        "total_tokens": 187,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert body["sgd"]["status"] == "complete"
    assert body["sgd"]["nodes"] == 3
    assert answer.headers["x-sgd-run"] == body["sgd"]["run"]


async def test_tokens_that_no_server_counted_are_not_made_up() -> None:
    stage = Stage({"planner": planning(PLAN)})
    assert (await complete(an_app(stage))).json["usage"] is None


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("sgd", {"small/1", "small/2", "large/3", "large/planner"}),
        ("sgd-large", {"large/1", "large/2", "large/3", "large/planner"}),
        ("plain", {"large/plain"}),
    ],
)
async def test_each_model_name_asks_its_own_models(model: str, parts: set[str]) -> None:
    stage = a_stage()
    assert (await complete(an_app(stage), a_question(model))).json["model"] == model
    assert {f"{call.model}/{call.part}" for call in stage.calls} == parts


async def test_models_are_listed_and_an_unknown_one_is_named() -> None:
    app = an_app(a_stage())
    listed = (await ask(app, "/v1/models")).json
    assert [each["id"] for each in listed["data"]] == ["sgd", "sgd-large", "plain"]
    assert (await ask(app, "/v1/models/plain")).json["object"] == "model"
    missing = await complete(app, a_question("gpt-9"))
    assert missing.status == 404
    assert missing.json["error"]["code"] == "model_not_found"
    assert "'gpt-9'" in missing.json["error"]["message"]


async def test_system_prompt_history_and_pictures_reach_every_call() -> None:
    stage = a_stage()
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
    ]
    await complete(an_app(stage), {"model": "sgd", "messages": messages})
    assert len(stage.calls) == 4
    for call in stage.calls:
        assert call.messages[0].text == "Be brief."
        assert {"Hello", "Hi."} <= {message.text for message in call.messages}
        assert any(isinstance(m.content, list) and picture in m.content for m in call.messages)


# -- options


async def test_decoding_options_reach_the_models_that_write() -> None:
    stage = a_stage()
    asked = a_question(temperature=0.5, top_p=0.9, seed=7, max_completion_tokens=99, stop="END")
    assert (await complete(an_app(stage), asked)).status == 200
    for part in ("1", "2", "3"):
        [call] = stage.of(part)
        assert call.options["temperature"] == 0.5
        assert call.options["top_p"] == 0.9
        assert call.options["max_tokens"] <= 99
        assert isinstance(call.options["seed"], int)


async def test_options_are_handed_over_where_sgd_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}
    events = SGDRunnable.aevents

    def aevents(self: SGDRunnable, input: Any, config: Any = None, **options: Any) -> Any:
        seen.update(options)
        return events(self, input, config)

    monkeypatch.setattr(SGDRunnable, "aevents", aevents)
    given = {"max_tokens": 5, "stop": ["a", "b"], "frequency_penalty": 0}
    for model in ("sgd", "sgd-large"):
        await complete(an_app(a_stage()), a_question(model, **given))
        assert seen == {"max_tokens": 5}
        seen.clear()
    await complete(an_app(a_stage()), a_question("plain", **given))
    assert seen == {"max_tokens": 5, "stop": ["a", "b"]}


# -- stop texts


@pytest.mark.parametrize(
    ("model", "stop", "shown"),
    [
        ("sgd", "e.", "## Heading 1\n\nOn"),
        ("sgd-large", ["nobody says this", "e."], "## Heading 1\n\nOn"),
        ("plain", ["ec", "e."], "In one pi"),
    ],
)
async def test_the_whole_answer_ends_at_a_stop_text_also_where_the_server_does_not_know_it(
    model: str, stop: Any, shown: str
) -> None:
    app = an_app(a_stage(**{"1": Say(["On", "e", ". More."])}))
    asked = a_question(model, stop=stop)
    body = (await complete(app, asked)).json
    [choice] = body["choices"]
    assert choice["message"]["content"] == shown
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] >= 1
    assert body["usage"]["prompt_tokens"] >= 2
    assert body["sgd"]["status"] == "stopped"
    streamed = await complete(app, {**asked, "stream": True})
    assert text_of(streamed.events) == shown
    assert streamed.events[-2]["choices"][0]["finish_reason"] == "stop"
    for run in (await ask(app, "/api/runs")).json["runs"]:
        assert run["status"] == "stopped"
        assert shown[-2:] in (await ask(app, f"/api/runs/{run['id']}/page")).body.decode()


async def test_at_a_stop_text_the_calls_that_still_run_are_closed() -> None:
    stage = a_stage(**{"1": Say(["One. STO", "P and more."]), "2": Say(["Two."], hang=True)})
    body = (await complete(an_app(stage), a_question(stop="STOP"))).json
    assert body["choices"][0]["message"]["content"] == "## Heading 1\n\nOne. "
    [hanging] = stage.of("2")
    assert hanging.outcome in {"closed", "cancelled"}
    assert not stage.in_flight
    assert not stage.of("3"), "it would have needed what the second says"


async def test_what_only_begins_as_a_stop_text_is_told_in_the_end() -> None:
    app = an_app(a_stage())
    asked = a_question(stop=["Three. And", "Heading 9"])
    assert (await complete(app, asked)).json["choices"][0]["message"]["content"] == TEXT
    streamed = await complete(app, {**asked, "stream": True})
    assert text_of(streamed.events) == TEXT
    assert streamed.events[-2]["sgd"]["status"] == "complete"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n": 2}, "n must be 1"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": ["x"]}]},
            "cannot be read",
        ),
        ({"logprobs": True}, "logprobs is not supported"),
        ({"functions": [{"name": "f"}]}, "functions is not supported"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "A message cannot be read"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"sgd_progress": "loud"}, "sgd_progress"),
    ],
)
async def test_what_cannot_be_honored_is_refused_by_name(given: dict[str, Any], told: str) -> None:
    stage = a_stage()
    answer = await complete(an_app(stage), a_question(**given))
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert told in answer.json["error"]["message"]
    assert not stage.calls


DEEP = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", DEEP, b'{"temperature": NaN}'])
async def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    answer = await ask(an_app(a_stage()), "/v1/chat/completions", body)
    assert answer.status == 400


async def test_what_nobody_knows_is_named_and_what_is_harmless_is_not() -> None:
    asked = a_question(user="me", metadata={}, chat_id="7", logit_bias={})
    assert (await complete(an_app(a_stage()), asked)).json["sgd"]["ignored"] == ["chat_id"]


async def test_a_token_limit_is_told_as_length() -> None:
    stage = a_stage(plain=Say("cut sh", finish="length", usage=(7, 4)))
    [choice] = (await complete(an_app(stage), a_question("plain"))).json["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == "cut sh"
    streamed = await complete(an_app(stage), a_question("plain", stream=True))
    assert text_of(streamed.events) == "cut sh"
    assert streamed.events[-2]["choices"][0]["finish_reason"] == "length"
    [choice] = (await complete(an_app(a_stage(**{"1": Say("cut sh", finish="length")})))).json[
        "choices"
    ]
    assert choice["finish_reason"] == "length"
    assert "cut sh\n\n*[" in choice["message"]["content"]


@pytest.mark.parametrize(
    ("most", "shown"),
    [
        # Nothing is counted yet, and two pieces do not tell how long a token is.
        (3, "## Heading 1\n\n"),
        # From the end of the first part on it is known, and there is no room for another.
        (8, "## Heading 1\n\nOne."),
        # Two tokens make four letters, as the server has counted by then.
        (14, "## Heading 1\n\nOne.\n\n## Headi"),
        (99, TEXT),
    ],
)
async def test_max_tokens_bounds_the_whole_answer(most: int, shown: str) -> None:
    stage = a_stage(**{"2": Say(["Tw", "o."], hang=most < 99, usage=(10, 2))})
    body = (await complete(an_app(stage), a_question(max_tokens=most))).json
    [choice] = body["choices"]
    assert choice["message"]["content"] == shown
    assert choice["finish_reason"] == ("length" if most < 99 else "stop")
    assert not stage.in_flight
    usage = body["usage"]
    assert usage["prompt_tokens"] >= (3 if most < 99 else 150)
    assert 1 <= usage["completion_tokens"] <= 37
    assert body["sgd"]["status"] == ("stopped" if most < 99 else "complete")
    streamed = await complete(an_app(stage), a_question(max_tokens=most, stream=True))
    assert text_of(streamed.events) == shown
    assert streamed.events[-2]["choices"][0]["finish_reason"] == choice["finish_reason"]


async def test_an_undivided_answer_is_bounded_by_its_server() -> None:
    stage = a_stage(planner=Say("PLAIN"), plain=Say(["In", " one", " piece."], usage=(7, 3)))
    for model in ("sgd", "plain"):
        body = (await complete(an_app(stage), a_question(model, max_tokens=2))).json
        assert body["choices"][0]["message"]["content"] == "In one piece."


# -- streams


async def test_a_stream_gives_role_text_in_order_finish_usage_and_done() -> None:
    asked = a_question(stream=True, stream_options={"include_usage": True})
    answer = await complete(an_app(a_stage()), asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.events
    assert events[-1] == "[DONE]"
    assert text_of(events) == TEXT
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [e["choices"][0]["delta"].get("role") for e in events[1:-2]] == [None] * len(
        events[1:-2]
    )
    assert events[-3]["choices"][0]["finish_reason"] == "stop"
    assert events[-3]["sgd"]["status"] == "complete"
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["total_tokens"] == 187
    assert len({event["id"] for event in events[:-1]}) == 1
    assert all(event["usage"] is None for event in events[:-2])


async def test_a_stream_without_usage_has_no_such_piece() -> None:
    answer = await complete(an_app(a_stage()), a_question(stream=True))
    assert all("usage" not in event for event in answer.events[:-1])
    assert answer.events[-2]["choices"][0]["finish_reason"] == "stop"


async def test_the_first_part_streams_while_the_others_are_being_written() -> None:
    stage = a_stage()
    stage.gated = True
    stage.release("planner", "1")
    async with Asked(an_app(stage), "/v1/chat/completions", a_question(stream=True)) as asked:
        await asked.seen("e.")
        assert text_of([*asked.events, ""]) == "## Heading 1\n\nOne."
        assert stage.in_flight == 1
        stage.release("2", "3")
        await asked.done()
    assert text_of(asked.events) == TEXT


async def test_progress_is_told_only_when_it_is_asked_for() -> None:
    def thoughts(answer: Asked) -> str:
        return "".join(
            choice["delta"].get("reasoning_content", "")
            for event in answer.events[:-1]
            for choice in event["choices"]
        )

    quiet = await complete(an_app(a_stage()), a_question(stream=True))
    assert thoughts(quiet) == ""
    told = await complete(an_app(a_stage()), a_question(stream=True, sgd_progress="reasoning"))
    assert thoughts(told).startswith("1. Heading 1\n")
    assert "3. Heading 3 (after 1, 2)\n" in thoughts(told)
    assert "Part 3: complete" in thoughts(told)
    assert text_of(told.events) == TEXT
    default = await complete(an_app(a_stage(), progress="reasoning"), a_question(stream=True))
    assert thoughts(default) == thoughts(told)


async def test_progress_as_thinking_stands_before_the_text() -> None:
    answer = await complete(an_app(a_stage()), a_question(stream=True, sgd_progress="think"))
    thinking, _, text = text_of(answer.events).partition("</think>\n\n")
    assert thinking.startswith("<think>\n1. Heading 1\n")
    assert text == TEXT
    whole = await complete(an_app(a_stage()), a_question(sgd_progress="think"))
    assert whole.json["choices"][0]["message"]["content"].endswith(f"</think>\n\n{TEXT}")
    whole = await complete(an_app(a_stage()), a_question(sgd_progress="reasoning"))
    message = whole.json["choices"][0]["message"]
    assert message["content"] == TEXT
    assert "Heading 3" in message["reasoning_content"]


async def test_the_plan_stands_before_an_opening_that_was_sooner() -> None:
    stage = a_stage(plain=Say(["Both ways are long. ", "The first"], hang=True))
    stage.gated = True
    stage.release("plain")
    app = an_app(stage, sgd={"opening": True})
    body = a_question(stream=True, sgd_progress="think")
    async with Asked(app, "/v1/chat/completions", body) as asked:
        await settle()
        stage.release("planner", "1", "2", "3")
        await asked.done()
    thinking, _, text = text_of(asked.events).partition("</think>\n\n")
    assert thinking.startswith("<think>\n1. Heading 1\n")
    assert "3. Heading 3" in thinking
    assert text == f"Both ways are long.\n\n{TEXT}"


# -- errors


class RefusedError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"the server said {status_code}")
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RefusedError(429), 429, "rate_limit_error"),
        (RefusedError(400), 400, "invalid_request_error"),
        (RefusedError(422), 400, "invalid_request_error"),
        (RefusedError(401), 502, "upstream_error"),
        (RefusedError(503), 502, "upstream_error"),
        (ValueError("the GPU is on fire"), 502, "upstream_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_early_error_has_its_own_status(
    error: Exception,
    status: int,
    kind: str,
    stream: bool,  # noqa: FBT001
) -> None:
    stage = a_stage(plain=Say("", error=error))
    app = an_app(stage, sgd={"retries": 0})
    answer = await complete(app, a_question("plain", stream=stream))
    assert answer.status == status
    assert answer.json["error"]["type"] == kind
    assert str(error) in answer.json["error"]["message"]
    # OpenAI's clients ask no second time for what the run has tried itself.
    assert answer.headers.get("x-should-retry") == ("false" if status >= 500 else None)


async def test_an_error_in_mid_stream_is_a_piece_of_it() -> None:
    stage = a_stage(plain=Say(["Some text"], error=ValueError("gone")))
    app = an_app(stage, sgd={"retries": 0})
    answer = await complete(app, a_question("plain", stream=True))
    assert answer.status == 200
    *before, error, done = answer.events
    assert text_of([*before, ""]).startswith("Some text")
    assert "gone" in error["error"]["message"]
    assert done == "[DONE]"


async def test_text_that_waits_for_a_plan_is_told_where_the_run_breaks() -> None:
    plan = Say(plan_lines(PLAN)[:2], hang=True)
    opening = Say(["Both ways are long. ", "The first"], hang=True)
    app = an_app(
        a_stage(planner=plan, plain=opening), sgd={"opening": True}, limits=Limits(answer_s=0.1)
    )
    answer = await complete(app, a_question(stream=True, sgd_progress="think"))
    *before, error, done = answer.events
    thinking, _, text = text_of([*before, ""]).partition("</think>\n\n")
    assert thinking.startswith("<think>\n1. Heading 1\n")
    assert text.startswith("Both ways are long.")
    assert error["error"]["type"] == "timeout_error"
    assert done == "[DONE]"


async def test_a_missing_part_is_no_error_but_is_said() -> None:
    stage = a_stage(**{"2": Say("", error=ValueError("gone"))})
    answer = await complete(an_app(stage, sgd={"retries": 0}))
    assert answer.status == 200
    assert answer.json["sgd"]["status"] == "partial"
    assert any("node 2" in warning for warning in answer.json["sgd"]["warnings"])


async def test_no_text_is_shown_before_there_is_an_answer() -> None:
    failing = {part: Say("", error=ValueError("gone")) for part in ("1", "2", "3")}
    app = an_app(a_stage(**failing), sgd={"retries": 0, "on_node_error": "raise"})
    answer = await complete(app, a_question(stream=True))
    assert answer.status == 502


async def test_an_answer_that_takes_too_long_is_a_timeout_and_its_calls_end() -> None:
    stage = a_stage(plain=Say("", hang=True))
    app = an_app(stage, limits=Limits(answer_s=0.01))
    answer = await complete(app, a_question("plain"))
    assert answer.status == 504
    assert answer.json["error"]["type"] == "timeout_error"
    assert stage.in_flight == 0


# -- clients that leave


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_every_model_call(stream: bool) -> None:  # noqa: FBT001
    stage = a_stage(**{part: Say(["a"], hang=True) for part in ("1", "2")})
    app = an_app(stage)
    async with Asked(app, "/v1/chat/completions", a_question(stream=stream)) as asked:
        await settle(lambda: stage.in_flight == 2)
        asked.leave()
        await asked.done()
    assert stage.in_flight == 0
    assert {call.outcome for call in stage.calls if call.part != "planner"} <= {
        "closed",
        "cancelled",
    }
    [run] = (await ask(app, "/api/runs")).json["runs"]
    assert run["status"] == "cancelled"


async def test_too_many_at_once_are_told_to_come_back() -> None:
    stage = a_stage(plain=Say(["a"], hang=True))
    app = an_app(stage, limits=Limits(concurrent=1))
    async with Asked(app, "/v1/chat/completions", a_question("plain")) as first:
        await settle(lambda: stage.in_flight == 1)
        second = await complete(app, a_question("plain"))
        assert second.status == 429
        assert second.headers["retry-after"] == "1"
        first.leave()
        await first.done()
    stage.lines["plain"] = Say("ok")
    assert (await complete(app, a_question("plain"))).status == 200


# -- undivided: tools, formats


TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


class Tooled(ScriptedChat):
    """Calls the tool that it was given."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            yield chunk
        if "tools" in kwargs:
            name = kwargs["tools"][0]["function"]["name"]
            for call_id, named, args in (("c1", name, '{"a"'), (None, None, ": 1}")):
                piece = {"name": named, "args": args, "id": call_id, "index": 0}
                yield ChatGenerationChunk(
                    message=AIMessageChunk(content="", tool_call_chunks=[piece])
                )


def a_tooled_app(stage: Stage) -> Any:
    return make_app(
        SGDRunnable(small=stage.model("small"), large=Tooled(name="large", stage=stage))
    )


async def test_tools_go_to_the_large_model_undivided_and_that_is_said() -> None:
    stage = a_stage(plain=Say("", usage=(9, 5)))
    asked = a_question(tools=[TOOL], tool_choice="auto", temperature=0.1)
    answer = await complete(a_tooled_app(stage), asked)
    assert answer.headers["x-sgd-undivided"] == "tools"
    assert answer.json["sgd"]["undivided"] == "tools"
    [choice] = answer.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"a": 1}'}}
    ]
    assert answer.json["usage"]["total_tokens"] == 14
    [call] = stage.calls
    assert call.model == "large"
    assert call.options["tool_choice"] == "auto"
    assert call.options["temperature"] == 0.1


async def test_tool_calls_stream() -> None:
    stage = a_stage(plain=Say(["Let me see."]))
    answer = await complete(a_tooled_app(stage), a_question(tools=[TOOL], stream=True))
    assert text_of(answer.events) == "Let me see."
    pieces = [
        call
        for event in answer.events[:-1]
        for choice in event["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert pieces[0]["id"] == "c1"
    assert pieces[0]["function"]["name"] == "look_up"
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a": 1}'
    assert answer.events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_tools_result_and_a_response_format_are_undivided_too() -> None:
    stage = a_stage()
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    answer = await complete(a_tooled_app(stage), {"model": "sgd", "messages": messages})
    assert answer.json["choices"][0]["message"]["content"] == "In one piece."
    assert answer.headers["x-sgd-undivided"] == "tool messages"
    answer = await complete(an_app(stage), a_question(response_format={"type": "json_object"}))
    assert answer.headers["x-sgd-undivided"] == "response_format"
    assert stage.calls[-1].options["response_format"] == {"type": "json_object"}


async def test_a_model_without_tools_says_so() -> None:
    answer = await complete(an_app(a_stage()), a_question(tools=[TOOL]))
    assert answer.status == 400
    assert answer.json["error"]["message"] == "The large model takes no tools."


async def test_undivided_calls_wait_for_the_large_models_slots() -> None:
    stage = a_stage(plain=Say(["a"], hang=True))
    app = an_app(stage, sgd={"limits": {"large": 1}})
    asked = a_question(response_format={"type": "json_object"})
    async with Asked(app, "/v1/chat/completions", a_question("plain")) as first:
        await settle(lambda: stage.in_flight == 1)
        async with Asked(app, "/v1/chat/completions", asked) as second:
            await settle()
            assert len(stage.calls) == 1
            first.leave()
            await settle(lambda: len(stage.calls) == 2)
            second.leave()


# -- what cannot be served


def test_approvals_and_checkpoints_have_no_place_here() -> None:
    for options in ({"approve": True, "checkpointer": InMemorySaver()}, {"checkpointer": True}):
        with pytest.raises(InvalidInputError, match="leave them out"):
            an_app(a_stage(), sgd=options)


async def test_a_runnable_with_prices_limits_and_a_router_of_its_own_can_be_served() -> None:
    options = {
        "prices": {"small": (1, 2), "large": (3, 4)},
        "limits": {"small": 2, "large": 2},
        "router": lambda _: "small",
    }
    app = an_app(a_stage(), sgd=options)
    for model in ("sgd", "sgd-large", "plain"):
        assert (await complete(app, a_question(model))).status == 200


async def test_a_slow_start_is_bridged_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_sgd.proxy.replying._PATIENCE_S", 0.0)
    stage = a_stage()
    stage.gated = True
    async with Asked(
        an_app(stage), "/v1/chat/completions", a_question("plain", stream=True)
    ) as asked:
        await asked.seen(": waiting")
        assert asked.status == 200
        stage.release("plain")
        await asked.done()
    assert text_of(asked.events) == "In one piece."
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_silence_is_bridged_though_what_is_held_back_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    monkeypatch.setattr("langchain_sgd.proxy.streaming.PING_S", 0.0)
    stream, feed = EventStream(send, {}, patience_s=0.0), Feed[Any]()
    for number in range(3):
        feed.put(number)
    found = [await stream.next_of(feed) for _ in range(3)]
    assert found == [0, 1, 2]
    assert sent == [b"", *[b": waiting\n\n"] * 3]


# -- what clients lack, and what is said with nothing or with halves


async def test_nothing_said_and_the_least_are_taken() -> None:
    stage = a_stage()
    asked = a_question("plain", stream=None, top_p=0, stream_options={"include_usage": None})
    assert (await complete(an_app(stage), asked)).status == 200
    assert 0 < stage.calls[0].options["top_p"] < 0.001


@pytest.mark.parametrize("undivided", [True, False])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TypeError("chat() got an unexpected keyword argument 'top_p'"), "takes no top_p"),
        (InvalidInputError("ChatTGI has no option 'presence_penalty'"), "'presence_penalty'"),
    ],
)
async def test_an_option_that_the_client_lacks_is_the_requests_fault(
    error: Exception,
    told: str,
    undivided: bool,  # noqa: FBT001
) -> None:
    app = an_app(a_stage(plain=Say("", error=error)), sgd={"retries": 0})
    more: dict[str, Any] = {"response_format": {"type": "json_object"}} if undivided else {}
    answer = await complete(app, a_question("plain", **more))
    assert answer.status == 400
    assert told in answer.json["error"]["message"]


async def test_thoughts_are_counted() -> None:
    stage = a_stage()
    usage = (await complete(an_app(stage))).json["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert usage_json(Usage(output_tokens=900, reasoning_tokens=890)) == {
        "prompt_tokens": 0,
        "completion_tokens": 900,
        "total_tokens": 900,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 890},
    }


@pytest.mark.parametrize(
    ("text", "heard"), [("a \ud83d b", "a \ufffd b"), ("a \ud83d\ude00", "a \U0001f600")]
)
async def test_half_characters_of_a_question_are_joined_or_replaced(text: str, heard: str) -> None:
    stage = a_stage()
    asked = {**a_question("plain"), "messages": [{"role": "user", "content": text}]}
    assert (await complete(an_app(stage), asked)).status == 200
    assert stage.calls[0].messages[-1].text == heard
