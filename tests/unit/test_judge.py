from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_sgd.costs import Price
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.judging import JudgeError, JudgePrompts, Judging, Pair, tally

Say = Callable[[str], str]
SHOWN = re.compile(r"<answer_a>\n(.*?)\n</answer_a>.*<answer_b>\n(.*?)\n</answer_b>", re.DOTALL)


def pair(question: int = 1, answer: str = "good", other: str = "bad") -> Pair:
    return Pair(
        str(question),
        "writing",
        f"Question {question}?",
        method="sgd",
        answer=answer,
        against="plain",
        other=other,
    )


def fair(prompt: str) -> str:
    """Prefers the answer that says good, wherever it stands."""
    found = SHOWN.search(prompt)
    assert found
    one, two = ("good" in each for each in found.groups())
    return "I compared them.\nVerdict: " + ("tie" if one == two else "A" if one else "B")


class Model:
    """A judge that notes what it was asked."""

    def __init__(self, say: Say | str = fair) -> None:
        self.asked: list[list[BaseMessage]] = []
        self.say: Say = say if callable(say) else lambda _: say
        self.runnable: Runnable[Any, Any] = RunnableLambda(self._answer, name="model")
        self.peak = self._running = 0

    async def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        self.asked.append(messages)
        self._running += 1
        self.peak = max(self.peak, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
        return AIMessage(self.say(messages[-1].text), usage_metadata=usage)


async def test_a_fair_judge_decides() -> None:
    pairs = [pair(1), pair(2, "bad", "good"), pair(3, "good one", "good two")]
    model = Model()
    judged = await Judging(pairs, model.runnable).arun()
    assert [each.outcome for each in judged] == ["win", "lose", "tie"]
    assert [each.verdicts for each in judged] == [("A", "B"), ("B", "A"), ("tie", "tie")]
    assert judged[0].length_ratio == pytest.approx(4 / 3)
    assert len(model.asked) == 6


@pytest.mark.parametrize("said", ["A", "B", "tie"])
async def test_a_judge_that_always_says_the_same_makes_only_ties(said: str) -> None:
    pairs = [pair(question) for question in range(5)]
    found = tally(await Judging(pairs, Model(f"Verdict: {said}").runnable).arun())
    assert (found.rates.ties, found.rates.pairs) == (5, 5)
    assert found.first_place == {"A": 1, "B": 0, "tie": None}[said]


async def test_no_judge_is_asked_where_nothing_can_be_compared() -> None:
    model = Model()
    pairs = [pair(1, "same", "same"), pair(2, "", "x"), pair(3, "x", ""), pair(4, "", "")]
    judging = Judging(pairs, model.runnable)
    assert judging.cost.calls == 0
    judged = await judging.arun()
    assert [(each.outcome, each.decided_by) for each in judged] == [
        ("tie", "identity"),
        ("lose", "failure"),
        ("win", "failure"),
        ("tie", "failure"),
    ]
    assert [each.length_ratio for each in judged] == [1.0, None, None, None]
    assert model.asked == []


async def test_methods_with_the_same_texts_share_their_verdicts() -> None:
    model = Model()
    judging = Judging([pair(), replace(pair(), method="sot")], model.runnable)
    assert judging.cost.calls == 2
    assert [each.outcome for each in await judging.arun()] == ["win", "win"]
    assert len(model.asked) == 2


# -- verdicts that cannot be used


async def test_an_unclear_verdict_is_asked_for_once_more() -> None:
    model = Model(lambda prompt: "B" if prompt == "Which one?" else "Hard to say. " * 100)
    prompts = JudgePrompts(again="Which one?")
    judging = Judging([pair()], model.runnable, prompts=prompts)
    [judged] = await judging.arun()
    assert judged.verdicts == ("B", "B")
    assert len(model.asked) == 4
    again = max(model.asked, key=len)
    assert [message.type for message in again] == ["system", "human", "ai", "human"]
    assert again[:2] in (model.asked[0], model.asked[1])
    assert len(again[2].text) == 400
    assert judging.warnings == []


async def test_what_stays_unclear_is_a_tie_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    say: Say = lambda p: "?" if "<answer_a>\ngood" in p or "last line held" in p else "B"  # noqa: E731
    model = Model(say)
    judging = Judging([pair()], model.runnable, path=path)
    [judged] = await judging.arun()
    assert (judged.outcome, judged.verdicts) == ("tie", (None, "B"))
    assert judging.warnings == ["question 1, 'sgd' shown first: no verdict; counted as a tie"]
    assert tally([judged]).unusable == 1
    kept = Judging([pair()], model.runnable, path=path)
    assert kept.cost.calls == 0
    assert kept.warnings == judging.warnings


async def test_a_judge_that_says_nothing_hears_the_same_again() -> None:
    model = Model("")
    await Judging([pair()], model.runnable).arun()
    assert {len(messages) for messages in model.asked} == {2}
    assert len(model.asked) == 4


async def test_what_does_not_fit_the_judge_is_a_tie_with_a_warning() -> None:
    def overflow(_: str) -> str:
        raise ContextOverflowError

    judging = Judging([pair()], Model(overflow).runnable)
    assert [each.outcome for each in await judging.arun()] == ["tie"]
    assert all("too long for the judge" in warning for warning in judging.warnings)
    assert len(judging.warnings) == 2


# -- kept verdicts, cost, limits


async def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    pairs = [pair(question) for question in range(6)]
    model = Model()

    def breaks(prompt: str) -> str:
        if "Question 4?" in prompt:
            msg = "no route"
            raise ConnectionError(msg)
        return fair(prompt)

    model.say = breaks
    judging = Judging(pairs, model.runnable, path=path, concurrency=1)
    with pytest.raises(JudgeError, match=r"on question '4': ConnectionError: no route \(.*kept in"):
        await judging.arun()
    assert len(judging.judged()) == 4
    model.say, model.asked = fair, []
    again = Judging(pairs, model.runnable, path=path)
    assert (again.cost.calls, again.cost.kept) == (4, 8)
    assert [each.outcome for each in await again.arun()] == ["win"] * 6
    assert len(model.asked) == 4
    assert again.cost.calls == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"name": "another"},
        lambda: {"prompts": JudgePrompts(system="Be fair.")},
        lambda: {"prompts": JudgePrompts(again="Which one?")},
        lambda: {"pairs": [pair(answer="goodness")]},
        lambda: {"pairs": [replace(pair(), reference="right")]},
    ],
)
async def test_a_verdict_counts_only_for_the_same_judge_and_words(
    tmp_path: Path, change: Callable[[], dict[str, Any]]
) -> None:
    given: dict[str, Any] = {
        "pairs": [pair()],
        "model": Model().runnable,
        "path": tmp_path / "verdicts.jsonl",
    }
    await Judging(**given).arun()
    assert Judging(**given).cost.calls == 0
    assert Judging(**{**given, **change()}).cost.calls == 2


