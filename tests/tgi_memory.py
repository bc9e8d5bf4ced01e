"""The bytes of a server's answer, fed to the client without a socket.

    with answering(monkeypatch, response(200, body)) as asked:
        await ChatTGI(base_url=URL).ainvoke("Hi")
    assert asked[0].path == "/v1/chat/completions"

Everything above the socket is the real thing: aiohttp's connection pool and its HTTP parser included.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest

from langchain_sgd.tgi import pool

URL = "http://tgi.test:8080"

Pieces = Iterable[bytes | None]
"""What arrives, one after the other; None is silence for ever, the end of all pieces a closed connection."""


@dataclass(frozen=True)
class Asked:
    """A request as it left the client."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def response(
    status: int, body: bytes | str, headers: Mapping[str, str] | None = None, *, cut: int = 0
) -> list[bytes]:
    """A whole HTTP answer, its body in pieces of `cut` bytes (0: in one)."""
    data = body.encode() if isinstance(body, str) else body
    named = {
        "content-type": "application/json",
        **(headers or {}),
        "content-length": str(len(data)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode()
    size = cut or max(1, len(data))
    return [head, *(data[at : at + size] for at in range(0, len(data), size))]


class _Transport(asyncio.Transport):
    def __init__(
        self, protocol: Any, answer: Callable[[Asked], Pieces], asked: list[Asked]
    ) -> None:
        super().__init__()
        self._protocol = protocol
        self._answer = answer
        self._asked = asked
        self._written = b""
        self._waiting: Iterator[bytes | None] | None = None
        self._paused = self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += bytes(data)
        head, blank, body = self._written.partition(b"\r\n\r\n")
        if not blank:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if len(body) < int(headers.get("content-length", 0)):
            return
        self._written = b""
        method, path, _ = first.split(" ")
        request = Asked(method, path, headers, body)
        self._asked.append(request)
        self._waiting = iter(self._answer(request))
        self._soon()

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._feed)

    def _feed(self) -> None:
        if self._paused or self._closing or self._waiting is None:
            return
        try:
            piece = next(self._waiting)
        except StopIteration:
            self._waiting = None
            self._protocol.eof_received()
            self.close()
            return
        if piece is None:
            self._waiting = None
            return
        self._protocol.data_received(piece)
        self._soon()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._soon()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002
        return default


class _Connector(aiohttp.BaseConnector):
    """Connects to nobody; its `_create_connection` is what aiohttp's own connectors override."""

    def __init__(self, answer: Callable[[Asked], Pieces], asked: list[Asked]) -> None:
        super().__init__()
        self._answer = answer
        self._asked = asked

    async def _create_connection(self, *_: Any) -> Any:
        protocol = self._factory()
        protocol.connection_made(_Transport(protocol, self._answer, self._asked))
        return protocol


@contextmanager
def answering(
    monkeypatch: pytest.MonkeyPatch, *answers: Pieces | Callable[[Asked], Pieces]
) -> Iterator[list[Asked]]:
    """Answer the requests that are made inside, the last answer again and again; yields them."""
    asked: list[Asked] = []

    def answer(request: Asked) -> Pieces:
        found = answers[min(len(asked), len(answers)) - 1]
        return found(request) if callable(found) else found

    def connector(*, tls: ssl.SSLContext | bool) -> aiohttp.BaseConnector:  # noqa: ARG001
        return _Connector(answer, asked)

    with monkeypatch.context() as patched:
        patched.setattr(pool, "_connector", connector)
        yield asked


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
