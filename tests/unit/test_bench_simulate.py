"""The simulation: its arithmetic against hand-made cases, its label, its excuse without data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench import load, simulate
from langchain_sgd.bench._workload import Length, Shape, crowd, task_of
from langchain_sgd.bench.latency import LatencyModel
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLAIN, Say, Stage

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
        run_virtual(load._simulated(MODEL, tasks, users, 1, busy=4)) for users in (1, 32)
    )
    assert all(each.split for each in calm)
    assert 0 < sum(each.split for each in crowded) < len(crowded) / 2


def test_every_value_of_busy_is_a_method() -> None:
    found = load.simulated(MODEL, [task_of(LENGTH, Shape(), 1)], [8], [2, 64], 1)[8]
    assert list(found) == [load.PLAIN, load.SGD, "SGD, busy=2", "SGD, busy=64"]
    split = [each["split"] for each in found.values()]
    assert split[0] == 0
    assert split[1] == 1
    assert split[2] < split[3]


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
    table = tmp_path / "lengths.csv"
    for command in (simulate, load):
        with pytest.raises(SystemExit):
            command.main(["--lengths", str(table)])
        assert f"there is no file {table}" in capsys.readouterr().err
    table.write_text("words\n7\n")
    for command in (simulate, load):
        assert command.main(["--lengths", str(table)]) == 2
        assert "Nothing simulated: " in capsys.readouterr().err


@pytest.mark.parametrize("command", [simulate, load])
def test_the_table_of_lengths_is_asked_for_and_described(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([])
    assert "--lengths" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--help"])
    described = " ".join(capsys.readouterr().out.split())
    assert "columns dataset, model, question_id, category, words, sot_label" in described


def test_a_measured_model_takes_the_place_of_the_published(
    lengths: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for values in ("_USERS", "_NODES", "_LINES"):
        monkeypatch.setattr(simulate, values, (1, 2))
    monkeypatch.setattr(load, "_LEAST_ANSWERS", 1)
    file, out = tmp_path / "model.json", tmp_path / "out.json"
    replace(MODEL, name="mine", stream_s=0.001).write(file)
    arguments = ["--lengths", str(lengths), "--latency-model", str(file), "--json", str(out)]
    assert simulate.main([*arguments, "--sweep", "1"]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert (figures["large"]["name"], figures["small"]) == ("mine", None)
    assert not any("hard nodes" in name for name in figures["sweeps"])
    assert load.main([*arguments, "--users", "1", "--rounds", "1", "--busy", "3", "2"]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert (figures["model"]["name"], figures["slots"]) == ("mine", MODEL.slots)
    assert figures["busy"] == [2, 3]
    assert "SIMULATION: mine" in capsys.readouterr().out


def test_a_file_without_a_model_is_refused(
    lengths: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (simulate, load):
        assert command.main(["--lengths", str(lengths), "--latency-model", str(lengths)]) == 2
        assert f"No latency model in {lengths}" in capsys.readouterr().err


def test_where_it_stops_paying() -> None:
    def point(plain: float, sgd: float) -> dict[str, load.Figures]:
        return {
            load.PLAIN: {"answers": 1, "p50_s": plain},
            load.SGD: {"answers": 1, "p50_s": sgd},
        }

    assert load.pays_until({1: point(2, 1), 4: point(2, 1.9), 8: point(2, 3)}) == 4
    assert load.pays_until({1: point(1, 2)}) is None
    assert load.pays_until({1: {**point(1, 2), load.SGD: load.summed_up([])}}) is None


def test_the_best_method_and_what_others_lose() -> None:
    def point(*waits: float, failures: int = 0) -> dict[str, load.Figures]:
        return {
            name: {"mean_s": wait, "answers": 5, "failures": failures if name == "c" else 0}
            for name, wait in zip("abc", waits, strict=True)
        }

    found = {1: point(2, 1, 1.5), 8: point(2, 3, 2.5)}
    assert [load.best(each) for each in found.values()] == ["b", "a"]
    assert [load.lost(found, name) for name in "abc"] == pytest.approx([1.0, 0.5, 0.5])
    found[64] = point(9, 9.9, 1, failures=1)
    assert load.best(found[64]) == "a"
    assert [load.lost(found, name) for name in "abc"] == [
        pytest.approx(1),
        pytest.approx(0.5),
        None,
    ]
    assert load.best({"a": load.summed_up([])}) is None


# -- real users, without a server


def test_failed_and_slow_answers_are_counted_and_nobody_hangs() -> None:
    said = [Say("a"), Say(error=ValueError("no")), Say(hang=True), Say("b")]
    model = Stage({PLAIN: said}).model("large")
    runnable = PlainDecoding(large=model, retries=0, stall_timeout_s=None)
    found, errors = run_virtual(
        load._crowd(runnable, ["1", "2", "3", "4"], 1, load.Patience(answer_s=5, row_s=99))
    )
    assert len(found) == 2
    assert len(errors) == 2
    assert "no answer within 5 s" in errors
    assert any("no" in error and "ValueError" in error for error in errors)
    figures = load.summed_up(found, errors)
    assert (figures["answers"], figures["failures"]) == (2, 2)
    assert figures["errors"] == sorted(errors)


def test_a_row_ends_when_its_time_is_up() -> None:
    model = Stage(default=Say("a", then_s=1.0)).model("large")
    runnable = PlainDecoding(large=model)
    found, errors = run_virtual(
        load._crowd(runnable, ["1"] * 9, 2, load.Patience(answer_s=5, row_s=1.5))
    )
    assert (len(found), errors) == (4, [])
