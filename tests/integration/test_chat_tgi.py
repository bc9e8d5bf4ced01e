"""`ChatTGI` and `TGIClient` against a TGI-protocol server: answers, faults, retries, limits, cancelling."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from langchain_sgd.embedded.app import serving
from langchain_sgd.embedded.engine import Token
from langchain_sgd.embedded.protocol import ChatAnswer
from langchain_sgd.tgi import (
    ChatTGI,
    NotTGIError,
    Patience,
    TGIAuthError,
    TGIBadRequestError,
    TGIClient,
    TGIError,
    TGIGenerationError,
    TGIOverloadedError,
    TGIStreamBrokenError,
    TGITimeoutError,
    TGIUnavailableError,
    retries,
)
from tests.tgi_server import Fault, Pace, ScriptedEngine, TGITestServer

REPLY = "One two three four five six."
MODES = pytest.mark.parametrize("mode", ["chat", "generate"])
ROUTES = {"chat": "/v1/chat/completions", "generate": "/generate"}


@pytest.fixture
async def server() -> AsyncIterator[TGITestServer]:
    async with TGITestServer(REPLY, keepalive_s=0.05) as running:
        yield running


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "backoff_wait_s", lambda *_: 0.0)


async def whole(
    model: Runnable[Any, BaseMessage], question: str = "Hi", **options: Any
) -> BaseMessage:
    return await model.ainvoke(question, **options)


async def streamed(
    model: Runnable[Any, BaseMessage], question: str = "Hi", **options: Any
) -> BaseMessage:
    total = AIMessageChunk(content="")
    async for chunk in model.astream(question, **options):
        assert isinstance(chunk, AIMessageChunk)
        total = total + chunk
    return total


async def note(model: ChatTGI, seen: list[str], *, pause_s: float = 0.0) -> None:
    """Stream into a list that outlives the fault."""
    async for chunk in model.astream("Hi"):
        seen.append(chunk.text)
        await asyncio.sleep(pause_s)


Way = Callable[..., Any]
WAYS = pytest.mark.parametrize("way", [whole, streamed])


# --- answers


@MODES
@WAYS
async def test_an_answer_with_its_metadata(server: TGITestServer, way: Way, mode: str) -> None:
    message = await way(ChatTGI(base_url=server.url, mode=mode, max_tokens=50))
    assert message.content == REPLY
    assert message.usage_metadata["output_tokens"] == 8
    assert message.usage_metadata["input_tokens"] > 0
    metadata = message.response_metadata
    assert metadata["finish_reason"] == "stop"
    assert metadata["tgi_finish_reason"] in {"stop", "eos_token"}
    if mode == "chat":
        assert metadata["model_name"] == "scripted/model"
    if way is whole:
        assert metadata["tgi"]["generated_tokens"] == 8
        assert metadata["tgi"]["queue_time_ms"] == 0
    else:
        assert 0 < metadata["tgi"]["ttft_s"] <= metadata["tgi"]["total_s"]


@MODES
@WAYS
async def test_the_token_limit_is_told(server: TGITestServer, way: Way, mode: str) -> None:
    message = await way(ChatTGI(base_url=server.url, mode=mode, max_tokens=3))
    assert message.content == "One two three"
    assert message.response_metadata["finish_reason"] == "length"


@MODES
@WAYS
@pytest.mark.parametrize("pieces", ["words", "characters", "bytes"])
async def test_the_stop_text_is_cut_off(way: Way, mode: str, pieces: Any) -> None:
    engine = ScriptedEngine("An answer. END\nmore", pieces=pieces)
    async with TGITestServer(engine) as server:
        message = await way(ChatTGI(base_url=server.url, mode=mode, stop=["END", "never"]))
        assert message.content == "An answer. "
        assert message.response_metadata["tgi_finish_reason"] == "stop_sequence"
        assert message.response_metadata["finish_reason"] == "stop"


async def test_every_setting_is_on_the_wire_and_nothing_else(server: TGITestServer) -> None:
    model = ChatTGI(
        base_url=server.url, temperature=0.5, top_p=0.9, seed=3, max_tokens=5, stop=["x"],
        frequency_penalty=0.1,
    )  # fmt: skip
    await model.ainvoke("Hi")
    await streamed(model)
    body = {
        "model": "tgi",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "max_tokens": 5,
        "stop": ["x"],
        "frequency_penalty": 0.1,
    }
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert [entry.json for entry in server.log] == [body, body | streaming]


@MODES
async def test_seeds_decide(mode: str) -> None:
    async with TGITestServer() as server:
        fields = {"base_url": server.url, "mode": mode}
        texts = [
            (await ChatTGI(temperature=0.7, seed=seed, **fields).ainvoke("Hi")).content
            for seed in (1, 1, 2)
        ]
        assert texts[0] == texts[1] != texts[2]


async def test_a_regex_constrains_a_stream() -> None:
    async with TGITestServer("no number") as server:
        model = ChatTGI(base_url=server.url)
        bound = model.bind(response_format={"type": "regex", "value": "[0-9]{3}"}, max_tokens=20)
        message = await streamed(bound)
        assert len(str(message.content)) == 3
        assert str(message.content).isdigit()


class Point(BaseModel):
    """A point."""

    x: int
    label: str


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
async def test_structured_output(method: Any) -> None:
    async with TGITestServer() as server:
        model = ChatTGI(base_url=server.url)
        point = await model.with_structured_output(Point, method=method).ainvoke("Where is 7?")
        assert isinstance(point, Point)
        raw = await model.with_structured_output(Point, method=method, include_raw=True).ainvoke(
            "Where is 7?"
        )
        assert isinstance(raw, dict)
        assert raw["parsed"] == point
        assert raw["parsing_error"] is None


async def test_a_grammar_that_the_server_ignores_is_a_parsing_error() -> None:
    async with TGITestServer(ScriptedEngine("no JSON", grammars="ignore")) as server:
        structured = ChatTGI(base_url=server.url).with_structured_output(Point, include_raw=True)
        raw = await structured.ainvoke("Hi")
        assert isinstance(raw, dict)
        assert raw["parsed"] is None
        assert raw["parsing_error"] is not None


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@WAYS
async def test_tools(way: Way) -> None:
    async with TGITestServer() as server:
        bound = ChatTGI(base_url=server.url).bind_tools([add], tool_choice="any")
        message = await way(bound, "What is 3 + 4?")
        (call,) = message.tool_calls
        assert call["name"] == "add"
        assert call["args"].keys() == {"a", "b"}
        assert call["id"] != "0"


# --- framing


@MODES
@pytest.mark.parametrize(
    "framing", ["no_space", "crlf", "comments", "split", "merge", "extra_fields"]
)
async def test_framing_never_matters(server: TGITestServer, framing: Any, mode: str) -> None:
    server.inject(framing, times=None)
    assert (await streamed(ChatTGI(base_url=server.url, mode=mode))).content == REPLY


@MODES
@WAYS
async def test_an_unknown_finish_reason_is_no_fault(
    server: TGITestServer, way: Way, mode: str
) -> None:
    server.inject("unknown_finish")
    message = await way(ChatTGI(base_url=server.url, mode=mode))
    assert message.content == REPLY
    assert message.response_metadata["finish_reason"] == "speculative_abort"


# --- faults


@MODES
@WAYS
@pytest.mark.parametrize(
    ("fault", "expected", "attempts"),
    [
        (Fault("overloaded"), TGIOverloadedError, 3),
        (Fault("rate_limited", retry_after="0"), TGIOverloadedError, 3),
        (Fault("bad_gateway"), TGIUnavailableError, 3),
        (Fault("unavailable"), TGIUnavailableError, 3),
        (Fault("gateway_timeout"), TGIUnavailableError, 3),
        (Fault("drop"), TGIUnavailableError, 3),
        (Fault("cut"), TGIStreamBrokenError, 3),
        (Fault("incomplete"), TGIStreamBrokenError, 3),
        (Fault("fail"), TGIGenerationError, 2),
        (Fault("unauthorized"), TGIAuthError, 1),
        (Fault("html"), NotTGIError, 1),
    ],
)
async def test_a_lasting_fault_has_its_error_after_its_attempts(
    server: TGITestServer,
    way: Way,
    mode: str,
    fault: Fault,
    expected: type[TGIError],
    attempts: int,
) -> None:
    server.inject(fault, times=None, when=lambda entry: entry.method == "POST")
    with pytest.raises(expected) as caught:
        await way(ChatTGI(base_url=server.url, mode=mode))
    assert type(caught.value) is expected
    assert caught.value.endpoint == server.url
    assert len([entry for entry in server.log if entry.method == "POST"]) == attempts


@MODES
@WAYS
@pytest.mark.parametrize(
    "fault", ["overloaded", "rate_limited", "unavailable", "drop", "cut", "eof", "fail"]
)
async def test_a_passing_fault_is_not_seen(
    server: TGITestServer, way: Way, mode: str, fault: Any
) -> None:
    server.inject(fault)
    message = await way(ChatTGI(base_url=server.url, mode=mode))
    assert message.content == REPLY


@MODES
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("cut", after=2), TGIStreamBrokenError),
        (Fault("eof", after=2), TGIStreamBrokenError),
        (Fault("incomplete", after=2), TGIStreamBrokenError),
        (Fault("fail", after=2), TGIGenerationError),
    ],
)
async def test_an_opened_stream_is_never_repeated(
    server: TGITestServer, mode: str, fault: Fault, expected: type[TGIError]
) -> None:
    server.inject(fault)
    seen: list[str] = []
    with pytest.raises(expected) as caught:
        await note(ChatTGI(base_url=server.url, mode=mode), seen)
    assert type(caught.value) is expected
    assert caught.value.is_retryable
    assert "".join(seen) == "One two"
    assert len(server.log) == 1


@MODES
async def test_a_stall_is_counted_in_tokens_not_in_keepalives(
    server: TGITestServer, mode: str
) -> None:
    server.inject(Fault("stall", after=2))
    seen: list[str] = []
    model = ChatTGI(base_url=server.url, mode=mode, stall_timeout_s=0.25)
    with pytest.raises(TGITimeoutError, match=r"0\.25 s"):
        await note(model, seen)
    assert "".join(seen) == "One two"
    await server.idle()
    assert server.log[0].disconnected


@MODES
async def test_the_time_that_a_reader_takes_is_no_stall(server: TGITestServer, mode: str) -> None:
    server.engine.pace = Pace(token_s=0.05)
    server.inject(Fault("stall", after=2))
    seen: list[str] = []
    model = ChatTGI(base_url=server.url, mode=mode, stall_timeout_s=0.1)
    with pytest.raises(TGITimeoutError, match=r"no event in 0\.1 s"):
        await note(model, seen, pause_s=0.15)
    assert seen == ["One", " two"]


async def test_what_arrives_at_once_is_one_chunk_and_comes_before_its_error() -> None:
    events = [
        b": keepalive\n\n",
        *(ChatAnswer("m").token(Token(0, text)) for text in ("One", " two", " three")),
        b'data: {"error": {"message": "boom", "http_status_code": 422}}\n\n',
        ChatAnswer("m").token(Token(0, " lost")),
    ]

    async def at_once(_: web.Request) -> web.Response:
        return web.Response(body=b"".join(events), content_type="text/event-stream")

    app = web.Application()
    app.router.add_post(ROUTES["chat"], at_once)
    seen: list[str] = []
    async with serving(app) as url:
        with pytest.raises(TGIError, match="boom"):
            await note(ChatTGI(base_url=url, max_retries=0), seen)
    assert seen == ["One two three"]


@WAYS
async def test_a_deadline_bounds_a_whole_call(server: TGITestServer, way: Way) -> None:
    server.inject("stall")
    with pytest.raises(TGITimeoutError, match=r"no complete answer in 0\.2 s"):
        await way(ChatTGI(base_url=server.url, timeout=0.2))
    await server.idle()
    assert server.log[0].disconnected
    assert len(server.log) == 1


@WAYS
async def test_a_slow_first_byte_is_waited_for(server: TGITestServer, way: Way) -> None:
    server.inject(Fault("slow", delay_s=0.1))
    assert (await way(ChatTGI(base_url=server.url))).content == REPLY


@MODES
@WAYS
async def test_what_the_server_refuses_is_told_in_its_words(
    server: TGITestServer, way: Way, mode: str
) -> None:
    model = ChatTGI(base_url=server.url, mode=mode)
    with pytest.raises(TGIBadRequestError, match="stop sequences"):
        await way(model, stop=["a", "b", "c", "d", "e"])
    with pytest.raises(TGIBadRequestError, match="properties"):
        await way(model, response_format={"type": "json", "value": {"type": "array"}})
    with pytest.raises(TGIBadRequestError, match="deserialize"):
        await way(model, seed="x")
    assert len(server.log) == 3


async def test_a_url_that_is_no_tgi(server: TGITestServer) -> None:
    with pytest.raises(NotTGIError, match="404"):
        await ChatTGI(base_url=f"{server.url}/nothing-here").ainvoke("Hi")
    with pytest.raises(NotTGIError, match="TLS"):
        await ChatTGI(base_url=server.url.replace("http:", "https:")).ainvoke("Hi")
    server.inject("html")
    with pytest.raises(NotTGIError, match="model_id"):
        await TGIClient(server.url).info()


async def test_what_is_no_http_at_all() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        with pytest.raises(NotTGIError, match="no HTTP"):
            await ChatTGI(base_url=f"http://{host}:{port}").ainvoke("Hi")


async def test_a_redirect_is_named_and_not_followed() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://u:p@elsewhere/x?k=1\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        with pytest.raises(NotTGIError, match="https://elsewhere/x: give") as caught:
            await ChatTGI(base_url=f"http://{host}:{port}").ainvoke("Hi")
        assert "u:p" not in str(caught.value)


# --- a server that is down


async def test_a_connection_that_does_not_come_about_is_repeated_and_named() -> None:
    """A listener whose queue is full lets further connections hang."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        model = ChatTGI(base_url=f"http://127.0.0.1:{port}", connect_timeout_s=0.1, max_retries=1)
        with pytest.raises(TGIUnavailableError, match="no connection in the time allowed"):
            await model.ainvoke("Hi")
        (pool,) = model.client._transport._pools.values()
        assert pool.refusals == 2
        for each in waiting:
            each.close()


