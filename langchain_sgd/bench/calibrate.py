"""The latency model of the embedded engine, measured, and checked against real runs.

Runs of known shapes on the embedded server: so many nodes at once, chains of nodes, plain decoding, long
prompts. From their wall times and the engine's counters follow the parameters of
`langchain_sgd.bench.latency`; `--save FILE` keeps them for `bench simulate --latency-model FILE`.

Among them, in one order of chance, held-out questions are answered plainly and by SGD: the check. Each
run's own skeleton and token counts are played again through the simulation, and what that predicts stands
beside what was measured, with the error. The runs of the check have no part in the calibration.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args

from langchain_sgd.argument_types import count, new_file
from langchain_sgd.baselines import PlainDecoding
from langchain_sgd.bench._embedded_figures import PLAIN, SGD
from langchain_sgd.bench._fit import Fit, Observation, fit, predicted_s
from langchain_sgd.bench._measure import (
    Method,
    Question,
    ask,
    interval,
    median,
    progress,
    seed_of,
    shuffled,
    with_interval,
)
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench._random_model import cached_model
from langchain_sgd.bench._replay import Replay, predict, unfit
from langchain_sgd.bench.embedded import (
    FixedLength,
    Lengths,
    bundled_methods,
    bundled_questions,
    fixed_methods,
)
from langchain_sgd.bench.latency import LatencyModel
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.engine import Statistics
from langchain_sgd.embedded.load import EngineName, choose
from langchain_sgd.embedded.process import Served, served
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.files import Row
from langchain_sgd.report import NodeReport, Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Node, NodeId, Skeleton
from langchain_sgd.tgi import ChatTGI

_STREAMS: Final = (2, 3, 4, 6, 8)
_PLAIN_KIND: Final = "plain, 1 stream"
_CHAIN: Final = 3
_LONG: Final = (3, 6, 12)
"""Questions joined to a long prompt."""
_CHUNK: Final = 128
"""Prompt tokens that the engine takes in one step."""
_CONTEXT: Final = {"bundled": 1024, "60m": 2048}
_LENGTHS: Final = Lengths(node=96, line=16)
_LARGE_ERROR: Final = 0.2

_Task = tuple[str, SGDRunnable, Any, int]
"""What to call it, what to ask, with which input, and how many calls wait for one another."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A served model and the ways to ask it."""

    plain: Method
    sgd: Method
    given: Callable[[int], SGDRunnable]
    """SGD with a given skeleton, for a seed."""
    prompt: SGDRunnable
    """Computes a prompt and writes one token."""


def subject_of(urls: Mapping[str, str], *, fixed: bool, temperature: float = 0.7) -> Subject:
    """The bundled large model, or one that writes texts of fixed lengths."""
    large = ChatTGI(base_url=urls["large"], temperature=temperature)
    if fixed:
        methods = fixed_methods(urls, temperature, _LENGTHS)
    else:
        methods = bundled_methods({"small": urls["large"], **urls}, temperature)
    by_name = {method.name: method for method in methods}
    writer: Any = FixedLength(large, _LENGTHS.node) if fixed else large
    one = ChatTGI(base_url=urls["large"], temperature=temperature, max_tokens=1)
    return Subject(
        by_name[PLAIN],
        by_name[SGD],
        lambda seed: SGDRunnable(large=writer, prompts=BRIEFS_PROMPTS, seed=seed),
        PlainDecoding(large=one),
    )


# -- calibration


@dataclass(slots=True)
class Calibration:
    """What the calibrating runs came to."""

    runs: list[Observation] = field(default_factory=list)
    written: list[tuple[str, NodeReport]] = field(default_factory=list)
    """The plain runs: question and answer."""

    @property
    def characters_a_token(self) -> float:
        """Characters of questions and answers for each token that the server counted, its template's too."""
        used = [(q, node.answer, node.usage) for q, node in self.written]
        tokens = sum(usage.input_tokens + usage.output_tokens for *_, usage in used)
        return sum(len(question) + len(text) for question, text, _ in used) / tokens


