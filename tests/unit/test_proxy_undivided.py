"""Requests that SGD has no part in are answered as carefully as the others, whatever the provider's ways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from langchain_sgd.message_dicts import messages_of
from langchain_sgd.proxy import make_app
from langchain_sgd.retry import Backoff
from langchain_sgd.runnable import SGDRunnable
from tests.support.asgi import Asked
from tests.support.models import Say, settle
from tests.unit.test_proxy_chat import (
    TOOL,
    RefusedError,
    a_question,
    a_stage,
    a_tooled_app,
    an_app,
    complete,
    text_of,
)
from tests.unit.test_proxy_responses import asked as a_response
from tests.unit.test_proxy_responses import respond

FORM: dict[str, Any] = {"response_format": {"type": "json_object"}}


class Pieces(BaseChatModel):
    """Streams these chunks, and notes what it was bound to."""

    pieces: Sequence[AIMessageChunk]
    bound: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "pieces"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        self.bound.update(kwargs)
        return self.bind(tools=tools)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        del messages, stop, run_manager
        self.bound.update(kwargs)
        for piece in self.pieces:
            yield ChatGenerationChunk(message=piece)


class Whole(Pieces):
    """Gives whole messages only."""

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        calls = [{"name": "look_up", "args": {"a": n}, "id": f"c{n}"} for n in (1, 2)]
        message = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])

    _astream = BaseChatModel._astream


def piece(index: int | None, name: str | None, args: str, call_id: str | None) -> AIMessageChunk:
    chunk = {"index": index, "name": name, "args": args, "id": call_id, "type": "tool_call_chunk"}
    return AIMessageChunk(content="", tool_call_chunks=[chunk])


def said(text: str = "", **metadata: Any) -> AIMessageChunk:
    return AIMessageChunk(content=text, response_metadata=metadata)


def app_of(*pieces: AIMessageChunk) -> Any:
    return make_app(SGDRunnable(large=Pieces(pieces=pieces)))


def calls_of(answer: Asked) -> list[tuple[str, str, str]]:
    """Id, name and arguments of a stream's calls, put together as OpenAI's clients do."""
    found: dict[int, dict[str, str]] = defaultdict(lambda: defaultdict(str))
    for event in answer.events[:-1]:
        for choice in event["choices"]:
            for call in choice["delta"].get("tool_calls", []):
                found[call["index"]]["id"] += call.get("id", "")
                for name, value in call["function"].items():
                    found[call["index"]][name] += value
    assert sorted(found) == list(range(len(found)))
    return [(each["id"], each["name"], each["arguments"]) for _, each in sorted(found.items())]


TWO = [("c1", "look_up", '{"a": 1}'), ("c2", "look_up", '{"a": 2}')]
CALLS = {
    "whole": Whole(pieces=()),
    "numbered": Pieces(
        pieces=[
            piece(0, "look_up", "", "c1"),
            piece(0, None, '{"a": 1}', None),
            piece(1, "look_up", '{"a"', "c2"),
            piece(1, None, ": 2}", None),
        ]
    ),
    "numbered by blocks, in turns": Pieces(
        pieces=[
            said("Let me see."),
            piece(1, "look_up", "", "c1"),
            piece(2, "look_up", "", "c2"),
            piece(1, None, '{"a": 1}', None),
            piece(2, None, '{"a": 2}', None),
        ]
    ),
    "all of number 0": Pieces(
        pieces=[piece(0, "look_up", '{"a": 1}', "c1"), piece(0, "look_up", '{"a": 2}', "c2")]
    ),
    "without numbers": Pieces(
        pieces=[
            piece(None, "look_up", '{"a"', "c1"),
            piece(None, None, ": 1}", None),
            piece(None, "look_up", '{"a": 2}', "c2"),
        ]
    ),
    "name and id in every piece": Pieces(
        pieces=[
            piece(0, "look_up", '{"a"', "c1"),
            piece(0, "look_up", ": 1}", "c1"),
            piece(1, "look_up", '{"a": 2}', "c2"),
        ]
    ),
    "another id in every piece": Pieces(
        pieces=[
            piece(0, "look_up", '{"a"', "c1"),
            piece(0, None, ": 1}", "x"),
            piece(1, "look_up", '{"a": 2}', "c2"),
        ]
    ),
}


NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_without_arguments_has_an_empty_object(stream: bool) -> None:  # noqa: FBT001
    app = app_of(piece(0, "now", "", "c1"))
    answer = await complete(app, a_question(tools=[NOW], stream=stream))
    if stream:
        assert calls_of(answer) == [("c1", "now", "{}")]
    else:
        [call] = answer.json["choices"][0]["message"]["tool_calls"]
        assert call["function"] == {"name": "now", "arguments": "{}"}


@pytest.mark.parametrize("left_out", [(), ("content",), ("content", "refusal")])
async def test_a_clients_client_sends_a_call_back_as_it_came(left_out: tuple[str, ...]) -> None:
    app = app_of(piece(0, "now", "", "c1"))
    asked = a_question(tools=[NOW])
    message = (await complete(app, asked)).json["choices"][0]["message"]
    back = {name: value for name, value in message.items() if name not in left_out}
    result = {"role": "tool", "tool_call_id": "c1", "content": "12:00"}
    answer = await complete(app, {**asked, "messages": [*asked["messages"], back, result]})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        (None, {}),
        ("null", {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": "ha', None),
        ("[1]", None),
    ],
)
def test_calls_are_read_however_they_are_written(arguments: Any, args: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": arguments}}
    [message] = messages_of([{"role": "assistant", "tool_calls": [call]}])
    assert isinstance(message, AIMessage)
    if args is None:
        [bad] = message.invalid_tool_calls
        assert (bad["name"], bad["id"], bad["args"]) == ("now", "c1", arguments)
        assert message.tool_calls == []
    else:
        assert [(each["name"], each["args"]) for each in message.tool_calls] == [("now", args)]
        assert message.invalid_tool_calls == []


async def test_a_history_with_a_cut_call_is_answered_undivided() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"a'}}
    asked = a_question()
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "Well?"}]
    asked["messages"] = [*asked["messages"], *messages]
    answer = await complete(app_of(said("Noon.")), asked)
    assert answer.headers["x-sgd-undivided"] == "tool messages"


@pytest.mark.parametrize("ways", CALLS)
async def test_calls_are_told_apart_however_their_provider_numbers_them(ways: str) -> None:
    app = make_app(SGDRunnable(large=CALLS[ways]))
    streamed = await complete(app, a_question(tools=[TOOL], stream=True))
    assert calls_of(streamed) == TWO
    [choice] = (await complete(app, a_question(tools=[TOOL]))).json["choices"]
    assert [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in choice["message"]["tool_calls"]
    ] == TWO


async def test_a_call_without_an_id_gets_one() -> None:
    app = app_of(piece(None, "look_up", "{}", None), piece(None, "look_up", "{}", None))
    streamed = await complete(app, a_question(tools=[TOOL], stream=True))
    assert [call_id for call_id, _, _ in calls_of(streamed)] == ["call_0", "call_1"]


# -- how it ended, and what it took


@pytest.mark.parametrize(
    ("metadata", "finish", "why"),
    [
        ({"finish_reason": "length"}, "length", "max_output_tokens"),
        ({"stop_reason": "max_tokens"}, "length", "max_output_tokens"),
        ({"finish_reason": "MAX_TOKENS"}, "length", "max_output_tokens"),
        ({"finish_reason": "content_filter"}, "content_filter", "content_filter"),
        ({"stop_reason": "refusal"}, "content_filter", "content_filter"),
        ({"stop_reason": "end_turn"}, "stop", None),
        ({}, "stop", None),
    ],
)
@pytest.mark.parametrize("more", [{}, FORM], ids=["plain", "undivided"])
async def test_every_providers_word_for_the_ending_is_understood(
    metadata: dict[str, str], finish: str, why: str | None, more: dict[str, Any]
) -> None:
    app = app_of(said("{}"), said(**metadata))
    for stream in (False, True):
        answer = await complete(app, a_question("plain", stream=stream, **more))
        last = answer.events[-2] if stream else answer.json
        assert last["choices"][0]["finish_reason"] == finish
    assert text_of(answer.events) == "{}"
    told = (await respond(app, a_response("plain"))).json
    assert (told["incomplete_details"] or {}).get("reason") == why
    assert told["status"] == ("incomplete" if why else "completed")


async def test_a_call_that_was_cut_is_not_told_as_a_call() -> None:
    app = app_of(piece(0, "look_up", '{"a": "half a te', "c1"), said(finish_reason="length"))
    [choice] = (await complete(app, a_question(tools=[TOOL]))).json["choices"]
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("more", [{}, FORM], ids=["plain", "undivided"])
async def test_a_running_sum_of_tokens_is_not_added_up(more: dict[str, Any]) -> None:
    counted = [
        AIMessageChunk(
            content="x",
            usage_metadata={"input_tokens": 10, "output_tokens": n, "total_tokens": 10 + n},
        )
        for n in (1, 2, 3)
    ]
    usage = (await complete(app_of(*counted), a_question("plain", **more))).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 3)


async def test_half_a_character_is_joined_or_replaced() -> None:
    app = app_of(said("a\ud83d"), said("\ude00b\ud83d"))
    for stream in (False, True):
        answer = await complete(app, a_question(stream=stream, **FORM))
        text = text_of(answer.events) if stream else answer.json["choices"][0]["message"]["content"]
        assert text == "a\U0001f600b\ufffd"


# -- asked again


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SGDRunnable, "backoff", Backoff(first_s=0.0))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_that_passes_is_asked_again(status: int, stream: bool) -> None:  # noqa: FBT001
    stage = a_stage(plain=[Say("", error=RefusedError(status)), Say("{}")])
    answer = await complete(an_app(stage), a_question(stream=stream, **FORM))
    assert answer.status == 200
    assert len(stage.calls) == 2
    if stream:
        assert text_of(answer.events) == "{}"


@pytest.mark.parametrize(
    ("plain", "sgd", "status", "calls"),
    [
        (Say("", error=RefusedError(400)), {}, 400, 1),
        (Say("", error=RefusedError(503)), {"retries": 0}, 502, 1),
        (Say("", error=RefusedError(503)), {"retries": 2}, 502, 3),
        (Say("", error=RuntimeError("gone")), {}, 502, 1),
        (Say("", hang=True), {"deadline_s": 0.01}, 504, 1),
        (Say("", hang=True), {"stall_timeout_s": 0.01, "retries": 1}, 502, 2),
    ],
)
async def test_other_failures_are_told(
    plain: Say, sgd: dict[str, Any], status: int, calls: int
) -> None:
    stage = a_stage(plain=plain)
    answer = await complete(an_app(stage, sgd=sgd), a_question(**FORM))
    assert (answer.status, len(stage.calls)) == (status, calls)
    assert stage.in_flight == 0


async def test_what_a_client_has_seen_is_not_begun_again() -> None:
    stage = a_stage(plain=Say(['{"a'], error=RefusedError(503)))
    answer = await complete(an_app(stage), a_question(stream=True, **FORM))
    assert len(stage.calls) == 1
    assert "503" in answer.events[-2]["error"]["message"]


async def test_a_client_that_leaves_ends_the_call() -> None:
    stage = a_stage(plain=Say(["{"], hang=True))
    async with Asked(
        an_app(stage), "/v1/chat/completions", a_question(stream=True, **FORM)
    ) as asked:
        await settle(lambda: stage.in_flight == 1)
        asked.leave()
        await asked.done()
    assert stage.in_flight == 0


# -- what is bound


async def test_a_form_that_asks_for_text_and_calls_at_once_ask_for_nothing() -> None:
    model = Pieces(pieces=[said("Hi.")])
    more: dict[str, Any] = {
        "response_format": {"type": "text"},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
    }
    app = make_app(SGDRunnable(large=model))
    assert (await complete(app, a_question(tools=[TOOL], **more))).status == 200
    assert model.bound == {"tools": [TOOL], "tool_choice": "auto"}
    model.bound.clear()
    asked = a_question(tools=[TOOL], parallel_tool_calls=False, **FORM)
    assert (await complete(app, asked)).status == 200
    assert model.bound == {"tools": [TOOL], "parallel_tool_calls": False, **FORM}


async def test_tools_that_a_model_does_not_take_end_the_run() -> None:
    stage = a_stage()
    app = an_app(stage)
    assert (await complete(app, a_question(tools=[TOOL]))).status == 400
    tooled = a_tooled_app(stage)
    assert (await complete(tooled, a_question(tools=[TOOL]))).status == 200
