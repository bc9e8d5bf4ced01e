"""`langchain-sgd check` against servers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.checking import check
from langchain_sgd.cli import main
from langchain_sgd.models import ENDPOINTS
from tests.openai_server import OpenAIServer
from tests.scripted_engine import ScriptedEngine
from tests.support.travel import REPLIES
from tests.tgi_server import TGITestServer


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for tier in ("SMALL", "LARGE", "PLANNER"):
        monkeypatch.delenv(f"SGD_{tier}", raising=False)
        monkeypatch.delenv(f"SGD_{tier}_URL", raising=False)
    monkeypatch.delenv("SGD_API_KEY", raising=False)
    ENDPOINTS.clear()
    yield
    ENDPOINTS.clear()


def states(verdict: Any) -> Mapping[str, str]:
    return {finding.name: finding.state for finding in verdict.findings}


async def test_the_command_tells_what_it_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = {name: ScriptedEngine(REPLIES, model_id=f"lab/{name}") for name in ("small", "large")}
    file = tmp_path / "found.json"
    async with TGITestServer(engines) as server:
        urls = ["--small", server.url_of("small"), "--large", server.url_of("large")]
        arguments = ["check", *urls, "--questions", "1", "--json", str(file)]
        assert await asyncio.to_thread(main, arguments) == 0
        said = capsys.readouterr().out
        assert "ok     large: tgi 3.3.7 at " in said
        assert "lab/large" in said
        assert "ok     splits when due: 1 of 1" in said
        assert json.loads(file.read_text())["ok"] is True
        server.healthy = False
        server.inject("fail", times=None)
        assert await asyncio.to_thread(main, ["doctor", *urls]) == 1
        assert "failed large: " in capsys.readouterr().out


async def test_json_on_standard_output_is_all_that_stands_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with OpenAIServer("vllm") as server:
        arguments = ["check", "--large", server.url, "--questions", "0", "--json", "-"]
        assert await asyncio.to_thread(main, arguments) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["name"] == "large"


@pytest.mark.parametrize(
    ("says", "refuse", "state", "detail"),
    [
        ("123", False, "ok", "vllm, followed"),
        ("Hello!", False, "note", "vllm: ignored, asked for three digits, got 'Hello!'"),
        ("123", True, "note", "vllm: refused"),
    ],
)
async def test_the_form_is_tried(says: str, refuse: bool, state: str, detail: str) -> None:  # noqa: FBT001
    def no_grammar(body: Any) -> Any:
        refused = refuse and "structured_outputs" in body
        return (400, {"error": {"message": "unknown field"}}) if refused else None

    async with OpenAIServer("vllm", says=says, refuse=no_grammar) as server:
        verdict = await check(large=server.url, questions=())
    (form,) = (finding for finding in verdict.findings if finding.name == "large: form")
    assert (form.state, form.detail.startswith(detail)) == (state, True)
    assert verdict.options == ({"constrain": False} if refuse else {})


async def test_a_short_context_is_told() -> None:
    tells = {"/props": {"default_generation_settings": {"n_ctx": 1024}}}
    async with OpenAIServer("llama.cpp", tells=tells) as server:
        verdict = await check(large=server.url, questions=())
    assert states(verdict)["large: context"] == "note"
    assert "Start the server with a context of 4096 tokens" in str(
        [finding.remedy for finding in verdict.findings]
    )
