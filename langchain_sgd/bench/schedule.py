"""How close the schedule comes to the critical path, the bound that no schedule can beat.

In virtual time, so the figures are exact and repeatable; then once on the wall clock. "planned" decodes
without a barrier but plans first; "superstep" is the literal LangGraph graph.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Literal

from langchain_sgd.argument_types import count, number
from langchain_sgd.bench._output import parser, save, show, spread
from langchain_sgd.bench.models import TimedModel, TimedPlanner, random_skeleton
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import NodeId, Skeleton

Execution = Literal["pipelined", "planned", "superstep"]
EXECUTIONS: tuple[Execution, ...] = ("pipelined", "planned", "superstep")


async def ratio(
    skeleton: Skeleton, seconds: dict[NodeId, float], execution: Execution, planner_s: float | None
) -> float:
    """Wall time over critical path of one run.

    Args:
        skeleton: What is decoded.
        seconds: Decode time of each node.
        execution: How `SGDRunnable` runs it.
        planner_s: Time the planner takes for a line; None gives the skeleton at once.
    """
    model = TimedModel(seconds)
    planner = TimedPlanner(skeleton, planner_s or 0.0)
    sgd = SGDRunnable(
        large=model, planner=planner, mode="always", execution=execution, max_nodes=len(skeleton)
    )
    question: dict[str, Any] = {"question": "Which?"}
    if planner_s is None:
        question["skeleton"] = skeleton
    report = Report.from_message(await sgd.ainvoke(question))
    return report.wall_s / bound(skeleton, seconds, planner_s)


def bound(skeleton: Skeleton, seconds: dict[NodeId, float], planner_s: float | None) -> float:
    """The critical path; with a planner, of what can be known when.

    A node can start when its line is closed; the first one when the second line has closed too, since
    until then the skeleton may still turn out to have one part only.
    """
    if planner_s is None:
        return skeleton.critical_path(seconds)[1]
    released = {
        node.id: planner_s * max(index, min(2, len(skeleton)))
        for index, node in enumerate(skeleton.nodes, 1)
    }
    return max(skeleton.critical_path(seconds, released)[1], planner_s * len(skeleton))


def durations(rng: random.Random, skeleton: Skeleton, median_s: float) -> dict[NodeId, float]:
    """Lognormal decode times, sigma 0.6, as answer lengths have."""
    return {node.id: median_s * rng.lognormvariate(0.0, 0.6) for node in skeleton.nodes}


def virtual(count: int, seed: int, planner_s: float | None) -> dict[str, dict[str, float]]:
    """Ratios of all executions over `count` random skeletons, in virtual time."""
    found: dict[str, list[float]] = {execution: [] for execution in EXECUTIONS}
    rng = random.Random(seed)
    for _ in range(count):
        skeleton = random_skeleton(rng)
        seconds = durations(rng, skeleton, 2.0)
        for execution in EXECUTIONS:
            found[execution].append(run_virtual(ratio(skeleton, seconds, execution, planner_s)))
    return {execution: spread(values) for execution, values in found.items()}


def wall_clock(count: int, seed: int) -> dict[str, float]:
    """Ratios of the pipelined execution on the wall clock, nodes of about 0.3 s."""
    rng = random.Random(seed)
    values = []
    for _ in range(count):
        skeleton = random_skeleton(rng)
        seconds = durations(rng, skeleton, 0.3)
        values.append(asyncio.run(ratio(skeleton, seconds, "pipelined", None)))
    return spread(values)


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("schedule", __doc__ or "")
    options.add_argument("--skeletons", type=count(1), default=300)
    options.add_argument("--planner-s", type=number, default=0.3, help="planner's time for a line")
    options.add_argument(
        "--wall-clock", type=count(0), default=20, help="skeletons on the wall clock"
    )
    options.add_argument("--seed", type=count(0), default=1)
    args = options.parse_args(argv)
    figures: dict[str, Any] = {
        "given skeleton": virtual(args.skeletons, args.seed, None),
        f"planner, {args.planner_s:g} s a line": virtual(args.skeletons, args.seed, args.planner_s),
    }
    if args.wall_clock:
        figures["wall clock"] = {"pipelined": wall_clock(args.wall_clock, args.seed)}
    rows = [
        (f"{case}: {execution}", *(f"{values[k]:.3f}" for k in ("mean", "median", "p95", "max")))
        for case, executions in figures.items()
        for execution, values in executions.items()
    ]
    show(
        "Wall time over critical path",
        ("", "mean", "median", "p95", "max"),
        rows,
        f"{args.skeletons} random skeletons of 5-12 nodes, virtual time unless said",
    )
    save(args.json, "schedule", argv, figures)


if __name__ == "__main__":
    main()
