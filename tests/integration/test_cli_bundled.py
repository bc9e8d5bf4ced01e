"""The command with the bundled models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_sgd.cli import main
from langchain_sgd.embedded.briefs.domain import briefs
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.models import ENDPOINTS
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.tgi import TGIEndpoint

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

QUESTION = next(briefs(11, held_out=True)).question


@pytest.fixture(autouse=True)
def _no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMALL_URL", "LARGE_URL", "PLANNER_URL", "API_KEY"):
        monkeypatch.delenv(f"SGD_{name}", raising=False)


def test_ask_answers_with_the_bundled_models(capsys: pytest.CaptureFixture[str]) -> None:
    # One seed for every run: at temperature 0.7 a part runs on to its limit now and then.
    assert main(["ask", QUESTION, "--seed", "1", "--json", "-"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["report"]["status"] == "complete"
    assert found["answer"].startswith("## ")
    assert {"small", "large"} >= {node["tier"] for node in found["report"]["nodes"]}
    assert "launch briefs only" not in said.err


def test_ask_says_that_the_bundled_models_know_little(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["ask", "Why is the sky blue?", "--deadline", "20"])
    assert "They know launch briefs only" in capsys.readouterr().err


def test_plan_prints_a_skeleton(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", QUESTION, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["nodes"]) >= 5


def test_demo_shows_a_race_and_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "race.svg"
    assert main(["demo", "--questions", "1", "--seed", "4", "--svg", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "Write a" in out or "launch" in out
    assert out.count("done in") == 2
    assert "SGD's whole answer came" in " ".join(out.split())
    assert "Skeleton-of-Thought's whole answer came" in " ".join(out.split())
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert picture.read_text().startswith("<svg")


def test_doctor_finds_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "plain decoding on answers of 300 tokens" in capsys.readouterr().out


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """The bundled models as `serve` serves them, with what its `export` line sets."""
    ENDPOINTS.clear()
    with EmbeddedServer() as server:
        for name in ("small", "large"):
            monkeypatch.setenv(f"SGD_{name.upper()}", server.urls[name])
        yield server
    ENDPOINTS.clear()


def test_bundled_models_are_known_at_their_urls(
    served: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", QUESTION, "--seed", "1", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["status"] == "complete"
    assert report["warnings"] == []
    tgi = SGDRunnable(large=TGIEndpoint(served.urls["large"]))
    assert len(tgi.plan(QUESTION).nodes) >= 5


@pytest.mark.usefixtures("served")
def test_check_asks_bundled_models_at_urls_what_they_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "ok     splits when due: 3 of 3" in said
    assert "ok     plain when due: 2 of 2" in said
    assert "context" not in said