async def test_a_closed_port_is_named(server: TGITestServer) -> None:
    await server.refuse()
    with pytest.raises(TGIUnavailableError, match="cannot connect") as caught:
        await ChatTGI(base_url=server.url).ainvoke("Hi")
    assert server.url in str(caught.value)
    assert not caught.value.__cause__


async def test_a_health_check_goes_ahead_when_connections_failed(server: TGITestServer) -> None:
    model = ChatTGI(base_url=server.url, max_retries=0)
    await server.refuse()
    for _ in range(5):
        with pytest.raises(TGIUnavailableError):
            await model.ainvoke("Hi")
    pool = next(iter(model.client._transport._pools.values()))
    pool.refused_until = 0.0
    await server.accept()
    assert (await model.ainvoke("Hi")).content == REPLY
    assert (await model.ainvoke("Hi")).content == REPLY
    assert [entry.path for entry in server.log] == [
        "/health", "/v1/chat/completions", "/v1/chat/completions",
    ]  # fmt: skip


async def test_connections_that_the_server_closed_are_replaced(server: TGITestServer) -> None:
    model = ChatTGI(base_url=server.url)
    await model.ainvoke("Hi")
    await server.refuse()
    await server.accept()
    assert (await model.ainvoke("Hi")).content == REPLY


