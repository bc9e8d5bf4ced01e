"""What all comparisons stand on: rows that survive a kill, figures, tokens in sequence."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench import _measure as measure
from langchain_sgd.bench._measure import Journal, Method, ask
from langchain_sgd.bench._sequential import sequential_tokens
from langchain_sgd.report import Report
from langchain_sgd.skeleton import Node, Skeleton
from tests.support.bench import report, row
from tests.support.models import Say, Stage, plan_lines
from tests.support.skeletons import skeleton, skeletons

OPTIONS = {"urls": {"large": "http://a"}, "seed": 1}
tokens = st.integers(0, 200)


def kept(path: Path, *names: str, options: dict[str, Any] = OPTIONS) -> None:
    journal = Journal(path, options)
    for name in names:
        journal.add(row("m", name), "m", name)


# -- the journal


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    kept(path, "1", "2")
    before = path.read_bytes()
    journal = Journal(path, dict(reversed(OPTIONS.items())))
    assert [r["question_id"] for r in journal.rows()] == ["1", "2"]
    assert journal.has("m", "2")
    assert not journal.has("m", "3")
    assert not journal.has("other", "2")
    found = journal.row("m", "2")
    assert found is not None
    assert found["report"] == row("m", "2")["report"]
    journal.add(row("m", "3"), "m", "3")
    assert path.read_bytes().startswith(before)
    assert len(Journal(path, OPTIONS)) == 3


@pytest.mark.parametrize("cut", [1, 9, 40, -2])
def test_a_row_that_was_half_written_is_blanked_and_the_others_stay(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "rows.jsonl"
    kept(path, "1", "2")
    whole = path.read_bytes()
    kept(path, "3")
    third = path.read_bytes().removeprefix(whole)
    path.write_bytes(whole + third[:cut])
    journal = Journal(path, OPTIONS)
    assert not journal.has("m", "3")
    journal.add(row("m", "3"), "m", "3")
    assert path.read_bytes() == whole + b" " * len(third[:cut]) + third


def test_only_the_first_row_was_begun(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": ["m", "1"], "opt')
    assert len(Journal(path, OPTIONS)) == 0
    kept(path, "1")
    assert len(Journal(path, OPTIONS)) == path.read_bytes().count(b"\n") == 1


def test_rows_of_other_options_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    kept(path, "1", "2")
    before = path.read_bytes()
    kept(path, "1", options={**OPTIONS, "seed": 2})
    assert path.read_bytes().startswith(before)
    assert len(Journal(path, OPTIONS)) == 2
    other = Journal(path, {**OPTIONS, "seed": 2})
    assert [r["question_id"] for r in other.rows()] == ["1"]
    assert other.digest != Journal(None, OPTIONS).digest


def test_a_failed_row_is_told_and_tried_again_and_its_success_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path, OPTIONS).add(row("m", "1", error="TGIError: refused"), "m", "1")
    journal = Journal(path, OPTIONS)
    assert not journal.has("m", "1")
    assert [r["error"] for r in journal.rows()] == ["TGIError: refused"]
    journal.add(row("m", "1"), "m", "1")
    for again in (journal, Journal(path, OPTIONS)):
        assert again.has("m", "1")
        assert [r["error"] for r in again.rows()] == [None]


def test_without_a_file_rows_are_kept_in_memory() -> None:
    journal = Journal(None, OPTIONS)
    journal.add(row("m", "1"), "m", "1")
    assert journal.has("m", "1")
    assert len(journal) == 1


# -- asking


async def test_a_run_is_timed_as_its_caller_sees_it() -> None:
    stage = Stage(default=Say(("Trains ", "are slow."), usage=(7, 4)))
    found = await ask(PlainDecoding(large=stage.model("large")), "What are trains?")
    assert found["answer"] == "Trains are slow."
    assert found["error"] is None
    assert 0 < found["ttft_s"] <= found["wall_s"]
    assert measure.tokens_by_tier(found["report"]) == {"large": 4}
    assert "What are trains?" in stage.calls[0].prompt


async def test_a_run_that_fails_is_a_row_too() -> None:
    stage = Stage(default=Say("", error=RuntimeError("no such luck")))
    model = PlainDecoding(large=stage.model("large"))
    found = await ask(model, "What?")
    assert "no such luck" in found["error"]
    assert (found["answer"], found["ttft_s"], found["report"]) == ("", None, None)
    assert found["wall_s"] > 0
    json.dumps(found)


async def test_no_key_stands_in_a_row() -> None:
    error = RuntimeError("401 Authorization: Bearer abcdef123456789")
    stage = Stage(default=Say("half", error=error))
    found = await ask(PlainDecoding(large=stage.model("large")), "What?")
    assert "401" in found["error"]
    assert "abcdef123456789" not in found["error"]


def test_methods_come_in_an_order_of_each_questions_own() -> None:
    methods = [Method(str(n), lambda _, __: PlainDecoding(large=Stage().model("x"))) for n in "abc"]
    orders = [
        tuple(m.name for m in measure.shuffled(methods, str(question), 1)) for question in range(40)
    ]
    assert set(orders) == set(itertools.permutations("abc"))
    again = [tuple(m.name for m in measure.shuffled(methods, "7", 1)) for _ in range(2)]
    assert again == [orders[7]] * 2
    assert [m.name for m in methods] == ["a", "b", "c"]


@given(st.text(max_size=9), st.integers(0, 2**40))
def test_seeds_are_what_servers_take(question: str, seed: int) -> None:
    found = measure.seed_of(question, seed)
    assert 0 <= found < 2**31
    assert found == measure.seed_of(question, seed)
    assert found != measure.seed_of(f"{question}.", seed)


# -- figures


def test_the_interval_is_about_the_median_and_narrows_with_what_is_known() -> None:
    values = [float(n) for n in range(1, 10)]
    few, many = measure.interval(values), measure.interval(values * 20)
    assert few["median"] == many["median"] == 5
    assert 1 <= few["low"] < 5 < few["high"] <= 9
    assert few["high"] - few["low"] > 2 * (many["high"] - many["low"])
    assert measure.interval(values) == few


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    inside = 0
    for start in range(40):
        values = [measure.seed_of(f"{start}/{n}", 1) / 2**31 for n in range(25)]
        found = measure.interval(values)
        inside += found["low"] <= 0.5 <= found["high"]
    assert inside >= 33


@given(st.lists(st.floats(0.01, 1e3), min_size=2, max_size=9))
@settings(max_examples=10)
def test_the_interval_surrounds_the_median(values: list[float]) -> None:
    found = measure.interval(values)
    assert min(values) <= found["low"] <= found["median"] <= found["high"] <= max(values)
    assert found["median"] == statistics.median(values)


def test_one_value_has_no_interval() -> None:
    found = measure.interval([87.0])
    assert found["median"] == 87
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])
    assert measure.with_interval(found, 0) == "87"


def test_of_nothing_there_is_nothing() -> None:
    assert math.isnan(measure.median([]))
    assert all(math.isnan(value) for value in measure.interval([]).values())
    found = measure.paired({"1": 2.0}, {"2": 1.0})
    assert found["questions"] == 0
    assert math.isnan(found["median"])
    assert measure.with_interval(found) == measure.rounded(math.nan, 2, "x") == "-"


def test_ratios_are_taken_question_by_question() -> None:
    base = {"1": 2.0, "2": 30.0, "3": 400.0, "4": 1.0, "5": 1.0}
    other = {"3": 100.0, "1": 1.0, "2": 10.0, "5": 0.0, "6": 1.0}
    found = measure.paired(base, other)
    assert found["questions"] == 3
    assert found["median"] == 3.0
    assert (found["low"], found["high"]) == (2.0, 4.0)


def test_failed_rows_and_missing_figures_are_in_no_column() -> None:
    rows = [
        row("m", "1", 2.0),
        row("m", "2", 3.0, error="Error: no"),
        row("m", "3", 4.0, ttft_s=None),
    ]
    assert measure.column(rows, "wall_s") == {"1": 2.0, "3": 4.0}
    assert measure.column(rows, "ttft_s") == {"1": 0.2}
    assert measure.column(rows, "steps") == {}


def test_groups_keep_their_order() -> None:
    rows = [row("b", "1"), row("a", "1"), row("b", "2")]
    found = measure.by(rows, "method")
    assert list(found) == ["b", "a"]
    assert [r["question_id"] for r in found["b"]] == ["1", "2"]


def test_figures_are_written_shortly() -> None:
    assert measure.with_interval({"median": 1.834, "low": 1.7, "high": 2}) == "1.83 [1.70, 2.00]"
    assert measure.with_interval({"median": 12.6, "low": 9, "high": 20}, 0) == "13 [9, 20]"
    assert measure.with_interval({"median": 1.0, "low": 1.0, "high": 1.0}) == "1.00"
    assert measure.rounded(1.234, 1, "x") == "1.2x"


# -- tokens


def test_node_prompts_are_those_of_all_calls_that_told_them() -> None:
    made = report(skeleton("1", "2"), {"1": 5, "2": 5}, plan=9, prompt=100, cached=60)
    made["nodes"][0]["attempts"].append({**made["nodes"][0]["attempts"][0], "usage": None})
    made["nodes"][1]["attempts"].append(made["nodes"][1]["attempts"][0])
    assert measure.node_prompts(made) == (300, 180)
    assert measure.tokens_by_tier(made) == {"planner": 9, "large": 10}


def path_tokens(made: Mapping[str, Any], **options: bool) -> float:
    return sequential_tokens(Report.model_validate(made), **options)


def test_a_plain_run_is_one_sequence() -> None:
    assert path_tokens(report(None, {"plain": 40})) == 40
    assert path_tokens(report(None, {"plain": 40}, plan=2)) == 42


def test_parts_side_by_side_count_once() -> None:
    made = report(skeleton("1", "2", "3"), {"1": 10, "2": 50, "3": 20}, plan=30)
    assert path_tokens(made, planned_first=True) == 80
    # The second of three equal lines is written after 20 tokens.
    assert path_tokens(made) == pytest.approx(70)


def test_the_first_part_waits_for_the_second_line_to_begin() -> None:
    made = report(skeleton("1", "2"), {"1": 100, "2": 1}, plan=20)
    assert path_tokens(made) == pytest.approx(111)
    alone = report(skeleton("1"), {"1": 100}, plan=20)
    assert path_tokens(alone) == pytest.approx(120)


def test_a_given_skeleton_costs_no_plan() -> None:
    made = report(skeleton("1", "2 <- 1", "3"), {"1": 10, "2": 10, "3": 15})
    assert path_tokens(made) == pytest.approx(20, abs=1)


def chains(made: Skeleton) -> Iterator[list[Node]]:
    """Every chain of nodes each of which needs the one before, from any node to any node."""

    def down_from(node: Node) -> Iterator[list[Node]]:
        yield [node]
        for other in made.nodes:
            if node.id in other.dependencies:
                for rest in down_from(other):
                    yield [node, *rest]

    for node in made.nodes:
        yield from down_from(node)


@given(skeletons(min_nodes=1, max_nodes=7), st.data())
def test_it_is_the_longest_of_all_chains(made: Skeleton, data: st.DataObject) -> None:
    written = {str(node.id): data.draw(tokens) for node in made.nodes}
    plan = data.draw(tokens)
    told = report(made, written, plan=plan)
    sizes = [len(line) for line in plan_lines(made)]
    planned = [plan * sum(sizes[: n + 1]) / sum(sizes) for n in range(len(sizes))]
    planned[0] = min(planned[0] + 1, plan)
    begins = {node.id: at for node, at in zip(made.nodes, planned, strict=True)}
    ends = [begins[chain[0].id] + sum(written[n.id] for n in chain) for chain in chains(made)]
    assert path_tokens(told) == pytest.approx(max([*ends, plan]))
    longest = max(sum(written[n.id] for n in chain) for chain in chains(made))
    assert path_tokens(told, planned_first=True) == pytest.approx(plan + longest)


@given(skeletons(min_nodes=1), st.data())
def test_pipelining_never_adds_and_nothing_is_shorter_than_the_plan(
    made: Skeleton, data: st.DataObject
) -> None:
    written = {str(node.id): data.draw(tokens) for node in made.nodes}
    plan = data.draw(tokens)
    told = report(made, written, plan=plan)
    pipelined, first = path_tokens(told), path_tokens(told, planned_first=True)
    slack = 1e-6
    assert max(plan, *written.values()) <= pipelined + slack
    assert pipelined <= first + slack
    assert first <= plan + sum(written.values()) + slack


def test_calls_that_were_thrown_away_count_too() -> None:
    made = report(skeleton("1"), {"1": 10}, plan=4)
    for part in (made["planner"], made["nodes"][0]):
        part["attempts"] = part["attempts"] * 2 + [{**part["attempts"][0], "usage": None}]
    assert path_tokens(made) == 28
