"""Tokens on their way from the engine's thread to a coroutine."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import aclosing

import pytest

from langchain_sgd.embedded._streams import Outbox, Outboxes, TokenStream
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
    assert [each.id for each in first._tokens] == [0, 1, 2]
    assert [each.id for each in second._tokens] == [10, 11, 12]


def test_what_comes_after_a_delivery_asks_for_another_one() -> None:
    loop = CountingLoop()
    box = outbox(loop)
    stream = TokenStream(box)
    for number in range(2):
        box.post(stream, [token(number)])
        box.flush()
        loop.run()
    assert [each.id for each in stream._tokens] == [0, 1]


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


async def _collect(stream: TokenStream) -> list[Token]:
    async with aclosing(stream.tokens()) as tokens:
        return [each async for each in tokens]


def of_this_loop() -> TokenStream:
    return TokenStream(Outboxes().mine())


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    stream = of_this_loop()
    stream.arrive([token(1)], ended=True, error=EngineError("broke"))
    tokens = stream.tokens()
    assert (await anext(tokens)).id == 1
    with pytest.raises(EngineError, match="broke"):
        await anext(tokens)


async def test_a_waiting_reader_is_woken_by_tokens_and_by_the_end() -> None:
    stream = of_this_loop()
    read: list[int] = []

    async def reader() -> None:
        async for each in stream.tokens():
            read.append(each.id)  # noqa: PERF401 - looked at in between

    async with asyncio.TaskGroup() as group:
        task = group.create_task(reader())
        for number in range(3):
            await asyncio.sleep(0)
            stream.arrive([token(number)], ended=False, error=None)
        await asyncio.sleep(0)
        assert read == [0, 1, 2]
        assert not task.done()
        stream.arrive([], ended=True, error=None)


async def test_leaving_a_stream_abandons_it() -> None:
    stream = of_this_loop()
    stream.arrive([token(1)], ended=False, error=None)
    async with aclosing(stream.tokens()) as tokens:
        await anext(tokens)
        assert not stream.abandoned
    assert stream.abandoned


async def test_tokens_for_a_reader_that_was_cancelled_do_no_harm() -> None:
    stream = of_this_loop()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_collect(stream))
        await asyncio.sleep(0)
        reading.cancel()
    stream.arrive([token(1)], ended=True, error=None)
    assert stream.abandoned


async def test_a_loop_has_one_outbox_per_engine() -> None:
    outboxes = Outboxes()
    assert outboxes.mine() is outboxes.mine()
