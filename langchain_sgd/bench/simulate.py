"""SIMULATION, no measurement: what SGD would gain on models of real size, by a stated latency model.

The lengths of published answers (`--lengths FILE`; words times 4/3 are taken for tokens), servers that
take the time that `langchain_sgd.bench.latency` says, and the real `SGDRunnable` on a virtual clock: the
schedule is the package's own, the servers and the plans are assumed. Plans have a given number of nodes,
random dependencies, and parts whose tokens add up to the plain answer's times `--expansion`.

"split" plans every question; "as labelled" splits what people found suited to parallel writing (Vicuna's
labels from Skeleton-of-Thought) and answers the others undivided after asking the planner. Nothing is said
of quality.

`--latency-model FILE` takes a model that `langchain-sgd bench calibrate` measured; that command also says how
far the simulation is from real runs.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from langchain_sgd.argument_types import count, existing_file, seconds
from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench._workload import (
    LENGTHS_HELP,
    Build,
    Length,
    Shape,
    SimulatedModel,
    Task,
    answer,
    crowd,
    read_lengths,
    task_of,
)
from langchain_sgd.bench.latency import PRESETS, LatencyEngine, LatencyModel
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.runnable import SGDRunnable

_MODELS: Final = ("gpt35", "vicuna-13b", "gpt-4o")
_SMALL: Final = "llama-7b-a100"
_NODES: Final = (2, 3, 5, 8, 12)
_LINES: Final = (8, 16, 24, 48, 64)
_HARD: Final = (0.0, 0.3, 0.6, 1.0)
_USERS: Final = (1, 2, 4, 8, 16, 32)


class Servers:
    """Idle servers of a large model, and of a small one if there is one."""

    def __init__(self, large: LatencyModel, small: LatencyModel | None = None) -> None:
        self.large = LatencyEngine(large)
        self.small = LatencyEngine(small) if small else None

    def plain(self, task: Task) -> SGDRunnable:
        """The large model undivided."""
        return PlainDecoding(large=SimulatedModel(self.large, task), stall_timeout_s=None)

    def sgd(self, task: Task, **options: Any) -> SGDRunnable:
        """SGD with these options."""
        small = SimulatedModel(self.small, task) if self.small else None
        return SGDRunnable(
            large=SimulatedModel(self.large, task),
            small=small,
            max_nodes=99,
            stall_timeout_s=None,
            **options,
        )


def alone(large: LatencyModel, small: LatencyModel | None, task: Task) -> dict[str, float]:
    """Seconds of one question on idle servers, plain and by SGD, caches empty."""
    plain, _ = run_virtual(_once(Servers(large, small).plain, task))
    sgd, planning = run_virtual(_once(Servers(large, small).sgd, task))
    return {
        "plain_s": plain,
        "sgd_s": sgd,
        "planning_s": planning,
        "tokens": task.plain,
    }


async def _once(build: Build[Task], task: Task) -> tuple[float, float]:
    answered, report = await answer(build, task)
    return answered.wall_s, report.planner.ended_s if report.planner else 0.0


def ratio(rows: Sequence[dict[str, float]]) -> float:
    """Median of plain over SGD, question by question."""
    return statistics.median(row["plain_s"] / row["sgd_s"] for row in rows)


def by_category(
    large: LatencyModel,
    small: LatencyModel | None,
    lengths: Sequence[Length],
    shape: Shape,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Medians for each category, and for all."""
    groups: dict[str, list[Length]] = {}
    for length in lengths:
        groups.setdefault(length.category, []).append(length)
        groups.setdefault("all", []).append(length)
    split = {x.id: alone(large, small, task_of(x, shape, seed)) for x in lengths}
    labelled = {
        x.id: split[x.id]
        if x.splits
        else alone(large, small, task_of(x, shape, seed, splits=False))
        for x in lengths
        if x.splits is not None
    }
    found = {}
    for category, members in sorted(groups.items(), key=lambda item: item[0] == "all"):
        rows = [split[x.id] for x in members]
        known = [labelled[x.id] for x in members if x.id in labelled]
        found[category] = {
            "answers": len(rows),
            **{k: statistics.median(r[k] for r in rows) for k in ("tokens", "plain_s", "sgd_s")},
            "speedup": ratio(rows),
            "planning share": statistics.median(r["planning_s"] / r["sgd_s"] for r in rows),
            "speedup as labelled": ratio(known) if known else float("nan"),
        }
    return found