# --- pooling


@MODES
async def test_calls_and_streams_share_one_connection(server: TGITestServer, mode: str) -> None:
    model = ChatTGI(base_url=server.url, mode=mode)
    for _ in range(4):
        await model.ainvoke("Hi")
        await streamed(model)
    assert server.connections == 1


async def test_an_error_in_a_stream_gives_its_connection_back(server: TGITestServer) -> None:
    server.inject("overloaded", times=2, path="/v1/chat/completions")
    assert (await streamed(ChatTGI(base_url=server.url))).content == REPLY
    assert len(server.requests("/v1/chat/completions")) == 3
    assert server.connections == 1


# --- limits


async def test_an_explicit_limit_is_kept() -> None:
    engine = ScriptedEngine(REPLY, slots=64, pace=Pace(token_s=0.002))
    async with TGITestServer(engine) as server:
        one = ChatTGI(base_url=server.url, max_concurrent_requests=3)
        other = ChatTGI(base_url=server.url)
        async with asyncio.TaskGroup() as group:
            for model in itertools.islice(itertools.cycle([one, other]), 20):
                group.create_task(model.ainvoke("Hi"))
        assert engine.peak == 3


@WAYS
async def test_the_servers_own_limit_is_learned(way: Way) -> None:
    engine = ScriptedEngine(REPLY, slots=64, pace=Pace(token_s=0.002))
    async with TGITestServer(engine, max_concurrent_requests=16) as server:
        model = ChatTGI(base_url=server.url)
        async with asyncio.TaskGroup() as group:
            for _ in range(48):
                group.create_task(way(model))
        assert engine.peak == 15
        assert len(server.requests("/info")) == 1
        assert len(server.requests("/v1/chat/completions")) == 48


