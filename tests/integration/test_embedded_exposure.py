"""Who may reach the models, and what a client that means ill can do to the others."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from langchain_sgd.embedded import _connections, app
from langchain_sgd.embedded._connections import is_loopback, most_connections
from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.errors import InvalidInputError
from tests.scripted_engine import ScriptedEngine
from tests.support.hostile import hostile_requests

BODY = {"inputs": "Hi", "parameters": {"max_new_tokens": 2}}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(make_app({"m": ScriptedEngine("one two three", grammars="ignore")})) as made:
        yield made


async def raw(url: str, text: str) -> bytes:
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    async with asyncio.timeout(10):
        answer = await reader.read(65536)
    writer.close()
    return answer


async def status(url: str, **options: Any) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, **options) as response:
        return response.status


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - the point
        ("::", False),
        ("192.168.1.4", False),
        ("", False),
    ],
)
def test_beyond_loopback_a_key_is_needed(host: str, loopback: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is loopback
    engines = {"m": ScriptedEngine("x")}
    assert EmbeddedServer(engines, host=host, api_key="secret")
    if not loopback:
        with pytest.raises(InvalidInputError, match="opens the models to the network"):
            EmbeddedServer(engines, host=host)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1:80", "[::1]:9", "LOCALHOST:1"])
async def test_loopback_answers_by_its_own_names(url: str, name: str) -> None:
    assert await status(f"{url}/generate", json=BODY, headers={"Host": name}) == 200


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:80"])
async def test_loopback_answers_to_no_name_that_was_made_to_point_here(url: str, name: str) -> None:
    assert await status(f"{url}/generate", json=BODY, headers={"Host": name}) == 403


async def test_no_page_of_another_origin_is_allowed_to_read(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.options(f"{url}/generate", headers={"Origin": "http://evil.example"}) as response,
    ):
        assert response.status == 200
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_compressed_bodies_are_refused_unopened(url: str) -> None:
    bomb = gzip.compress(b'{"inputs":"' + b"x" * 30_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert await status(f"{url}/generate", data=bomb, headers=headers) == 400


async def test_what_is_no_http_writes_no_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = await raw(url, "GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert not caplog.records


@asynccontextmanager
async def half_open(
    url: str, count: int, begun: str = "POST /generate HTTP/1.1\r\nHost: localhost\r\n"
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections whose requests never end."""
    port = int(url.rpartition(":")[2])
    opened = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun.encode())
        opened.append((reader, writer))
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            return not await reader.read()
    except ConnectionResetError:
        return True


async def test_half_sent_headers_do_not_stay_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.05)
    async with (
        serving(make_app({"m": ScriptedEngine("x")})) as url,
        half_open(url, 3) as readers,
    ):
        assert [await ended(reader) for reader in readers] == [True] * 3


async def test_nor_do_those_of_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.05)
    async with serving(make_app({"m": ScriptedEngine("x")})) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        assert await ended(reader)
        writer.close()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(url: str) -> Connection:
    return await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def asked(connection: Connection) -> Connection:
    """A connection that was answered and stays."""
    reader, writer = connection
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return connection


async def test_new_clients_at_once_are_answered_beside_idle_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connections, "_MOST", 30)
    async with serving(make_app({"m": ScriptedEngine("x")})) as url:
        idle = [await asked(await connected(url)) for _ in range(40)]
        fresh = [await connected(url) for _ in range(20)]
        for each in fresh:
            await asked(each)
        # The idle ones that were answered longest ago had to go.
        assert [await ended(reader) for reader, _ in idle[:10]] == [True] * 10
        for _, writer in (*idle, *fresh):
            writer.close()


async def test_of_idle_connections_the_last_answered_stays_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connections, "_MOST", 8)
    async with serving(make_app({"m": ScriptedEngine("x")})) as url:
        (first, first_writer), *others = [await asked(await connected(url)) for _ in range(8)]
        await asked((first, first_writer))
        others += [await asked(await connected(url)) for _ in range(3)]
        assert [await ended(reader) for reader, _ in others[:3]] == [True] * 3
        assert not first.at_eof()
        for writer in (first_writer, *(writer for _, writer in others)):
            writer.close()


