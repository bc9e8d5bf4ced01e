"""The schedule benchmark: its bound, its figures, its output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench import schedule
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.skeleton import NodeId, Skeleton

A_CHAIN_AND_A_SLOW_ROOT = Skeleton.parse(
    [
        {"id": 1, "heading": "A"},
        {"id": 2, "heading": "B", "dependencies": [1]},
        {"id": 3, "heading": "C"},
    ]
)
SECONDS = {NodeId("1"): 1.0, NodeId("2"): 3.0, NodeId("3"): 3.0}


@pytest.mark.parametrize(("execution", "expected"), [("pipelined", 1.0), ("superstep", 6.0 / 4.0)])
def test_the_barrier_costs_what_the_levels_add_up_to(
    execution: schedule.Execution, expected: float
) -> None:
    ratio = run_virtual(schedule.ratio(A_CHAIN_AND_A_SLOW_ROOT, SECONDS, execution, None))
    assert ratio == pytest.approx(expected, abs=1e-9)


def test_the_bound_counts_when_a_node_can_be_known() -> None:
    # Lines close at 2, 4, 6 s; the first node starts with the second line, at 4, and ends at 5.
    assert schedule.bound(A_CHAIN_AND_A_SLOW_ROOT, SECONDS, 2.0) == pytest.approx(9.0)
    # A planner slower than everything else is the bound itself.
    assert schedule.bound(
        A_CHAIN_AND_A_SLOW_ROOT, dict.fromkeys(SECONDS, 0.1), 2.0
    ) == pytest.approx(6.1)


def test_pipelining_meets_the_bound_and_planning_first_does_not() -> None:
    figures = schedule.virtual(20, seed=3, planner_s=0.3)
    assert figures["pipelined"]["max"] == pytest.approx(1.0, abs=1e-9)
    assert figures["planned"]["mean"] > 1.05
    assert figures["superstep"]["mean"] > figures["planned"]["mean"]


def test_the_command_prints_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "schedule.json"
    schedule.main(["--skeletons", "3", "--wall-clock", "0", "--json", str(out)])
    assert "Wall time over critical path" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["benchmark"] == "schedule"
    assert written["figures"]["given skeleton"]["pipelined"]["mean"] == pytest.approx(1.0)
    assert written["command"].startswith(
        "langchain-sgd bench schedule --skeletons 3 --wall-clock 0 "
    )
