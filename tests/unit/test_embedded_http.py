"""The events of a stream on their way out: what leaves together, what leaves at once, who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from langchain_sgd.embedded import _http
from langchain_sgd.embedded._http import Events


class Response:
    """Remembers what is written, and takes it in only while its client reads."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.written = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()

    async def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.written.set()
        await self.reads.wait()

    async def write_eof(self, data: bytes) -> None:
        await self.write(data)


@pytest.fixture
def response() -> Response:
    return Response()


@pytest.fixture
async def events(response: Response) -> AsyncIterator[Events]:
    events = Events(response)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(events.attend(60))
        await asyncio.sleep(0)
        yield events
        writing.cancel()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_a_silence_what_comes_together_leaves_at_once(
    events: Events, response: Response
) -> None:
    await events.send(b"a")
    await events.send(b"b")
    await settle()
    assert response.writes == [b"ab"]


async def test_what_comes_soon_after_a_write_leaves_together(
    events: Events, response: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "_PAUSE_S", 0.2)
    await events.send(b"a", at_once=True)
    await events.send(b"b")
    await settle()
    assert response.writes == [b"a"]
    await events.send(b"c")
    response.written.clear()
    await response.written.wait()
    assert response.writes == [b"a", b"bc"]


async def test_what_cannot_wait_takes_along_what_is_held(
    events: Events, response: Response
) -> None:
    await events.send(b"a")
    await settle()
    await events.send(b"b")
    await events.send(b"c\n", at_once=True)
    assert response.writes == [b"a", b"bc\n"]


async def test_the_end_takes_along_what_is_held(events: Events, response: Response) -> None:
    await events.send(b"a")
    await settle()
    await events.send(b"b")
    await events.close()
    assert response.writes == [b"a", b"b"]


async def test_a_client_that_does_not_read_holds_the_sender_back(
    events: Events, response: Response
) -> None:
    response.reads.clear()
    await events.send(b"a")
    await settle()
    sending = asyncio.ensure_future(events.send(b"b"))
    await settle()
    assert not sending.done()
    response.reads.set()
    await sending
    assert response.writes == [b"a", b"b"]


async def test_a_silence_is_filled_by_comments(response: Response) -> None:
    events = Events(response)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        attending = group.create_task(events.attend(0.005))
        for _ in range(2):
            response.written.clear()
            await response.written.wait()
        await events.send(b"a", at_once=True)
        attending.cancel()
    written = b"".join(response.writes)
    assert written.startswith(b":\n\n:\n\n")
    assert written.replace(b":\n\n", b"") == b"a"