async def test_bodies_that_do_not_come_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "_MOST", 8)
    head = "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with (
        serving(make_app({"m": ScriptedEngine("one two three")})) as url,
        half_open(url, 40, f"{head}Content-Length: 1000\r\n\r\n{{") as readers,
    ):
        assert await status(f"{url}/generate", json=BODY) == 200
        assert await ended(readers[0])


async def test_connections_without_requests_give_way_to_those_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connections, "_MOST", 8)
    async with (
        serving(make_app({"m": ScriptedEngine("x")})) as url,
        half_open(url, 40) as readers,
    ):
        assert await status(f"{url}/generate", json=BODY) == 200
        # The oldest had to go.
        assert await ended(readers[0])


async def test_a_long_stream_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "_MOST", 2)
    monkeypatch.setattr(_connections, "_LEAST", 2)
    monkeypatch.setattr(app, "_PATIENCE_S", 0.01)
    engine = ScriptedEngine("one two three four")
    async with (
        serving(make_app({"m": engine})) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/generate_stream", json=BODY) as response,
        half_open(url, 5),
    ):
        text = await response.text()
    assert "generated_text" in text


def test_connections_stay_well_within_the_descriptors() -> None:
    if os.name == "posix":
        import resource  # noqa: PLC0415 - not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert most_connections() <= max(8, soft // 2)


async def test_a_body_that_does_not_come_is_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_sgd.embedded._http._BODY_TIMEOUT_S", 0.05)
    head = "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = await raw(url, f"{head}Content-Length: 1000\r\n\r\n{{")
    assert b" 408 " in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("name", "parameters", "fits"),
    [
        ("f", 5, True),
        ("f", "str", True),
        ("f", [], True),
        ("f", None, True),
        ("f", {"properties": 3}, True),
        ("f", {"required": 7}, True),
        ("f", {"type": "bogus", "required": ["a"]}, True),
        ("f", {"$defs": 3}, True),
        ("f", {"properties": {"a": 3}}, False),
        ("f", {"properties": {"a": {"type": "bogus"}}}, False),
        ("f", {"properties": {"a": {"$ref": "#/nowhere"}}}, False),
        ("f", {"properties": {"a": {"$ref": 3}}}, False),
        ("", {"type": "object", "properties": {}}, False),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_wrong_tools_are_taken_or_refused_as_by_a_real_server(
    name: str,
    parameters: Any,
    fits: bool,  # noqa: FBT001
    stream: bool,  # noqa: FBT001
) -> None:
    """TGI reads a function's properties and what is required of them; another kind of value is none."""
    tool = {"type": "function", "function": {"name": name, "parameters": parameters}}
    message = {"role": "user", "content": "Hi"}
    body = {
        "messages": [message],
        "tools": [tool],
        "tool_choice": "required",
        "stream": stream,
    }
    engine = ScriptedEngine(json.dumps({"function": {"_name": name}}), grammars="ignore")
    async with (
        serving(make_app({"m": engine})) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        text = await response.text()
        assert await status(f"{url}/chat_tokenize", json=body) == 200
    assert response.status == (200 if fits or stream else 422)
    assert ('"tool_calls"' in text) is fits
    assert ("Input validation error" in text) is not fits


async def test_hostile_requests_end_nothing(url: str) -> None:
    """300 of them, from a seed: the server answers each, and the next one well."""
    async with aiohttp.ClientSession() as session:
        for path, data in hostile_requests(300):
            headers = {"Content-Type": "application/json"}
            async with session.post(url + path, data=data, headers=headers) as response:
                await response.read()
                assert response.status < 500, (path, data[:200])
        async with session.post(f"{url}/generate", json=BODY) as response:
            assert (await response.json())["generated_text"] == "one two"
