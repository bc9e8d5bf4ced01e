"""Real runs played again on a simulated server: what the latency model says they should have taken.

A replay keeps what the models wrote (the skeleton, the texts, their numbers of tokens) and takes nothing
of when it came: order, waiting, batches and the prefix cache are the simulation's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._workload import SimulatedModel, answer, cut
from langchain_sgd.bench.latency import LatencyEngine, LatencyModel
from langchain_sgd.bench.models import lines_of
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import Attempt, Report
from langchain_sgd.runnable import SGDRunnable


@dataclass(frozen=True, slots=True)
class Replay:
    """A `Script` after a real run's report."""

    question: str
    report: Report

    def __post_init__(self) -> None:
        if problem := unfit(self.report):
            msg = f"the run of {self.question!r} cannot be replayed: {problem}"
            raise ValueError(msg)

    def pieces(self, metadata: Mapping[str, Any]) -> list[str]:
        """What the real model wrote in this call, a piece for each step that it took."""
        if (node_id := metadata.get("sgd_node_id")) is not None:
            return _written(self.report, node_id)
        if "sgd_plain" in metadata:
            return _written(self.report, self.report.nodes[0].id)
        planner = self.report.planner
        assert planner is not None  # noqa: S101 - only runs with a planner ask for one
        steps = max(1, _output(planner.attempts[0]))
        skeleton = self.report.skeleton
        return cut("".join(lines_of(skeleton)) if skeleton else "PLAIN\n", steps)


def unfit(report: Report) -> str | None:
    """Why a run cannot be replayed, if it cannot: what was repeated or cut is in no script."""
    if report.status == "partial":
        return "it is not whole"
    planner = report.planner.attempts if report.planner else ()
    if len(planner) > 1 or any(len(node.attempts) != 1 for node in report.nodes):
        return "calls were repeated"
    attempts = [*planner, *(attempt for node in report.nodes for attempt in node.attempts)]
    if any(attempt.usage is None for attempt in attempts):
        return "the server counted no tokens"
    return None


def _written(report: Report, node_id: str) -> list[str]:
    node = report[node_id]
    return cut(node.answer, _output(node.attempts[0]))


def _output(attempt: Attempt) -> int:
    return attempt.usage.output_tokens if attempt.usage else 0


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the simulation says of a run."""

    wall_s: float
    ttft_s: float
    steps: int
    computed_prompt_tokens: int


def predict(model: LatencyModel, replay: Replay, prompts: Prompts) -> Predicted:
    """Play a run again on an idle server that is as fast as the model says, its cache empty.

    Raises:
        RuntimeError: The replay took another way than the run.
    """
    engine = LatencyEngine(model)
    answered, report = run_virtual(answer(_like(engine, replay.report, prompts), replay))
    if (
        report.status != replay.report.status
        or report.answers.keys() != replay.report.answers.keys()
    ):
        msg = (
            f"the replay of {replay.question!r} became {report.status} with {len(report.nodes)} nodes,"
            f" the run was {replay.report.status} with {len(replay.report.nodes)}"
        )
        raise RuntimeError(msg)
    return Predicted(answered.wall_s, answered.ttft_s, engine.steps, engine.computed)


def _like(
    engine: LatencyEngine, report: Report, prompts: Prompts
) -> Callable[[Replay], SGDRunnable]:
    """The method that the report is of, on the simulated engine."""

    def build(replay: Replay) -> SGDRunnable:
        large = SimulatedModel(engine, replay)
        if report.planner is None:
            return PlainDecoding(large=large, stall_timeout_s=None)
        options = {"max_nodes": 99, "stall_timeout_s": None, "opening": False}
        return SGDRunnable(large=large, prompts=prompts, **options)

    return build
