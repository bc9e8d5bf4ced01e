"""Tokens on their way from OpenVINO's process to coroutines, and back what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from langchain_sgd.embedded import _child
from langchain_sgd.embedded.engine import EngineError, EngineInputError, Token
from langchain_sgd.embedded.openvino import Worker


class NotedChild:
    """A process that only notes what it is told."""

    mine = alive = True

    def __init__(self, options: Mapping[str, Any], listener: Callable[..., None]) -> None:
        self.told: list[Mapping[str, Any]] = []
        self.said = options
        self.sends: list[Any] = []
        self._listener = listener

    def tell(self, message: Mapping[str, Any]) -> None:
        self.told.append(message)

    def lines(self) -> list[Any]:
        sent, self.sends = self.sends, []
        return sent

    def last_words(self, when: str) -> str:
        self.alive = False
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


def tokens(worker: Worker, **asked: Any) -> Any:
    decoder: Any = Numbers()
    return worker.tokens({"ids": [1, 2], "logprobs": False, **asked}, decoder)


def says(worker: Worker, *out: tuple[int, list[int], str], reason: str | None = None) -> None:
    """What the process sends after a step."""
    made = [[number, ids, [-0.5] * len(ids), state, reason] for number, ids, state in out]
    worker._deliver(made)


async def read(worker: Worker, into: list[str] | None = None) -> list[str]:
    found: list[str] = [] if into is None else into
    async with aclosing(tokens(worker)) as stream:
        async for token in stream:
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
        first = group.create_task(read(worker))
        second = group.create_task(read(worker))
        await settle()
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(call))
            says(worker, (1, [5, 6, 7], "ended"), (2, [11], "ended"))
            says(worker)
        ((deliver, *letters),) = woken
        deliver(*letters)
    assert first.result() == ["5", "6", "7!"]
    assert second.result() == ["11!"]
    assert worker.statistics.computed_prompt_tokens == 4


async def test_steps_and_tokens_are_counted(worker: Worker) -> None:
    child_of(worker).sends = [
        {"busy_s": 0.25, "out": [[1, [5, 6], [], "running", None]]},
        {"out": [[1, [], [], "lost", "no"]]},
    ]
    child_of(worker).end()
    counted = worker.statistics
    assert (counted.steps, counted.generated_tokens, counted.busy_s) == (1, 2, 0.25)


@pytest.mark.parametrize("logprobs", [True, False])
async def test_log_probabilities_come_where_they_are_asked_for(
    worker: Worker,
    logprobs: bool,  # noqa: FBT001
) -> None:
    async with aclosing(tokens(worker, logprobs=logprobs)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        await settle()
        says(worker, (1, [5], "running"))
        assert (await reading).logprob == (-0.5 if logprobs else None)


async def test_an_error_comes_after_the_tokens_before_it(worker: Worker) -> None:
    found: list[str] = []
    reading = asyncio.ensure_future(read(worker, found))
    await settle()
    says(worker, (1, [5], "running"))
    child_of(worker).end()
    with pytest.raises(EngineError, match="ended while it worked"):
        await reading
    assert found == ["5"]


async def test_a_process_that_has_just_ended_is_asked_nothing(worker: Worker) -> None:
    child = child_of(worker)
    child.end()
    child.alive = True  # its pipe has ended, but it is not gone yet
    with pytest.raises(EngineError, match="ended while it worked"):
        await read(worker)
    assert not child.told


async def test_after_what_is_no_message_the_next_request_has_another_process(
    worker: Worker,
) -> None:
    reading = asyncio.ensure_future(read(worker))
    await settle()
    first = child_of(worker)
    first.sends = [{"odd": 1}]
    with pytest.raises(KeyError):
        first.end()
    with pytest.raises(EngineError, match="ended while it worked"):
        await reading
    await worker.ready()
    assert child_of(worker) is not first
    reading = asyncio.ensure_future(read(worker))
    await settle()
    says(worker, (2, [5], "ended"))
    assert await reading == ["5!"]


@pytest.mark.parametrize(("state", "kind"), [("refused", EngineInputError), ("lost", EngineError)])
async def test_what_ends_a_request_is_said(
    worker: Worker, state: str, kind: type[EngineError]
) -> None:
    reading = asyncio.ensure_future(read(worker))
    await settle()
    says(worker, (1, [], state), reason="too much")
    with pytest.raises(EngineError, match="too much") as caught:
        await reading
    assert type(caught.value) is kind
    assert not child_of(worker).told[1:]


async def test_a_waiting_reader_is_woken_by_tokens_and_by_the_end(worker: Worker) -> None:
    found: list[str] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(worker, found))
        await settle()
        for number in range(3):
            says(worker, (1, [number], "running"))
            await settle()
        assert found == ["0", "1", "2"]
        assert not task.done()
        says(worker, (1, [3], "ended"))


async def test_leaving_a_stream_cancels_the_request(worker: Worker) -> None:
    async with aclosing(tokens(worker)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        await settle()
        says(worker, (1, [5], "running"))
        await reading
        assert [next(iter(message)) for message in child_of(worker).told] == ["add"]
    assert child_of(worker).told[-1] == {"cancel": 1}


async def test_tokens_for_a_reader_that_was_cancelled_do_no_harm(worker: Worker) -> None:
    reading = asyncio.ensure_future(read(worker))
    await settle()
    reading.cancel()
    await settle()
    says(worker, (1, [5], "ended"))
    assert child_of(worker).told[-1] == {"cancel": 1}
