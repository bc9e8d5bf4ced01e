"""The latency model: its arithmetic, its file, its engine's batches, queue and prefix cache."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.bench.latency import PRESETS, LatencyEngine, LatencyModel
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


def test_calls_reach_the_queue_one_by_one() -> None:
    model = replace(MODEL, call_s=0.25, slots=3)
    ends = run_virtual(together(LatencyEngine(model), ("aaaa", 1), ("bbbb", 1), ("cccc", 1)))
    # The first has a step of its own, in which the others arrive: they share the next one.
    assert [first for first, _ in ends] == pytest.approx([0.25 + 1, 0.25 + 2, 0.25 + 2])


def test_a_closed_engine_takes_no_call_that_is_on_its_way() -> None:
    async def work() -> None:
        engine = LatencyEngine(replace(MODEL, call_s=1.0))
        async with asyncio.TaskGroup() as group:
            call = group.create_task(_ends_with_an_error(engine))
            await asyncio.sleep(0.5)
            await engine.aclose()
        assert call.result()

    async def _ends_with_an_error(engine: LatencyEngine) -> bool:
        with pytest.raises(EngineError, match="closed"):
            await write(engine, PROMPT, 1)
        return True

    run_virtual(work())


@pytest.mark.parametrize(
    ("hidden", "expected"), [(None, 2.0), (0.0, 1 + 0.5 * 4), (3.0, 1.5), (9.0, 1.0)]
)
def test_prompt_tokens_hide_behind_a_step(hidden: float | None, expected: float) -> None:
    assert replace(MODEL, hidden_tokens=hidden).seconds(0, 4) == pytest.approx(expected)


def test_prompts_are_measured_by_the_models_own_characters_a_token() -> None:
    async def work() -> tuple[Counters, Counters]:
        engine = LatencyEngine(replace(MODEL, characters_a_token=2.5))
        first = await write(engine, "x" * 10 + "abcde", 1)
        second = await write(engine, "x" * 10 + "vwxyz", 1)
        return first[2], second[2]

    first, second = run_virtual(work())
    assert (first.prompt_tokens, first.cached_tokens) == (6, 0)
    assert (second.prompt_tokens, second.cached_tokens) == (6, 4)


# -- in files


def test_a_saved_model_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    for model in (replace(MODEL, hidden_tokens=4.0, call_s=0.1), *PRESETS.values()):
        path = tmp_path / "folder" / f"{model.name}.json"
        model.write(path)
        assert LatencyModel.read(path) == model


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "a bench"}, "no latency model"),
        ({"speed": 1}, "has no ['speed']"),
        ({"stream_s": -1}, "stream_s must be a number from 0 on, not -1"),
        ({"step_s": "1"}, "step_s must be a number"),
        ({"step_s": True}, "step_s must be a number"),
        ({"step_s": float("nan")}, "step_s must be a number"),
        ({"slots": 0}, "slots must be a whole number from 1 on"),
        ({"chunk": 1.5}, "chunk must be a whole number"),
        ({"name": 3}, "name must be a text"),
        ({"characters_a_token": 0}, "characters_a_token must be above 0"),
        ({"step_s": 0, "stream_s": 0}, "takes no time"),
    ],
)
def test_what_is_no_model_is_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        LatencyModel.from_json({**MODEL.to_json(), **changes})


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"kind": "latency model"}'])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "model.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"No latency model in {path}")):
        LatencyModel.read(path)