async def asked(
    server: Served,
    subject: Subject,
    known: Sequence[Question],
    others: Sequence[Question],
    *,
    slots: int,
    seed: int,
) -> tuple[Calibration, list[Row]]:
    """Run the known shapes on some questions, and answer the others by both methods.

    All in one order of chance, but for the two answers to a question, which follow each other: a machine
    that gets slower or faster meanwhile is the same machine for calibration and check.

    Raises:
        RuntimeError: A calibrating run failed.
    """
    found, rows = Calibration(), list[Row]()
    tasks = [task for q in known for task in _tasks(subject, q, known, slots, seed)]
    for task in tasks[:3]:
        await ask(task[1], task[2])
    steps: list[_Task | Question] = [*tasks, *others]
    random.Random(seed).shuffle(steps)
    with progress() as bar:
        doing = bar.add_task("asking", total=len(steps))
        for step in steps:
            if isinstance(step, Question):
                rows += await _answered(server, subject, step, seed)
            else:
                await _calibrate(server, step, found)
            bar.advance(doing)
    return found, rows


async def _calibrate(server: Served, task: _Task, found: Calibration) -> None:
    kind, runnable, value, waits = task
    row = await _measured(server, runnable, value)
    if row["error"] is not None or row["report"] is None:
        msg = f"a calibrating run ({kind}) failed: {row['error']}"
        raise RuntimeError(msg)
    report = Report.model_validate(row["report"])
    found.runs.append(_observed(kind, row["wall_s"], waits, report, row["spent"]))
    if kind == _PLAIN_KIND:
        found.written.append((value, report.nodes[0]))


async def _answered(server: Served, subject: Subject, question: Question, seed: int) -> list[Row]:
    """The question by both methods, in an order of its own."""
    rows = []
    for method in shuffled([subject.plain, subject.sgd], question.id, seed):
        runnable = method.build(question, seed_of(question.id, seed))
        row = await _measured(server, runnable, question.text)
        rows.append({"method": method.name, "question": question, **row})
    return rows


def _tasks(
    subject: Subject, question: Question, others: Sequence[Question], slots: int, seed: int
) -> list[_Task]:
    own = seed_of(question.id, seed)
    given = subject.given(own)
    at_once = [n for n in _STREAMS if n <= slots]
    tasks: list[_Task] = [(_PLAIN_KIND, subject.plain.build(question, own), question.text, 1)]
    for n in at_once:
        value = {"question": question.text, "skeleton": of_shape(question, n, chained=False)}
        tasks.append((f"{n} streams", given, value, 1))
    chain = {"question": question.text, "skeleton": of_shape(question, _CHAIN, chained=True)}
    tasks.append((f"a chain of {_CHAIN}", given, chain, _CHAIN))
    texts = [question.text, *(q.text for q in others if q.id != question.id)]
    for n in _LONG:
        long = "\n\n".join((texts * n)[:n])
        tasks.append((f"a prompt of {n} questions", subject.prompt, long, 1))
    return tasks


def of_shape(question: Question, nodes: int, *, chained: bool) -> Skeleton:
    """So many of the question's parts, repeated where it has fewer: all at once, or one by one."""
    asked = domain.read_question(question.text)
    assert isinstance(asked, domain.Brief)  # noqa: S101 - the questions are our own
    parts = domain.skeleton(asked.order(random.Random(question.id))).nodes
    made: list[Node] = []
    for index in range(nodes):
        needs = (made[-1].id,) if chained and made else ()
        changes = {"id": NodeId(str(index + 1)), "dependencies": needs}
        made.append(parts[index % len(parts)].model_copy(update=changes))
    return Skeleton(nodes=tuple(made))


def _observed(
    kind: str, wall_s: float, waits: int, report: Report, spent: Statistics
) -> Observation:
    attempts = [attempt for node in report.nodes for attempt in node.attempts]
    if report.planner is not None:
        attempts += report.planner.attempts
    prompts = tuple(
        attempt.usage.input_tokens - attempt.usage.cached_tokens
        for attempt in attempts
        if attempt.usage is not None
    )
    return Observation(
        kind, wall_s, waits, spent.steps, spent.generated_tokens, prompts, spent.busy_s
    )


