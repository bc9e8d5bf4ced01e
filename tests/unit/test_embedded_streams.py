"""Tokens on their way from OpenVINO's process to coroutines, and back what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from langchain_sgd.embedded import _child
from langchain_sgd.embedded._openvino_process import Request, Worker
from langchain_sgd.embedded.engine import EngineError, Token


class NotedChild:
    """A process that only notes what it is told."""

    mine = alive = True

    def __init__(self, _: str, options: Mapping[str, Any], listener: Callable[..., None]) -> None:
        self.told: list[Mapping[str, Any]] = []
        self.said = options
        self.sends: list[Any] = []
        self._listener = listener

    def tell(self, message: Mapping[str, Any]) -> None:
        self.told.append(message)

    def lines(self) -> list[Any]:
        return self.sends

    def kill(self) -> None:
        self.alive = False

    def last_words(self, when: str) -> str:
        return f"ended {when}"

    def end(self) -> None:
        """Nothing more comes of it."""
        self._listener(self)

    def close(self) -> None:
        """As after its end."""


class Numbers:
    """Decodes a token to its number."""

    def push(self, token: int, logprob: float | None = None, *, last: bool = False) -> Token:
        return Token(token, f"{token}{'!' * last}", logprob=logprob)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(_child, "Child", NotedChild)
    return Worker({}, "m")


def child_of(worker: Worker) -> NotedChild:
    child: Any = worker.child
    assert isinstance(child, NotedChild)
    return child


def request(**changes: Any) -> Request:
    decoder: Any = Numbers()
    options = {"limit": 9, "ends": (), "logprobs": False, "sampling": {}, "regex": None}
    return Request(**{"ids": [1, 2], "decoder": decoder, **options, **changes})


def step(worker: Worker, *out: tuple[int, list[int], str]) -> None:
    """What the process sends after a step."""
    made = [(number, ids, [-0.5] * len(ids), state) for number, ids, state in out]
    worker._read({"busy_s": 0.25, "out": made})
    worker._send(worker.child)


async def read(worker: Worker, asked: Request, into: list[str] | None = None) -> list[str]:
    found: list[str] = [] if into is None else into
    async with aclosing(worker.tokens(asked)) as tokens:
        async for token in tokens:
            found.append(token.text)  # noqa: PERF401 - looked at in between
    return found


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_loop_is_woken_once_for_all_that_a_step_made(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[Any] = []
    async with asyncio.TaskGroup() as group:
        first = group.create_task(read(worker, request()))
        second = group.create_task(read(worker, request()))
        await settle()
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(call))
            step(worker, (1, [5, 6], "running"), (2, [11], "ended"), (1, [7], "ended"))
            worker._send(worker.child)
        ((deliver, *letters),) = woken
        deliver(*letters)
    assert first.result() == ["5", "6", "7!"]
    assert second.result() == ["11!"]
    assert (worker.statistics.generated_tokens, worker.statistics.steps) == (4, 1)
    assert worker.statistics.busy_s == 0.25
    assert worker.statistics.computed_prompt_tokens == 4


async def test_log_probabilities_come_where_they_are_asked_for(worker: Worker) -> None:
    for logprobs in (True, False):
        tokens = worker.tokens(request(logprobs=logprobs))
        reading = asyncio.ensure_future(anext(tokens))
        await settle()
        step(worker, (worker._number, [5], "running"))
        assert (await reading).logprob == (-0.5 if logprobs else None)
        await tokens.aclose()


def test_requests_of_a_loop_that_is_closed_are_cancelled(worker: Worker) -> None:
    async def begun() -> Any:
        tokens = worker.tokens(request())
        reading = asyncio.ensure_future(anext(tokens))
        await settle()
        reading.cancel()
        return worker._running[1]

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(begun())
    loop.close()
    worker._running[1] = left
    step(worker, (1, [5], "running"))
    assert child_of(worker).told[-1] == {"cancel": 1}
    assert not worker._running


async def test_an_error_comes_after_the_tokens_before_it(worker: Worker) -> None:
    found: list[str] = []
    reading = asyncio.ensure_future(read(worker, request(), found))
    await settle()
    step(worker, (1, [5], "running"))
    child_of(worker).end()
    with pytest.raises(EngineError, match="ended while it worked"):
        await reading
    assert found == ["5"]


async def test_a_process_that_has_just_ended_is_asked_nothing(worker: Worker) -> None:
    child_of(worker).end()
    with pytest.raises(EngineError, match="ended while it worked"):
        await read(worker, request())
    assert not child_of(worker).told


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit("odd")])
async def test_what_cannot_be_read_ends_the_process_and_its_requests_alone(
    worker: Worker, error: BaseException
) -> None:
    def push(*_: Any, **__: Any) -> Token:
        raise error

    broken: Any = Numbers()
    broken.push = push
    asked = [asyncio.ensure_future(read(worker, request(decoder=broken))) for _ in range(2)]
    await settle()
    first = child_of(worker)
    first.sends = [{"busy_s": 0.1, "out": [[1, [5], [-0.5], "running"]]}]
    first.end()
    for each in asked:
        with pytest.raises(EngineError, match=r"could not read what OpenVINO made .*odd"):
            await each
    assert not first.alive

    await worker.ready()
    assert child_of(worker) is not first
    reading = asyncio.ensure_future(read(worker, request()))
    await settle()
    step(worker, (3, [5], "ended"))
    assert await reading == ["5!"]


async def test_what_openvino_gives_up_is_an_error(worker: Worker) -> None:
    reading = asyncio.ensure_future(read(worker, request()))
    await settle()
    step(worker, (1, [], "given up"))
    with pytest.raises(EngineError, match="with fewer at once"):
        await reading


@pytest.mark.parametrize(
    ("regex", "blamed"), [("a+", "cannot follow the grammar"), (None, "try again")]
)
async def test_a_broken_pipeline_is_told_to_all_it_lost(
    worker: Worker, regex: str | None, blamed: str
) -> None:
    older = asyncio.ensure_future(read(worker, request()))
    await settle()
    newer = asyncio.ensure_future(read(worker, request(regex=regex)))
    await settle()
    worker._read({"broken": "no", "lost": [1, 2, 3], "fresh": [2]})
    worker._send(worker.child)
    with pytest.raises(EngineError, match="was started again"):
        await older
    with pytest.raises(EngineError, match=blamed):
        await newer


async def test_a_waiting_reader_is_woken_by_tokens_and_by_the_end(worker: Worker) -> None:
    found: list[str] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(worker, request(), found))
        await settle()
        for number in range(3):
            step(worker, (1, [number], "running"))
            await settle()
        assert found == ["0", "1", "2"]
        assert not task.done()
        step(worker, (1, [3], "ended"))


async def test_leaving_a_stream_cancels_the_request(worker: Worker) -> None:
    async with aclosing(worker.tokens(request())) as tokens:
        reading = asyncio.ensure_future(anext(tokens))
        await settle()
        step(worker, (1, [5], "running"))
        await reading
        assert [next(iter(message)) for message in child_of(worker).told] == ["add"]
    assert child_of(worker).told[-1] == {"cancel": 1}


async def test_tokens_for_a_reader_that_was_cancelled_do_no_harm(worker: Worker) -> None:
    reading = asyncio.ensure_future(read(worker, request()))
    await settle()
    reading.cancel()
    await settle()
    step(worker, (1, [5], "ended"))
    assert child_of(worker).told[-1] == {"cancel": 1}
