"""Plain decoding, SGD, and SGD that goes plain when the server is busy, at 1 to 64 concurrent users.

A SIMULATION by default: one server by the latency model of `langchain_sgd.bench.latency`, answers of
published lengths, the real `SGDRunnable` on a virtual clock. With `--real` a measurement: the bundled
large model, served on sockets by a process of its own. Every user asks one question after the other
without a pause, so the mean wait is the number of users over the throughput.

`--busy` names what "busy" means: one or more numbers of calls in flight, each a method of its own; the last
table says which of them has the shortest mean wait at each load.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from langchain_sgd.argument_types import count, existing_file, seconds
from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._measure import ask, progress
from langchain_sgd.bench._output import parser, save, show, spread
from langchain_sgd.bench._workload import (
    LENGTHS_HELP,
    Answered,
    Shape,
    Task,
    crowd,
    read_lengths,
    task_of,
)
from langchain_sgd.bench.latency import PRESETS, LatencyModel
from langchain_sgd.bench.simulate import Servers, given_model
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.files import Row
from langchain_sgd.limits import Limit
from langchain_sgd.runnable import SGDRunnable

PLAIN, SGD, ADAPTIVE = "plain", "SGD", "SGD, busy="
_USERS: Final = (1, 2, 4, 8, 16, 32, 64)
_LEAST_ANSWERS: Final = 16
_ERRORS_SHOWN: Final = 3

Figures = dict[str, Any]
"""Of one method at one load."""


def methods(busy: Sequence[int]) -> list[str]:
    """The methods' names, in the order of the table."""
    return [PLAIN, SGD, *(f"{ADAPTIVE}{limit}" for limit in busy)]


def summed_up(found: Sequence[Answered], errors: Sequence[str] = ()) -> Figures:
    """Throughput over the time from the first question to the last answer, and latencies.

    Failed questions count as failures and in nothing else; with no answer at all there is nothing more.
    """
    failed: Figures = {"failures": len(errors)}
    if errors:
        failed["errors"] = sorted(set(errors))[:_ERRORS_SHOWN]
    if not found:
        return {"answers": 0, **failed}
    seconds = max(each.ended_s for each in found) - min(each.began_s for each in found)
    latencies = spread([each.wall_s for each in found])
    first = spread([each.ttft_s for each in found])
    return {
        "answers": len(found),
        "answers_per_min": 60 * len(found) / seconds,
        "tokens_per_s": sum(each.tokens for each in found) / seconds,
        "mean_s": latencies["mean"],
        "p50_s": latencies["median"],
        "p95_s": latencies["p95"],
        "ttft_p50_s": first["median"],
        "ttft_p95_s": first["p95"],
        "split": statistics.fmean(each.split for each in found),
        **failed,
    }


def simulated(
    model: LatencyModel,
    tasks: Sequence[Task],
    users: Sequence[int],
    busy: Sequence[int],
    rounds: int,
) -> dict[int, dict[str, Figures]]:
    """Figures by number of users and method, each on a server of its own."""
    limits: dict[str, int | None] = dict(zip(methods(busy), (None, None, *busy), strict=True))
    return {
        count: {
            name: summed_up(
                run_virtual(
                    _simulated(model, tasks, count, rounds, plain=name == PLAIN, busy=limit)
                )
            )
            for name, limit in limits.items()
        }
        for count in users
    }


