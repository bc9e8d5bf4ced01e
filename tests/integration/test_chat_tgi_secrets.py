"""A key reaches its own server and nothing else: no log, trace, error, repr or other host."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from pydantic import SecretStr

from langchain_sgd.tgi import ChatTGI, TGIAuthError, TGIError, TGIUnavailableError
from tests.tgi_server import TGITestServer

KEY = "sk-very-secret"
GATEWAY = "gateway-secret"


class Collector(BaseTracer):
    """Keeps what a tracer would send away."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.sent.append(
            run.model_dump_json() if hasattr(run, "model_dump_json") else str(vars(run))
        )


def keyed(url: str) -> ChatTGI:
    return ChatTGI(
        base_url=url,
        api_key=SecretStr(KEY),
        headers={"X-Gateway": SecretStr(GATEWAY)},
        max_retries=0,
    )


async def test_a_key_reaches_its_own_server_only() -> None:
    async with TGITestServer(api_key=KEY) as private, TGITestServer() as public:
        await keyed(private.url).ainvoke("Hi")
        await ChatTGI(base_url=public.url).ainvoke("Hi")
        assert private.log[0].carries(KEY)
        assert private.log[0].carries(GATEWAY)
        assert not public.log[0].carries(KEY)
        assert not public.log[0].carries(GATEWAY)


async def test_a_hugging_face_token_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", KEY)
    async with TGITestServer() as server:
        await ChatTGI(base_url=server.url).ainvoke("Hi")
        assert not server.log[0].carries(KEY)


async def test_the_wrong_key_is_told_without_it() -> None:
    async with TGITestServer(api_key="another") as server:
        with pytest.raises(TGIAuthError, match="TGI_API_KEY") as caught:
            await keyed(server.url).ainvoke("Hi")
        assert KEY not in repr(caught.value)
        assert KEY not in str(vars(caught.value))


async def test_a_gateway_that_echoes_headers_cannot_put_them_into_errors() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"error": head.decode()}).encode()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n")
        writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        with pytest.raises(TGIError) as caught:
            await keyed(f"http://{host}:{port}").ainvoke("Hi")
        assert "***" in str(caught.value)
        assert KEY not in str(caught.value)
        assert GATEWAY not in str(caught.value)


async def test_logs_and_traces_know_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    collector = Collector()
    async with TGITestServer(api_key=KEY) as server:
        model = keyed(server.url)
        await model.ainvoke("Hi", config={"callbacks": [collector]})
        async for _ in model.astream("Hi", config={"callbacks": [collector]}):
            pass
        await server.refuse()
        with pytest.raises(TGIUnavailableError) as caught:
            await model.ainvoke("Hi", config={"callbacks": [collector]})
    assert len(collector.sent) == 3
    seen = [caplog.text, *collector.sent, repr(caught.value), str(caught.value.__dict__)]
    for secret in (KEY, GATEWAY):
        assert all(secret not in text for text in seen)


async def test_traces_name_the_model() -> None:
    runs: list[Run] = []

    class Keeper(BaseTracer):
        def _persist_run(self, run: Run) -> None:
            runs.append(run)

    async with TGITestServer() as server:
        model = ChatTGI(base_url=server.url, temperature=0.5, max_tokens=7, stop=["x"])
        for _ in range(2):
            await model.ainvoke("Hi", config={"callbacks": [Keeper()]})
    named = [(run.extra or {})["metadata"] for run in runs]
    assert [each["ls_model_name"] for each in named] == ["tgi", "scripted/model"]
    assert named[0]["ls_provider"] == "tgi"
    assert (named[0]["ls_temperature"], named[0]["ls_max_tokens"], named[0]["ls_stop"]) == (
        0.5, 7, ["x"],
    )  # fmt: skip
