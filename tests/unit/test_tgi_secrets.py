"""What must not stand in an error: keys, passwords, and what a server repeats of them."""

from __future__ import annotations

import base64
import json
import traceback
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import (
    ChatTGI,
    TGIAuthError,
    TGIClient,
    TGIEndpoint,
    TGIError,
    chat_model,
)
from langchain_sgd.tgi.faults import spellings
from tests.tgi_memory import (
    SSE,
    URL,
    WAYS,
    answering,
    response,
    streamed,
)

KEY, USER, PASSWORD = "sk-SECRETKEY123", "dora", "PWSECRET"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (KEY, PASSWORD, BASIC, BASIC.rstrip("="))


def keyed(**options: Any) -> ChatTGI:
    headers = {"X-Gateway": SecretStr(f"Basic {BASIC}")}
    return ChatTGI(base_url=URL, api_key=SecretStr(KEY), headers=headers, max_retries=0, **options)


def told(error: BaseException) -> str:
    """What stands in an error and in what it was made of."""
    texts = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen), repr(vars(seen)), repr(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "".join([*texts, *traceback.format_exception(error)])


def locals_of(error: BaseException) -> str:
    """What a tool that shows the variables of our frames would show."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if "langchain_sgd" in frame.f_code.co_filename]
    assert ours
    return repr([frame.f_locals for frame in ours])


BROKEN: list[Any] = [
    [],
    [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"],
    [b"SSH-2.0\r\n\r\n"],
    [None],
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\ndata: {",
        None,
    ],
    response(503, "<html>"),
    response(200, "{"),
]


@WAYS
@pytest.mark.parametrize("answer", BROKEN)
async def test_an_error_holds_no_request(
    monkeypatch: pytest.MonkeyPatch, way: Any, answer: Any
) -> None:
    chat = keyed(timeout=0.05, stall_timeout_s=0.03)
    with answering(monkeypatch, answer) as asked, pytest.raises(TGIError) as caught:
        await way(chat)
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    shown = told(caught.value) + locals_of(caught.value)
    assert not [secret for secret in SECRETS if secret in shown]


@WAYS
@pytest.mark.parametrize(
    "words",
    [
        f"denied for Bearer {KEY}",
        f"header Basic {BASIC}",
        f"creds {BASIC.rstrip('=')} bad",
        f"user {USER}:{PASSWORD}",
        f"password {PASSWORD}",
    ],
)
async def test_what_a_server_repeats_of_a_secret_is_blanked(
    monkeypatch: pytest.MonkeyPatch, way: Any, words: str
) -> None:
    for body in (json.dumps({"error": words}), words, json.dumps({words: words})):
        with answering(monkeypatch, response(401, body)), pytest.raises(TGIAuthError) as caught:
            await way(keyed())
        assert "***" in str(caught.value)
        assert not [secret for secret in SECRETS if secret in told(caught.value)]
    event = response(200, f"data: {json.dumps({'error': {'message': words}})}\n\n", SSE)
    with answering(monkeypatch, event), pytest.raises(TGIError) as caught_event:
        await streamed(keyed())
    assert not [secret for secret in SECRETS if secret in told(caught_event.value)]


def test_every_spelling_of_a_secret_is_known() -> None:
    assert spellings([SecretStr("Bearer a/b-c=d")]) == ["a%2Fb-c%3Dd", "a/b-c=d"]
    assert spellings([SecretStr("1")]) == []  # would blank every number
    assert {BASIC, f"{USER}:{PASSWORD}", PASSWORD} <= set(spellings([SecretStr(f"basic {BASIC}")]))


@pytest.mark.parametrize("url", [f"http://{USER}:{PASSWORD}@h", f"ftp://{USER}:{PASSWORD}@h"])
def test_a_url_with_a_password_is_refused_without_it(url: str) -> None:
    made: list[Any] = [
        lambda: ChatTGI(base_url=url),
        lambda: TGIEndpoint(url),
        lambda: TGIClient(url),
        lambda: chat_model(url),
    ]
    for make in made:
        with pytest.raises((InvalidInputError, ValidationError)) as caught:
            make()
        assert PASSWORD not in str(caught.value) + repr(caught.value)
        assert caught.value.__context__ is None or PASSWORD not in repr(caught.value.__context__)
