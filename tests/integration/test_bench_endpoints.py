"""`langchain-sgd bench endpoints` against TGI servers on loopback."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.bench import endpoints
from langchain_sgd.cli import main
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.judging import make_pairs, read_answers
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.asked import asks_for
from tests.support.bench import Page, full_disk, has_nan, lines
from tests.support.travel import LONG_REPLIES, REPLIES
from tests.tgi_server import TGITestServer

PLAIN, SGD, SOT = endpoints.PLAIN, endpoints.SGD, endpoints.SOT
TWO = ("--methods", PLAIN, SGD)
WHOLE = LONG_REPLIES[""]
PACE = Pace(plans_first=True)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TGITestServer]:
    for name in ("SMALL_URL", "LARGE_URL", "PLANNER_URL", "API_KEY", "LARGE_API_KEY"):
        monkeypatch.delenv(f"SGD_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    engines = {
        name: ScriptedEngine(LONG_REPLIES, model_id=f"lab/{name}", pace=PACE)
        for name in ("small", "large")
    }
    async with TGITestServer(engines) as made:
        yield made


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return written(
        tmp_path / "questions.jsonl",
        [
            {"question_id": "q/1", "category": "travel", "question": "Train or <script>?"},
            {"prompt_id": 7, "category": "travel", "prompt": ["And ships?", "And boats?"]},
            {"text": "And on foot?"},
        ],
    )


def written(path: Path, values: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in values), encoding="utf-8")
    return path


async def bench(server: TGITestServer, questions: Path, *arguments: str | Path) -> int:
    """The command in a thread, since it runs a loop of its own."""
    given = ["--large", server.url_of("large"), "--questions", str(questions), *map(str, arguments)]
    return await asyncio.to_thread(main, ["bench", "endpoints", *given])


def asked(server: TGITestServer, text: str) -> int:
    """How many calls were made for questions with this text."""
    return sum(text in prompt for prompt in server.prompts)


# -- questions


def test_fields_go_by_many_names(questions: Path) -> None:
    found = endpoints.read_questions(questions, turns=2)
    assert [(a.question.id, a.question.category, a.turns) for a in found] == [
        ("q/1", "travel", ("Train or <script>?",)),
        ("7", "travel", ("And ships?", "And boats?")),
        ("3", "all", ("And on foot?",)),
    ]
    assert endpoints.read_questions(questions)[1].turns == ("And ships?",)


def test_any_text_may_stand_in_a_question(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    text = "日本?\u2028\u0085 Größe\x0b|"
    value = json.dumps({"question": text, "question_id": 0}, ensure_ascii=False)
    path.write_bytes(f"\ufeff\r\n{value}\r\n\n".encode())
    (found,) = endpoints.read_questions(path)
    assert (found.question.id, found.question.text) == ("0", text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "line 2 is no JSON"),
        ("[]", "line 2 is no JSON object"),
        ('{"question": ""}', 'line 2: give "question"'),
        ('{"turns": ["a", " "]}', 'line 2: give "question"'),
        ('{"turns": {"a": 1}}', 'line 2: give "question"'),
        ('{"question": "b", "id": 1}', "line 2: the question_id '1' stands twice"),
    ],
)
def test_unusable_questions_are_told_by_their_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"question": "a", "id": 1}}\n{text}\n')
    with pytest.raises(InvalidInputError) as caught:
        endpoints.read_questions(path)
    assert complaint in str(caught.value)
    path.write_text("\n")
    with pytest.raises(InvalidInputError, match="holds no question"):
        endpoints.read_questions(path)


# -- all methods


async def test_every_method_answers_every_question_for_each_number_of_users(
    server: TGITestServer,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, figures, page = (tmp_path / "new" / f"x.{end}" for end in ("jsonl", "json", "html"))
    given = ["--small", server.url_of("small"), "--ablations", "--users", "1", "2"]
    given += ["--resume", str(rows), "--json", str(figures), "--html", str(page)]
    assert await bench(server, questions, *given) == 0
    names = {
        *(PLAIN, endpoints.PLAIN_SMALL, SOT, SGD),
        *(endpoints.ADAPTIVE, endpoints.PLANNED, endpoints.SUPERSTEPS, endpoints.TOLD),
    }
    found = lines(rows)
    assert Counter(row["method"] for row in found) == dict.fromkeys(names, 6)
    assert {row["error"] for row in found} == {None}
    for row in found:
        assert row["wall_s"] >= row["ttft_s"] > 0
        assert sum(u["output_tokens"] for u in row["report"]["usage"].values()) > 0
        tiers = {a["model"] for n in row["report"]["nodes"] for a in n["attempts"]}
        assert tiers <= {"lab/large", "lab/small"}
        assert ("lab/small" in tiers) == (
            row["method"] in {endpoints.PLAIN_SMALL, endpoints.ADAPTIVE}
        )
        if row["method"].startswith("SGD"):
            assert "## Advice\n\nStay at home." in row["answer"]
        elif row["method"] == SOT:
            assert "A point." in row["answer"]
        else:
            assert row["answer"] == WHOLE
    saved = json.loads(figures.read_text())
    loads = saved["figures"]["users"]
    assert saved["command"].startswith("langchain-sgd bench endpoints --large http")
    assert set(loads) == {"1", "2"}
    for load in loads.values():
        assert set(load["methods"]) == names
        assert set(load["categories"]) == {"travel", "all"}
        assert all(method["runs"] == 3 for method in load["methods"].values())
        assert all(method["failed"] == 0 for method in load["methods"].values())
        assert all(value > 0 for value in load["per_minute"].values())
        assert load["methods"][PLAIN]["speedup"]["median"] == 1
    shown = Page(page.read_text())
    assert names <= set(shown.all("text"))
    assert len(shown.ids) == len(set(shown.ids))
    assert not any(map(has_nan, shown.texts))
    said = capsys.readouterr().out
    assert "3 questions, one user" in said
    assert "3 questions, 2 users at the same time" in said


async def test_what_was_measured_before_gets_its_cost_when_prices_are_given(
    server: TGITestServer, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    given = ["--small", server.url_of("small"), "--resume", str(rows)]
    assert await bench(server, questions, *given) == 0
    assert "What it cost" not in capsys.readouterr().out
    server.log.clear()
    given += ["--prices", "large=10,30", "small=1,3", "--json", str(figures)]
    assert await bench(server, questions, *given) == 0
    assert not server.requests("completions")
    methods = json.loads(figures.read_text())["figures"]["users"]["1"]["methods"]
    # The same words by the small model, at a tenth of the price.
    assert methods[endpoints.PLAIN_SMALL]["cost_ratio"]["median"] == pytest.approx(0.1)
    assert methods[SGD]["cost_ratio"]["median"] > 1  # so short an answer does not pay for its plan
    assert all(method["costed"] == 3 for method in methods.values())
    assert "What it cost, in the currency of the prices" in capsys.readouterr().out


async def test_the_warm_up_is_no_row_and_a_finished_bench_asks_nothing(
    server: TGITestServer, questions: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    assert await bench(server, questions, "--methods", PLAIN, "--resume", rows) == 0
    assert Counter(row["question"] for row in lines(rows)) == {
        "Train or <script>?": 1,
        "And ships?": 1,
        "And on foot?": 1,
    }
    assert len(server.prompts) == 4
    assert asked(server, "Train or") == 2
    before = rows.read_bytes()
    assert await bench(server, questions, "--methods", PLAIN, "--resume", rows) == 0
    assert len(server.prompts) == 4
    assert rows.read_bytes() == before


async def test_methods_take_turns_in_an_order_that_changes(
    server: TGITestServer, tmp_path: Path
) -> None:
    path = written(tmp_path / "q.jsonl", [{"question": f"Question {n}?"} for n in range(8)])
    rows = tmp_path / "rows.jsonl"
    assert await bench(server, path, *TWO, "--resume", rows) == 0
    found = [(row["question_id"], row["method"]) for row in lines(rows)]
    pairs = [found[n : n + 2] for n in range(0, 16, 2)]
    assert all({name for _, name in pair} == {PLAIN, SGD} for pair in pairs)
    assert [{name for name, _ in pair} for pair in pairs] == [{str(n)} for n in range(1, 9)]
    assert len({pair[0][1] for pair in pairs}) == 2


async def test_with_users_a_method_has_the_server_for_itself(
    server: TGITestServer, tmp_path: Path
) -> None:
    server.engine.pace = Pace(token_s=0.002)
    path = written(tmp_path / "q.jsonl", [{"question": f"Question {n}?"} for n in range(10)])
    rows = tmp_path / "rows.jsonl"
    assert await bench(server, path, *TWO, "--resume", rows, "--users", "2") == 0
    found = lines(rows)
    blocks = [list(group) for _, group in itertools.groupby(found, lambda row: str(row["block"]))]
    assert [len(block) for block in blocks] == [8, 8, 2, 2]
    assert all(len({row["method"] for row in block}) == 1 for block in blocks)
    spans = [
        (min(r["began"] for r in block), max(r["began"] + r["wall_s"] for r in block))
        for block in blocks
    ]
    assert all(end <= begin + 1e-3 for (_, end), (begin, _) in itertools.pairwise(spans))
    for block in blocks:
        alive = [
            sum(o["began"] <= r["began"] < o["began"] + o["wall_s"] for o in block) for r in block
        ]
        assert max(alive) == 2


async def test_a_seed_is_the_same_for_all_methods_and_after_a_restart(
    server: TGITestServer, questions: Path
) -> None:
    def seeds() -> set[int]:
        entries = server.requests("completions")
        server.log.clear()
        return {entry.json["seed"] for entry in entries if "And ships?" in str(entry.json)}

    assert await bench(server, questions, "--methods", PLAIN, "--temperature", "0.5") == 0
    first = seeds()
    assert len(first) == 1
    assert await bench(server, questions, *TWO, "--temperature", "0.5") == 0
    assert first <= seeds()
    assert await bench(server, questions, "--methods", PLAIN, "--seed", "2") == 0
    assert seeds().isdisjoint(first)


async def test_further_turns_know_what_was_said(
    server: TGITestServer, questions: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    given = ["--methods", PLAIN, "--turns", "2", "--resume", str(rows)]
    assert await bench(server, questions, *given) == 0
    found = {row["question_id"]: row for row in lines(rows)}
    assert set(found) == {"q/1", "7", "7/2", "3"}
    assert found["7/2"]["question"] == "And boats?"
    second = [prompt for prompt in server.prompts if "And boats?" in prompt]
    assert len(second) == 1
    assert (
        second[0].index("And ships?") < second[0].index("An undivided") < second[0].index("boats")
    )
    figures = tmp_path / "figures.json"
    assert await bench(server, questions, *given[:2], "--resume", rows, "--json", figures) == 0
    # Rows of turns that were not asked for are left alone.
    methods = json.loads(figures.read_text())["figures"]["users"]["1"]["methods"]
    assert methods[PLAIN]["runs"] == 3


# -- stops and failures


@pytest.mark.parametrize(
    ("users", "after"), [("1", 3), ("2", 2)], ids=["between", "inside a block"]
)
async def test_a_bench_that_was_stopped_goes_on(
    server: TGITestServer,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    users: str,
    after: int,
) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.json"
    given = [*TWO, "--resume", str(rows), "--users", users, "--json", str(figures)]
    with monkeypatch.context() as patch:
        full_disk(patch, after)
        assert await bench(server, questions, *given) == 1
    assert "No space left on device" in capsys.readouterr().err
    kept = rows.read_bytes()
    assert kept.count(b"\n") == after
    rows.write_bytes(kept + kept[:77])  # a row that the kill cut
    done = {(row["method"], row["question_id"]) for row in lines_of(kept)}
    server.log.clear()
    assert await bench(server, questions, *given) == 0
    assert rows.read_bytes().startswith(kept)
    added = {(row["method"], row["question_id"]) for row in lines(rows)[after:]}
    assert len(lines(rows)) == 6
    assert not done & added
    assert len(done | added) == 6
    # The first question warms up every method; the others were asked once or not at all.
    plain_calls = sum(name == PLAIN for name, _ in added)
    undivided = sum("Plan long" not in p and not asks_for(p) for p in server.prompts)
    assert undivided == (1 + plain_calls) + (1 + len(added) - plain_calls)  # SGD's openings
    methods = json.loads(figures.read_text())["figures"]["users"][users]["methods"]
    assert [methods[name]["runs"] for name in (PLAIN, SGD)] == [3, 3]


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


async def test_failed_rows_are_shown_and_tried_again_and_lose_nothing(
    server: TGITestServer,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, figures, page = (tmp_path / f"x.{end}" for end in ("jsonl", "json", "html"))
    given = [*TWO, "--resume", str(rows), "--json", str(figures), "--html", str(page)]
    server.inject("unauthorized", times=None, when=lambda entry: "And ships" in str(entry.json))
    assert await bench(server, questions, *given) == 0
    failed = [row for row in lines(rows) if row["error"]]
    assert {(row["method"], row["question"]) for row in failed} >= {(PLAIN, "And ships?")}
    assert len(lines(rows)) == 6
    found = json.loads(figures.read_text())["figures"]
    methods = found["users"]["1"]["methods"]
    assert methods[PLAIN]["runs"] == 3
    assert methods[PLAIN]["failed"] == 1
    assert methods[SGD]["failed"] + methods[SGD]["partial"] == 1
    assert methods[PLAIN]["wall_s"]["median"] > 0
    assert found["errors"]
    said = capsys.readouterr().out
    assert f"a run failed: {found['errors'][0]}" in said
    shown = Page(page.read_text())
    assert found["errors"][0] in shown.all("td")
    assert not any(map(has_nan, shown.texts))

    server.heal()
    server.log.clear()
    assert await bench(server, questions, *given) == 0
    assert len(lines(rows)) == 6 + len(failed)
    assert asked(server, "And on foot?") == 0
    found = json.loads(figures.read_text())["figures"]
    assert found["errors"] == []
    assert found["users"]["1"]["methods"][PLAIN]["failed"] == 0


async def test_a_part_that_fails_makes_a_partial_answer(
    server: TGITestServer, questions: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    server.inject(
        "unauthorized",
        times=None,
        when=lambda entry: "And ships" in str(entry.json) and asks_for(entry.json, 2),
    )
    assert await bench(server, questions, *TWO, "--json", figures) == 0
    methods = json.loads(figures.read_text())["figures"]["users"]["1"]["methods"]
    assert (methods[SGD]["failed"], methods[SGD]["partial"]) == (0, 1)
    assert (methods[PLAIN]["failed"], methods[PLAIN]["partial"]) == (0, 0)


async def test_a_server_that_refuses_everything_ends_the_bench_at_once(
    server: TGITestServer, questions: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    server.inject("unauthorized", times=None)
    with pytest.raises(SystemExit, match="plain large cannot answer: "):
        await bench(server, questions, *TWO, "--resume", rows)
    assert not rows.exists()


async def test_rows_of_other_sampling_stay_and_rows_of_another_file_are_refused(
    server: TGITestServer, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    given = ("--methods", PLAIN, "--resume", rows)
    assert await bench(server, questions, *given) == 0
    before = rows.read_bytes()
    assert await bench(server, questions, *given, "--max-tokens", "50") == 0
    assert rows.read_bytes().startswith(before)
    assert len(lines(rows)) == 6
    other = written(tmp_path / "other.jsonl", [{"question_id": 7, "question": "And bicycles?"}])
    server.log.clear()
    assert await bench(server, other, *given) == 2
    said = capsys.readouterr().err
    assert "another question under the id '7': 'And ships?'" in said
    assert server.log == []
    with pytest.raises(SystemExit) as ended:
        await bench(server, questions, "--methods", PLAIN, "--resume", questions)
    assert ended.value.code == 2
    assert "name the same file" in capsys.readouterr().err
    strange = written(tmp_path / "strange.jsonl", [{"question_id": 7, "question": "And bicycles?"}])
    assert await bench(server, questions, "--methods", PLAIN, "--resume", strange) == 2
    assert "no row of a bench" in capsys.readouterr().err


# -- what the judge reads


async def test_the_judge_reads_the_rows(
    server: TGITestServer, questions: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    assert await bench(server, questions, *TWO, "--resume", rows) == 0
    answers = read_answers(rows)
    assert len(answers) == 6
    assert {(a.question_id, a.category, a.question) for a in answers} == {
        ("q/1", "travel", "Train or <script>?"),
        ("7", "travel", "And ships?"),
        ("3", "all", "And on foot?"),
    }
    pairs = make_pairs(answers, PLAIN)
    assert len(pairs) == 3
    assert all(pair.other == WHOLE for pair in pairs)
    assert all("Stay at home." in pair.answer for pair in pairs)

    server.engine.reply = "Verdict: tie"
    judging = ["judge", str(rows), "--against", PLAIN, "--judge", server.url_of("large"), "--yes"]
    figures = tmp_path / "verdicts.json"
    assert await asyncio.to_thread(main, [*judging, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())["figures"][SGD]["all"]["pairs"] == 3


# -- options


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--users", "0"], "--users: must be 1 or more"),
        (["--users", "4", "-1"], "--users: must be 1 or more"),
        (["--limit", "0"], "--limit: must be 1 or more"),
        (["--turns", "0"], "--turns: must be 1 or more"),
        (["--api-key", "s3cret"], "keys come from the environment: put it into SGD_API_KEY"),
    ],
)
def test_wrong_options_are_told(
    questions: Path, given: Sequence[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "endpoints", "--large", "http://127.0.0.1:1", "--questions", str(questions)]
    with pytest.raises(SystemExit) as caught:
        main([*command, *given])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "s3cret" not in said


def test_a_large_model_is_needed(
    questions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SGD_LARGE_URL", raising=False)
    with pytest.raises(SystemExit):
        main(["bench", "endpoints", "--questions", str(questions)])
    assert "--large, or the environment variable SGD_LARGE" in capsys.readouterr().err


async def test_unusable_files_and_names_are_told_with_code_2(
    server: TGITestServer,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await bench(server, questions, "--methods", "SGD larg") == 2
    assert "unknown methods ['SGD larg']; there are ['plain large'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        await bench(server, tmp_path / "none.jsonl")
    assert ended.value.code == 2
    assert "there is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        await bench(server, questions, "--html", tmp_path)
    assert ended.value.code == 2
    assert f"{tmp_path} is a folder; name a file in it" in capsys.readouterr().err
    assert await bench(server, written(tmp_path / "bad.jsonl", [[]])) == 2
    assert "is no JSON object" in capsys.readouterr().err
    assert await bench(server, questions, "--api-key-env", "NO_SUCH_KEY") == 2
    assert "NO_SUCH_KEY: this environment variable is not set" in capsys.readouterr().err
    assert server.log == []


async def test_keys_come_from_the_environment_and_are_written_nowhere(
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret-key")
    files = {end: tmp_path / f"x.{end}" for end in ("jsonl", "json", "html")}
    given = ["--methods", PLAIN, "--api-key-env", "MY_KEY", "--resume", str(files["jsonl"])]
    given += ["--json", str(files["json"]), "--html", str(files["html"])]
    engines: Mapping[str, ScriptedEngine] = {"large": ScriptedEngine(REPLIES)}
    async with TGITestServer(engines, api_key="s3cret-key") as server:
        assert await bench(server, questions, *given) == 0
        assert all(entry.carries("s3cret-key") for entry in server.requests("completions"))
    said = capsys.readouterr()
    everything = said.out + said.err + "".join(path.read_text() for path in files.values())
    assert "s3cret" not in everything
