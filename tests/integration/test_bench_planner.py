"""`langchain-sgd bench planner` against TGI servers on loopback."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from langchain_sgd.bench import planner
from langchain_sgd.bench.endpoints import read_questions
from langchain_sgd.cli import main
from langchain_sgd.errors import InvalidInputError
from tests.scripted_engine import ScriptedEngine
from tests.support.travel import PLAN
from tests.tgi_server import Fault, TGITestServer

ASKED = [
    {"question_id": 1, "question": "Train or plane?", "split": 1},
    {"question_id": 2, "question": "How late is it?", "split": False},
    {"question_id": 3, "question": "Should be split, but is not?", "split": True},
    {"question_id": 4, "question": "Has no label?"},
]


def reply(prompt: str) -> str:
    """Split what asks for trains, and the warm-up; the rest is plain."""
    question = prompt.rpartition("user")[2]
    return PLAN if "Train" in question or "tides" in question else "PLAIN"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TGITestServer]:
    for name in ("SMALL", "LARGE", "PLANNER", "API_KEY"):
        monkeypatch.delenv(f"SGD_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    async with TGITestServer({"large": ScriptedEngine(reply, model_id="lab/large")}) as made:
        yield made


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in ASKED))
    return path


async def bench(server: TGITestServer, questions: Path, *arguments: str | Path) -> int:
    given = ["--large", server.url_of("large"), "--questions", str(questions), *map(str, arguments)]
    return await asyncio.to_thread(main, ["bench", "planner", *given])


async def test_plans_are_counted_against_their_labels(
    server: TGITestServer, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    given = ("--resume", rows, "--json", figures, "--users", "2")
    assert await bench(server, questions, *given) == 0
    shown = capsys.readouterr().out
    found = json.loads(figures.read_text())["figures"]

    assert "Plans for 4 questions" in shown
    assert found["split of suitable"]["median"] == 50
    assert found["whole of others"]["median"] == 100
    assert found["split of all"]["median"] == 25
    assert found["valid"]["median"] == 100
    assert found["parts"]["median"] == 3
    assert found["parallelism"] == 1.5  # three parts, the last one after the first two
    assert found["dependencies a part"] == pytest.approx(2 / 3)
    assert found["failed"] == found["asked twice"] == 0
    assert 0 < found["first line, s"]["median"] <= found["plan, s"]["median"]

    calls = len(server.prompts)
    assert await bench(server, questions, *given) == 0
    assert len(server.prompts) == calls + 1  # the warm-up only


async def test_a_planner_that_cannot_be_asked_ends_the_bench_at_once(
    server: TGITestServer, questions: Path
) -> None:
    server.inject(Fault("unauthorized"), times=None)
    with pytest.raises(SystemExit, match=r"the planner cannot plan: .*401"):
        await bench(server, questions)


async def test_a_plan_that_fails_is_a_row_and_is_asked_for_again(
    server: TGITestServer, tmp_path: Path, questions: Path
) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    given = ("--resume", rows, "--json", figures)
    server.inject(
        Fault("unauthorized"), times=None, when=lambda entry: "How late" in json.dumps(entry.json)
    )
    await bench(server, questions, *given)
    assert json.loads(figures.read_text())["figures"]["failed"] == 1

    server.heal()
    await bench(server, questions, *given)
    assert json.loads(figures.read_text())["figures"]["failed"] == 0


async def test_one_mode_asks_for_plans_only(
    server: TGITestServer, tmp_path: Path, questions: Path
) -> None:
    figures = tmp_path / "figures.json"
    given = ("--mode", "always", "--limit", "1", "--json", figures, "--temperature", "0")
    assert await bench(server, questions, *given) == 0
    assert json.loads(figures.read_text())["figures"]["split of all"]["median"] == 100


@pytest.mark.parametrize("arguments", [("--users", "0"), ("--limit", "0"), ("--mode", "never")])
async def test_wrong_options_are_told(
    server: TGITestServer, questions: Path, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as caught:
        await bench(server, questions, *arguments)
    assert caught.value.code == 2


def test_a_label_that_is_no_truth_value_is_told(questions: Path) -> None:
    questions.write_text('{"id": "a", "question": "Why?", "split": "perhaps"}\n')
    with pytest.raises(InvalidInputError, match="question a: \"split\" is 'perhaps'"):
        planner.labels_of(read_questions(questions))


def test_an_interval_of_a_share_holds_it() -> None:
    share = planner.in_percent(9, 10)
    assert share["low"] == pytest.approx(59.6, abs=0.1)  # Wilson's interval, tabulated
    assert share["high"] == pytest.approx(98.2, abs=0.1)
    assert math.isnan(planner.in_percent(0, 0)["median"])