async def _measured(server: Served, runnable: SGDRunnable, value: Any) -> Row:
    """One run on an empty cache, with what the engine counted."""
    await server.forget()
    gc.collect()
    before = await server.counts()
    row = await ask(runnable, value)
    row["spent"] = (await server.counts()).models["large"] - before.models["large"]
    return row


# -- the check


def compared(model: LatencyModel, rows: Sequence[Row]) -> dict[str, Any]:
    """Every run beside its replay; questions of which one run failed or cannot be replayed are left out."""
    pairs: dict[str, dict[str, dict[str, float]]] = {}
    left_out: dict[str, str] = {}
    for row in rows:
        question: Question = row["question"]
        report = None if row["report"] is None else Report.model_validate(row["report"])
        problem = row["error"] or ("no report" if report is None else unfit(report))
        if problem or report is None:
            left_out[question.id] = f"{row['method']}: {problem}"
            continue
        pairs.setdefault(question.id, {})[row["method"]] = _beside(model, question, row, report)
    both = {id_: pair for id_, pair in pairs.items() if pair.keys() == {PLAIN, SGD}}
    found: dict[str, Any] = {
        "questions": len(both),
        "left_out": left_out,
        "methods": {
            name: _summed_up([pair[name] for pair in both.values()]) for name in (PLAIN, SGD)
        },
    }
    ratios = {
        which: [pair[PLAIN][which] / pair[SGD][which] for pair in both.values()]
        for which in ("measured_s", "predicted_s")
    }
    measured, predicted = (median(ratios[which]) for which in ("measured_s", "predicted_s"))
    found["speedup"] = {
        "measured": measured,
        "predicted": predicted,
        "error": predicted / measured - 1,
        "typical_error": median(abs(p / m - 1) for m, p in zip(*ratios.values(), strict=True)),
    }
    found["runs"] = both
    return found


def _beside(model: LatencyModel, question: Question, row: Row, report: Report) -> dict[str, float]:
    spent: Statistics = row["spent"]
    predicted = predict(model, Replay(question.text, report), BRIEFS_PROMPTS)
    seen = _observed(row["method"], row["wall_s"], 1, report, spent)
    return {
        "measured_s": row["wall_s"],
        "predicted_s": predicted.wall_s,
        "error": predicted.wall_s / row["wall_s"] - 1,
        "error_by_counts": predicted_s(model, seen) / row["wall_s"] - 1,
        "measured_ttft_s": row["ttft_s"],
        "predicted_ttft_s": predicted.ttft_s,
        "measured_steps": spent.steps,
        "predicted_steps": predicted.steps,
        "measured_prompt_tokens": spent.computed_prompt_tokens,
        "predicted_prompt_tokens": predicted.computed_prompt_tokens,
        "model_share": spent.busy_s / row["wall_s"],
    }


