"""Tokens on their way from the engine's thread to a coroutine."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from langchain_sgd.embedded._streams import Mail, TokenStream
from langchain_sgd.embedded.engine import EngineError, Token


def token(number: int) -> Token:
    return Token(number, str(number))


async def test_a_loop_is_woken_once_for_all_that_a_step_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[Any] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_soon_threadsafe", lambda *call: woken.append(call)
    )
    first, second, mail = TokenStream(), TokenStream(), Mail()
    mail.add(first, [token(1)])
    mail.add(second, [token(11)])
    mail.add(first, [token(2)], ended=True)
    mail.send()
    mail.send()
    ((deliver, *letters),) = woken
    deliver(*letters)
    assert [each.id for each in await _collect(first)] == [1, 2]
    assert [each.id for each in second._tokens] == [11]


def test_streams_of_a_loop_that_is_closed_are_abandoned() -> None:
    async def begun() -> TokenStream:
        return TokenStream()

    stream, mail = asyncio.run(begun()), Mail()
    mail.add(stream, [token(1)])
    mail.send()
    assert stream.abandoned


async def _collect(stream: TokenStream) -> list[Token]:
    async with aclosing(stream.tokens()) as tokens:
        return [each async for each in tokens]


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    stream = TokenStream()
    stream.arrive([token(1)], ended=True, error=EngineError("broke"))
    tokens = stream.tokens()
    assert (await anext(tokens)).id == 1
    with pytest.raises(EngineError, match="broke"):
        await anext(tokens)


async def test_a_waiting_reader_is_woken_by_tokens_and_by_the_end() -> None:
    stream = TokenStream()
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
    stream = TokenStream()
    stream.arrive([token(1)], ended=False, error=None)
    async with aclosing(stream.tokens()) as tokens:
        await anext(tokens)
        assert not stream.abandoned
    assert stream.abandoned


async def test_tokens_for_a_reader_that_was_cancelled_do_no_harm() -> None:
    stream = TokenStream()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_collect(stream))
        await asyncio.sleep(0)
        reading.cancel()
    stream.arrive([token(1)], ended=True, error=None)
    assert stream.abandoned
