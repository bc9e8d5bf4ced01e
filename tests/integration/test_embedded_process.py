"""Models served from another process: they answer, are counted, and say why they cannot be loaded."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from langchain_sgd.embedded.engine import EngineError, Statistics
from langchain_sgd.embedded.process import served
from langchain_sgd.tgi.client import TGIClient
from tests.support.tiny_gguf import write_tiny_model

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")


async def test_what_is_asked_is_counted_and_forgotten(tmp_path: Path) -> None:
    prompt = "Once upon a time there was a small model that knew nothing."
    async with (
        served({"m": write_tiny_model(tmp_path / "m.gguf")}, engine="llamacpp") as server,
        TGIClient(server.urls["m"]) as client,
    ):
        assert {p.pid for p in multiprocessing.active_children()} - {os.getpid()}
        seen: list[Statistics] = []
        for forget in (False, False, True):
            if forget:
                await server.forget()
            before = (await server.counts()).models["m"]
            await client.generate(prompt, max_new_tokens=3)
            seen.append((await server.counts()).models["m"] - before)
        assert [spent.generated_tokens for spent in seen] == [3, 3, 3]
        first, again, anew = (spent.cached_prompt_tokens for spent in seen)
        # All texts begin with the same token.
        assert first <= anew <= 1 < again
        assert (await server.counts()).cpu_s > 0
    assert not multiprocessing.active_children()


async def test_a_model_that_cannot_be_loaded_is_told_here(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_text("nothing")
    with pytest.raises(EngineError, match="no GGUF file"):
        async with served({"m": path}):
            pass
    assert not multiprocessing.active_children()
