"""Structure, measured exactly: nothing waits for anything but its own dependencies.

The clock moves only when nothing is left to do, so a ratio of 1 means that no node ever waited.
"""

from __future__ import annotations

import asyncio
import random
from statistics import mean
from typing import Literal

import pytest

from langchain_sgd import NodeId, Report, SGDRunnable, Skeleton
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import random_skeleton, skeleton

DAGS = 60
"""`langchain-sgd bench schedule` takes 300."""
Execution = Literal["pipelined", "planned", "superstep"]


async def measured(
    planned: Skeleton,
    seconds: dict[NodeId, float],
    execution: Execution = "pipelined",
    planner_s: float | None = None,
) -> tuple[float, Report]:
    """Wall time and report of one run; without `planner_s` the skeleton is given."""
    stage = Stage({node_id: Say(then_s=s) for node_id, s in seconds.items()})
    sgd = SGDRunnable(**stage.pair(), execution=execution, max_nodes=99)
    value: dict[str, object] = {"question": "Why?"}
    if planner_s is None:
        value["skeleton"] = planned
    else:
        stage.lines[PLANNER] = planning(planned, each_s=planner_s)
    clock = asyncio.get_running_loop().time
    began = clock()
    message = await sgd.ainvoke(value)
    return clock() - began, Report.from_message(message)


def drawn(rng: random.Random) -> tuple[Skeleton, dict[NodeId, float]]:
    planned = random_skeleton(rng)
    return planned, {node.id: rng.lognormvariate(0.7, 0.6) for node in planned.nodes}


def test_wall_time_is_the_critical_path() -> None:
    rng = random.Random(1)

    async def main() -> None:
        for _ in range(DAGS):
            planned, seconds = drawn(rng)
            wall, report = await measured(planned, seconds)
            _, bound = planned.critical_path(seconds)
            assert wall == pytest.approx(bound, rel=1e-9)
            assert report.wall_s == pytest.approx(bound, rel=1e-9)

    run_virtual(main())


def test_with_a_slow_planner_it_is_the_critical_path_from_the_release_times() -> None:
    rng = random.Random(2)

    async def main() -> None:
        for _ in range(DAGS):
            planned, seconds = drawn(rng)
            wall, report = await measured(planned, seconds, planner_s=0.3)
            # A node stands when its line has come; the first when the second proves that there are two.
            lines = range(1, len(planned) + 1)
            released = {n.id: 0.3 * max(i, 2) for i, n in zip(lines, planned.nodes, strict=True)}
            for node in report.nodes:
                assert node.planned_s == pytest.approx(released[node.id])
            _, bound = planned.critical_path(seconds, released)
            assert wall == pytest.approx(bound, rel=1e-9)

    run_virtual(main())


def test_the_superstep_graph_waits_for_the_slowest_of_each_level() -> None:
    rng = random.Random(3)
    ratios = []

    async def main() -> None:
        for _ in range(20):
            planned, seconds = drawn(rng)
            wall, _ = await measured(planned, seconds, "superstep")
            levels: dict[int, float] = {}
            depth: dict[str, int] = {}
            for node in planned.nodes:
                depth[node.id] = 1 + max((depth[d] for d in node.dependencies), default=0)
                levels[depth[node.id]] = max(levels.get(depth[node.id], 0.0), seconds[node.id])
            assert wall == pytest.approx(sum(levels.values()))
            ratios.append(wall / planned.critical_path(seconds)[1])

    run_virtual(main())
    assert 1.1 < mean(ratios) < 1.35


def test_planning_first_costs_the_planners_time() -> None:
    planned = skeleton("1", "2", "3 <- 1")
    seconds = dict.fromkeys(map(NodeId, "123"), 1.0)

    async def main() -> None:
        wall, _ = await measured(planned, seconds, "planned", planner_s=0.5)
        assert wall == pytest.approx(1.5 + 2.0)
        wall, _ = await measured(planned, seconds, "pipelined", planner_s=0.5)
        assert wall == pytest.approx(1.0 + 2.0)

    run_virtual(main())


def test_the_report_tells_the_same_times() -> None:
    planned = skeleton("1", "2", "3 <- 1")

    async def main() -> None:
        wall, report = await measured(
            planned, {NodeId("1"): 2.0, NodeId("2"): 1.0, NodeId("3"): 0.5}
        )
        assert wall == pytest.approx(2.5)
        assert [node.ended_s for node in report.nodes] == pytest.approx([2.0, 1.0, 2.5])
        assert [node.ready_s for node in report.nodes] == pytest.approx([0.0, 0.0, 2.0])
        assert report.critical_path == ("1", "3")
        assert report.decode_s == pytest.approx(3.5)

    run_virtual(main())
