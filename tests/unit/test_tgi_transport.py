"""Answers that are none, servers that hang, and what must not stand in an error; without a socket."""

from __future__ import annotations

import asyncio
import base64
import copy
import gzip
import json
import pickle
import ssl
import time
import traceback
import zlib
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from pydantic import SecretStr, ValidationError

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import (
    ChatTGI,
    NotTGIError,
    TGIAuthError,
    TGIBadRequestError,
    TGIClient,
    TGIEndpoint,
    TGIError,
    TGIGenerationError,
    TGIOverloadedError,
    TGITimeoutError,
    TGIUnavailableError,
    chat_model,
    exchange,
    pool,
    to_error,
)
from langchain_sgd.tgi.bodies import LONGEST_ERROR
from langchain_sgd.tgi.endpoint import tls_for
from langchain_sgd.tgi.faults import retry_after_s, spellings
from langchain_sgd.tgi.sse import EventParser, EventTooLongError, begins_stream
from tests.tgi_memory import URL, Asked, answering, response

ANSWER = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]})
STREAM = (
    'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
SSE = {"content-type": "text/event-stream"}
WHOLE = response(200, ANSWER)


def either(request: Asked) -> list[bytes]:
    """Answer a call or a stream, as it was asked."""
    return response(200, STREAM, SSE) if request.json.get("stream") else WHOLE


async def whole(chat: Any) -> Any:
    return await chat.ainvoke("Hi")


async def streamed(chat: Any) -> Any:
    total: Any = None
    async for chunk in chat.astream("Hi"):
        total = chunk if total is None else total + chunk
    return total


WAYS = pytest.mark.parametrize("way", [whole, streamed])


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


# --- labels


@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("label", ["application/json", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize("before", ["", ": hello\n\n", "\ufeff"])
async def test_a_stream_is_read_whatever_its_type_is_called(
    monkeypatch: pytest.MonkeyPatch, label: str, cut: int, before: str
) -> None:
    pieces = response(200, before + STREAM, {"content-type": label}, cut=cut)
    with answering(monkeypatch, pieces) as asked:
        assert (await streamed(ChatTGI(base_url=URL))).content == "Hi"
    assert len(asked) == 1


async def test_a_packed_stream_under_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    data = gzip.compress(STREAM.encode())
    with answering(monkeypatch, response(200, data, headers, cut=5)):
        assert (await streamed(ChatTGI(base_url=URL))).content == "Hi"


@pytest.mark.parametrize("cut", [0, 9])
@pytest.mark.parametrize(
    ("mode", "body"),
    [("chat", ANSWER), ("generate", '[{"generated_text": "Hi"}]')],
)
async def test_a_whole_answer_in_place_of_a_stream(
    monkeypatch: pytest.MonkeyPatch, mode: Any, body: str, cut: int
) -> None:
    with answering(monkeypatch, response(200, body, cut=cut)):
        assert (await streamed(ChatTGI(base_url=URL, mode=mode))).content == "Hi"


@pytest.mark.parametrize("body", ["<html>data: x</html>", "", "date: x", "{}", '{"choice": 1}'])
async def test_what_is_no_answer_is_refused_whatever_its_type(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    chat = ChatTGI(base_url=URL, max_retries=0)
    with answering(monkeypatch, response(200, body)), pytest.raises(NotTGIError, match="came"):
        await streamed(chat)


async def test_blank_lines_without_end_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def look(begun: bytes) -> bool | None:
        looked.append(len(begun))
        return begins_stream(begun)

    monkeypatch.setattr(exchange, "begins_stream", look)
    pieces = response(200, "\n" * 1_000_000, {"content-type": "text/plain"}, cut=70_000)
    chat = ChatTGI(base_url=URL, max_retries=0)
    with answering(monkeypatch, pieces), pytest.raises(NotTGIError, match="came"):
        await streamed(chat)
    assert max(looked) == 70_000


# --- bodies


@WAYS
@pytest.mark.parametrize("status", [500, 429, 422])
async def test_an_error_whose_body_stalls_is_told_by_its_status(
    monkeypatch: pytest.MonkeyPatch, way: Any, status: int
) -> None:
    monkeypatch.setattr(exchange, "_ERROR_TIMEOUT_S", 0.01)
    head, body = response(status, '{"error": "x"}')
    with answering(monkeypatch, [head, body[:3], None]), pytest.raises(TGIError) as caught:
        await asyncio.wait_for(way(ChatTGI(base_url=URL, max_retries=0)), 20)
    assert caught.value.status == status


@WAYS
async def test_a_json_answer_to_a_stream_that_stalls(
    monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    head, body = response(200, ANSWER)
    chat = ChatTGI(base_url=URL, max_retries=0, stall_timeout_s=0.05, timeout=0.05)
    with answering(monkeypatch, [head, body[:9], None]), pytest.raises(TGITimeoutError):
        await asyncio.wait_for(way(chat), 20)


@WAYS
async def test_an_error_without_end_is_read_in_part(
    monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    fed = 0

    def pieces() -> Any:
        nonlocal fed
        yield b"HTTP/1.1 500 Oops\r\ncontent-type: text/plain\r\n\r\n"
        while True:
            fed += 1
            yield b"x" * 2**16

    with answering(monkeypatch, pieces()), pytest.raises(TGIGenerationError) as caught:
        await way(ChatTGI(base_url=URL, max_retries=0))
    assert len(str(caught.value)) < 1000
    assert fed * 2**16 < 50 * LONGEST_ERROR


@WAYS
@pytest.mark.parametrize("status", [200, 500])
async def test_what_unpacks_to_gigabytes_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch, way: Any, status: int
) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    assert len(bomb) < 2**19
    answer = response(status, bomb, {"content-encoding": "gzip"}, cut=2**15)
    with answering(monkeypatch, answer), pytest.raises(TGIError):
        await way(ChatTGI(base_url=URL, max_retries=0))


@WAYS
async def test_a_compression_that_nobody_asked_for_is_taken_off(
    monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    def packed(request: Asked) -> list[bytes]:
        assert request.headers["accept-encoding"] == "identity"
        body, headers = (STREAM, SSE) if request.json.get("stream") else (ANSWER, {})
        zipped = gzip.compress(body.encode())
        return response(200, zipped, {**headers, "content-encoding": "gzip"}, cut=10)

    with answering(monkeypatch, packed):
        assert (await way(ChatTGI(base_url=URL))).content == "Hi"
    odd = response(200, b"x", {**SSE, "content-encoding": "br"})
    with answering(monkeypatch, odd), pytest.raises(NotTGIError, match="'br'"):
        await way(ChatTGI(base_url=URL, max_retries=0))


async def test_an_event_without_end_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Any:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: "
        while True:
            yield b"x" * 2**16

    with (
        answering(monkeypatch, pieces()),
        pytest.raises(NotTGIError, match="an event of more than"),
    ):
        await streamed(ChatTGI(base_url=URL, max_retries=0))


def test_every_byte_of_an_event_is_looked_at_a_few_times() -> None:
    """16 MB in pieces of 64 bytes took 70 s when each piece was joined to all before."""
    parser = EventParser(longest=2**25)
    piece = b"x" * 64
    began = time.process_time()
    parser.feed(b"data: ")
    for _ in range(2**24 // 64):
        parser.feed(piece)
    assert len(parser.feed(b"\n\n")[0]) == 2**24
    assert time.process_time() - began < 20


def test_the_limit_is_for_one_event() -> None:
    parser = EventParser(longest=100)
    for _ in range(50):
        assert parser.feed(b"data: 0123456789\n\n" * 20) == [b"0123456789"] * 20
    with pytest.raises(EventTooLongError):
        parser.feed(b"data: x\n" * 40)


def test_line_ends_of_every_kind() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        text = b"\xef\xbb\xbfdata: a" + end * 2 + b"data: b" + end + b"data: c" + end * 2
        for cut in range(len(text) + 1):
            parser = EventParser()
            events = parser.feed(text[:cut]) + parser.feed(text[cut:]) + parser.feed(b":\n")
            assert events == [b"a", b"b\nc"]


@pytest.mark.parametrize(
    "event", [b"data: null\n\n", b"data: {}\n\n", b'data: {"choices": null}\n\n']
)
async def test_events_that_say_nothing_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, event: bytes
) -> None:
    with answering(monkeypatch, response(200, event + STREAM.encode(), SSE)):
        assert (await streamed(ChatTGI(base_url=URL))).content == "Hi"


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


# --- secrets

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


# --- tokens


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


# --- the end of a loop


def test_a_loop_that_ends_closes_a_half_read_stream_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that ends closes all generators at once, each while another one is being closed."""
    begin, _, _ = STREAM.partition("data: [DONE]")
    begun = [response(200, STREAM, SSE)[0], begin.encode(), None]
    chain = ChatPromptTemplate.from_template("{q}") | ChatTGI(base_url=URL)
    told: list[str] = []

    async def half() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: told.append(str(c)))
        await anext(chain.astream({"q": "Hi"}))

    with answering(monkeypatch, begun):
        for _ in range(20):  # the order in which they are closed is chance
            asyncio.run(half())
    assert told == []
