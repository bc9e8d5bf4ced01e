"""Plans alone: what they cost, whose rows are whose, and what ends the bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_sgd.bench import planner
from langchain_sgd.bench._measure import Journal
from langchain_sgd.bench.endpoints import Asked, read_questions
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import Row
from langchain_sgd.runnable import SGDRunnable
from tests.support.models import PLANNER, Say, Stage, plan_lines
from tests.support.skeletons import skeleton

WIDE = skeleton("1", "2", "3", "4")


def sgd(usage: tuple[int, int] | None = None) -> SGDRunnable:
    lines = plan_lines(WIDE)
    stage = Stage({PLANNER: Say(["".join(lines)], usage=usage)})
    return SGDRunnable(**stage.pair())


def questions(path: Path, *rows: str) -> list[Asked]:
    path.write_text("\n".join(rows))
    return read_questions(path)


async def planned(asked: list[Asked], path: Path | None) -> list[Row]:
    journal = Journal(path, {})
    return await planner.run(sgd(), asked, planner.labels_of(asked), journal, users=2)


async def test_tokens_are_those_that_the_server_counted() -> None:
    for usage, tokens in (((50, 100), 100), (None, 1)):
        row = await planner.plan_one(sgd(usage), "Compare trains, planes and cars?")
        assert (row["error"], len(row["nodes"]), row["tokens"]) == (None, 4, tokens)


async def test_rows_of_other_questions_are_not_taken_for_these(tmp_path: Path) -> None:
    one = questions(tmp_path / "a", '{"question": "How?", "split": true}')
    (row,) = await planned(one, tmp_path / "rows.jsonl")
    assert row["split"] is True
    other = questions(tmp_path / "b", '{"question": "Why?", "split": false}')
    with pytest.raises(InvalidInputError, match="another question under the id '1': 'How"):
        await planned(other, tmp_path / "rows.jsonl")


async def test_labels_are_those_of_the_file_of_today(tmp_path: Path) -> None:
    for split in (True, False):
        asked = questions(tmp_path / "a", f'{{"question": "How?", "split": {int(split)}}}')
        (row,) = await planned(asked, tmp_path / "rows.jsonl")
        assert row["split"] is split


async def test_a_row_that_cannot_be_written_ends_the_bench_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    asked = questions(tmp_path / "a", '{"question": "How?"}', '{"question": "Why?"}')
    journal = Journal(path, {})
    path.mkdir()
    with pytest.raises(OSError, match=r"rows\.jsonl"):
        await planner.run(sgd(), asked, {}, journal, users=2)


async def test_no_key_stands_in_a_row() -> None:
    error = ConnectionError("Authorization: Bearer abcdef123456789")
    stage = Stage(default=Say(error=error))
    row = await planner.plan_one(SGDRunnable(**stage.pair()), "How?")
    assert row["error"]
    assert "abcdef123456789" not in row["error"]