def sweeps(
    large: LatencyModel,
    small: LatencyModel | None,
    lengths: Sequence[Length],
    shape: Shape,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Speedup over plain when one assumption changes; the others are as given.

    Without a small model, nothing is said of the share of nodes that are too hard for it.
    """

    def of(changed: Shape, lower: LatencyModel | None = None) -> float:
        return ratio([alone(large, lower, task_of(x, changed, seed)) for x in lengths])

    found = {
        "nodes": {str(n): of(replace(shape, nodes=n)) for n in _NODES},
        "planner tokens a line": {str(n): of(replace(shape, line_tokens=n)) for n in _LINES},
    }
    if small is not None:
        found[f"share of hard nodes, the others on {small.name}"] = {
            f"{share:g}": of(replace(shape, hard=share), small) for share in _HARD
        }
    found["concurrent users"] = {str(n): _loaded(large, lengths, shape, n, seed) for n in _USERS}
    return found


def _loaded(
    large: LatencyModel, lengths: Sequence[Length], shape: Shape, users: int, seed: int
) -> float:
    """Mean waiting time of plain over SGD's, with so many users on one server."""
    tasks = [task_of(x, shape, seed) for x in lengths]
    rounds = max(2, 12 // users)
    plain = run_virtual(_crowd(Servers(large), "plain", tasks, users, rounds))
    return plain / run_virtual(_crowd(Servers(large), "sgd", tasks, users, rounds))


async def _crowd(
    servers: Servers, method: str, tasks: Sequence[Task], users: int, rounds: int
) -> float:
    found = await crowd(getattr(servers, method), tasks, users, rounds)
    return statistics.fmean(each.wall_s for each in found)


def given_model(file: Path | None, preset: str) -> LatencyModel:
    """A measured model, or one of the published.

    Raises:
        ValueError: The file holds no latency model.
    """
    return PRESETS[preset] if file is None else LatencyModel.read(file)


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the figures; 2 if there are no lengths to simulate with."""
    options = parser("simulate", __doc__ or "")
    options.add_argument(
        "--lengths", type=existing_file, required=True, metavar="FILE", help=LENGTHS_HELP
    )
    options.add_argument("--answers-of", nargs="+", default=_MODELS, metavar="MODEL")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--large", choices=PRESETS, default="llama-33b-a100")
    which.add_argument(
        "--latency-model", type=existing_file, metavar="FILE", help="of bench calibrate"
    )
    options.add_argument(
        "--small", choices=PRESETS, help="default: llama-7b-a100; with --latency-model none"
    )
    options.add_argument("--nodes", type=count(2, 99), default=Shape().nodes)
    options.add_argument("--line-tokens", type=count(1), default=Shape().line_tokens)
    options.add_argument("--expansion", type=seconds, default=Shape().expansion)
    options.add_argument(
        "--sweep", type=count(0), default=24, help="answers for each point; 0 for none"
    )
    options.add_argument("--most", type=count(1), help="take no more answers than this")
    options.add_argument("--seed", type=count(0), default=1)
    args = options.parse_args(argv)
    try:
        lengths = read_lengths(args.lengths, args.answers_of)[: args.most]
        large = given_model(args.latency_model, args.large)
    except ValueError as error:
        print(f"Nothing simulated: {error}", file=sys.stderr)
        return 2
    name = args.small or (None if args.latency_model else _SMALL)
    small = PRESETS[name] if name else None
    shape = Shape(nodes=args.nodes, line_tokens=args.line_tokens, expansion=args.expansion)
    categories = by_category(large, None, lengths, shape, args.seed)
    suited = [x for x in lengths if x.splits] or lengths
    sample = suited[:: max(1, len(suited) // max(1, args.sweep))][: args.sweep]
    swept = sweeps(large, small, sample, shape, args.seed) if sample else {}
    _show(large, shape, categories, swept, len(sample))
    figures = {
        "kind": "simulation",
        "large": asdict(large),
        "small": small and asdict(small),
        "shape": asdict(shape),
        "categories": categories,
        "sweeps": swept,
    }
    save(args.json, "simulate", argv, figures)
    return 0


def _show(
    large: LatencyModel,
    shape: Shape,
    categories: dict[str, dict[str, float]],
    swept: dict[str, dict[str, float]],
    sample: int,
) -> None:
    show(
        f"SIMULATION: {large.name}, one user, no small model, medians",
        ("", "answers", "tokens", "plain s", "SGD s", "speedup", "planning", "as labelled"),
        [
            (
                category,
                f["answers"],
                f"{f['tokens']:.0f}",
                f"{f['plain_s']:.1f}",
                f"{f['sgd_s']:.1f}",
                f"{f['speedup']:.2f}",
                f"{f['planning share']:.0%}",
                "-"
                if f["speedup as labelled"] != f["speedup as labelled"]
                else f"{f['speedup as labelled']:.2f}",
            )
            for category, f in categories.items()
        ],
        f"Assumed: {shape}. Times: {large.source}.",
    )
    for what, values in swept.items():
        show(
            f"SIMULATION: speedup over plain by {what}",
            ("", *values),
            [("speedup", *(f"{value:.2f}" for value in values.values()))],
            f"{sample} answers to questions that suit splitting",
        )


if __name__ == "__main__":
    raise SystemExit(main())
