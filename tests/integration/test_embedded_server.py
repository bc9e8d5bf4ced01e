"""Local models at URLs: starting, answering, stopping."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from langchain_sgd.checking import check
from langchain_sgd.cli import main
from langchain_sgd.embedded.engine import EngineError, GenerateRequest
from langchain_sgd.embedded.llamacpp import LlamaCppEngine
from langchain_sgd.embedded.load import load
from langchain_sgd.embedded.openvino import OpenVINOEngine
from langchain_sgd.embedded.server import EmbeddedServer, bundled_models
from langchain_sgd.tgi.client import TGIClient
from tests.support.tiny_gguf import write_tiny_model

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "small": write_tiny_model(folder / "small.gguf", layers=1),
        "large": write_tiny_model(folder / "large.gguf", seed=1),
    }


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if not _is_pool(thread)]
    assert not left


def _is_pool(thread: threading.Thread) -> bool:
    """The running loop's own executor ends with the loop, after the test."""
    return thread.name.startswith("asyncio_")


async def chat(url: str, **fields: Any) -> dict[str, Any]:
    async with TGIClient(url) as client:
        return (await client.chat({**HELLO, **fields})).body


def test_a_script_gets_answers_from_both_models(models: dict[str, Path]) -> None:
    with EmbeddedServer(models) as running:
        answers = {name: asyncio.run(chat(url)) for name, url in running.urls.items()}
        assert running.url.startswith("http://127.0.0.1:")
        assert running.engines.keys() == {"small", "large"}
    assert answers["small"]["model"] == "tiny-0"
    assert answers["large"]["model"] == "tiny-1"
    assert answers["large"]["usage"]["completion_tokens"] == 6


async def test_an_asyncio_program_gets_answers_while_its_loop_runs(
    models: dict[str, Path],
) -> None:
    async with EmbeddedServer(models) as running:
        answer = await chat(running.urls["small"])
    assert answer["choices"][0]["finish_reason"] in {"length", "stop"}


async def test_streams_carry_every_token_and_the_usage(models: dict[str, Path]) -> None:
    payload = {**HELLO, "stream_options": {"include_usage": True}}
    async with EmbeddedServer(models) as running, TGIClient(running.urls["large"]) as client:
        chunks = [chunk async for chunk in client.chat_stream(payload)]
    assert sum(len(chunk["choices"]) for chunk in chunks) == 6
    assert chunks[-1]["usage"]["completion_tokens"] == 6


async def test_grammars_hold_over_the_protocol(models: dict[str, Path]) -> None:
    async with EmbeddedServer(models) as running, TGIClient(running.urls["small"]) as client:
        grammar = {"type": "regex", "value": "(yes|no), [0-9]{2}"}
        answer = await client.generate("hello", max_new_tokens=20, grammar=grammar)
        schema = {"properties": {"n": {"enum": [7, 42]}}, "required": ["n"]}
        chatted = await client.chat(
            {**HELLO, "max_tokens": 40, "response_format": {"type": "json", "value": schema}}
        )
    assert answer.generated_text[-4:-2] == ", "
    assert json.loads(chatted.body["choices"][0]["message"]["content"])["n"] in (7, 42)


async def test_llama_cpp_says_what_it_had_cached(models: dict[str, Path]) -> None:
    question = "A question that all of the nodes share, with many words in it. " * 2
    messages = [{"role": "user", "content": question}]
    async with EmbeddedServer(models["large"], engine="llamacpp") as running:
        url = running.urls["large"]
        answers = [await chat(url, messages=messages) for _ in range(2)]
    first, second = (
        answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers
    )
    assert first == 0
    assert second >= answers[1]["usage"]["prompt_tokens"] - 2


async def test_a_client_that_goes_away_stops_its_request(models: dict[str, Path]) -> None:
    async with EmbeddedServer({"m": models["large"]}, slots=1) as running:
        payload = {**HELLO, "max_tokens": 400, "stream": True}
        async with aiohttp.ClientSession() as session:
            post = session.post(f"{running.urls['m']}/v1/chat/completions", json=payload)
            async with post as response:
                await response.content.readline()
        async with asyncio.timeout(5):
            await chat(running.urls["m"])
        engine = running.engines["m"]
        assert isinstance(engine, OpenVINOEngine | LlamaCppEngine)
        assert engine.statistics.generated_tokens < 400


async def test_a_key_is_needed_where_one_is_set_and_shown_nowhere(
    models: dict[str, Path],
) -> None:
    async with EmbeddedServer(models, api_key="s3cret") as running:
        async with TGIClient(running.urls["small"], api_key="s3cret") as client:
            await client.chat(HELLO)
        verdict = await check(large=running.urls["small"])
    assert [finding.state for finding in verdict.findings] == ["failed"]
    assert "key" in verdict.summary
    assert "s3cret" not in repr(running)
    assert "s3cret" not in repr(vars(running))


