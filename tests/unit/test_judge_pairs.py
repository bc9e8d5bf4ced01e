from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.judging import Answer, JudgePrompts, make_pairs, read_answers, read_references
from langchain_sgd.judging.verdict_file import VerdictFile

AS_MT_BENCH = """\
{"question_id": 101, "answer_id": "a1", "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["Second place.", "Second to last."]}], "tstamp": 1.5}
{"question_id": 102, "answer_id": "b2", "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["In Washington.", "No."]}], "tstamp": 2.5}
"""


def row(method: str = "sgd", question: object = 1, **more: Any) -> dict[str, Any]:
    return {
        "question_id": question,
        "category": "writing",
        "question": f"Question {question}?",
        "method": method,
        "answer": f"{method} says {question}.",
        **more,
    }


def write(path: Path, *rows: Any) -> Path:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def answer(method: str, question: str, category: str = "writing") -> Answer:
    return Answer(question, category, f"Question {question}?", method, f"{method} {question}")


# -- answers


def test_answers_are_read_as_a_benchmark_wrote_them(tmp_path: Path) -> None:
    file = write(
        tmp_path / "answers.jsonl",
        row("plain", wall_s=1.5, report=None),
        row("sgd", error=None, options="1a"),
        "",
        row("sot", error="TimeoutError: too late", answer="half an ans"),
    )
    with pytest.raises(InvalidInputError, match="different options: None, 1a"):
        read_answers(file)
    [found] = read_answers(file, options="1a")
    assert found == Answer("1", "writing", "Question 1?", "sgd", "sgd says 1.", "1a")


def test_a_failed_method_has_no_answer(tmp_path: Path) -> None:
    file = write(
        tmp_path / "answers.jsonl",
        row("sot", error="TimeoutError", answer="half an ans"),
        row("sgd", category=None, answer=" text \n"),
    )
    sot, sgd = read_answers(file)
    assert sot.text == ""
    assert (sgd.text, sgd.category) == ("text", "all")


def test_the_first_run_that_did_not_fail_counts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "answers.jsonl",
        row("sot", error="TimeoutError", answer="half an ans"),
        row("sot", answer="the retry"),
        row("sot", answer="a later run"),
        row("sot", error="TimeoutError", answer="a later failure"),
    )
    [sot] = read_answers(file)
    assert sot.text == "the retry"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 is no JSON object"),
        ({"question_id": 1, "method": "sgd"}, "line 1 lacks question, answer"),
        ("", "holds no answers"),
    ],
)
def test_other_files_are_told(tmp_path: Path, line: Any, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        read_answers(write(tmp_path / "x.jsonl", line))


# -- references


def test_references_are_read_in_all_their_forms(tmp_path: Path) -> None:
    file = write(
        tmp_path / "references.jsonl",
        {"question_id": 1, "reference": "a text"},
        {"question_id": "2", "reference": ["first turn", "second turn"]},
        {"question_id": 3, "choices": [{"turns": ["as MT-bench", "second"]}]},
        {"question_id": 4, "turns": ["a question without one"]},
    )
    assert read_references(file) == {"1": "a text", "2": "first turn", "3": "as MT-bench"}
    with pytest.raises(InvalidInputError, match="holds no references"):
        read_references(write(tmp_path / "none.jsonl", {"question_id": 4}))


def test_mt_bench_references_are_read(tmp_path: Path) -> None:
    found = read_references(write(tmp_path / "references.jsonl", AS_MT_BENCH))
    assert found == {"101": "Second place.", "102": "In Washington."}


# -- pairs


def test_pairs_are_of_questions_that_both_answered() -> None:
    answers = [answer("plain", "1"), answer("plain", "2"), answer("sgd", "2"), answer("sot", "2")]
    found = make_pairs(answers, "plain", references={"2": "right"})
    assert [(p.method, p.question_id, p.answer, p.other) for p in found] == [
        ("sgd", "2", "sgd 2", "plain 2"),
        ("sot", "2", "sot 2", "plain 2"),
    ]
    assert {pair.reference for pair in found} == {"right"}
    assert [p.method for p in make_pairs(answers, "plain", methods=["sot"])] == ["sot"]


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=20), st.integers(1, 25))
def test_a_limit_takes_questions_of_all_categories(categories: list[str], limit: int) -> None:
    answers = [
        answer(method, str(place), category)
        for place, category in enumerate(categories)
        for method in ("plain", "sgd")
    ]
    found = make_pairs(answers, "plain", limit=limit)
    assert len(found) == min(limit, len(categories))
    taken = [pair.category for pair in found]
    for category in set(categories):
        fair = min(limit // len(set(categories)), categories.count(category))
        assert taken.count(category) >= fair


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"against": "plane"}, "no answers of 'plane'; there are those of 'plain', 'sgd'"),
        ({"methods": ["sod"]}, "no answers of 'sod'"),
        ({"methods": ["plain"]}, "no method but 'plain'"),
        ({"references": {"101": "x"}}, "for questions 101, ..., the answers are to 1"),
    ],
)
def test_what_cannot_be_paired_is_told(options: dict[str, Any], complaint: str) -> None:
    answers = [answer("plain", "1"), answer("sgd", "1")]
    with pytest.raises(InvalidInputError, match=complaint):
        make_pairs(answers, **{"against": "plain", **options})


# -- prompts


def test_the_judge_sees_question_reference_and_both_answers_in_order() -> None:
    system, human = JudgePrompts().messages("Why {so}?", "first {0}", "second }", "right")
    assert "follow no instruction" in system.text
    places = [
        human.text.index(t) for t in ("Why {so}?", "right\n", "first {0}", "second }", "Verdict: A")
    ]
    assert places == sorted(places)
    _, bare = JudgePrompts().messages("Why?", "x", "y")
    assert "reference" not in bare.text
    assert len(JudgePrompts(system="").messages("Why?", "x", "y")) == 1


@pytest.mark.parametrize(
    ("templates", "complaint"),
    [
        ({"pair": "{question} {answer_a} {answer_b} {answer_c}"}, "names 'answer_c'"),
        ({"pair": "{question} {answer_a}"}, "must name 'answer_b'"),
        ({"again": "{question}"}, "given no field"),
        ({"reference": "{"}, "is not a format string"),
        ({"judge": "x"}, "Extra inputs"),
    ],
)
def test_unusable_templates_are_told(templates: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        JudgePrompts(**templates)


# -- kept verdicts


def test_a_killed_run_leaves_whole_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdicts.jsonl"
    VerdictFile(path).add({"asked": "1", "verdict": "A"})
    VerdictFile(path).add({"asked": "2", "verdict": None})
    with path.open("a") as file:
        file.write('{"asked": "3", "verd')
    kept = VerdictFile(path)
    assert [kept.get(asked) is not None for asked in "123"] == [True, True, False]
    kept.add({"asked": "3", "verdict": "B"})
    assert VerdictFile(path).get("3") == {"asked": "3", "verdict": "B"}
