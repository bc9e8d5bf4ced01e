"""Methods side by side, from rows made by hand; and how all benches print and save."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.bench import _compare, _output
from tests.support.bench import has_nan, report, row
from tests.support.skeletons import skeleton

MADE = skeleton("1", "2", "3 <- 1")
WRITTEN = {"1": 10, "2": 20, "3": 30}


def sgd(question: int, wall_s: float, **more: Any) -> dict[str, Any]:
    told = report(MADE, WRITTEN, plan=15, wall_s=wall_s)
    return row("SGD", question, wall_s, **{"report": told, **more})


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """SGD is 2, 3 and 4 times as fast; its fourth run failed, at once."""
    return [
        *(row("plain", n, 12.0, category="a" if n < 3 else "b [/x]") for n in range(1, 5)),
        sgd(1, 6.0, category="a"),
        sgd(2, 4.0, category="a"),
        sgd(3, 3.0, category="b [/x]", ttft_s=2.4),
        sgd(4, 0.001, category="b [/x]", error="Error: no", report=None),
    ]


def test_times_tokens_and_failures_of_every_method(rows: list[dict[str, Any]]) -> None:
    found = _compare.compare(rows, base="plain")
    assert list(found) == ["plain", "SGD"]
    plain, fast = found.values()
    assert plain["wall_s"]["median"] == 12
    assert plain["speedup"]["median"] == 1
    assert plain["status"] == {"plain": 4}
    assert math.isnan(plain["nodes"])
    assert (fast["runs"], fast["failed"], fast["partial"]) == (4, 1, 0)
    assert fast["speedup"]["median"] == 3
    assert fast["speedup"]["questions"] == 3
    assert fast["wall_s"]["median"] == 4
    # 0.5, 1/3 and 2 of plain's 1.2 s.
    assert fast["ttft_ratio"]["median"] == pytest.approx(0.5)
    assert fast["tokens"] == {"planner": 15, "large": 60}
    assert fast["nodes"] == 3


def test_lengths_and_repetition_of_every_method(rows: list[dict[str, Any]]) -> None:
    once = "Rent is paid every month by all."
    for each in rows:
        each["answer"] = "one two three four" if each["method"] == "plain" else f"{once}\n\n{once}"
    found = _compare.compare(rows, base="plain")
    assert found["plain"]["length_ratio"]["median"] == 1
    assert found["SGD"]["length_ratio"]["median"] == 3.5
    assert found["SGD"]["length_ratio"]["questions"] == 3  # of the failed one nothing is said
    assert found["plain"]["repeated"] == 0
    assert found["SGD"]["repeated"] == 0.5


def test_an_answer_of_which_a_part_failed_is_told(rows: list[dict[str, Any]]) -> None:
    cut = report(MADE, WRITTEN, plan=15, status="partial")
    cut_plain = report(None, {"plain": 9}, status="partial")
    rows += [sgd(5, 1.0, report=cut), row("plain", 5, 1.0, report=cut_plain)]
    found = _compare.compare(rows, base="plain")
    assert found["SGD"]["partial"] == found["plain"]["partial"] == 1
    assert found["SGD"]["status"] == {"complete": 3, "partial": 1}
    # A plain answer that was cut has no parts.
    assert math.isnan(found["plain"]["nodes"])


def test_without_the_base_method_there_are_times_but_no_ratios(rows: list[dict[str, Any]]) -> None:
    found = _compare.compare(rows[4:], base="plain")
    assert found["SGD"]["wall_s"]["median"] == 4
    assert math.isnan(found["SGD"]["speedup"]["median"])
    assert _compare.compare([], base="plain") == {}


def test_categories_apart(rows: list[dict[str, Any]]) -> None:
    found = _compare.by_category(rows, base="plain")
    assert list(found) == ["a", "b [/x]"]
    assert found["a"]["SGD"]["median"] == 2.5
    assert found["b [/x]"]["SGD"]["median"] == 4
    assert found["b [/x]"]["SGD"]["questions"] == 1


def test_the_example_is_the_run_nearest_to_the_median(rows: list[dict[str, Any]]) -> None:
    found = _compare.example(rows, base="plain", other="SGD")
    assert found == {"plain": rows[1]["report"], "SGD": rows[5]["report"]}
    assert found["SGD"]["wall_s"] == 4.0
    assert _compare.example(rows, base="plain", other="SoT") == {}
    assert _compare.example([], base="plain", other="SGD") == {}


def test_the_example_may_lack_a_method_that_failed(rows: list[dict[str, Any]]) -> None:
    rows.append(row("SoT", 2, error="Error: no"))
    assert set(_compare.example(rows, base="plain", other="SGD")) == {"plain", "SGD"}


def test_tables_show_everything_as_it_is(
    rows: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rows.append(row("SoT :fire: [red]", 9, error="Error: no"))
    _compare.show_comparison("5 [b]questions", _compare.compare(rows, base="plain"))
    _compare.show_categories("By category", _compare.by_category(rows, base="plain"))
    said = capsys.readouterr().out
    lines: dict[str, str] = {}
    for line in said.splitlines():
        if "│" in line:
            name = line.split("│")[1].strip()
            lines[name] = lines.get(name, "") + line
    assert "5 [b]questions" in said
    assert "3.00 [2.00, 4.00]" in lines["SGD"]
    assert "planner 15, large 60" in lines["SGD"]
    assert lines["SGD"].split("│")[-4:-1] == ["    4 ", "      1 ", "       0 "]
    assert lines["SoT :fire: [red]"].count(" - ") == 6
    assert "b [/x]" in lines
    assert not has_nan(said)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_where_the_terminal_is_narrow(
    width: int,
    rows: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "SGD, no dependency answers"
    renamed = [{**each, "method": name if each["method"] == "SGD" else "plain"} for each in rows]
    _compare.show_comparison("4 questions", _compare.compare(renamed, base="plain"), "A note.")
    columns = ["", *(f"column {n}" for n in range(9))]
    _output.show("Many", columns, [(name, *(f"{n}.25 [1.0, 2.0]" for n in range(9)))])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    cells = [cell.strip() for line in said.splitlines() for cell in line.split("│")]
    assert {name, "3.00 [2.00, 4.00]", "planner 15, large 60"} <= set(cells)
    assert all(f"{n}.25 [1.0, 2.0]" in cells for n in range(9))
    for once in ("4 questions", "Many", "A note."):
        assert said.count(once) == 1


def test_bars_are_the_speedups(rows: list[dict[str, Any]]) -> None:
    bars = _compare.speedup_bars(_compare.compare(rows, base="plain"))
    assert [(bar.label, bar.value) for bar in bars] == [("plain", 1), ("SGD", 3)]
    assert (bars[1].low, bars[1].high) == (2, 4)


# -- what all benches print and save


def test_figures_are_saved_as_json_that_everyone_reads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    figures = {"a": {"b": [1.5, math.nan, (math.inf,)]}, "c": None, 4: "NaN"}
    _output.save(path, "some", ["--seed", "1", "--name", "a b"], figures)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert found["figures"] == {"a": {"b": [1.5, None, [None]]}, "c": None, "4": "NaN"}
    assert found["command"] == "langchain-sgd bench some --seed 1 --name 'a b'"
    assert found["benchmark"] == "some"
    assert len(found["date"]) == 10
    assert set(found["packages"]) == set(_output.PACKAGES)
    _output.save(None, "some", None, figures)


def test_a_module_that_is_run_by_itself_saves_all_its_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["/x/simulate.py", "--lengths", "F", "--seed", "2"])
    said = _output.command_of("simulate", None)
    assert said == "langchain-sgd bench simulate --lengths F --seed 2"


def test_options_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    made = _output.parser("some", "Measure something.")
    made.add_argument("--api-key-env")
    with pytest.raises(SystemExit):
        made.parse_args(["--api-key", "s3cret"])
    assert "bench some" in capsys.readouterr().err


def test_order_statistics() -> None:
    found = _output.spread([float(n) for n in range(100, 0, -1)])
    assert found == {"mean": 50.5, "median": 50.5, "p95": 95.0, "max": 100.0}
    assert set(_output.spread([3.0]).values()) == {3.0}
