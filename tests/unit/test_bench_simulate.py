"""The simulation: its arithmetic against hand-made cases, its label, its excuse without data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench import load, simulate
from langchain_sgd.bench._workload import Length, Shape, crowd, task_of
from langchain_sgd.bench.latency import LatencyModel
from langchain_sgd.bench.virtual_time import run_virtual

MODEL = LatencyModel(name="m", step_s=0.01, stream_s=0.0, prompt_token_s=0.0, slots=64)
LENGTH = Length("q", "generic", 400, splits=True)
HEADER = "dataset,model,source,question_id,category,sot_label,chars,words,paragraphs\n"


@pytest.fixture
def lengths(tmp_path: Path) -> Path:
    path = tmp_path / "lengths.csv"
    rows = [f"v,gpt35,main,{i},generic,{i % 2},200,30,3\n" for i in range(2)]
    path.write_text(HEADER + "".join(rows))
    return path


def test_parts_add_up_to_the_answer_times_the_expansion() -> None:
    task = task_of(LENGTH, Shape(nodes=4, expansion=1.5), 1)
    assert sum(task.parts.values()) == pytest.approx(600, abs=4)
    assert len(task.pieces({})) == 4 * Shape().line_tokens


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_of_hard_nodes_is_what_was_asked_for(share: float) -> None:
    task = task_of(LENGTH, Shape(nodes=5, hard=share), 1)
    assert task.skeleton is not None
    assert sum(n.difficulty >= 3 for n in task.skeleton.nodes) == round(5 * share)


def test_without_dependencies_the_time_is_the_plan_and_the_longest_part() -> None:
    shape = Shape(nodes=2, independent=1.0, expansion=1.0, line_tokens=10)
    task = task_of(LENGTH, shape, 1)
    found = simulate.alone(MODEL, None, task)
    assert found["plain_s"] == pytest.approx(4.0, abs=0.03)
    longest = 0.01 * max(task.parts.values())
    # Known once the second line has begun, or with the last one.
    assert 0.1 + longest < found["sgd_s"] < 0.2 + longest + 0.12


def test_a_question_that_does_not_split_costs_a_call_of_the_planner() -> None:
    found = simulate.alone(MODEL, None, task_of(LENGTH, Shape(), 1, splits=False))
    assert 0 < found["sgd_s"] - found["plain_s"] < 0.05


def test_busy_servers_are_asked_plainly() -> None:
    tasks = [task_of(LENGTH, Shape(), 1)]
    calm, crowded = (
        run_virtual(load._simulated(load.ADAPTIVE, MODEL, tasks, users, 4, 1)) for users in (1, 32)
    )
    assert all(each.split for each in calm)
    assert 0 < sum(each.split for each in crowded) < len(crowded) / 2


def test_a_crowd_asks_all_its_questions() -> None:
    found = run_virtual(
        crowd(simulate.Servers(MODEL).plain, [task_of(LENGTH, Shape(), 1)], users=3, rounds=2)
    )
    assert len(found) == 6
    assert load.summed_up(found)["p50_s"] == pytest.approx(4.0, abs=0.1)


def test_the_commands_say_that_they_simulate(
    lengths: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert simulate.main(["--lengths", str(lengths), "--sweep", "0", "--json", str(out)]) == 0
    assert "SIMULATION" in capsys.readouterr().out
    figures = json.loads(out.read_text())["figures"]
    assert figures["kind"] == "simulation"
    assert figures["categories"]["generic"]["answers"] == 2
    arguments = ["--lengths", str(lengths), "--users", "2", "--rounds", "1"]
    assert load.main([*arguments, "--json", str(out)]) == 0
    assert "SIMULATION" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"]["kind"] == "simulation"


def test_without_lengths_nothing_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (simulate, load):
        assert command.main(["--lengths", str(tmp_path / "none.csv")]) == 2
        assert "there are no answer lengths at" in capsys.readouterr().err


def test_where_it_stops_paying() -> None:
    def point(plain: float, sgd: float) -> dict[str, dict[str, float]]:
        return {load.PLAIN: {"p50_s": plain}, load.SGD: {"p50_s": sgd}}

    assert load.pays_until({1: point(2, 1), 4: point(2, 1.9), 8: point(2, 3)}) == 4
    assert load.pays_until({1: point(1, 2)}) is None
