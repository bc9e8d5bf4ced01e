"""Replays against paths that were worked out by hand: every step takes a second, nothing else any time."""

from __future__ import annotations

import pytest

from langchain_sgd.bench._replay import Replay, predict
from langchain_sgd.bench.latency import LatencyModel
from langchain_sgd.events import PLAIN_ID
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import Attempt, NodeReport, PlannerReport, Report, Usage
from langchain_sgd.skeleton import NodeId, Skeleton

SECONDS = LatencyModel(name="m", step_s=1.0, stream_s=0.0, prompt_token_s=0.0, chunk=10_000)
PROMPTS = Prompts()


def attempt(tokens: int) -> Attempt:
    usage = Usage(input_tokens=1, output_tokens=tokens)
    return Attempt(tier="large", started_s=0, ended_s=1, usage=usage)


def node(name: str, tokens: int, *attempts: Attempt) -> NodeReport:
    return NodeReport(
        id=NodeId(name),
        status="complete",
        tier="large",
        answer=f"The answer {name} in some words",
        planned_s=0,
        ready_s=0,
        ended_s=1,
        attempts=attempts or (attempt(tokens),),
    )


def plain(tokens: int, planner: PlannerReport | None = None) -> Report:
    return Report(status="plain", planner=planner, nodes=(node(PLAIN_ID, tokens),), wall_s=1)


def split(plan: int, tokens: dict[str, int], *needs: tuple[str, str]) -> Report:
    """A run with a plan of so many tokens, whose lines are all of the same length."""
    nodes = [{"id": id_, "heading": f"Part {id_}", "scope": "", "difficulty": 1} for id_ in tokens]
    for later, earlier in needs:
        next(n for n in nodes if n["id"] == later)["dependencies"] = [earlier]
    return Report(
        status="complete",
        skeleton=Skeleton.parse(nodes),
        planner=PlannerReport(source="planner", attempts=(attempt(plan),)),
        nodes=tuple(node(id_, count) for id_, count in tokens.items()),
        wall_s=1,
    )


def wall_s(report: Report, model: LatencyModel = SECONDS) -> float:
    return predict(model, Replay("Why?", report), PROMPTS).wall_s


def test_a_plain_run_takes_a_step_for_each_token() -> None:
    assert wall_s(plain(5)) == pytest.approx(5)


def test_a_planner_that_says_plain_comes_before() -> None:
    planner = PlannerReport(source="planner", attempts=(attempt(1),))
    assert wall_s(plain(5, planner)) == pytest.approx(1 + 5)


def test_a_chain_takes_its_links_and_the_plan_until_the_first_is_known() -> None:
    # A line takes two steps. The first part is known when the second line has begun, at 3, when a
    # step has just begun without it: it writes from 4 to 7, and the second from 7 to 9.
    assert wall_s(split(4, {"1": 3, "2": 2}, ("2", "1"))) == pytest.approx(9)


def test_parts_that_need_nothing_are_written_together() -> None:
    # The second part is known with the last line, at 4; it joins the step from 4 on, as the first
    # one does, since both arrive before the engine has work again.
    found = wall_s(split(4, {"1": 3, "2": 6}))
    assert found == pytest.approx(4 + 6, abs=1)
    assert found < 4 + 3 + 6


def test_more_steps_a_stream_cost_what_the_model_says() -> None:
    slower = LatencyModel(name="m", step_s=1.0, stream_s=0.5, prompt_token_s=0.0, call_s=2.0)
    # The prompt's step writes the first token and carries no stream yet.
    assert wall_s(plain(5), model=slower) == pytest.approx(2.0 + 1.0 + 4 * 1.5)


def test_steps_and_prompts_are_counted() -> None:
    found = predict(SECONDS, Replay("Why? " * 8, plain(5)), PROMPTS)
    assert (found.steps, found.computed_prompt_tokens) == (5, 10)
    assert found.ttft_s == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "partial"}, "not whole"),
        ({"nodes": (node(PLAIN_ID, 1, attempt(1), attempt(1)),)}, "repeated"),
        (
            {"nodes": (node(PLAIN_ID, 1, Attempt(tier="large", started_s=0, ended_s=1)),)},
            "no tokens",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Replay("Why?", plain(1).model_copy(update=changes))
