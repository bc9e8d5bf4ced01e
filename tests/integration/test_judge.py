"""`langchain-sgd judge` against a scripted judge behind TGI's protocol."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import types
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_sgd.cli import main
from tests.scripted_engine import ScriptedEngine
from tests.tgi_server import Fault, TGITestServer

_SHOWN = re.compile(r"<answer_a>\n(.*?)\n</answer_a>", re.DOTALL)
ANSWERS = {
    "plain": "Plain words say it once, and they say it well.",
    "SGD": "Better words say it once, and they say it well.",
    "SoT": "Points.",
}


def fair(prompt: str) -> str:
    """Prefers SGD to plain to SoT, in whatever order."""
    shown = _SHOWN.search(prompt)
    assert shown
    ranks = {text: rank for rank, text in enumerate(("Better", "Plain", "Points"))}
    others = [text for text in ranks if text in prompt and text not in shown[1]]
    first = next(rank for text, rank in ranks.items() if text in shown[1])
    return f"One is better.\n\nVerdict: {'A' if first < min(ranks[o] for o in others) else 'B'}"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TGITestServer]:
    for name in ("SGD_JUDGE", "SGD_JUDGE_URL", "SGD_JUDGE_API_KEY", "SGD_API_KEY", "TGI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with TGITestServer(ScriptedEngine(fair)) as made:
        yield made


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [
        {
            "key": [method, str(question)],
            "options": "0f",
            "question_id": str(question),
            "category": "writing" if question % 2 else "math",
            "question": f"Question {question}?",
            "method": method,
            "answer": text,
            "error": None,
        }
        for question in range(1, 5)
        for method, text in ANSWERS.items()
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def run(server: TGITestServer, answers: Path, *arguments: str) -> int:
    """The command in a thread, since it runs a loop of its own."""
    given = ["judge", str(answers), "--against", "plain", "--judge", server.url, *arguments]
    return await asyncio.to_thread(main, given)


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def renamed(path: Path, names: Mapping[str, str]) -> None:
    text = path.read_text()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    path.write_text(text)


async def test_methods_are_compared_in_all_and_by_category(
    server: TGITestServer, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert await run(server, answers, "--json", str(file), "--price", "1", "2") == 0
    said = capsys.readouterr()
    assert "8 pairs of answers to 4 questions, in both orders: 16 calls, about" in said.err
    assert "in the currency of --price." in said.err
    assert "SGD against plain" in said.out
    found = figures(file)
    sgd, sot = found["figures"]["SGD"], found["figures"]["SoT"]
    assert (sgd["all"]["wins"], sgd["all"]["pairs"]) == (4, 4)
    assert sgd["all"]["net"]["value"] == 1
    assert sgd["all"]["like_length"]["pairs"] == 4
    assert set(sgd["categories"]) == {"writing", "math"}
    assert sot["all"]["losses"] == 4
    assert sot["all"]["like_length"]["pairs"] == 0
    assert sot["all"]["shorter"]["net"]["value"] == -1
    assert found["figures"]["SGD"]["all"]["agreement"] == 1
    assert {request.json["temperature"] for request in server.requests("completions")} == {0.0}


async def test_a_judge_that_always_says_a_makes_only_ties(
    server: TGITestServer, answers: Path, tmp_path: Path
) -> None:
    server.engine.reply = "The first one.\nVerdict: A"
    file = tmp_path / "figures.json"
    assert await run(server, answers, "--json", str(file)) == 0
    for found in figures(file)["figures"].values():
        assert (found["all"]["ties"], found["all"]["pairs"]) == (4, 4)
        assert found["all"]["net"]["value"] == 0
        assert found["all"]["first_place"] == 1


async def test_a_run_that_broke_off_goes_on(
    server: TGITestServer, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = ("--resume", str(tmp_path / "verdicts.jsonl"), "--concurrency", "1")
    asked = 0

    def breaks(prompt: str) -> str:
        nonlocal asked
        asked += 1
        if asked == 5:
            server.inject(Fault("unauthorized"), times=None)
        return fair(prompt)

    server.engine.reply = breaks
    assert await run(server, answers, *verdicts) == 1
    assert "verdicts so far are kept in" in capsys.readouterr().err
    server.heal()
    server.engine.reply = fair
    before = len(server.prompts)
    assert before == 5
    file = tmp_path / "figures.json"
    assert await run(server, answers, *verdicts, "--json", str(file)) == 0
    assert "11 calls" in (said := capsys.readouterr().err)
    assert "5 verdicts are there already" in said
    assert len(server.prompts) - before == 11
    assert figures(file)["figures"]["SGD"]["all"]["wins"] == 4
    assert await run(server, answers, *verdicts) == 0
    assert len(server.prompts) - before == 11


async def test_limit_methods_references_and_prompts(
    server: TGITestServer, answers: Path, tmp_path: Path
) -> None:
    references = tmp_path / "references.jsonl"
    references.write_text('{"question_id": 1, "reference": "It is seven."}\n')
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"system": "Judge like a cook."}))
    server.engine.reply = "Verdict: tie"
    options = ["--methods", "SoT", "--limit", "2", "--references", str(references)]
    assert await run(server, answers, *options, "--prompts", str(prompts)) == 0
    assert len(server.prompts) == 4
    assert sum("It is seven." in prompt for prompt in server.prompts) == 2
    assert all("Judge like a cook." in prompt for prompt in server.prompts)
    assert not any("Better words" in prompt for prompt in server.prompts)


async def test_names_are_shown_as_they_are_and_narrow_tables_hide_nothing(
    server: TGITestServer,
    answers: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renamed(answers, {"SGD": "SGD [red]", "math": "math [b]"})
    monkeypatch.setenv("COLUMNS", "80")
    assert await run(server, answers) == 0
    said = capsys.readouterr().out
    assert "SGD [red] against plain" in said
    assert "math [b]" in said
    assert "…" not in said
    assert f"x{len(ANSWERS['SoT']) / len(ANSWERS['plain']):.2f}" in said


async def test_figures_may_go_to_standard_output(
    server: TGITestServer, answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(server, answers, "--json", "-", "--limit", "1") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["against"] == "plain"
    assert "SGD against plain" in said.err


@pytest.mark.parametrize(("reply", "code", "calls"), [("y", 0, 4), ("n", 1, 0), ("", 1, 0)])
async def test_at_a_terminal_the_user_is_asked_first(
    server: TGITestServer,
    answers: Path,
    monkeypatch: pytest.MonkeyPatch,
    reply: str,
    code: int,
    calls: int,
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda *_: reply)
    assert await run(server, answers, "--limit", "1") == code
    assert len(server.prompts) == calls


async def test_the_key_comes_from_the_environment_and_is_never_told(
    answers: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SGD_JUDGE_API_KEY", "s3cret-key")
    verdicts, file = tmp_path / "verdicts.jsonl", tmp_path / "figures.json"
    async with TGITestServer("Verdict: A", api_key="s3cret-key") as server:
        written = ["--resume", str(verdicts), "--json", str(file), "--limit", "1"]
        assert await run(server, answers, *written) == 0
        assert all(request.carries("s3cret-key") for request in server.requests("completions"))
        monkeypatch.setenv("SGD_JUDGE_API_KEY", "wr0ng-key")
        assert await run(server, answers) == 1
    said = capsys.readouterr()
    everything = said.out + said.err + verdicts.read_text() + file.read_text()
    assert "-key" not in everything.replace("api_key", "")


def test_any_model_that_langchain_knows_may_judge(
    answers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init_chat_model(model: str, **settings: Any) -> Runnable[Any, Any]:
        made.append((model, settings))
        return RunnableLambda(lambda messages: fair(messages[-1].text))

    made: list[tuple[str, dict[str, Any]]] = []
    module = types.ModuleType("langchain.chat_models")
    module.init_chat_model = init_chat_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain.chat_models", module)
    file = tmp_path / "figures.json"
    given = ["judge", str(answers), "--against", "plain", "--json", str(file)]
    assert main([*given, "--judge-model", "lab:wise", "--max-tokens", "64"]) == 0
    assert made == [("lab:wise", {"max_tokens": 64})]
    assert figures(file)["judge"] == "lab:wise (max_tokens 64)"
    assert figures(file)["figures"]["SGD"]["all"]["wins"] == 4


async def test_an_unclear_judge_is_warned_of(
    server: TGITestServer, answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.engine.reply = "I cannot say."
    assert await run(server, answers) == 0
    said = capsys.readouterr().err
    assert said.count("counted as a tie") == 5
    assert "11 more like these" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no judge: name a model"),
        (["--judge", "ftp://x"], "is no URL of a model server"),
        (
            ["--judge-model", "nobody:nothing"],
            "judge: LangChain makes no model of 'nobody:nothing'",
        ),
        (["--judge", "http://127.0.0.1:1", "--against", "plane"], "no answers of 'plane'"),
        (["--judge", "http://127.0.0.1:1", "--prompts", "PROMPTS"], "holds no prompts: systems"),
    ],
)
def test_unusable_input_is_told_with_code_2(
    answers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    complaint: str,
) -> None:
    monkeypatch.delenv("SGD_JUDGE_URL", raising=False)
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"systems": "x"}')
    given = [str(prompts) if each == "PROMPTS" else each for each in arguments]
    assert main(["judge", str(answers), "--against", "plain", *given]) == 2
    assert complaint in capsys.readouterr().err