async def test_an_overload_teaches_the_limit() -> None:
    engine = ScriptedEngine(REPLY, slots=64, pace=Pace(token_s=0.002))
    async with TGITestServer(engine, max_concurrent_requests=2) as server:
        model = ChatTGI(base_url=server.url, max_retries=4)
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(model.ainvoke("Hi"))
        before = len(server.requests("/v1/chat/completions"))
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(model.ainvoke("Hi"))
        assert len(server.requests("/v1/chat/completions")) == before + 20


async def test_what_one_loop_learned_holds_in_the_next() -> None:
    engine = ScriptedEngine(REPLY, slots=64, pace=Pace(token_s=0.002))
    async with TGITestServer(engine, max_concurrent_requests=16) as server:
        model = ChatTGI(base_url=server.url)

        async def burst() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(32):
                    group.create_task(model.ainvoke("Hi"))

        await burst()
        await asyncio.to_thread(lambda: asyncio.run(burst()))
        assert engine.peak == 15
        assert len(server.requests("/info")) == 1


async def test_a_server_without_info_keeps_its_gate_open(server: TGITestServer) -> None:
    server.inject("html", times=None, path="/info")
    model = ChatTGI(base_url=server.url)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(model.ainvoke("Hi"))
    assert len(server.requests("/info")) == 1


