"""The opt-in engine on a real, tiny model; needs openvino-genai."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from langchain_sgd.bench._random_model import write_random_model
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInputError,
    GenerateRequest,
    Grammar,
    Sampling,
    Token,
)
from langchain_sgd.embedded.openvino import OpenVINOEngine
from langchain_sgd.embedded.xllamacpp import XLlamaCppEngine
from tests.support.tiny_gguf import write_tiny_model

PREFIX = "Once upon a time there was a small model that knew nothing at all about the world. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
async def engine(model: Path) -> AsyncIterator[OpenVINOEngine]:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    engine = OpenVINOEngine(model, slots=4)
    yield engine
    await engine.aclose()


async def run(
    engine: OpenVINOEngine | XLlamaCppEngine, request: GenerateRequest
) -> tuple[list[Token], Counters]:
    counters = Counters()
    return [token async for token in engine.generate(request, counters)], counters


async def test_it_says_what_the_default_engine_says(engine: OpenVINOEngine, model: Path) -> None:
    default = XLlamaCppEngine(model)
    request = GenerateRequest(PREFIX, 4, logprobs=True)
    expected, _ = await run(default, request)
    await default.aclose()
    tokens, counters = await run(engine, request)
    assert counters.prompt_tokens > 60
    assert tokens[0].id == expected[0].id
    assert tokens[0].logprob == pytest.approx(expected[0].logprob, abs=0.05)


async def test_a_seed_repeats_a_text(engine: OpenVINOEngine) -> None:
    requests = [
        GenerateRequest("hello", 8, Sampling(temperature=1.0, seed=seed)) for seed in (1, 1, 2)
    ]
    first, again, other = [(await run(engine, request))[0] for request in requests]
    assert first == again != other


async def test_many_requests_are_answered_in_one_batch(engine: OpenVINOEngine) -> None:
    before = engine.statistics
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(engine, GenerateRequest(f"{PREFIX}{n}", 10))) for n in range(6)
        ]
    after = engine.statistics
    total = sum(len(task.result()[0]) for task in runs)
    assert after.generated_tokens - before.generated_tokens == total
    assert after.steps - before.steps < total


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", r"(yes|no), [0-9]{2}"),
        Grammar(
            "json",
            {
                "properties": {
                    "id": {"type": "integer", "maximum": 9},
                    "hard": {"type": "boolean"},
                },
                "required": ["id", "hard"],
            },
        ),
    ],
)
async def test_grammars_hold(engine: OpenVINOEngine, grammar: Grammar) -> None:
    tokens, _ = await run(engine, GenerateRequest("x", 60, grammar=grammar))
    assert tokens[-1].special
    text = "".join(token.text for token in tokens if not token.special)
    if grammar.kind == "regex":
        assert re.fullmatch(str(grammar.value), text)
    else:
        assert json.loads(text).keys() == {"id", "hard"}


async def test_a_bad_grammar_is_refused_and_harms_nobody(engine: OpenVINOEngine) -> None:
    async with asyncio.TaskGroup() as group:
        other = group.create_task(run(engine, GenerateRequest("long", 60)))
        for bad in (Grammar("regex", "(unclosed"), Grammar("json", {"type": "nothing"})):
            with pytest.raises(EngineInputError):
                await run(engine, GenerateRequest("x", 5, grammar=bad))
    assert other.result()[0]


async def test_a_grammar_that_breaks_the_pipeline_is_survived(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_expression", lambda _: "(unclosed")
    with pytest.raises(EngineInputError, match="cannot follow the grammar"):
        await run(engine, GenerateRequest("x", 5, grammar=Grammar("regex", "any")))
    assert len((await run(engine, GenerateRequest("x", 3)))[0]) == 3


async def test_closing_a_stream_frees_its_place(engine: OpenVINOEngine) -> None:
    for _ in range(8):
        async with aclosing(engine.generate(GenerateRequest("long", 400), Counters())) as stream:
            await anext(stream)
    assert len((await run(engine, GenerateRequest("short", 3)))[0]) == 3


async def test_closing_the_engine_ends_what_runs(engine: OpenVINOEngine) -> None:
    async def forever() -> str:
        try:
            while True:
                await run(engine, GenerateRequest("long", 400))
        except EngineError as error:
            return str(error)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        asking = group.create_task(forever())
        await asyncio.sleep(0.05)
        await engine.aclose()
    assert asking.result() == "The engine was closed"


async def test_a_process_that_dies_ends_what_runs_and_says_so(engine: OpenVINOEngine) -> None:
    async with aclosing(engine.generate(GenerateRequest("long", 400), Counters())) as stream:
        await anext(stream)
        engine._worker._process.kill()
        with pytest.raises(EngineError, match="ended by itself"):
            async for _ in stream:
                pass
    with pytest.raises(EngineError, match="ended by itself"):
        await run(engine, GenerateRequest("x", 2))


async def test_its_process_ends_with_it(engine: OpenVINOEngine) -> None:
    async with aclosing(engine.generate(GenerateRequest("long", 400), Counters())) as stream:
        await anext(stream)
        await engine.aclose()
        with pytest.raises(EngineError, match="was closed"):
            async for _ in stream:
                pass
    assert engine._worker._process.poll() == 0


async def test_a_file_it_cannot_read_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    path = tmp_path / "F32.gguf"
    write_random_model(path, kind="F32", width=64, layers=1, hidden=64, heads=2)
    with pytest.raises(EngineError, match=r"could not load .*F32\.gguf: ."):
        OpenVINOEngine(path)


async def test_what_it_cannot_do_is_refused(engine: OpenVINOEngine) -> None:
    with pytest.raises(EngineInputError, match="typical_p"):
        await run(engine, GenerateRequest("x", 2, Sampling(temperature=1.0, typical_p=0.5)))
    assert await engine.share_prefix(PREFIX) == 0


def test_without_the_package_the_remedy_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"langchain-sgd\[embedded,openvino\]"):
        OpenVINOEngine(model)


async def test_the_server_runs_files_on_it(model: Path) -> None:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415
    from langchain_sgd.tgi.client import TGIClient  # noqa: PLC0415

    async with (
        EmbeddedServer({"m": model}, engine="openvino") as server,
        TGIClient(server.urls["m"]) as client,
    ):
        answer = await client.generate("hello", max_new_tokens=3)
        assert isinstance(server.engines["m"], OpenVINOEngine)
    assert answer.details.generated_tokens == 3
