"""Tokens, counted by the server, or estimated where it cannot."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import HumanMessage

from langchain_sgd.tgi import (
    ChatTGI,
    TGIError,
)
from tests.tgi_memory import (
    URL,
    Asked,
    answering,
    response,
)

TOKENS = [
    {"id": 1, "text": "", "start": 0, "stop": 0},
    {"id": 7, "text": "a", "start": 0, "stop": 1},
    {"id": 8, "text": "b", "start": 1, "stop": 2},
]


def counting(request: Asked) -> list[bytes]:
    if request.path == "/tokenize":
        assert request.json == {"inputs": "ab"}
        return response(200, json.dumps(TOKENS))
    assert request.path == "/chat_tokenize"
    assert request.json["messages"] == [{"role": "user", "content": "ab"}]
    return response(200, json.dumps({"tokenize_response": TOKENS, "templated_text": "ab"}))


def test_tokens_are_counted_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, counting) as asked:
        chat = ChatTGI(base_url=URL)
        assert chat.get_token_ids("ab") == [7, 8]
        assert chat.get_num_tokens("ab") == 2
        assert chat.get_num_tokens_from_messages([HumanMessage("ab")]) == 3
        assert chat.get_num_tokens_from_messages([HumanMessage("ab")], tools=[chat_tool]) == 3
        assert asked[-1].json["tools"][0]["function"]["name"] == "chat_tool"
        counted = ChatTGI(base_url=URL, custom_get_token_ids=lambda text: list(range(len(text))))
        assert counted.get_num_tokens("abcd") == 4


def chat_tool(a: int) -> int:
    """A tool."""
    return a


def test_tokens_are_estimated_where_the_server_cannot_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for answer in (response(404, ""), response(200, '{"x": 1}'), []):
        with answering(monkeypatch, answer):
            chat = ChatTGI(base_url=URL)
            assert chat.get_num_tokens("x" * 40) == 10
            assert chat.get_num_tokens("") == 0
            assert 5 < chat.get_num_tokens_from_messages([HumanMessage("x" * 40)]) < 30
            with pytest.raises(TGIError):
                chat.get_token_ids("x")
    assert caplog.records[0].name == "langchain_sgd"
