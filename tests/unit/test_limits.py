from __future__ import annotations

import asyncio
import copy
import gc
import threading
import weakref

import pytest

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.limits import Limit, Slots


async def most_at_once(limits: list[Limit], holders: int) -> int:
    """How many of so many holders were inside together; each goes on when all that can be are in."""
    inside = most = 0

    async def hold() -> None:
        nonlocal inside, most
        async with Slots(limits):
            inside += 1
            most = max(most, inside)
            for _ in range(2 * holders):
                await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(holders):
            group.create_task(hold())
    return most


@pytest.mark.parametrize(
    ("sizes", "wanted"), [((1,), 1), ((3,), 3), ((None,), 7), ((4, 2), 2), ((2, None), 2), ((), 7)]
)
async def test_the_smallest_limit_holds(sizes: tuple[int | None, ...], wanted: int) -> None:
    assert await most_at_once([Limit(size) for size in sizes], 7) == wanted


@pytest.mark.parametrize("size", [0, -1])
def test_a_limit_of_nothing_is_refused(size: int) -> None:
    with pytest.raises(InvalidInputError, match="from 1 on"):
        Limit(size)


def test_a_contended_limit_works_on_one_loop_after_another() -> None:
    limit = Limit(2)
    for _ in range(3):
        assert asyncio.run(most_at_once([limit], 5)) == 2


def test_loops_in_several_threads_share_the_object_and_not_the_slots() -> None:
    limit = Limit(1)
    found: list[int] = []

    def run() -> None:
        found.append(asyncio.run(most_at_once([limit], 4)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [1, 1, 1, 1]


def test_closed_loops_are_forgotten() -> None:
    limit = Limit(1)
    seen: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def contend() -> None:
        seen.append(weakref.ref(asyncio.get_running_loop()))
        await most_at_once([limit], 3)

    for _ in range(4):
        asyncio.run(contend())
    gc.collect()
    # The last one stays until another loop comes.
    assert [loop() is None for loop in seen[:-1]] == [True, True, True]


def test_a_copy_shares_the_slots() -> None:
    limit = Limit(2)
    assert copy.deepcopy({"small": limit})["small"] is limit


async def test_a_limit_given_twice_is_taken_once() -> None:
    # Two holders of one slot each, both waiting for the second, would wait for ever.
    limit = Limit(2)
    async with asyncio.timeout(5):
        assert await most_at_once([limit, limit], 4) == 2


async def test_a_slot_is_free_again_after_an_error_and_a_cancelled_wait() -> None:
    limit = Limit(1)
    with pytest.raises(ValueError, match="inside"):
        async with Slots([limit]):
            raise ValueError("inside")
    async with Slots([limit]):

        async def wait() -> None:
            async with Slots([Limit(None), limit]):
                raise AssertionError

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
    async with asyncio.timeout(1), Slots([limit]):
        pass
