"""What bounds `ChatSGD`: calls at once, a rate limiter, and a cache that answers in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_sgd import ChatSGD, Report
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.tgi import ChatTGI
from tests.support.chats import (
    ANSWER,
    NOWHERE,
    WAYS,
    Counter,
    by_ainvoke,
    by_astream,
    chat,
    main_ways,
    stage,
)
from tests.support.models import PLANNER, Say, Stage, planning, settle
from tests.support.skeletons import skeleton

# LangChain says so of its own `astream_events(version="v3")`.
pytestmark = pytest.mark.filterwarnings("ignore:.*stream_v3. is in beta")


# -- limits


def slowly(*parts: str) -> Stage:
    """Each part takes a second."""
    lines = {part: Say(f"text of {part}", each_s=1) for part in parts}
    return stage(**{PLANNER: planning(skeleton(*parts)), **lines})


def test_max_concurrency_bounds_the_calls_of_one_answer() -> None:
    for bound, peak in [(2, 2), (None, 4)]:
        on = slowly("1", "2", "3", "4")
        config: RunnableConfig = {"max_concurrency": bound} if bound else {}
        run_virtual(chat(on).ainvoke("Why?", config))
        assert on.peak == peak


def test_max_concurrency_bounds_the_calls_of_a_batch() -> None:
    on = slowly("1", "2", "3", "4")
    run_virtual(chat(on).abatch(["A?", "B?", "C?"], {"max_concurrency": 3}))
    assert on.peak == 3
    assert len(on.calls) == 15


def test_a_synchronous_batch_has_one_limit_too() -> None:
    on = slowly("1", "2")
    # One loop for all of the batch, hence one limit: a thread for each would have its own.
    loops = set()

    def accept(*_: Any) -> bool:
        loops.add(id(asyncio.get_running_loop()))
        return True

    model = chat(on, accept=accept)
    on.lines |= {"1": Say("one"), "2": Say("two")}
    assert len(model.batch(["A?", "B?", "C?"], {"max_concurrency": 3})) == 3
    assert len(loops) == 1


@main_ways
async def test_the_rate_limiter_is_asked_once_an_answer(ask: Callable[..., Any]) -> None:
    limiter = Counter()
    await ask(chat(rate_limiter=limiter))
    assert limiter.acquired == 1


# -- the cache


@pytest.mark.parametrize("again", WAYS)
@main_ways
async def test_an_answer_is_cached_whichever_way_it_was_asked_for(
    ask: Callable[..., Any], again: Callable[..., Any]
) -> None:
    on, limiter = stage(), Counter()
    model = chat(on, cache=InMemoryCache(), rate_limiter=limiter)
    first = await ask(model)
    second = await again(model)
    assert len(on.calls) == 3
    assert limiter.acquired == 1
    assert first.text == second.text == ANSWER
    assert Report.from_message(second) == Report.from_message(first)


@pytest.fixture
def global_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("global_cache")
async def test_the_global_cache_is_used_unless_it_is_refused() -> None:
    on = stage()
    for _ in range(2):
        await by_astream(chat(on, cache=False))
    assert len(on.of(PLANNER)) == 2
    fresh = stage()
    for model in (chat(fresh), chat(fresh)):
        await by_astream(model)
    # The models inside look into the cache, too, for calls that they are asked to `invoke`: here none.
    assert len(fresh.of(PLANNER)) == 1


async def test_a_stream_that_was_left_is_not_cached() -> None:
    on = stage()
    model = chat(on, cache=InMemoryCache())
    async for _ in model.astream("Why?"):
        break
    await settle(lambda: on.in_flight == 0)
    assert (await model.ainvoke("Why?")).text == ANSWER


async def test_an_answer_that_a_stop_text_ended_may_have_gaps() -> None:
    lines = {"1": Say([], error=ValueError("no")), "2": Say("two END words")}
    on = stage(**{PLANNER: planning(skeleton("1", "2")), **lines})
    model = chat(on, cache=InMemoryCache(), retries=0, stop=["END"])
    assert (await by_ainvoke(model)).text.endswith("two ")
    on.lines["1"] = Say("one and only")
    assert "one and only" in (await by_ainvoke(model)).text


@main_ways
async def test_an_answer_with_gaps_is_not_cached(ask: Callable[..., Any]) -> None:
    on = stage(**{"2": Say([], error=ValueError("no"))})
    model = chat(on, cache=InMemoryCache(), retries=0)
    assert Report.from_message(await ask(model)).status == "partial"
    on.lines["2"] = Say("two words")
    assert (await ask(model)).text == ANSWER


async def test_a_cached_answer_serves_equal_models_only() -> None:
    cache = InMemoryCache()
    plans: dict[str, tuple[dict[str, Any], int]] = {
        "as it is": ({}, 1),
        "the same": ({}, 1),
        "another threshold": ({"threshold": 5}, 2),
        "another end": ({"stop": "two"}, 3),
        "a limit changes no answer": ({"limits": {"large": 1}}, 3),
        "a function is equal to none": ({"router": lambda _: "small"}, 4),
        "even if it looks the same": ({"router": lambda _: "small"}, 5),
    }
    on = stage()
    for options, planned in plans.values():
        await by_ainvoke(chat(on, cache=cache, **options))
        assert len(on.of(PLANNER)) == planned


def test_equal_models_have_equal_fingerprints() -> None:
    def fingerprint(**options: Any) -> str:
        model = ChatSGD(**{"small": NOWHERE, "large": NOWHERE, **options})
        return cast("str", model.asdict()["sgd_fingerprint"])

    bound = ChatTGI(base_url=NOWHERE).bind(temperature=0.5)
    other = ChatTGI(base_url=NOWHERE).bind(temperature=0.6)
    assert fingerprint() == fingerprint()
    assert fingerprint(large=bound) == fingerprint(large=bound)
    different = [
        fingerprint(),
        fingerprint(large=bound),
        fingerprint(large=other),
        fingerprint(large="http://127.0.0.1:10"),
        fingerprint(headings=False),
        fingerprint(large=RunnableLambda(lambda _: "a")),
        fingerprint(large=RunnableLambda(lambda _: "a")),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_hints": False},
        {"limits": {"small": 3}},
        {"prices": {"small": (1, 2), "large": (3, 4)}},
        {"plan_cache": True},
        {"name": "mine"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_what_changes_no_answer_leaves_it_in_the_cache(options: dict[str, Any]) -> None:
    on, cache = stage(), InMemoryCache()
    for given_options in ({}, options):
        assert (await by_ainvoke(chat(on, cache=cache, **given_options))).text == ANSWER
    assert len(on.of(PLANNER)) == 1
