from __future__ import annotations

import asyncio

import pytest

from langchain_sgd.limits import in_line
from langchain_sgd.tgi.gate import Gate, shared_gate


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Visitors:
    """Callers that go in when they may and stay until they are told to leave."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside: list[int] = []
        self.leave = [asyncio.Event() for _ in range(9)]

    async def visit(self, number: int) -> None:
        async with self.gate:
            self.inside.append(number)
            await self.leave[number].wait()
            self.inside.remove(number)


async def test_first_come_first_served() -> None:
    visitors = Visitors(Gate(2))
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(visitors.visit(number))
        await settle()
        assert visitors.inside == [0, 1]
        visitors.leave[1].set()
        await settle()
        assert visitors.inside == [0, 2]
        for event in visitors.leave:
            event.set()
    assert visitors.gate.inside == 0


async def test_an_open_gate_narrows_when_its_limit_is_learned() -> None:
    visitors = Visitors(Gate())
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(visitors.visit(number))
        await settle()
        visitors.gate.limit = 2
        group.create_task(visitors.visit(3))
        await settle()
        assert visitors.inside == [0, 1, 2]
        visitors.leave[0].set()
        await settle()
        assert visitors.inside == [1, 2]
        visitors.gate.limit = 3
        await settle()
        assert visitors.inside == [1, 2, 3]
        for event in visitors.leave:
            event.set()


@pytest.mark.parametrize("after_admission", [False, True])
async def test_a_cancelled_caller_takes_no_place(*, after_admission: bool) -> None:
    gate = Gate(1)
    visitors = Visitors(gate)
    async with asyncio.TaskGroup() as group:
        group.create_task(visitors.visit(0))
        waiting = group.create_task(visitors.visit(1))
        await settle()
        if after_admission:
            gate.release()  # lets 1 in; cancelled before it runs
            waiting.cancel()
            await settle()
            gate._inside += 1  # 0 is inside still
        else:
            waiting.cancel()
            await settle()
        visitors.leave[0].set()
        await settle()
        assert gate.inside == 0
        visitors.leave[2].set()
        await asyncio.wait_for(visitors.visit(2), 1)


async def test_clients_of_one_endpoint_share_a_gate() -> None:
    gate = shared_gate("http://a")
    assert shared_gate("http://a") is gate
    assert shared_gate("http://b") is not gate


async def test_who_wants_to_know_is_told_of_a_wait() -> None:
    gate = Gate(1)
    told: list[int] = []
    token = in_line.set(told.append)
    async with asyncio.TaskGroup() as group:
        await gate.acquire()
        assert told == []
        second = group.create_task(gate.acquire())
        await settle()
        assert told == [1]
        gate.release()
        await second
        assert told == [1, -1]
        third = group.create_task(gate.acquire())
        await settle()
        third.cancel()
        await settle()
        assert told == [1, -1, 1, -1]
    in_line.reset(token)
