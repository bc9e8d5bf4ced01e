"""The events of a stream on their way out: what leaves together, what leaves at once, who waits."""

from __future__ import annotations

import asyncio

import pytest

from langchain_sgd.embedded import _http
from langchain_sgd.embedded._http import Events
from langchain_sgd.embedded.engine import Token


class Response:
    """Remembers what is written, and takes it in only while its client reads."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def write(self, data: bytes) -> None:
        self.writes.append(data)
        await asyncio.sleep(0)
        await self.reads.wait()

    async def write_eof(self, data: bytes) -> None:
        await self.write(data)


@pytest.fixture
def response() -> Response:
    return Response()


@pytest.fixture
async def events(response: Response, monkeypatch: pytest.MonkeyPatch) -> Events:
    """Ones whose moment never ends."""
    made = Events(response)  # type: ignore[arg-type]
    await made.send(b"0")
    response.writes.clear()
    monkeypatch.setattr(_http, "_PAUSE_S", 60)
    return made


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_a_silence_an_event_leaves_at_once(
    events: Events, response: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "_PAUSE_S", 0)
    await events.send(b"a")
    await events.send(b"b")
    assert response.writes == [b"a", b"b"]


async def test_what_comes_soon_after_a_write_leaves_together(
    events: Events, response: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    await events.send(b"a")
    await events.send(b"b")
    assert response.writes == []
    monkeypatch.setattr(_http, "_PAUSE_S", 0)
    await events.send(b"c")
    assert response.writes == [b"abc"]


async def test_nobody_waits_for_the_ends_and_beginnings_of_lines_or_for_fields(
    events: Events, response: Response
) -> None:
    for text in ("first", " second", " |", " third", ".\n", "next", " word"):
        await events.send(text.encode(), of=Token(1, text))
    assert response.writes == [b"first", b" second |", b" third.\n", b"next"]


async def test_the_end_takes_along_what_is_held(events: Events, response: Response) -> None:
    await events.send(b"a")
    await events.send(b"b")
    await events.close()
    assert response.writes == [b"ab"]


async def test_a_client_that_does_not_read_holds_the_sender_back(
    events: Events, response: Response
) -> None:
    response.reads.clear()
    sending = asyncio.ensure_future(events.send(b"a", of=Token(1, "\n")))
    await settle()
    assert not sending.done()
    response.reads.set()
    await sending
    assert response.writes == [b"a"]


async def test_what_is_held_leaves_when_its_moment_has_come_though_nothing_follows(
    events: Events, response: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    attending = asyncio.ensure_future(events.attend(60))
    await settle()
    assert response.writes == []
    await events.send(b"a")
    assert response.writes == []
    monkeypatch.setattr(_http, "_PAUSE_S", 0)
    await settle()
    attending.cancel()
    assert response.writes == [b"a"]


async def test_a_silence_is_filled_by_comments(
    events: Events, response: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "_PAUSE_S", 0)
    await events.send(b"a")
    attending = asyncio.ensure_future(events.attend(0))
    for _ in range(2):
        await settle()
        await events.send(b"b")
    attending.cancel()
    written = b"".join(response.writes)
    assert written.startswith(b"a:\n\n")
    assert written.replace(b":\n\n", b"") == b"abb"
