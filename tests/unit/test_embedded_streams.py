"""Tokens on their way from the engine's thread to a coroutine."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from langchain_sgd.embedded._streams import Outbox, TokenStream
from langchain_sgd.embedded.engine import EngineError, Token


class CountingLoop:
    """Stands for a busy event loop: remembers what it was asked to call, and calls it on demand."""

    def __init__(self, *, closed: bool = False) -> None:
        self.calls: list[object] = []
        self.closed = closed

    def call_soon_threadsafe(self, callback: object) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.calls.append(callback)

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()  # type: ignore[operator]


def outbox(loop: CountingLoop) -> Outbox:
    return Outbox(weakref.ref(loop))  # type: ignore[arg-type]


def token(number: int) -> Token:
    return Token(number, str(number))


def test_a_busy_loop_is_woken_once_for_all_tokens_of_all_streams() -> None:
    loop = CountingLoop()
    box = outbox(loop)
    first, second = TokenStream(box), TokenStream(box)
    for number in range(3):
        box.post(first, [token(number)])
        box.post(second, [token(number + 10)])
        box.flush()
    assert len(loop.calls) == 1
    loop.run()
    assert [each.id for each in first.take()] == [0, 1, 2]
    assert [each.id for each in second.take()] == [10, 11, 12]


def test_what_comes_after_a_delivery_asks_for_another_one() -> None:
    loop = CountingLoop()
    box = outbox(loop)
    stream = TokenStream(box)
    for number in range(2):
        box.post(stream, [token(number)])
        box.flush()
        loop.run()
    assert [each.id for each in stream.take()] == [0, 1]


@pytest.mark.parametrize("gone", ["closed", "collected"])
def test_streams_of_a_loop_that_is_gone_are_abandoned(gone: str) -> None:
    loop = CountingLoop(closed=gone == "closed")
    box = outbox(loop)
    stream = TokenStream(box)
    if gone == "collected":
        del loop
    box.post(stream, [token(1)])
    box.flush()
    assert stream.abandoned


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    stream = TokenStream(Outbox(weakref.ref(asyncio.get_running_loop())))
    stream.arrive([token(1)], ended=True, error=EngineError("broke"))
    assert await stream.ready()
    stream.take().clear()
    with pytest.raises(EngineError, match="broke"):
        await stream.ready()


async def test_a_waiting_reader_is_woken_by_tokens_and_by_the_end() -> None:
    stream = TokenStream(Outbox(weakref.ref(asyncio.get_running_loop())))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stream.ready())
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.arrive([token(1)], ended=False, error=None)
    assert waiting.result()
    stream.take().clear()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stream.ready())
        await asyncio.sleep(0)
        stream.arrive([], ended=True, error=None)
    assert not waiting.result()