def test_the_cost_is_known_before() -> None:
    prompts = JudgePrompts(system="", pair="{question}{answer_a}{answer_b}")
    model = Model()
    judging = Judging([pair()], model.runnable, prompts=prompts, reply_tokens=500)
    characters = len("Question 1?goodbad") * 2
    assert judging.cost.input_tokens == -(-characters // 4)
    assert (judging.cost.calls, judging.cost.output_tokens) == (2, 1000)
    assert judging.cost.price(Price(input=1e6, output=1e3)) == 9 + 1
    assert Judging([pair()], model.runnable).cost.price(Price(input=1, output=1)) is None
    assert model.asked == []


async def test_no_more_calls_are_in_flight_than_allowed() -> None:
    pairs = [pair(question) for question in range(10)]
    model, rows = Model(), list[dict[str, Any]]()
    await Judging(pairs, model.runnable, concurrency=3).arun(rows.append)
    assert model.peak == 3
    assert len(rows) == 20
    assert {(row["a"], row["b"], row["verdict"]) for row in rows} == {
        ("sgd", "plain", "A"),
        ("plain", "sgd", "B"),
    }
    assert rows[0]["tokens"] == [10, 3]


def test_a_chain_may_judge_and_run_waits_for_it() -> None:
    chain: Runnable[Any, Any] = RunnableLambda(lambda _: "tie")
    judging = Judging([pair()], chain)
    assert [each.outcome for each in judging.run()] == ["tie"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"pairs": []}, "no pairs"), ({"concurrency": 0}, "must be 1 or more, not 0")],
)
def test_what_cannot_be_judged_is_told(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        Judging(**{"pairs": [pair()], "model": Model().runnable, **options})


async def test_a_judges_error_shows_no_key() -> None:
    def breaks(_: object) -> str:
        msg = "401 for https://user:hunter2pass@gw/v1 Authorization: Bearer abcdef123456789"
        raise ConnectionError(msg)

    with pytest.raises(JudgeError, match="ConnectionError: 401") as caught:
        await Judging([pair()], RunnableLambda(breaks)).arun()
    assert "hunter2pass" not in str(caught.value)
    assert "abcdef123456789" not in str(caught.value)


async def test_a_verdict_that_cannot_be_written_ends_the_run_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    judging = Judging([pair(n) for n in range(3)], Model().runnable, path=path)
    path.mkdir()
    with pytest.raises(OSError, match=r"verdicts\.jsonl"):
        await judging.arun()


async def test_a_model_that_gives_no_text_is_told() -> None:
    chain: Runnable[Any, Any] = RunnableLambda(lambda _: {"verdict": "A"})
    with pytest.raises(
        JudgeError, match=r"must give a message or text, not dict.*nothing was kept"
    ):
        await Judging([pair()], chain).arun()
