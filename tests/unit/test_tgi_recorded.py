"""What a real TGI sent, byte by byte, read by the client: see `tests/data/tgi/README.md`."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage

from langchain_sgd.tgi import (
    ChatTGI,
    NotTGIError,
    Patience,
    TGIBadRequestError,
    TGIClient,
    TGIError,
    TGIGenerationError,
)
from langchain_sgd.tgi.endings import ChatEnding, GenerateEnding
from tests.tgi_memory import URL, answering, response

FILE = Path(__file__).parents[1] / "data" / "tgi" / "recorded.jsonl.xz"
RECORDED: dict[str, dict[str, Any]] = {}
for line in lzma.decompress(FILE.read_bytes()).decode().splitlines():
    entry = json.loads(line)
    RECORDED[entry["name"]] = entry

CHAT, GENERATE, GENERATE_STREAM = "/v1/chat/completions", "/generate", "/generate_stream"


def content_type(entry: dict[str, Any]) -> str:
    return str((entry["answer"].get("headers") or {}).get("content-type"))


def names(*paths: str, stream: bool) -> list[str]:
    """The records of these routes whose answer is a stream, or is none."""
    return [
        name
        for name, entry in RECORDED.items()
        if entry["request"].get("path") in paths
        and entry["request"].get("method") == "POST"
        and (content_type(entry) == "text/event-stream") is stream
    ]


STREAMS = [n for n, entry in RECORDED.items() if content_type(entry) == "text/event-stream"]
CUTS = pytest.mark.parametrize("cut", [0, 1])


def recorded(name: str, cut: int = 0) -> list[bytes]:
    answer = RECORDED[name]["answer"]
    headers = {
        name: value
        for name, value in (answer.get("headers") or {}).items()
        if name not in {"content-length", "transfer-encoding", "connection"}
    }
    return response(answer["status"], answer.get("body") or "", headers, cut=cut)


def events(name: str) -> Iterator[dict[str, Any]]:
    for line in RECORDED[name]["answer"]["body"].split("\n"):
        if line.startswith("data:") and line != "data: [DONE]":
            yield json.loads(line[5:])


def told_error(name: str) -> str | None:
    """The message of a stream's error, if it has one."""
    for event in events(name):
        if "error" in event:
            error = event["error"]
            return str(error["message"] if isinstance(error, dict) else error)
    return None


def error_of(status: int, message: str) -> type[TGIError]:
    if "generation" in message and status in {200, 424}:
        return TGIGenerationError
    return NotTGIError if status in {404, 405} else TGIBadRequestError


def model(name: str, mode: str) -> Any:
    made = ChatTGI(base_url=URL, mode=mode, max_retries=0, max_grammar_states=None)
    body = RECORDED[name]["request"].get("json")
    asked = body if isinstance(body, dict) else {}
    if mode == "chat" and asked.get("tools") and content_type(RECORDED[name]) != "text/plain":
        offered = [tool for tool in asked["tools"] if isinstance(tool.get("function"), dict)]
        return made.bind(tools=offered)
    return made.bind(logprobs=True) if asked.get("logprobs") else made


async def summed(chat: Any) -> AIMessageChunk:
    total = AIMessageChunk(content="")
    async for chunk in chat.astream("Hi"):
        total = total + chunk
    return total


def arguments(name: str) -> str:
    """The arguments of the first call of a chat stream, joined."""
    return "".join(
        call["function"]["arguments"]
        for event in events(name)
        for choice in event.get("choices", [])
        for call in choice["delta"].get("tool_calls", [])
    )


def test_there_is_something_to_replay() -> None:
    assert len(RECORDED) == 398
    assert len(STREAMS) == 48
    tools = [name for name in names(CHAT, stream=True) if arguments(name)]
    assert len(tools) == 7


