"""What the check finds and concludes; models are scripted, speeds are given."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from langchain_sgd.checking import _Checking, check
from langchain_sgd.commands.check import check_packages, check_python
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.findings import Finding, Planned, Speed, Verdict, parallelism
from langchain_sgd.models import ChatEndpoint, Endpoints
from langchain_sgd.prompts import Prompts
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

SPLIT = (("Compare trains and planes.", True), ("Compare cars and ships.", True))
WIDE = skeleton("1", "2", "3", "4")
CHAIN = skeleton("1", "2 <- 1", "3 <- 2")


def states(verdict: Verdict) -> dict[str, str]:
    return {finding.name: finding.state for finding in verdict.findings}


def stage(plan: Any = WIDE) -> Stage:
    said = planning(plan) if plan is not None else Say("PLAIN")
    return Stage({PLANNER: said}, default=Say(["four ", "words ", "of ", "text"], usage=(9, 4)))


async def test_models_that_plan_pass() -> None:
    told: list[Finding] = []
    models: dict[str, Any] = {**stage().pair()}
    verdict = await check(**models, questions=SPLIT, on_finding=told.append)
    assert verdict.ok
    assert told == list(verdict.findings)
    found = states(verdict)
    for name in ("large", "small", "splits when due", "parallel enough"):
        assert found[name] == "ok"
    assert found["large: form"] == "note"
    assert "by examples alone" in str(verdict)
    assert json.loads(json.dumps(verdict.to_json()))["summary"] == verdict.summary


async def test_a_small_model_that_leaves_its_parts_nearly_empty_is_noted() -> None:
    full = Say([f"word{n} " for n in range(50)], usage=(9, 50))
    for small, state in ((Say(["Nothing ", "much."], usage=(9, 2)), "note"), (full, "ok")):
        on = Stage({PLANNER: planning(WIDE)}, default=full)
        weak = Stage(default=small)
        verdict = await check(large=on.model("large"), small=weak.model("small"), questions=SPLIT)
        (found,) = (f for f in verdict.findings if f.name == "small: parts")
        assert found.state == state
        assert found.detail.endswith("words, asked for about 50")
        assert found.detail.startswith("2, 2, 2, 2" if state == "note" else "50, 50, 50, 50")
        assert ("leave the small model out" in found.remedy) == (state == "note")
        # They are asked as writers are: told what they are, and shown examples.
        asked = [call for call in weak.calls if call.part in {"1", "2", "3", "4"}]
        assert len(asked) == 4
        for call in asked:
            assert call.prompt.startswith(f"human: {Prompts().writer}")
            assert Prompts().writer_examples[0].text in call.prompt


async def test_a_planner_that_never_splits_fails_with_its_reason() -> None:
    verdict = await check(large=stage(None).model("large"), questions=SPLIT)
    assert not verdict.ok
    assert states(verdict)["splits when due"] == "failed"
    assert "0 of 2" in verdict.summary
    assert "planner" in verdict.summary


@pytest.mark.parametrize("failing", [1, 2, 3])
async def test_a_planner_whose_call_fails_is_told_in_the_servers_words_and_planned_nothing(
    failing: int,
) -> None:
    words = "This model's maximum context length is 512 tokens"
    questions = (*SPLIT, ("Say one word.", False))
    refuses = {n: Say(error=RuntimeError(words)) for n in range(failing)}
    plans = [refuses.get(n, planning(WIDE) if n < 2 else Say("PLAIN")) for n in range(3)]
    on = Stage({PLANNER: plans}, default=Say(["four ", "words ", "of ", "text"], usage=(9, 4)))
    verdict = await check(large=on.model("large"), questions=questions, retries=0)
    (found,) = (f for f in verdict.findings if f.name == "plan")
    assert found.state == "failed"
    assert found.detail.startswith(f"{failing} of 3 questions were not planned. ")
    assert words in found.detail
    assert not found.remedy
    assert not verdict.ok
    assert words in verdict.summary
    assert "larger planner" not in str(verdict)
    shares = {f.name: f.detail for f in verdict.findings}
    assert shares.get("plain when due", "")[:6] == ("1 of 1" if failing < 3 else "")
    assert shares.get("splits when due", "")[:6] == ("1 of 1" if failing < 2 else "")


async def test_a_question_for_one_piece_that_is_split_is_noted() -> None:
    verdict = await check(large=stage().model("large"), questions=(("Say one word.", False),))
    assert states(verdict)["plain when due"] == "note"
    assert "splits when due" not in states(verdict)


async def test_a_chain_is_noted() -> None:
    verdict = await check(large=stage(CHAIN).model("large"), questions=SPLIT)
    assert states(verdict)["parallel enough"] == "note"


async def test_a_model_that_does_not_answer_ends_the_check() -> None:
    broken = Stage(default=Say(error=RuntimeError("no such model")))
    verdict = await check(large=broken.model("large"), questions=SPLIT)
    assert states(verdict) == {"large": "failed"}
    assert "no such model" in verdict.summary
    assert len(broken.calls) == 1


async def test_a_server_that_is_not_there_is_told() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        msg = "refused"
        raise httpx.ConnectError(msg)

    model = ChatEndpoint(url="http://gpu:8000")
    model._endpoints = Endpoints(httpx.MockTransport(refuse))
    verdict = await check(large=model)
    assert "Nothing answers at http://gpu:8000" in verdict.summary


async def test_what_is_found_in_time_counts() -> None:
    slow = Stage({PLANNER: Say(hang=True)}, default=Say("text"))
    verdict = await check(large=slow.model("large"), questions=SPLIT, timeout_s=0.2)
    assert states(verdict) == {
        "large": "ok",
        "large: usage": "note",
        "large: form": "note",
        "time": "failed",
    }


async def test_a_model_without_text_or_counts_is_noted() -> None:
    silent = Stage({PLANNER: planning(WIDE)}, default=Say(""))
    found = states(await check(large=silent.model("large"), questions=()))
    assert (found["large: text"], found["large: usage"]) == ("note", "note")
    assert found["large: speed"] == "note"


async def test_a_name_that_names_nothing_is_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match="small: 'gpu:8000' names no model"):
        await check(large=stage().model("large"), small="gpu:8000")


# -- the verdict


def checking(plan: Any, plan_s: float, **speeds: Speed) -> Verdict:
    made = _Checking(dict.fromkeys(speeds), {}, lambda _: None)  # type: ignore[arg-type]
    made._planned = [Planned("Why?", True, plan_s, plan, "", 500)]  # noqa: FBT003
    made._speeds = speeds
    return made.verdict()


BATCHING = Speed(first_token_s=0.1, alone=30.0, together=100.0)


def test_the_speedup_is_estimated_from_plan_and_speeds() -> None:
    # Plain: 0.1 + 300 / 30 = 10.1 s. SGD: 1 s of planning, then 75 tokens at 25 a second.
    verdict = checking(WIDE, 1.0, large=BATCHING)
    assert verdict.speedup == pytest.approx(10.1 / (1 + 0.1 + 75 / 25))
    assert verdict.summary.startswith("SGD is worth it here: expected about 2.5 times as fast")
    # Three steps of 100 tokens, each alone at 30 a second.
    chained = checking(CHAIN, 1.0, large=BATCHING)
    assert chained.speedup == pytest.approx(10.1 / (1 + 3 * (0.1 + 100 / 30)))


@pytest.mark.parametrize(
    ("plan", "plan_s", "speed", "begins", "why"),
    [
        (WIDE, 1.0, Speed(0.1, 30.0, 33.0), "SGD does not pay here", "use one that batches"),
        (WIDE, 9.0, BATCHING, "SGD does not pay here", "let the small model plan"),
        (CHAIN, 0.5, BATCHING, "SGD does not pay here", "few parts that can be written at once"),
        (WIDE, 5.0, BATCHING, "SGD helps a little", "let the small model plan"),
    ],
)
def test_a_small_gain_is_explained(
    plan: Any, plan_s: float, speed: Speed, begins: str, why: str
) -> None:
    verdict = checking(plan, plan_s, large=speed)
    assert verdict.summary.startswith(begins)
    assert why in verdict.summary
    assert verdict.ok


def test_a_small_model_is_suggested_as_planner_where_planning_takes_long() -> None:
    assert checking(WIDE, 5.0, large=BATCHING, small=BATCHING).options == {"planner": "small"}
    assert checking(WIDE, 1.0, large=BATCHING, small=BATCHING).options == {}


def test_nothing_is_estimated_from_nothing() -> None:
    verdict = _Checking({}, {}, lambda _: None).verdict()
    assert (verdict.speedup, verdict.ok) == (None, True)
    assert "could not be estimated" in verdict.summary


@pytest.mark.parametrize(("made", "steps", "parallel"), [(WIDE, 1, 4.0), (CHAIN, 3, 1.0)])
def test_the_longest_chain_is_counted(made: Any, steps: int, parallel: float) -> None:
    assert (made.depth, parallelism(made)) == (steps, parallel)


# -- this machine


def test_this_python_is_new_enough() -> None:
    (found,) = check_python()
    assert (found.state, found.remedy) == ("ok", "")


def test_an_old_python_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 1))
    assert list(check_python()) == [
        Finding("python", "failed", "3.9.1", "Use Python 3.11 or newer.")
    ]


def test_old_and_missing_packages_get_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata  # noqa: PLC0415 - patched here

    def version(package: str) -> str:
        if package == "httpx":
            raise importlib.metadata.PackageNotFoundError(package)
        return {"langgraph": "1.2.9", "pydantic": "2.11.0rc1+local"}.get(package, "99.0")

    monkeypatch.setattr(importlib.metadata, "version", version)
    failed = {found.name: found.remedy for found in check_packages() if found.state == "failed"}
    assert failed == {
        "langgraph": 'pip install "langgraph>=1.2.19"',
        "httpx": "pip install httpx",
    }
