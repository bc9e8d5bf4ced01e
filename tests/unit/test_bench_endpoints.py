"""Turns of a question: none is asked behind one that is not there."""

from __future__ import annotations

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._measure import Journal, Method, Question
from langchain_sgd.bench.endpoints import Asked, run
from tests.support.models import Say, Stage

ASKED = Asked(Question("1", "How?", "all"), ("How?", "Why?"))
FAILS = Say("half of it", error=ConnectionError("no route"))


async def bench(journal: Journal, *says: Say) -> Stage:
    stage = Stage(default=Say("Well."), lines={"plain": [Say("warm"), *says]})
    method = Method("plain", lambda _, __: PlainDecoding(large=stage.model("large")))
    await run([method], [ASKED], journal, users=[1], seed=1)
    return stage


async def test_behind_a_turn_that_failed_none_is_asked() -> None:
    journal = Journal(None, {})
    stage = await bench(journal, FAILS)
    assert not any("Why?" in call.prompt for call in stage.calls)
    assert [row["turn"] for row in journal.rows()] == [1]
    stage = await bench(journal, Say("first"), Say("second"))
    assert "first" in stage.calls[-1].prompt
    assert [(r["turn"], r["answer"]) for r in journal.rows()] == [(1, "first"), (2, "second")]


async def test_behind_a_turn_that_is_asked_again_all_are() -> None:
    journal = Journal(None, {})
    await bench(journal, Say("first"), Say("second"))
    journal.add({**journal.rows()[0], "error": "no route"}, "plain", "1", "1", "1")
    await bench(journal, Say("new first"), Say("new second"))
    assert [row["answer"] for row in journal.rows()] == ["new first", "new second"]