@CUTS
@pytest.mark.parametrize("name", names(CHAT, stream=True))
async def test_a_chat_stream(monkeypatch: pytest.MonkeyPatch, name: str, cut: int) -> None:
    with answering(monkeypatch, recorded(name, cut)) as asked:
        chat = model(name, "chat")
        if message := told_error(name):
            with pytest.raises(error_of(200, message)) as caught:
                await summed(chat)
            assert type(caught.value) is error_of(200, message)
            assert message in str(caught.value)
            return
        total = await summed(chat)
    assert asked[0].path == CHAT
    choices = [choice for event in events(name) for choice in event["choices"]]
    assert total.content == "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    calls = arguments(name)
    assert total.response_metadata["tgi_finish_reason"] == (reasons or ["stop"])[-1]
    assert total.response_metadata["model_name"] == "model"
    if calls:
        (call,) = total.tool_calls
        assert call["args"] == json.loads(calls)
        assert call["name"] in {"get_weather", "add"}
        assert call["id"] not in {None, "", "0"}
    else:
        assert total.tool_calls == []
    assert total.invalid_tool_calls == []
    counted = [event["usage"] for event in events(name) if event.get("usage")]
    if counted:
        assert total.usage_metadata is not None
        assert total.usage_metadata["output_tokens"] == counted[-1]["completion_tokens"]
        assert total.usage_metadata["input_tokens"] == counted[-1]["prompt_tokens"]
    told = [
        each for choice in choices if choice["logprobs"] for each in choice["logprobs"]["content"]
    ]
    assert total.response_metadata.get("logprobs", {"content": []})["content"] == told


@CUTS
@pytest.mark.parametrize("name", names(GENERATE_STREAM, stream=True))
async def test_a_generate_stream(monkeypatch: pytest.MonkeyPatch, name: str, cut: int) -> None:
    with answering(monkeypatch, recorded(name, cut)):
        chat = model(name, "generate")
        if message := told_error(name):
            with pytest.raises(error_of(200, message)) as caught:
                await summed(chat)
            assert type(caught.value) is error_of(200, message)
            return
        total = await summed(chat)
    tokens = [event["token"] for event in events(name)]
    assert total.content == "".join(token["text"] for token in tokens if not token["special"])
    *_, last = events(name)
    details = last["details"] or {"finish_reason": "unknown", "generated_tokens": None}
    assert total.response_metadata["tgi_finish_reason"] == details["finish_reason"]
    assert (total.usage_metadata and total.usage_metadata["output_tokens"]) == details[
        "generated_tokens"
    ]
    if last["generated_text"] == total.content:
        assert "warnings" not in total.response_metadata
    else:
        assert total.response_metadata["generated_text"] == last["generated_text"]


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_of_any_route(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    request = RECORDED[name]["request"]
    body = request.get("json") or {}
    # Those with `choices` are chats and completions; the others end with the text.
    like_chat = any("choices" in event for event in events(name))
    ending = ChatEnding(tools="tools" in body) if like_chat else GenerateEnding()
    client = TGIClient(URL, patience=Patience(max_retries=0))
    read: list[dict[str, Any]] = []
    with answering(monkeypatch, recorded(name, 11)) as asked:
        stream = client._transport.events(request.get("path") or GENERATE_STREAM, body, ending)
        if message := told_error(name):
            with pytest.raises(error_of(200, message)):
                await anext(stream)
            return
        async for batch in stream:
            read.extend(batch)
    assert read == list(events(name))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("chat", name) for name in names(CHAT, stream=False)),
        *(("generate", name) for name in names(GENERATE, stream=False)),
    ],
)
async def test_a_whole_answer(monkeypatch: pytest.MonkeyPatch, mode: str, name: str) -> None:
    answer = RECORDED[name]["answer"]
    with answering(monkeypatch, recorded(name)):
        chat = model(name, mode)
        if answer["status"] != 200:
            with pytest.raises(TGIError) as caught:
                await chat.ainvoke("Hi")
            assert type(caught.value) is error_of(answer["status"], answer["body"])
            assert caught.value.status == answer["status"]
            return
        message: BaseMessage = await chat.ainvoke("Hi")
    body = json.loads(answer["body"])
    if mode == "generate":
        assert message.content == body["generated_text"]
        return
    (choice,) = body["choices"]
    assert message.content == (choice["message"].get("content") or "")
    assert message.response_metadata["tgi_finish_reason"] == choice["finish_reason"]
    calls = choice["message"].get("tool_calls") or []
    assert [call["args"] for call in getattr(message, "tool_calls", [])] == [
        json.loads(call["function"]["arguments"]) for call in calls
    ]
    assert message.response_metadata.get("logprobs") == (choice["logprobs"] or None)


@pytest.mark.parametrize("name", names("/tokenize", "/chat_tokenize", stream=False))
async def test_tokens(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    entry = RECORDED[name]
    client = TGIClient(URL)
    ask: Any = client.tokenize if entry["request"]["path"] == "/tokenize" else client.chat_tokenize
    with answering(monkeypatch, recorded(name)):
        if entry["answer"]["status"] != 200:
            with pytest.raises(TGIBadRequestError):
                await ask(entry["request"].get("json") or {})
            return
        tokens = await ask({})
    body = json.loads(entry["answer"]["body"])
    assert tokens == (body if isinstance(body, list) else body["tokenize_response"])
