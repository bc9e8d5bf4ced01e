"""Plain decoding, SGD, and SGD that goes plain when the server is busy, at 1 to 64 concurrent users.

A SIMULATION by default: one server by the latency model of `langchain_sgd.bench.latency`, answers of
published lengths, the real `SGDRunnable` on a virtual clock. With `--real` a measurement: the bundled
large model, served on sockets by a process of its own. Every user asks one question after the other
without a pause. What "busy" means to the third method is `--busy`, calls in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._measure import ask, progress
from langchain_sgd.bench._output import parser, save, show, spread
from langchain_sgd.bench._workload import (
    LENGTHS,
    Answered,
    Build,
    Shape,
    Task,
    crowd,
    read_lengths,
    task_of,
)
from langchain_sgd.bench.latency import PRESETS, LatencyModel
from langchain_sgd.bench.simulate import Servers
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.decoding.limits import Limit
from langchain_sgd.runnable import SGDRunnable

PLAIN, SGD, ADAPTIVE = "plain", "SGD", "SGD, busy="
METHODS: Final = (PLAIN, SGD, ADAPTIVE)
_USERS: Final = (1, 2, 4, 8, 16, 32, 64)
_LEAST_ANSWERS: Final = 16


def summed_up(found: Sequence[Answered]) -> dict[str, float]:
    """Throughput over the time from the first question to the last answer, and latencies."""
    seconds = max(each.ended_s for each in found) - min(each.began_s for each in found)
    latencies = spread([each.wall_s for each in found])
    first = spread([each.ttft_s for each in found])
    return {
        "answers": len(found),
        "answers_per_min": 60 * len(found) / seconds,
        "tokens_per_s": sum(each.tokens for each in found) / seconds,
        "p50_s": latencies["median"],
        "p95_s": latencies["p95"],
        "ttft_p50_s": first["median"],
        "ttft_p95_s": first["p95"],
        "split": statistics.fmean(each.split for each in found),
    }


def simulated(
    model: LatencyModel, tasks: Sequence[Task], users: Sequence[int], busy: int, rounds: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Figures by number of users and method, each on a server of its own."""
    return {
        count: {
            name: summed_up(run_virtual(_simulated(name, model, tasks, count, busy, rounds)))
            for name in METHODS
        }
        for count in users
    }


