"""`langchain-sgd serve` with GGUF files of one's own."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from langchain_sgd.embedded.openvino import unfit_machine
from langchain_sgd.tgi import TGIAuthError, TGIClient
from tests.support.tiny_gguf import write_tiny_model

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@asynccontextmanager
async def serving(
    *arguments: str, environment: dict[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "langchain_sgd", "serve", *arguments, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(50):
            said = (await process.stdout.readuntil(b"Ctrl-C")).decode()
        yield process, said
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_urls_are_printed_and_ctrl_c_ends_it(model: Path) -> None:
    async with serving("--model", f"large={model}", "--model", f"other={model}") as (process, said):
        large = re.search(r"^large +(http://127\.0\.0\.1:\d+/large)$", said, re.MULTILINE)
        assert large is not None
        assert f"export SGD_LARGE={large[1]}\n" in said
        assert "SGD_OTHER_URL" not in said
        async with TGIClient(large[1]) as client:
            assert await client.health()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


async def test_what_takes_long_is_told_with_the_seconds_beside_the_urls(model: Path) -> None:
    async with serving("--model", f"large={model}") as (process, said):
        assert " s  " not in said
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(20):
            told = (await process.stderr.read()).decode()
    lines = re.findall(r"^ *\d+ s  (\w+)", told, re.MULTILINE)
    assert lines[-1] == "Ready", told
    assert unfit_machine() is not None or lines[:2] == ["Reading", "Loading"], told


async def test_the_key_comes_from_the_environment_and_is_not_printed(model: Path) -> None:
    arguments = ("--model", f"large={model}", "--api-key-env", "MY_KEY")
    async with serving(*arguments, environment={"MY_KEY": "a-secret"}) as (_, said):
        assert "a-secret" not in said
        url = re.findall(r"http://\S+", said)[0]
        async with TGIClient(url, api_key="wrong") as client:
            with pytest.raises(TGIAuthError):
                await client.generate("Hello", max_new_tokens=1)
        async with TGIClient(url, api_key="a-secret") as client:
            assert (await client.generate("Hello", max_new_tokens=1)).details is not None
