"""`langchain-sgd bench embedded` on real engines: what is measured, never how fast or how well."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest

from langchain_sgd.bench import _random_model, embedded
from langchain_sgd.bench._embedded_figures import (
    BRIEF,
    OPENED,
    PLAIN,
    PLANNED,
    SGD,
    SHORT,
    SOT,
)
from langchain_sgd.bench._random_model import Kind
from langchain_sgd.cli import main
from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.engine import Counters, GenerateRequest, Sampling
from tests.support.bench import Page, full_disk, has_nan, lines

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

from langchain_sgd.embedded.load import load

SMALL: dict[str, Any] = {"width": 64, "layers": 1, "hidden": 64, "heads": 2}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_STREAMS", (1, 2))
    monkeypatch.setattr(embedded, "_WARM_UP", 1)
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def random_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A much smaller model in the place of the one of 60 million weights."""

    def small(kind: Kind) -> Path:
        path = tmp_path / f"{kind}.gguf"
        _random_model.write_random_model(path, kind=kind, **SMALL)
        return path

    monkeypatch.setattr(embedded, "cached_model", small)


def check(row: dict[str, Any]) -> None:
    """What holds for every run that did not fail."""
    assert row["error"] is None
    assert 0 < row["ttft_s"] <= row["wall_s"]
    assert row["answer"].strip()
    assert row["steps"] == sum(engine["steps"] for engine in row["engines"].values()) > 0
    generated = sum(engine["generated_tokens"] for engine in row["engines"].values())
    told = sum(usage["output_tokens"] for usage in row["report"]["usage"].values())
    assert 0 < row["path_tokens"] <= told + 1
    # The server counts what it gave out; the engine may have begun one more for each call.
    calls = sum(len(node["attempts"]) for node in row["report"]["nodes"]) + 2
    assert 0 < told <= generated <= told + calls * 2
    assert row["engines"]["large"]["computed_prompt_tokens"] > 0
    assert row["client_cpu_s"] > 0
    assert row["server_cpu_s"] > 0


@pytest.mark.usefixtures("quick")
def test_the_bundled_models_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, figures, page = (tmp_path / f"x.{end}" for end in ("jsonl", "json", "html"))
    given = ["bench", "embedded", "--questions", "1", "--short-questions", "1", "--slots", "4"]
    given += ["--methods", PLAIN, SGD, PLANNED, "--resume", str(rows)]
    assert main([*given, "--json", str(figures), "--html", str(page)]) == 0
    found = lines(rows)
    assert Counter(row["method"] for row in found) == {PLAIN: 2, SGD: 2, PLANNED: 1}
    for row in found:
        check(row)
        assert set(row["engines"]) == {"small", "large"}
        if row["method"] == PLAIN:
            assert row["report"]["status"] == "plain"
            assert row["report"]["planner"] is None
    saved = json.loads(figures.read_text())["figures"]
    assert saved["questions"] == {BRIEF: 1, SHORT: 1}
    assert set(saved["methods"]) == set(saved["work"]) == {PLAIN, SGD, PLANNED}
    assert set(saved["short_answers"]) == {PLAIN, SGD}
    assert set(saved["quality"]) == {PLAIN, SGD, PLANNED}
    assert all(method["failed"] == 0 for method in saved["methods"].values())
    assert saved["methods"][PLAIN]["speedup"]["median"] == 1
    assert all(work["step_ms"] > 0 for work in saved["work"].values())
    assert set(saved["options"]["models"]) == {"small", "large"}
    assert saved["in_short"]
    shown = Page(page.read_text())
    assert "Speed: 1 questions that decompose" in shown.all("h2")
    assert len(shown.ids) == len(set(shown.ids))
    assert not any(map(has_nan, shown.texts))
    assert "1 questions that decompose" in capsys.readouterr().out


@pytest.mark.usefixtures("quick", "random_files")
def test_a_bench_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    given = ["bench", "embedded", "--model-size", "60m", "--kind", "F16", "--questions", "2"]
    given += ["--node-tokens", "4", "--line-tokens", "2", "--methods", PLAIN, SGD, PLANNED]
    given += ["--short-questions", "0", "--resume", str(rows), "--json", str(figures)]
    with monkeypatch.context() as patch:
        full_disk(patch, 4)
        assert main(given) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert multiprocessing.active_children() == []
    assert not figures.exists()
    kept = rows.read_bytes()
    assert kept.count(b"\n") == 4

    rows.write_bytes(kept + kept[:50])  # a row that a kill cut
    assert main(given) == 0
    assert rows.read_bytes().startswith(kept)
    found = lines(rows)
    assert Counter(row["method"] for row in found) == {PLAIN: 2, SGD: 2, PLANNED: 2}
    assert len({tuple(row["key"]) for row in found}) == 6
    assert all(row["error"] is None for row in found)
    saved = json.loads(figures.read_text())["figures"]
    assert saved["questions"] == {BRIEF: 2}
    assert [saved["methods"][name]["runs"] for name in (PLAIN, SGD, PLANNED)] == [2, 2, 2]