def _summed_up(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    if not rows:
        return {}
    found: dict[str, Any] = {name: statistics.median(r[name] for r in rows) for name in rows[0]}
    found["errors"] = interval([row["error"] for row in rows])
    found["typical_error"] = statistics.median(abs(row["error"]) for row in rows)
    found["worst_error"] = max(abs(row["error"]) for row in rows)
    return found


# -- the command


async def measure(args: argparse.Namespace) -> tuple[Fit, list[Row]]:
    """Serve the model, calibrate, ask the questions of the check."""
    fixed = args.model_size == "60m"
    file = cached_model() if fixed else bundled_models()["large"]
    questions = bundled_questions(args.questions + args.calibrating, 0, args.seed)
    checked, known = questions[: args.questions], questions[args.questions :]
    context = _CONTEXT[args.model_size]
    engine = choose(file, args.engine)[0].name
    async with served({"large": file}, engine=engine, slots=args.slots, context=context) as server:
        subject = subject_of(server.urls, fixed=fixed)
        seen, rows = await asked(server, subject, known, checked, slots=args.slots, seed=args.seed)
    made = fit(
        seen.runs,
        name=f"{'random-60m' if fixed else 'bundled-large'}-{engine}",
        slots=args.slots,
        chunk=_CHUNK,
        characters_a_token=seen.characters_a_token,
        source=f"langchain-sgd bench calibrate, {len(seen.runs)} runs",
    )
    return made, rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the model, its residual, and predicted beside measured."""
    options = parser("calibrate", __doc__ or "")
    options.add_argument("--questions", type=count(0), default=30, help="of the check; 0 for none")
    options.add_argument(
        "--calibrating", type=count(1), default=6, help="other questions, to calibrate"
    )
    options.add_argument("--engine", choices=get_args(EngineName), default="auto")
    options.add_argument("--model-size", choices=("bundled", "60m"), default="bundled")
    options.add_argument("--slots", type=count(1), default=8, help="requests decoded together")
    options.add_argument("--seed", type=count(0), default=1)
    options.add_argument("--save", type=new_file, metavar="FILE", help="write the latency model")
    args = options.parse_args(argv)
    made, rows = asyncio.run(measure(args))
    _show_fit(made)
    if args.save is not None:
        made.model.write(args.save)
    # Only now, outside any event loop: replays have a clock of their own.
    found = compared(made.model, rows) if rows else None
    if found is not None:
        _show_check(made.model, found)
    figures = {
        "model": made.model.to_json(),
        "runs": made.by_kind(),
        "typical_error": made.typical,
        "observations": [asdict(seen) for seen in made.observations],
        "check": found,
    }
    save(args.json, "calibrate", argv, figures)
    return 0


def _show_fit(made: Fit) -> None:
    model = made.model
    show(
        f"Measured: {model.name}, what a decode step takes, and what the latency model says",
        ("run", "runs", "streams", "prompt", "model ms", "step ms", "fitted ms", "wall error"),
        [
            (
                kind,
                f"{f['runs']:.0f}",
                f"{f['streams']:.2f}",
                f"{f['prompt_tokens']:.0f}",
                f"{f['model_step_ms']:.3f}",
                f"{f['step_ms']:.3f}",
                f"{f['fitted_step_ms']:.3f}",
                f"{f['error']:+.1%}",
            )
            for kind, f in made.by_kind().items()
        ],
        f"A step: {model.step_s * 1e3:.3f} ms + {model.stream_s * 1e3:.3f} ms a stream"
        f" + {model.prompt_token_s * 1e3:.4f} ms a prompt token beyond {model.hidden_tokens:g};"
        f" a call: {model.call_s * 1e3:.2f} ms. Residual of a run's wall time, median without sign:"
        f" {made.typical:.1%}. Model: in the engine alone; step: with all that is around it.",
    )


def _show_check(model: LatencyModel, found: Mapping[str, Any]) -> None:
    speedup = found["speedup"]
    show(
        f"SIMULATION beside measurement: {found['questions']} held-out questions, {model.name}",
        (
            "method",
            "measured s",
            "simulated s",
            "error",
            "without sign",
            "steps",
            "simulated",
            "prompt",
            "simulated",
            "error, own counts",
        ),
        [
            (
                name,
                f"{f['measured_s']:.3f}",
                f"{f['predicted_s']:.3f}",
                with_interval({k: 100 * v for k, v in f["errors"].items()}, 1) + " %",
                f"{f['typical_error']:.1%}",
                f"{f['measured_steps']:.0f}",
                f"{f['predicted_steps']:.0f}",
                f"{f['measured_prompt_tokens']:.0f}",
                f"{f['predicted_prompt_tokens']:.0f}",
                f"{f['error_by_counts']:+.1%}",
            )
            for name, f in found["methods"].items()
            if f
        ],
        f"Speedup: measured {speedup['measured']:.2f}, simulated {speedup['predicted']:.2f}"
        f" ({speedup['error']:+.1%}; question by question {speedup['typical_error']:.1%} without sign)."
        " Error: simulated over measured, less 1; median of the questions with its 95 % interval."
        " Own counts: the fitted times of the steps that the engine really took."
        + (f" Left out: {len(found['left_out'])} questions." if found["left_out"] else ""),
    )
    large = [
        name for name, f in found["methods"].items() if f and f["typical_error"] > _LARGE_ERROR
    ]
    if large:
        print(f"The simulation is more than {_LARGE_ERROR:.0%} from the measurement: {large}")


if __name__ == "__main__":
    raise SystemExit(main())
