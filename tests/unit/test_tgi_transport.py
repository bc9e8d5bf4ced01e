"""Requests that are asked again, and the sessions that they go through; without a socket."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import ssl
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import (
    ChatTGI,
    TGIBadRequestError,
    TGIClient,
    TGIEndpoint,
    TGIGenerationError,
    TGIOverloadedError,
    TGIUnavailableError,
    chat_model,
    pool,
    to_error,
)
from langchain_sgd.tgi.endpoint import tls_for
from langchain_sgd.tgi.faults import retry_after_s
from tests.tgi_memory import (
    ANSWER,
    URL,
    WAYS,
    answering,
    either,
    response,
)

KEY, USER, PASSWORD = "sk-of-this-test", "dora", "PWSECRET"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited between attempts, on a clock that the waiting moves."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, result: Any = None) -> Any:
        if seconds > 0:
            waited.append(seconds)
        return await real(0, result)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


# --- repeating


GENERATION = {
    "error": "Request failed during generation: Server error: ",
    "error_type": "generation",
}
REFUSED = "Request failed during generation: Server error: tcp connect error: Connection refused (os error 111)"


@WAYS
async def test_a_failed_generation_is_asked_again_once(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], way: Any
) -> None:
    failed = response(424, json.dumps(GENERATION))
    with answering(monkeypatch, failed, either) as asked:
        assert (await way(ChatTGI(base_url=URL))).content == "Hi"
    assert len(asked) == 2
    with answering(monkeypatch, failed) as asked, pytest.raises(TGIGenerationError):
        await way(ChatTGI(base_url=URL, max_retries=5))
    assert len(asked) == 2
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (424, {"error": REFUSED, "error_type": "generation"}),
        (200, {"error": {"message": REFUSED, "http_status_code": 422}}),
        (200, {"error": REFUSED, "error_type": "generation"}),
    ],
)
def test_a_dead_model_server_behind_its_router_is_unavailable(status: int, body: Any) -> None:
    error = to_error(status, body)
    assert type(error) is TGIUnavailableError
    assert "start it again" in str(error)


def test_a_tool_call_that_was_cut_says_what_to_raise() -> None:
    words = (
        "Tool error: Failed to parse generated text: EOF while parsing a string at line 1 column 22"
    )
    error = to_error(422, {"error": words, "error_type": "tool_error"})
    assert type(error) is TGIBadRequestError
    assert "max_tokens" in str(error)


SOON = {"Retry-After": "7"}


@WAYS
async def test_the_servers_word_on_waiting_is_heeded_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], way: Any
) -> None:
    with answering(monkeypatch, response(429, "", SOON), either):
        assert (await way(ChatTGI(base_url=URL, max_concurrent_requests=4))).content == "Hi"
    assert waits == [7.0]
    late = response(429, "", {"Retry-After": "700"})
    with answering(monkeypatch, late) as asked, pytest.raises(TGIOverloadedError) as caught:
        await way(ChatTGI(base_url=URL, timeout=600, max_concurrent_requests=4))
    assert len(asked) == 1
    assert caught.value.retry_after_s == 700


@WAYS
@pytest.mark.parametrize("mode", ["chat", "generate"])
async def test_an_error_that_calls_itself_a_success_is_asked_again_where_that_helps(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], way: Any, mode: Any
) -> None:
    options: dict[str, Any] = {"mode": mode, "max_concurrent_requests": 4}
    busy = response(200, '{"error": "Model is overloaded", "error_type": "overloaded"}')
    cut = response(200, '{"choices": [{"mess')
    whole = response(200, ANSWER if mode == "chat" else '[{"generated_text": "Hi"}]')
    with answering(monkeypatch, busy, cut, whole) as asked:
        assert (await way(ChatTGI(base_url=URL, **options))).content == "Hi"
    assert (len(asked), len(waits)) == (3, 2)
    wrong = response(200, '{"error": "Template error: x", "error_type": "template_error"}')
    with answering(monkeypatch, wrong) as asked, pytest.raises(TGIBadRequestError):
        await way(ChatTGI(base_url=URL, **options))
    assert len(asked) == 1


@WAYS
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}])
async def test_a_server_that_starts_is_not_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], way: Any, headers: dict[str, str]
) -> None:
    starting = response(503, '{"error": "starting"}', headers)
    with answering(monkeypatch, *[starting] * 6, either) as asked:
        chat = ChatTGI(base_url=URL, scale_up_timeout_s=60, max_retries=0)
        assert (await way(chat)).content == "Hi"
    assert len(asked) == 7
    assert min(waits) >= 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        (
            {
                "Retry-After": "Fri, 27 Nov 2026 10:00:30 GMT",
                "Date": "Fri, 27 Nov 2026 10:00:00 GMT",
            },
            30.0,
        ),
        ({"Retry-After": "Fri, 27 Nov 2020 10:00:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@WAYS
async def test_a_server_that_starts_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], way: Any
) -> None:
    starting = response(503, "<html>starting</html>", {"content-type": "text/html"})
    chat = ChatTGI(base_url=URL, scale_up_timeout_s=300, max_retries=0)
    with answering(monkeypatch, *[starting] * 9, either) as asked:
        assert (await way(chat)).content == "Hi"
    assert len(asked) == 10
    assert asked[0].headers["x-scale-up-timeout"] == "300"
    assert len(waits) == 9
    with answering(monkeypatch, starting) as asked, pytest.raises(TGIUnavailableError):
        await way(ChatTGI(base_url=URL, max_retries=0))
    assert len(asked) == 1
    assert "x-scale-up-timeout" not in asked[0].headers


def test_hugging_faces_endpoints_may_start_unasked() -> None:
    url = "https://x.endpoints.huggingface.cloud"
    assert ChatTGI(base_url=url)._scale_up_s == 600
    assert ChatTGI(base_url=url, scale_up_timeout_s=0)._scale_up_s is None
    assert ChatTGI(base_url=URL)._scale_up_s is None


# --- TLS and proxies


class Opened(Exception):  # noqa: N818 - no error
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options


@pytest.mark.parametrize("as_endpoint", [False, True])
async def test_tls_and_proxy_reach_the_session(
    monkeypatch: pytest.MonkeyPatch, *, as_endpoint: bool
) -> None:
    async def opened(_gate: object, **options: Any) -> None:
        raise Opened(**options)

    monkeypatch.setattr(pool.LoopPool, "open", opened)
    context = ssl.create_default_context()
    proxy = f"http://{USER}:{PASSWORD}@proxy:3128"
    for verify in (False, context):
        if as_endpoint:
            place = TGIEndpoint("https://h", verify=verify, proxy=proxy, headers={"X-A": "abcd"})
            assert PASSWORD not in repr(place)
            chat = chat_model(place)
            assert chat.headers == {"X-A": SecretStr("abcd")}
        else:
            chat = ChatTGI(base_url="https://h", verify=verify, proxy=SecretStr(proxy))
        assert PASSWORD not in repr(chat) + repr(chat.client) + repr(vars(chat.client._transport))
        with pytest.raises(Opened) as caught:
            await chat.ainvoke("Hi")
        assert caught.value.options["tls"] is verify
        assert caught.value.options["proxy"] == proxy


def test_a_file_of_certificates(tmp_path: Any) -> None:
    assert isinstance(tls_for("https://h", str(tmp_path)), ssl.SSLContext)
    assert tls_for("http://h", "/nowhere") is True
    (tmp_path / "empty.pem").write_text("x")
    for path in (tmp_path / "empty.pem", "/nowhere/ca.pem"):
        with pytest.raises(InvalidInputError, match="no file of certificates"):
            tls_for("https://h", str(path))


def test_an_empty_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    assert TGIClient(URL)._transport._proxy == SecretStr("http://proxy:1")
    assert TGIClient(URL, proxy="")._transport._proxy is None
    monkeypatch.setenv("http_proxy", "socks5://proxy:1")
    assert TGIClient(URL)._transport._proxy is None


def test_a_proxy_that_is_no_url_is_refused_without_it() -> None:
    odd = f"{USER}:{PASSWORD}@proxy:3128"
    made: list[Any] = [
        lambda: ChatTGI(base_url=URL, proxy=SecretStr(odd)),
        lambda: TGIEndpoint(URL, proxy=odd),
        lambda: TGIClient(URL, proxy=odd),
    ]
    for make in made:
        with pytest.raises(
            (InvalidInputError, ValidationError), match="http://host:port"
        ) as caught:
            make()
        assert PASSWORD not in str(caught.value).replace("user:password@host", "")


# --- copies


def keyed(**options: Any) -> ChatTGI:
    return ChatTGI(base_url=URL, api_key=SecretStr(KEY), max_retries=0, **options)


async def test_copies_work_before_and_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = keyed(verify=ssl.create_default_context())
    plain = keyed()
    with answering(monkeypatch, either) as asked:
        for _ in range(2):
            for made in (
                pickle.loads(pickle.dumps(plain)),  # noqa: S301 - our own
                copy.deepcopy(chat),
                copy.copy(plain),
                chat.model_copy(update={"max_tokens": 3}, deep=True),
            ):
                assert (await made.ainvoke("Hi")).content == "Hi"
                assert asked[-1].headers["authorization"] == f"Bearer {KEY}"
            await chat.ainvoke("Hi")
            await plain.ainvoke("Hi")
        client = pickle.loads(pickle.dumps(plain.client))  # noqa: S301 - our own
        assert (await client.chat({"messages": []})).body == json.loads(ANSWER)