@pytest.mark.usefixtures("quick", "random_files")
def test_on_random_weights_lengths_are_fixed(tmp_path: Path) -> None:
    rows, figures, page = (tmp_path / f"x.{end}" for end in ("jsonl", "json", "html"))
    given = ["bench", "embedded", "--model-size", "60m", "--kind", "F16", "--questions", "1"]
    given += ["--node-tokens", "8", "--line-tokens", "4", "--methods", PLAIN, SGD, SOT]
    given += ["--short-questions", "0", "--resume", str(rows), "--json", str(figures)]
    given += ["--html", str(page)]
    picture = tmp_path / "made" / "x.svg"
    assert main([*given, "--svg", str(picture)]) == 0
    found = {row["method"]: row for row in lines(rows)}
    assert set(found) == {PLAIN, SGD, SOT}
    (question,) = embedded.bundled_questions(1, 0, 1)
    parts = len(embedded._skeleton(question))
    for name, row in found.items():
        check(row)
        assert row["question"] == question.text
        usage = row["report"]["usage"]
        assert usage["large"]["output_tokens"] == 8 * parts
        assert usage.get("planner", {"output_tokens": 0})["output_tokens"] == (
            0 if name == PLAIN else 4 * parts
        )
        assert len(row["report"]["nodes"]) == (1 if name == PLAIN else parts)
    assert found[PLAIN]["path_tokens"] == 8 * parts
    assert found[SOT]["path_tokens"] == 4 * parts + 8
    assert found[SGD]["report"]["status"] == "complete"
    assert found[SGD]["steps"] < found[PLAIN]["steps"] + 4 * parts
    saved = json.loads(figures.read_text())["figures"]
    assert saved["options"]["node_tokens"] == 8
    assert [step["streams"] for step in saved["steps"]] == [1, 2]
    assert all(step["step_ms"] > 0 for step in saved["steps"])
    assert saved["quality"] == {}
    assert not any(map(has_nan, Page(page.read_text()).texts))
    drawn = ET.fromstring(picture.read_text())  # noqa: S314 - our own picture
    names = [text.text or "" for text in drawn.findall("{*}text")]
    assert [name.split(":")[0] for name in names] == [PLAIN, SOT, SGD]
    places = [float(part.attrib["y"]) for part in drawn.findall("{*}svg")]
    assert places == sorted(set(places))


@pytest.mark.usefixtures("quick", "random_files")
def test_on_random_weights_a_short_answer_is_one_part(tmp_path: Path) -> None:
    rows, figures = tmp_path / "x.jsonl", tmp_path / "x.json"
    given = ["bench", "embedded", "--model-size", "60m", "--kind", "F16", "--questions", "0"]
    given += ["--short-questions", "1", "--node-tokens", "8", "--methods", PLAIN, SGD, OPENED, SOT]
    assert main([*given, "--resume", str(rows), "--json", str(figures)]) == 0
    found = {row["method"]: row for row in lines(rows)}
    assert set(found) == {PLAIN, SGD, OPENED, SOT}
    for name, row in found.items():
        assert row["error"] is None
        assert row["report"]["status"] == "plain"
        assert row["report"]["usage"]["large"]["output_tokens"] == 8
        # The planner is stopped at its word, before it has told what it used.
        assert row["engines"]["large"]["generated_tokens"] >= (8 if name == PLAIN else 10)
    saved = json.loads(figures.read_text())["figures"]
    assert saved["short_answers"][OPENED]["runs"] == 1
    assert [each["name"] for each in saved["in_short"]] == [
        "SGD large: questions that stay whole, more time than plain large",
        "SGD, opened: questions that stay whole, more time than plain large",
    ]


@pytest.mark.parametrize("kind", get_args(Kind))
async def test_the_engine_runs_random_models_of_every_kind(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "random.gguf"
    _random_model.write_random_model(path, kind=kind, **SMALL)
    engine = load(path, slots=2, context=256)
    try:
        prompt = await engine.render_chat([{"role": "user", "content": "Write ab cd"}], None)
        request = GenerateRequest(
            prompt=prompt, max_new_tokens=40, sampling=Sampling(temperature=1.0, seed=3)
        )
        counters = Counters()
        tokens = [token async for token in engine.generate(request, counters)]
        text = "".join(token.text for token in tokens)
        assert len(tokens) == 40
        assert re.fullmatch(r"( [a-z]{2}){40}", text), text
        # Read back, the text has as many tokens as were written.
        again = [t for t in await engine.tokenize(text) if not t.special]
        assert "".join(t.text for t in again) == text
        assert len(again) == 40
    finally:
        await engine.aclose()


def test_questions_are_held_out_and_more_only_add() -> None:
    some = embedded.bundled_questions(5, 3, 1)
    more = embedded.bundled_questions(9, 6, 1)
    assert [q.category for q in some] == [BRIEF] * 5 + [SHORT] * 3
    assert set(some) < set(more)
    assert len({q.id for q in more}) == 15
    assert all(domain.is_held_out(q.text) for q in more)
    assert embedded.bundled_questions(5, 3, 2)[0].text != some[0].text


@pytest.mark.parametrize("constrain", [True, False])
def test_every_plan_is_written_with_a_grammar_or_none(*, constrain: bool) -> None:
    (question,) = embedded.bundled_questions(1, 0, 1)
    urls = dict.fromkeys(("small", "large"), "http://127.0.0.1:9")
    made = {
        method.name: method.build(question, 1)
        for method in embedded.bundled_methods(urls, 0.7, constrain=constrain)
    }
    for name in (SGD, OPENED, PLANNED):
        assert made[name].constrain is constrain
    assert [name for name, method in made.items() if method.opening] == [OPENED]


def test_a_model_is_told_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    assert embedded.file_digest(one) == embedded.file_digest(two)
    two.write_bytes(b"others")
    assert embedded.file_digest(one) != embedded.file_digest(two)


def test_wrong_options_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for given, complaint in ((["--engine", "none"], "--engine"), (["--kind", "Q4"], "--kind")):
        with pytest.raises(SystemExit) as caught:
            main(["bench", "embedded", *given])
        assert caught.value.code == 2
        assert complaint in capsys.readouterr().err
