"""The latency model: its arithmetic, its calibration, its engine's batches, queue and prefix cache."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.bench.latency import (
    PRESETS,
    LatencyEngine,
    LatencyModel,
    Point,
    calibrate,
)
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.embedded.engine import Counters, EngineError, GenerateRequest

MODEL = LatencyModel(name="m", step_s=1.0, stream_s=0.1, prompt_token_s=0.5, slots=2, chunk=4)
PROMPT = "abcd" * 2


async def write(engine: LatencyEngine, prompt: str, tokens: int) -> tuple[float, float, Counters]:
    """When the first and the last token came."""
    loop, counters = asyncio.get_running_loop(), Counters()
    times = [loop.time() async for _ in engine.write(prompt, ["x"] * tokens, counters)]
    return times[0], times[-1], counters


async def together(engine: LatencyEngine, *jobs: tuple[str, int]) -> list[tuple[float, float]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(write(engine, *job)) for job in jobs]
    return [task.result()[:2] for task in tasks]


@pytest.mark.parametrize(
    ("name", "prefill_ms", "decode_ms"),
    [("llama-7b-a100", 40, 2735), ("llama-13b-a100", 54, 3725), ("llama-33b-a100", 100, 5506)],
)
def test_presets_give_back_the_published_times(
    name: str, prefill_ms: float, decode_ms: float
) -> None:
    model = PRESETS[name]
    assert 64 * model.seconds(1) * 1000 == pytest.approx(decode_ms)
    # The prompt hides behind the weights, so it costs a step: within a fifth of what was published.
    assert model.seconds(0, 128) * 1000 == pytest.approx(prefill_ms, rel=0.2)
    assert "2307.15337" in model.source
    assert "assumed" in model.source


def test_one_stream_takes_a_step_for_its_prompt_and_one_for_each_further_token() -> None:
    first, last, _ = run_virtual(write(LatencyEngine(MODEL), PROMPT, 3))
    assert (first, last) == pytest.approx((1.0, 1.0 + 2 * 1.1))


def test_a_long_prompt_is_computed_in_chunks() -> None:
    first, _, counters = run_virtual(write(LatencyEngine(MODEL), "abcd" * 10, 1))
    # 4, 4 and 2 tokens; the last two hide behind the step.
    assert first == pytest.approx(2.0 + 2.0 + 1.0)
    assert counters.prompt_tokens == 10


def test_streams_share_steps_and_the_third_waits_for_a_slot() -> None:
    ends = run_virtual(together(LatencyEngine(MODEL), ("aaaa", 3), ("bbbb", 3), ("cccc", 1)))
    assert ends[0] == ends[1] == pytest.approx((1.0, 1.0 + 2 * 1.2))
    assert ends[2][0] == pytest.approx(3.4 + 1.0)


def test_what_was_computed_before_is_free_but_for_the_last_token() -> None:
    async def twice() -> list[int]:
        engine = LatencyEngine(MODEL)
        found = [await write(engine, p, 1) for p in ("abcd" * 8, "abcd" * 6 + "zzzz", "abcd" * 8)]
        return [counters.cached_tokens for *_, counters in found]

    assert run_virtual(twice()) == [0, 6, 7]


def test_a_closed_stream_frees_its_slot() -> None:
    async def work() -> float:
        engine = LatencyEngine(MODEL)
        for _ in range(2):
            async with aclosing(engine.write("gone", ["x"] * 1000)) as stream:
                await anext(stream)
        return (await write(engine, PROMPT, 2))[1]

    assert run_virtual(work()) < 8


def test_closing_the_engine_ends_requests_with_an_error() -> None:
    async def work() -> None:
        engine = LatencyEngine(MODEL)
        async with aclosing(engine.generate(GenerateRequest("a", 9), Counters())) as stream:
            assert (await anext(stream)).text
            await engine.aclose()
            with pytest.raises(EngineError, match="closed"):
                await anext(stream)

    run_virtual(work())


@given(
    base=st.floats(0.001, 1),
    slope=st.floats(0.0001, 1),
    sizes=st.sets(st.integers(1, 64), min_size=2),
)
@settings(max_examples=50, deadline=None)
def test_calibration_finds_the_line_that_it_was_made_from(
    base: float, slope: float, sizes: set[int]
) -> None:
    fit = calibrate([Point(n, base + slope * n) for n in sizes], name="m")
    assert fit.worst < 1e-6
    assert fit.model.seconds(3) == pytest.approx(base + slope * 3, rel=1e-3)


@pytest.mark.parametrize("times", [(2.0, 1.0), (1.0, 9.0)])
def test_no_parameter_is_below_zero(times: tuple[float, float]) -> None:
    fit = calibrate([Point(1, times[0]), Point(2, times[1])], name="m")
    assert fit.model.step_s >= 0
    assert fit.model.stream_s >= 0
    assert fit.worst > 0


def test_one_batch_size_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two batch sizes"):
        calibrate([Point(4, 1.0), Point(4, 1.1)], name="m")
