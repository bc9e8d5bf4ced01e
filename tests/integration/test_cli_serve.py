"""`langchain-sgd serve` with GGUF files of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from langchain_sgd.bundled import BUNDLED_QUESTIONS
from langchain_sgd.embedded.openvino import unfit_machine
from langchain_sgd.tgi import TGIAuthError, TGIClient
from tests.support.commands import command, interrupted
from tests.support.tiny_gguf import write_tiny_model

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


async def test_urls_are_printed_and_ctrl_c_ends_it(model: Path) -> None:
    models = ("--model", f"large={model}", "--model", f"other={model}")
    async with command("serve", *models) as (process, said):
        large = re.search(r"^large +(http://127\.0\.0\.1:\d+/large)$", said, re.MULTILINE)
        assert large is not None
        assert f"export SGD_LARGE={large[1]}\n" in said
        assert "SGD_OTHER_URL" not in said
        assert "launch briefs" not in said
        async with TGIClient(large[1]) as client:
            assert await client.health()
        await interrupted(process)


async def test_its_own_models_are_served_with_what_they_are_for() -> None:
    async with command("serve") as (process, said):
        assert re.findall(r"^(\w+) +http://", said, re.MULTILINE) == ["small", "large"]
        assert "launch briefs for products, and nothing else" in said
        asked = re.search(r'^langchain-sgd ask "(.*)"$', said, re.MULTILINE)
        assert asked is not None
        assert asked[1] == BUNDLED_QUESTIONS[0][0]
        await interrupted(process)


async def test_what_takes_long_is_told_with_the_seconds_beside_the_urls(model: Path) -> None:
    async with command("serve", "--model", f"large={model}") as (process, said):
        assert " s  " not in said
        told = await interrupted(process)
    lines = re.findall(r"^ *\d+ s  (\w+)", told, re.MULTILINE)
    assert lines[-1] == "Ready", told
    assert unfit_machine() is not None or lines[:2] == ["Reading", "Loading"], told


async def test_the_key_comes_from_the_environment_and_is_not_printed(model: Path) -> None:
    arguments = ("--model", f"large={model}", "--api-key-env", "MY_KEY")
    async with command("serve", *arguments, environment={"MY_KEY": "a-secret"}) as (_, said):
        assert "a-secret" not in said
        url = re.findall(r"http://\S+", said)[0]
        async with TGIClient(url, api_key="wrong") as client:
            with pytest.raises(TGIAuthError):
                await client.generate("Hello", max_new_tokens=1)
        async with TGIClient(url, api_key="a-secret") as client:
            assert (await client.generate("Hello", max_new_tokens=1)).details is not None