async def _simulated(
    name: str, model: LatencyModel, tasks: Sequence[Task], users: int, busy: int, rounds: int
) -> list[Answered]:
    servers = Servers(model)
    # The Runnables differ by task; what is in flight is counted for all of them together.
    limits = {"large": Limit(None)}
    builds: dict[str, Build] = {
        PLAIN: servers.plain,
        SGD: servers.sgd,
        ADAPTIVE: lambda task: servers.sgd(task, busy=busy, limits=limits),
    }
    return await crowd(builds[name], tasks, users, max(rounds, _LEAST_ANSWERS // users))


async def measured(
    users: Sequence[int], *, busy: int, slots: int, answers: int, seed: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Figures of the bundled large model; `answers` of each method at each number of users, at least."""
    # The engine and its models load only for this.
    from langchain_sgd.bench._served import served  # noqa: PLC0415
    from langchain_sgd.bench.embedded import bundled_questions  # noqa: PLC0415
    from langchain_sgd.embedded.briefs.prompts import BRIEFS_PROMPTS  # noqa: PLC0415
    from langchain_sgd.embedded.server import bundled_models  # noqa: PLC0415
    from langchain_sgd.tgi import ChatTGI  # noqa: PLC0415

    questions = [q.text for q in bundled_questions(max(answers, *users), 0, seed)]
    found: dict[int, dict[str, dict[str, float]]] = {}
    async with served({"large": bundled_models()["large"]}, slots=slots) as server:
        large = ChatTGI(base_url=server.urls["large"], temperature=0.7)
        options: dict[str, Any] = {"large": large, "prompts": BRIEFS_PROMPTS, "seed": seed}
        methods: dict[str, SGDRunnable] = {
            PLAIN: PlainDecoding(large=large, seed=seed),
            SGD: SGDRunnable(**options),
            ADAPTIVE: SGDRunnable(**options, busy=busy),
        }
        for runnable in methods.values():
            await ask(runnable, questions[0])
        with progress() as bar:
            bar_task = bar.add_task("asking", total=len(users) * len(methods))
            for count in users:
                found[count] = {}
                for name, runnable in methods.items():
                    await server.forget()
                    asked = questions[: max(answers, count)]
                    found[count][name] = summed_up(await _crowd(runnable, asked, count))
                    bar.advance(bar_task)
    return found


async def _crowd(runnable: SGDRunnable, questions: Sequence[str], users: int) -> list[Answered]:
    """All questions, so many at a time.

    Raises:
        RuntimeError: A question could not be answered.
    """
    found: list[Answered] = []
    left = iter(questions)
    loop = asyncio.get_running_loop()

    async def user() -> None:
        for question in left:
            began = loop.time()
            row = await ask(runnable, question)
            report = row["report"]
            if row["error"] is not None or row["ttft_s"] is None or report is None:
                msg = f"a question could not be answered: {row['error']}"
                raise RuntimeError(msg)
            tokens = sum(
                usage["output_tokens"]
                for tier, usage in report["usage"].items()
                if tier != "planner"
            )
            split = report["status"] != "plain"
            found.append(Answered(began, loop.time(), row["ttft_s"], tokens, split))

    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user())
    return found


def pays_until(figures: dict[int, dict[str, dict[str, float]]], method: str = SGD) -> int | None:
    """The largest number of users up to which the method's median answer always came sooner than plain's."""
    last = None
    for users, found in sorted(figures.items()):
        if found[method]["p50_s"] >= found[PLAIN]["p50_s"]:
            break
        last = users
    return last


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the figures; 2 if there are no lengths to simulate with."""
    options = parser("load", __doc__ or "")
    options.add_argument("--users", type=int, nargs="+", default=_USERS)
    options.add_argument("--real", action="store_true", help="measure the bundled large model")
    options.add_argument("--busy", type=int, help="calls in flight; default: half the slots")
    options.add_argument("--slots", type=int, help="default: 32, with --real 8")
    options.add_argument("--answers", type=int, default=24, help="--real: for each row")
    options.add_argument("--model", choices=PRESETS, default="llama-7b-a100")
    options.add_argument("--rounds", type=int, default=2, help="simulated: questions of each user")
    options.add_argument("--lengths", type=Path, default=LENGTHS, help="default: %(default)s")
    options.add_argument("--seed", type=int, default=1)
    args = options.parse_args(argv)
    slots = args.slots or (8 if args.real else 32)
    busy = args.busy or max(1, slots // 2)
    how: dict[str, Any] = {"slots": slots, "busy": busy}
    if args.real:
        found = asyncio.run(
            measured(args.users, busy=busy, slots=slots, answers=args.answers, seed=args.seed)
        )
        title = f"Measured: the bundled large model, {slots} slots"
    else:
        if not args.lengths.is_file():
            print(
                f"Nothing simulated: there are no answer lengths at {args.lengths}; see --lengths",
                file=sys.stderr,
            )
            return 2
        model = replace(PRESETS[args.model], slots=slots)
        how |= {"model": asdict(model), "shape": asdict(Shape())}
        found = simulated(model, _tasks(args), args.users, busy, args.rounds)
        title = f"SIMULATION: {model.name}, {slots} slots, published answer lengths"
    _show(title, found, busy)
    command = shlex.join(
        ["langchain-sgd", "bench", "load", *(sys.argv[3:] if argv is None else argv)]
    )
    kind = "measurement" if args.real else "simulation"
    save(args.json, "load", command, {"kind": kind, **how, "users": found})
    return 0


def _tasks(args: argparse.Namespace) -> list[Task]:
    suited = [x for x in read_lengths(args.lengths, ("gpt35", "vicuna-13b", "gpt-4o")) if x.splits]
    return [task_of(x, Shape(), args.seed) for x in suited]


def _show(title: str, found: dict[int, dict[str, dict[str, float]]], busy: int) -> None:
    show(
        title,
        ("users, method", "answers/min", "tokens/s", "p50 s", "p95 s", "TTFT p50", "split"),
        [
            (
                f"{users}: {f'{name}{busy}' if name == ADAPTIVE else name}",
                f"{f['answers_per_min']:.1f}",
                f"{f['tokens_per_s']:.0f}",
                f"{f['p50_s']:.2f}",
                f"{f['p95_s']:.2f}",
                f"{f['ttft_p50_s']:.2f}",
                f"{f['split']:.0%}",
            )
            for users, methods in found.items()
            for name, f in methods.items()
        ],
        f"SGD's median answer comes sooner than plain's up to {pays_until(found) or 'no number of'}"
        " users",
    )


if __name__ == "__main__":
    raise SystemExit(main())
