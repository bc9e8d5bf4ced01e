"""An answer to one request: what it is called, what it is packed in, where it ends; without a socket."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate

from langchain_sgd.tgi import (
    ChatTGI,
    NotTGIError,
    TGIError,
    TGIGenerationError,
    TGITimeoutError,
    exchange,
)
from langchain_sgd.tgi.bodies import LONGEST_ERROR
from langchain_sgd.tgi.sse import begins_stream
from tests.tgi_memory import (
    ANSWER,
    SSE,
    STREAM,
    URL,
    WAYS,
    Asked,
    answering,
    response,
    streamed,
)

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
    assert caught.value.detail == f'HTTP {status}: {{"e'


@WAYS
@pytest.mark.parametrize(
    ("packing", "said"),
    [("br", "compressed by 'br'"), ("gzip, gzip", "by 'gzip, gzip'"), ("gzip", "is broken")],
)
async def test_an_error_that_cannot_be_unpacked_is_not_said_to_be_empty(
    monkeypatch: pytest.MonkeyPatch, way: Any, packing: str, said: str
) -> None:
    answer = response(500, b"packed", {"content-encoding": packing})
    with answering(monkeypatch, answer), pytest.raises(TGIGenerationError, match=said) as caught:
        await way(ChatTGI(base_url=URL, max_retries=0))
    assert caught.value.status == 500


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


@pytest.mark.parametrize(
    "event", [b"data: null\n\n", b"data: {}\n\n", b'data: {"choices": null}\n\n']
)
async def test_events_that_say_nothing_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, event: bytes
) -> None:
    with answering(monkeypatch, response(200, event + STREAM.encode(), SSE)):
        assert (await streamed(ChatTGI(base_url=URL))).content == "Hi"


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
