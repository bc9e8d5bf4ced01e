"""Users' files: text from any editor, and rows that outlive a kill in a file that grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.bench._measure import Journal
from langchain_sgd.bench._workload import COLUMNS, read_lengths
from langchain_sgd.bench.endpoints import read_questions
from langchain_sgd.bench.latency import PRESETS, LatencyModel
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import RowFile, json_rows, read_text
from langchain_sgd.judging import read_answers, read_references
from langchain_sgd.judging.verdict_file import VerdictFile

ROWS = [{"id": n, "text": f"Größe\u2028{n}\ud83d"} for n in range(3)]


def grown(path: Path, *rows: dict[str, object]) -> bytes:
    file = RowFile(path, begins='{"id": ', fields=("id",), what="no row of ours")
    for row in rows:
        file.add(row)
    return path.read_bytes()


def ids(path: Path) -> list[object]:
    return [
        row["id"]
        for _, row in RowFile(path, begins='{"id": ', fields=("id",), what="no row of ours").rows
    ]


# -- rows


def test_rows_come_back_as_they_were_whatever_characters_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    data = grown(path, *ROWS)
    assert data.count(b"\n") == 3
    assert "Größe" in data.decode()
    assert [row for _, row in RowFile(path).rows] == ROWS


@given(st.integers(0, 200))
@settings(max_examples=40)
def test_wherever_a_kill_cuts_whole_rows_stay_and_the_next_begins_a_line(
    tmp_path_factory: pytest.TempPathFactory, end: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    whole = grown(path, *ROWS)
    path.write_bytes(cut := whole[:end])
    kept = [row["id"] for n, row in enumerate(ROWS) if len(cut) >= _end_of(whole, n)]
    assert ids(path) == kept
    assert path.read_bytes() == cut, "reading alone changes nothing"
    grown(path, {"id": "next"})
    assert ids(path) == [*kept, "next"]


def test_rows_that_another_process_adds_meanwhile_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": "ha')
    one, two = (RowFile(path, begins='{"id": ', fields=("id",)) for _ in range(2))
    for n in (2, 3):
        one.add({"id": n})
    two.add({"id": 4})
    assert ids(path) == [1, 2, 3, 4]


def _end_of(data: bytes, row: int) -> int:
    """Where a row is whole, its newline not counted."""
    return len(b"\n".join(data.split(b"\n")[: row + 1]))


def test_blank_lines_carriage_returns_and_a_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\r\n\n  \n{"id": 2}\r\n \t')
    assert ids(path) == [1, 2]
    grown(path, {"id": 3})
    assert ids(path) == [1, 2, 3]


FOREIGN = [
    '{"system": "written in an hour"}',
    '{"system": "written in an hour"}\n',
    '{\n  "id": 1\n}',
    "[1]",
    "notes",
    '"id"',
    '{"id": 1}\nnotes',
    '{"id": 1}\n{"other": 2}',
    "null\n",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"notes\.json, line \d is no row of ours"):
        grown(path, {"id": 3})
    assert path.read_text() == text


@pytest.mark.parametrize("text", FOREIGN)
def test_verdicts_and_a_benchs_rows_are_put_into_no_other_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match="is no verdict; name another file"):
        VerdictFile(path)
    with pytest.raises(InvalidInputError, match="is no row of a bench; name a new file"):
        Journal(path, {})
    assert path.read_text() == text


def test_a_last_verdict_that_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    row = {"asked": "a" * 24, "verdict": "A"}
    path.write_text(f"{json.dumps(row)}\n\n{json.dumps({**row, 'asked': 'b' * 24})}")
    kept = VerdictFile(path)
    assert kept.get("b" * 24) == {**row, "asked": "b" * 24}
    kept.add({**row, "asked": "c" * 24})
    again = VerdictFile(path)
    assert all(again.get(letter * 24) for letter in "abc")


def test_a_last_row_of_a_bench_that_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path, {})
    for name in "12":
        journal.add({"error": None}, name)
    path.write_bytes(path.read_bytes().rstrip())
    journal = Journal(path, {})
    assert len(journal) == 2
    journal.add({"error": None}, "3")
    assert len(Journal(path, {})) == 3


# -- files of others


def answer(method: str) -> str:
    return json.dumps({"question_id": 1, "question": "Q", "method": method, "answer": "größer"})


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_answers_of_a_bench_that_was_killed_are_read(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "answers.jsonl"
    text = f"{answer('a')}\n{answer('b')}\n{answer('c')[:cut]}"
    path.write_text(text)
    assert [found.method for found in read_answers(path)] == ["a", "b"]
    path.write_text(text + "\n")
    with pytest.raises(InvalidInputError, match="line 3 is no JSON"):
        read_answers(path)


def test_answers_that_are_not_there_are_an_error_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_answers(tmp_path / "answers.jsonl")


def test_a_mark_before_the_text_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("text", encoding="utf-8-sig")
    assert read_text(path) == "text"
    path.write_text(answer("a") + "\r\n" + answer("b"), encoding="utf-8-sig")
    assert [found.method for found in read_answers(path)] == ["a", "b"]
    path.write_text('{"question_id": 1, "reference": "r"}\r\n', encoding="utf-8-sig")
    assert read_references(path) == {"1": "r"}
    path.write_text('{"question": "Q"}\r\n', encoding="utf-8-sig")
    assert [asked.question.text for asked in read_questions(path)] == ["Q"]
    path.write_text(f"{','.join(COLUMNS)}\r\nd,m,1,all,30,1\r\n", encoding="utf-8-sig")
    assert len(read_lengths(path, ["m"])) == 1
    model = PRESETS["llama-7b-a100"]
    path.write_text(json.dumps(model.to_json()), encoding="utf-8-sig")
    assert LatencyModel.read(path) == model


@pytest.mark.parametrize(
    "read",
    [
        read_text,
        read_answers,
        read_references,
        read_questions,
        VerdictFile,
        LatencyModel.read,
        lambda path: list(json_rows(path)),
        lambda path: Journal(path, {}),
        lambda path: read_lengths(path, ["m"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_in_another_encoding_is_told_with_what_to_do(
    tmp_path: Path, read: object, encoding: str
) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"question": "größer"}\n', encoding=encoding)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"theirs\.jsonl is not text in UTF-8; save it as UTF-8"):
        read(path)  # type: ignore[operator]
    assert path.read_bytes() == before