# --- cancelling


@pytest.fixture
async def slow() -> AsyncIterator[TGITestServer]:
    engine = ScriptedEngine("word " * 500, pace=Pace(token_s=0.01))
    async with TGITestServer(engine) as running:
        yield running


@MODES
async def test_closing_a_stream_closes_its_connection(slow: TGITestServer, mode: str) -> None:
    stream = ChatTGI(base_url=slow.url, mode=mode).astream("Hi")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await slow.idle()
    assert slow.log[0].disconnected
    assert slow.engine.closed_early == 1


@WAYS
async def test_cancelling_a_call_closes_its_connection(slow: TGITestServer, way: Way) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(way(ChatTGI(base_url=slow.url)))
        while not slow.log:  # noqa: ASYNC110 - the log is a list
            await asyncio.sleep(0.005)
        task.cancel()
    await slow.idle()
    assert slow.log[0].disconnected


async def test_a_synchronous_stream_that_is_left_closes_its_connection(
    slow: TGITestServer,
) -> None:
    def read_one() -> None:
        stream = ChatTGI(base_url=slow.url).stream("Hi")
        next(stream)
        stream.close()  # type: ignore[attr-defined]

    await asyncio.to_thread(read_one)
    await slow.idle()
    assert slow.log[0].disconnected


# --- the client


async def test_the_stock_interface_on_our_transport(server: TGITestServer) -> None:
    async with TGIClient(server.url, patience=Patience(max_retries=0)) as client:
        answer = await client.generate("Hi", max_new_tokens=3, stop_sequences=["x"])
        assert answer.generated_text == "One two three"
        assert answer.details.finish_reason == "length"
        tokens = [each async for each in client.generate_stream("Hi", max_new_tokens=20)]
        assert "".join(t.token.text for t in tokens if not t.token.special) == REPLY
        assert tokens[-1].generated_text == REPLY
        assert server.log[0].json == {
            "inputs": "Hi",
            "parameters": {"details": True, "max_new_tokens": 3, "stop": ["x"]},
        }
        assert server.connections == 1


async def test_a_field_that_does_not_fit_the_types_is_named(server: TGITestServer) -> None:
    server.inject("unknown_finish")
    with pytest.raises(NotTGIError, match="finish_reason"):
        await TGIClient(server.url).generate("Hi")


async def test_what_the_server_says_of_itself(server: TGITestServer) -> None:
    client = TGIClient(server.url)
    info = await client.info()
    assert info.model_id == "scripted/model"
    assert info.max_concurrent_requests == 128
    assert await client.info() is info
    assert await client.health()
    server.healthy = False
    assert not await client.health()
    await server.refuse()
    with pytest.raises(TGIUnavailableError):
        await client.health()
    await client.aclose()


async def test_several_models_behind_one_address() -> None:
    engines = {"small": ScriptedEngine("small"), "large": ScriptedEngine("large")}
    async with TGITestServer(engines) as server:
        for name in engines:
            model = ChatTGI(base_url=server.url_of(name))
            assert (await model.ainvoke([HumanMessage("Hi")])).content == name


async def test_bodies_are_json_with_plain_types(server: TGITestServer) -> None:
    await ChatTGI(base_url=server.url).ainvoke("naïve 🦙")
    assert server.log[0].headers["content-type"] == "application/json"
    assert json.dumps(server.log[0].json["messages"][0]["content"]) == json.dumps("naïve 🦙")