async def _simulated(
    model: LatencyModel,
    tasks: Sequence[Task],
    users: int,
    rounds: int,
    *,
    plain: bool = False,
    busy: int | None = None,
) -> list[Answered]:
    servers = Servers(model)
    # The Runnables differ by task; what is in flight is counted for all of them together.
    limits = {"large": Limit(None)}

    def build(task: Task) -> SGDRunnable:
        return servers.plain(task) if plain else servers.sgd(task, busy=busy, limits=limits)

    return await crowd(build, tasks, users, max(rounds, _LEAST_ANSWERS // users))


async def measured(
    users: Sequence[int],
    *,
    busy: Sequence[int],
    slots: int,
    answers: int,
    patience: Patience,
    seed: int,
) -> dict[int, dict[str, Figures]]:
    """Figures of the bundled large model; `answers` of each method at each number of users, at least."""
    # The engine and its models load only for this.
    from langchain_sgd.bench.embedded import bundled_questions  # noqa: PLC0415
    from langchain_sgd.bundled import BRIEFS_PROMPTS  # noqa: PLC0415
    from langchain_sgd.embedded.process import served  # noqa: PLC0415
    from langchain_sgd.embedded.server import bundled_models  # noqa: PLC0415
    from langchain_sgd.tgi import ChatTGI  # noqa: PLC0415

    questions = [q.text for q in bundled_questions(max(answers, *users), 0, seed)]
    found: dict[int, dict[str, Figures]] = {}
    async with served({"large": bundled_models()["large"]}, slots=slots) as server:
        large = ChatTGI(base_url=server.urls["large"], temperature=0.7)
        options: dict[str, Any] = {"large": large, "prompts": BRIEFS_PROMPTS, "seed": seed}
        runnables: dict[str, SGDRunnable] = {
            PLAIN: PlainDecoding(large=large, seed=seed),
            SGD: SGDRunnable(**options),
            **{f"{ADAPTIVE}{limit}": SGDRunnable(**options, busy=limit) for limit in busy},
        }
        for runnable in runnables.values():
            await ask(runnable, questions[0])
        with progress() as bar:
            bar_task = bar.add_task("asking", total=len(users) * len(runnables))
            for count in users:
                found[count] = {}
                for name, runnable in runnables.items():
                    await server.forget()
                    asked = questions[: max(answers, count)]
                    found[count][name] = summed_up(*await _crowd(runnable, asked, count, patience))
                    bar.advance(bar_task)
    return found


@dataclass(frozen=True, slots=True)
class Patience:
    """How long users wait, in seconds."""

    answer_s: float = 60.0
    """For one answer; then it has failed, and its calls are closed."""
    row_s: float = 120.0
    """After which nobody asks another question of this row."""


async def _crowd(
    runnable: SGDRunnable, questions: Sequence[str], users: int, patience: Patience
) -> tuple[list[Answered], list[str]]:
    """The questions, so many at a time: the answers, and why others failed."""
    found: list[Answered] = []
    errors: list[str] = []
    left = iter(questions)
    loop = asyncio.get_running_loop()
    ends = loop.time() + patience.row_s

    async def user() -> None:
        for question in left:
            began = loop.time()
            try:
                async with asyncio.timeout(patience.answer_s):
                    row = await ask(runnable, question)
            except TimeoutError:
                errors.append(f"no answer within {patience.answer_s:g} s")
            else:
                answer = _answered(row, began, loop.time())
                if isinstance(answer, str):
                    errors.append(answer)
                else:
                    found.append(answer)
            if loop.time() >= ends:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user())
    return found, errors


def _answered(row: Row, began: float, ended: float) -> Answered | str:
    """The answer as its user saw it, or why there is none that is whole."""
    report = row["report"]
    if row["error"] is not None or row["ttft_s"] is None or report is None:
        return row["error"] or "no text came"
    if report["status"] == "partial":
        return "parts of the answer are missing"
    tokens = sum(
        usage["output_tokens"] for tier, usage in report["usage"].items() if tier != "planner"
    )
    return Answered(began, ended, row["ttft_s"], tokens, report["status"] != "plain")


def pays_until(figures: Mapping[int, Mapping[str, Figures]], method: str = SGD) -> int | None:
    """The largest number of users up to which the method's median answer always came sooner than plain's."""
    last = None
    for users, found in sorted(figures.items()):
        if not (found[method]["answers"] and found[PLAIN]["answers"]):
            break
        if found[method]["p50_s"] >= found[PLAIN]["p50_s"]:
            break
        last = users
    return last


def best(found: Mapping[str, Figures]) -> str | None:
    """The method with the shortest mean wait among those that fail least; None if nothing was answered."""
    answered = {name: f for name, f in found.items() if f["answers"]}
    return min(
        answered,
        key=lambda name: (answered[name]["failures"], answered[name]["mean_s"]),
        default=None,
    )


def lost(figures: Mapping[int, Mapping[str, Figures]], method: str) -> float | None:
    """How much longer one waits with this method than with the best one, at the load where that is worst.

    None if it fails more often than the best one somewhere: whom it leaves without an answer waits for ever.
    """
    losses = [0.0]
    for found in figures.values():
        if (first := best(found)) is None:
            continue
        if not found[method]["answers"] or found[method]["failures"] > found[first]["failures"]:
            return None
        losses.append(found[method]["mean_s"] / found[first]["mean_s"] - 1)
    return max(losses)


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the figures; 2 if there are no lengths to simulate with."""
    options = parser("load", __doc__ or "")
    options.add_argument("--users", type=count(1), nargs="+", default=_USERS)
    options.add_argument("--real", action="store_true", help="measure the bundled large model")
    options.add_argument(
        "--busy",
        type=count(1),
        nargs="+",
        metavar="CALLS",
        help="default: a quarter of the slots",
    )
    options.add_argument("--slots", type=count(1), help="default: 32, with --real 8")
    options.add_argument("--answers", type=count(1), default=24, help="--real: for each row")
    options.add_argument(
        "--timeout", type=seconds, default=Patience().answer_s, help="--real: seconds for an answer"
    )
    options.add_argument(
        "--row-timeout", type=seconds, default=Patience().row_s, help="--real: seconds for a row"
    )
    which = options.add_mutually_exclusive_group()
    which.add_argument("--model", choices=PRESETS, default="llama-7b-a100")
    which.add_argument(
        "--latency-model", type=existing_file, metavar="FILE", help="of bench calibrate"
    )
    options.add_argument(
        "--rounds", type=count(1), default=2, help="simulated: questions of each user"
    )
    options.add_argument(
        "--lengths", type=existing_file, metavar="FILE", help=f"simulated: {LENGTHS_HELP}"
    )
    options.add_argument("--seed", type=count(0), default=1)
    args = options.parse_args(argv)
    if not args.real and args.lengths is None:
        options.error("a simulation needs --lengths FILE")
    try:
        model = given_model(args.latency_model, args.model)
        tasks = [] if args.real else _tasks(args)
    except ValueError as error:
        print(f"Nothing simulated: {error}", file=sys.stderr)
        return 2
    own_slots = model.slots if args.latency_model else 32
    slots = args.slots or (8 if args.real else own_slots)
    busy = sorted(set(args.busy or [max(1, slots // 4)]))
    how: dict[str, Any] = {"slots": slots, "busy": busy}
    if args.real:
        patience = Patience(args.timeout, args.row_timeout)
        how["patience"] = asdict(patience)
        found = asyncio.run(
            measured(
                args.users,
                busy=busy,
                slots=slots,
                answers=args.answers,
                patience=patience,
                seed=args.seed,
            )
        )
        title = f"Measured: the bundled large model, {slots} slots"
    else:
        model = replace(model, slots=slots)
        how |= {"model": asdict(model), "shape": asdict(Shape())}
        found = simulated(model, tasks, args.users, busy, args.rounds)
        title = f"SIMULATION: {model.name}, {slots} slots, published answer lengths"
    _show(title, found)
    how |= {
        "kind": "measurement" if args.real else "simulation",
        "best": {users: best(each) for users, each in found.items()},
        "worst_loss": {name: lost(found, name) for name in methods(busy)},
    }
    save(args.json, "load", argv, {**how, "users": found})
    return 0


def _tasks(args: argparse.Namespace) -> list[Task]:
    suited = [x for x in read_lengths(args.lengths, ("gpt35", "vicuna-13b", "gpt-4o")) if x.splits]
    return [task_of(x, Shape(), args.seed) for x in suited]


_SHOWN: Final = {
    "answers_per_min": ".1f",
    "tokens_per_s": ".0f",
    "mean_s": ".2f",
    "p50_s": ".2f",
    "p95_s": ".2f",
    "ttft_p50_s": ".2f",
    "split": ".0%",
}


def _show(title: str, found: Mapping[int, Mapping[str, Figures]]) -> None:
    failed = {
        error for each in found.values() for f in each.values() for error in f.get("errors", ())
    }
    show(
        title,
        ("users, method", "answers/min", "tokens/s", "mean s", "p50 s", "p95 s", "TTFT", "split")
        + ("failed",) * bool(failed),
        [
            (
                f"{users}: {name}",
                *(f"{f[key]:{form}}" if f["answers"] else "-" for key, form in _SHOWN.items()),
                *((f"{f['failures']}",) * bool(failed)),
            )
            for users, each in found.items()
            for name, f in each.items()
        ],
        f"SGD's median answer comes sooner than plain's up to {pays_until(found) or 'no number of'}"
        " users" + "".join(f"; failed: {error}" for error in sorted(failed)),
    )
    names = list(next(iter(found.values()))) if found else []
    rows = [
        (
            str(users),
            *(f"{each[name].get('mean_s', math.nan):.2f}" for name in names),
            _short(best(each) or "-"),
        )
        for users, each in found.items()
    ]
    losses = [lost(found, name) for name in names]
    rows.append(("at worst", *("fails" if x is None else f"+{x:.0%}" for x in losses), ""))
    show(
        f"{title.partition(':')[0]}: mean wait, s",
        ("users", *map(_short, names), "best"),
        rows,
        "At worst: how much longer than with the best method, at the load where that is most",
    )


def _short(name: str) -> str:
    return name.removeprefix("SGD, ")


if __name__ == "__main__":
    raise SystemExit(main())
