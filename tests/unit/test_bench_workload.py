"""Questions of known lengths, and the users who ask them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench import _workload as workload
from langchain_sgd.bench._workload import Answered, Length, Shape, SimulatedModel, Task, task_of
from langchain_sgd.bench.latency import LatencyEngine, LatencyModel
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import NodeId
from tests.support.models import Say, Stage

MODEL = LatencyModel(name="m", step_s=0.01, stream_s=0.0, prompt_token_s=0.0, slots=64)
LENGTH = Length("q", "generic", 300, splits=True)
FAST: dict[str, Any] = {
    "name": "fast",
    "step_s": 1e-9,
    "stream_s": 0.0,
    "prompt_token_s": 0.0,
    "slots": 64,
}
PUBLISHED = Path(__file__).parents[1] / "data" / "answer_lengths.csv"
TABLE = """\
dataset,model,source,question_id,category,sot_label,chars,words,paragraphs
v,gpt,main,1,generic,1,900,150,3
v,gpt,main,2,coding,0,90,15,1
m,gpt,main,3,writing,,9,0,1
v,other,main,1,generic,1,900,150,3
"""


def test_lengths_are_those_of_the_models_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text(TABLE)
    assert workload.read_lengths(path, ["gpt"]) == [
        Length("v 1 gpt", "generic", 200, splits=True),
        Length("v 2 gpt", "coding", 20, splits=False),
        Length("m 3 gpt", "writing", 1, splits=None),
    ]
    assert len(workload.read_lengths(path, ["gpt", "other"])) == 4


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (None, "there are no answer lengths at"),
        (TABLE.replace("sot_label", "label"), "lacks the columns sot_label"),
        ("", "lacks the columns dataset, model"),
        (TABLE, "holds no answers of gpt-9"),
    ],
)
def test_tables_without_what_is_asked_for_are_refused(
    tmp_path: Path, table: str | None, complaint: str
) -> None:
    path = tmp_path / "lengths.csv"
    if table is not None:
        path.write_text(table)
    with pytest.raises(ValueError, match=complaint):
        workload.read_lengths(path, ["gpt-9"])


def test_the_published_lengths_are_read() -> None:
    found = workload.read_lengths(PUBLISHED, ["gpt35"])
    assert len({length.id for length in found}) == len(found) > 50
    assert all(1 <= length.tokens < 5000 for length in found)
    assert {length.splits for length in found} >= {True, False}


@given(st.integers(1, 3000), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_a_task_is_shaped_as_assumed(tokens: int, nodes: int, hard: float, seed: int) -> None:
    shape = Shape(nodes=nodes, hard=hard, expansion=1.3, line_tokens=9)
    length = Length(f"q{tokens}", "generic", tokens, splits=True)
    task = task_of(length, shape, seed)
    assert task == task_of(length, shape, seed)
    assert task.skeleton is not None
    assert len(task.skeleton) == len(task.parts) == nodes
    assert min(task.parts.values()) >= 1
    assert sum(task.parts.values()) == pytest.approx(1.3 * tokens, abs=nodes)
    assert task.plain == tokens
    assert sum(n.difficulty >= 3 for n in task.skeleton.nodes) == round(hard * nodes)


def test_more_hard_nodes_are_added_to_those_that_were_hard() -> None:
    kept: set[str] = set()
    for share in (0.0, 0.3, 0.6, 1.0):
        task = task_of(LENGTH, Shape(nodes=6, hard=share), 3)
        assert task.skeleton is not None
        hard = {n.id for n in task.skeleton.nodes if n.difficulty >= 3}
        assert kept <= hard
        kept = set(hard)
    assert len(kept) == 6


def test_dependencies_follow_the_share_of_independent_nodes() -> None:
    def needing(share: float) -> list[bool]:
        tasks = [task_of(LENGTH, Shape(nodes=6, independent=share), seed) for seed in range(20)]
        return [bool(n.dependencies) for t in tasks if t.skeleton for n in t.skeleton.nodes[1:]]

    assert not any(needing(1.0))
    assert all(needing(0.0))
    assert 0.2 < sum(needing(0.65)) / 100 < 0.5


def test_other_questions_and_seeds_have_other_shapes() -> None:
    assert task_of(LENGTH, Shape(), 1) != task_of(LENGTH, Shape(), 2)
    other = Length("r", "generic", 300, splits=True)
    assert task_of(LENGTH, Shape(), 1).parts != task_of(other, Shape(), 1).parts


def test_every_call_has_its_own_text() -> None:
    task = task_of(LENGTH, Shape(nodes=3, line_tokens=7), 1)
    assert task.skeleton is not None
    plan = task.pieces({})
    assert len(plan) == 21
    assert "".join(plan).count("\n") == 3
    assert "".join(plan).startswith("1|Part 1|")
    for node in task.skeleton.nodes:
        assert len(task.pieces({"sgd_node_id": node.id})) == task.parts[node.id]
    assert len(task.pieces({"sgd_plain": True})) == 300
    assert task_of(LENGTH, Shape(), 1, splits=False).pieces({}) == ["PLAIN\n"]


async def test_the_model_tells_what_it_read_and_wrote() -> None:
    task = task_of(LENGTH, Shape(nodes=2), 1)
    model = SimulatedModel(LatencyEngine(LatencyModel(**FAST)), task)
    prompt: list[BaseMessage] = [HumanMessage("word " * 40)]
    chunks = [c async for c in model.astream(prompt, {"metadata": {"sgd_node_id": "1"}})]
    assert len(chunks) == task.parts[NodeId("1")] + 1
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata["output_tokens"] == len(chunks) - 1
    assert chunks[-1].usage_metadata["input_tokens"] > 20
    with pytest.raises(NotImplementedError):
        model.invoke(prompt)


def sgd(task: Task) -> SGDRunnable:
    return SGDRunnable(large=SimulatedModel(LatencyEngine(MODEL), task), stall_timeout_s=None)


def test_an_answer_is_as_its_user_saw_it() -> None:
    task = task_of(LENGTH, Shape(nodes=3, independent=1.0, line_tokens=10), 1)
    found, report = run_virtual(workload.answer(sgd, task))
    assert found.split
    assert report.status == "complete"
    assert found.tokens == sum(task.parts.values())
    assert found.wall_s == pytest.approx(found.ended_s - found.began_s)
    longest = 0.01 * max(task.parts.values())
    assert longest < found.wall_s < 0.01 * (30 + max(task.parts.values())) + 0.1
    assert 0 < found.ttft_s < found.wall_s
    undivided = task_of(LENGTH, Shape(), 1, splits=False)
    assert not run_virtual(workload.answer(sgd, undivided))[0].split


def test_a_simulated_answer_with_a_hole_is_an_error() -> None:
    stage = Stage(default=Say("cut", finish="length"))

    def broken(_: Task) -> SGDRunnable:
        return PlainDecoding(large=stage.model("large"))

    with pytest.raises(RuntimeError, match="the simulated run of 'What should one know"):
        run_virtual(workload.answer(broken, task_of(LENGTH, Shape(), 1)))


def test_users_ask_one_after_the_other_and_never_the_same() -> None:
    asked: list[tuple[str, float]] = []

    def noted(task: Task) -> SGDRunnable:
        asked.append((task.question, asyncio.get_running_loop().time()))
        return PlainDecoding(large=SimulatedModel(LatencyEngine(MODEL), task), stall_timeout_s=None)

    tasks = [task_of(Length(f"q{n}", "generic", 100, splits=True), Shape(), 1) for n in range(3)]
    found: list[Answered] = run_virtual(workload.crowd(noted, tasks, users=2, rounds=2))
    assert len(found) == len({question for question, _ in asked}) == 4
    assert Counter(question.partition(":")[0] for question, _ in asked) == Counter(
        {"User 0.0": 1, "User 0.1": 1, "User 1.0": 1, "User 1.1": 1}
    )
    begins = dict(asked)
    by_user = sorted((question[5], at) for question, at in begins.items())
    assert by_user[0][1] == 0
    assert by_user[2][1] == pytest.approx(0.05)
    # Each waits for its first answer, of 100 tokens, before it asks again.
    assert by_user[1][1] == pytest.approx(1.0, abs=0.05)
    assert sorted({q.rpartition("number ")[2][:2] for q in begins}) == ["q0", "q1", "q2"]