def test_engines_that_are_passed_in_stay_open(models: dict[str, Path]) -> None:
    engine = load(models["small"])
    with EmbeddedServer({"mine": engine}) as running:
        asyncio.run(chat(running.urls["mine"]))

    async def still_answers() -> int:
        from langchain_sgd.embedded.engine import Counters  # noqa: PLC0415

        stream = engine.generate(GenerateRequest("hello", 3), Counters())
        return len([token async for token in stream])

    assert asyncio.run(still_answers()) == 3
    engine.close()


def test_starting_and_stopping_are_quick(models: dict[str, Path]) -> None:
    started = time.perf_counter()
    running = EmbeddedServer(models).start()
    ready = time.perf_counter()
    running.close()
    stopped = time.perf_counter()
    assert ready - started < 20
    assert stopped - ready < 5


def test_stopping_ends_what_is_running(models: dict[str, Path]) -> None:
    running = EmbeddedServer(models, slots=1).start()
    outcomes: list[object] = []

    async def ask() -> None:
        payload = {**HELLO, "max_tokens": 450, "stream": True}
        url = f"{running.urls['large']}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                try:
                    async with session.post(url, json=payload) as response:
                        await response.read()
                except aiohttp.ClientError as error:
                    outcomes.append(error)
                    return

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    asking.start()
    time.sleep(0.1)
    running.close()
    asking.join(10)
    assert not asking.is_alive()
    assert outcomes


def test_closing_twice_or_before_starting_is_fine(models: dict[str, Path]) -> None:
    never = EmbeddedServer(models)
    never.close()
    running = EmbeddedServer(models).start()
    running.close()
    running.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = running.url


def test_a_server_is_started_once(models: dict[str, Path]) -> None:
    with EmbeddedServer(models) as running, pytest.raises(RuntimeError, match="started before"):
        running.start()


def test_a_forgotten_server_stops(models: dict[str, Path]) -> None:
    running = EmbeddedServer(models).start()
    port = int(running.url.rsplit(":", 1)[1])
    del running
    gc.collect()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
        pass


def test_a_program_that_ends_without_closing_ends_without_a_word(models: dict[str, Path]) -> None:
    script = (
        "from langchain_sgd.embedded.server import EmbeddedServer\n"
        f"server = EmbeddedServer({{'small': {str(models['small'])!r}}}).start()\n"
        "print(server.url)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("http://127.0.0.1:")


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(
    models: dict[str, Path], tmp_path: Path
) -> None:
    broken = EmbeddedServer({"small": models["small"], "large": tmp_path / "none.gguf"})
    with pytest.raises(EngineError, match=r"no model file at .*none\.gguf"):
        broken.start()


def test_an_address_in_use_is_an_error_at_the_start(models: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="address already in use"):
            EmbeddedServer(models, port=port).start()


def test_missing_bundled_models_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(EngineError, match=r"small\.gguf; reinstall langchain-sgd"):
        EmbeddedServer()


def test_in_the_foreground_it_serves_until_a_signal(models: dict[str, Path]) -> None:
    script = (
        "import sys\n"
        "from langchain_sgd.embedded.server import EmbeddedServer\n"
        "server = EmbeddedServer({'m': sys.argv[1]})\n"
        "server.serve_forever(lambda it: print(it.urls['m'], flush=True))\n"
        "print('stopped', flush=True)\n"
    )
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-W", "error", "-c", script, str(models["small"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    answer = asyncio.run(chat(url))
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert answer["choices"]
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


# --- the models in the package


@pytest.fixture(scope="module")
def bundled() -> dict[str, Path]:
    return bundled_models()


async def test_the_bundled_models_answer(bundled: dict[str, Path]) -> None:
    async with EmbeddedServer(bundled) as running:
        for url in running.urls.values():
            answer = await chat(url, max_tokens=12)
            assert answer["choices"][0]["message"]["content"]


def test_the_bundled_models_pass_the_check(
    bundled: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SMALL", "LARGE", "PLANNER", "SMALL_URL", "LARGE_URL", "PLANNER_URL"):
        monkeypatch.delenv(f"SGD_{name}", raising=False)
    assert bundled.keys() == {"small", "large"}
    file = tmp_path / "found.json"
    assert main(["check", "--questions", "2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    states = {finding["name"]: finding["state"] for finding in found["findings"]}
    wanted = ("large", "small", "large: form", "splits when due", "plain when due", "prefix cache")
    assert {states[name] for name in wanted} == {"ok"}
    assert found["speedup"] > 0
    assert [finding["state"] for finding in found["machine"]] == ["ok"] * len(found["machine"])
