"""Plans alone: are they well formed, split where they should, wide enough, short, and soon there?

    langchain-sgd bench planner --large MODEL --questions FILE.jsonl [--planner MODEL] [--mode always]

Questions are JSON lines as in `bench endpoints`. Where a line has `split` (true or false, or 1 and 0), it
counts as right if the question was split or left whole accordingly; shares come with 95 % intervals.
Nothing is written but plans, so a model is tried on a hundred questions in minutes. With `--resume` a
killed run goes on where it stopped, and the plans stay in that file.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import LLMResult
from rich.console import Console
from rich.table import Table

from langchain_sgd.argument_types import count, existing_file, new_file, number, probability
from langchain_sgd.bench._measure import Journal, interval, median, progress, rounded, with_interval
from langchain_sgd.bench._output import parser, save
from langchain_sgd.bench.endpoints import Asked, read_questions
from langchain_sgd.commands.models import add_models, models_of, names_of
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import Row
from langchain_sgd.judging.tally import wilson
from langchain_sgd.redaction import describe
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import HARD, Skeleton
from langchain_sgd.streams import all_of

_LABEL: Final = "split"
"""The field of a question, and of its row."""


class _Watch(AsyncCallbackHandler):
    """When the planner's first token and first line came, and what it cost."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first_s: float | None = None
        self.line_s: float | None = None
        self.text = ""
        self.calls = 0
        self.tokens = 0
        """Those that servers counted; pieces, of calls where nobody did."""
        self.input_tokens = 0
        self.cached_tokens = 0
        self._pieces: dict[UUID, int] = {}

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.calls += 1

    async def on_llm_new_token(
        self, token: str | list[str | dict[str, Any]], *, run_id: UUID, **_: Any
    ) -> None:
        text = AIMessageChunk(content=token).text
        if not text:
            return
        now = time.perf_counter() - self.began
        self.first_s = self.first_s if self.first_s is not None else now
        self._pieces[run_id] = self._pieces.get(run_id, 0) + 1
        self.tokens += 1
        self.text += text
        if self.line_s is None and "\n" in self.text.lstrip():
            self.line_s = now

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        for generation in (each for group in response.generations for each in group):
            usage = getattr(getattr(generation, "message", None), "usage_metadata", None) or {}
            self.input_tokens += usage.get("input_tokens", 0)
            if counted := usage.get("output_tokens"):
                self.tokens += counted - self._pieces.pop(run_id, 0)
            self.cached_tokens += usage.get("input_token_details", {}).get("cache_read", 0)


async def plan_one(runnable: SGDRunnable, question: str) -> Row:
    """One plan as a row; a planner that fails is a row with an `error`."""
    watch = _Watch()
    row: Row = {"error": None}
    try:
        found = await runnable.aplan(question, {"callbacks": [watch]})
    except Exception as error:  # noqa: BLE001 - the row says it, and the table counts it
        row["error"] = describe(error)
    else:
        skeleton = found.skeleton
        if found.failed:
            row["error"] = "; ".join(found.warnings) or found.plain
        row["plain"] = found.plain
        row["warnings"] = found.warnings
        row["nodes"] = [] if skeleton is None else skeleton.model_dump(mode="json")["nodes"]
    return {
        **row,
        "text": watch.text,
        "calls": watch.calls,
        "tokens": watch.tokens,
        "input_tokens": watch.input_tokens,
        "cached_tokens": watch.cached_tokens,
        "first_token_s": watch.first_s,
        "first_line_s": watch.line_s,
        "plan_s": time.perf_counter() - watch.began,
    }


async def run(
    runnable: SGDRunnable,
    questions: Sequence[Asked],
    labels: Mapping[str, bool],
    journal: Journal,
    *,
    users: int,
) -> list[Row]:
    """Plan every question that the journal has no plan for.

    Raises:
        SystemExit: The planner's model cannot be asked at all.
        InvalidInputError: The journal has another question under the id of one of these.
        OSError: A row cannot be written.
    """
    texts = {asked.question.id: asked.question.text for asked in questions}
    journal.check_questions(lambda row: texts.get(row["question_id"]))
    left = iter([asked for asked in questions if not journal.has(asked.question.id)])
    warm = await plan_one(runnable, "How do tides work, and why do they matter for harbours?")
    if warm["error"]:
        msg = f"the planner cannot plan: {warm['error']}"
        raise SystemExit(msg)
    with progress() as bar:
        task = bar.add_task(
            "planning", total=sum(not journal.has(a.question.id) for a in questions)
        )

        async def user(left: Iterator[Asked]) -> None:
            for asked in left:
                row = await plan_one(runnable, asked.question.text)
                label = labels.get(asked.question.id)
                named = {"question_id": asked.question.id, "question": asked.question.text}
                journal.add(
                    {**named, "category": asked.question.category, _LABEL: label, **row},
                    asked.question.id,
                )
                bar.advance(task)

        await all_of(lambda _: user(left), users, return_exceptions=False)
    return [
        {**row, _LABEL: labels.get(row["question_id"])}
        for row in journal.rows()
        if row["question_id"] in texts
    ]


def in_percent(hits: int, of: int) -> dict[str, float]:
    """A share and its 95 % interval, in per cent."""
    if (found := wilson(hits, of)) is None:
        return {"median": math.nan, "low": math.nan, "high": math.nan}
    return {"median": 100 * found.value, "low": 100 * found.low, "high": 100 * found.high}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of these rows."""
    asked = [row for row in rows if row["error"] is None]
    split = [row for row in asked if row["nodes"]]
    skeletons = {
        row["question_id"]: Skeleton.model_validate({"nodes": row["nodes"]}) for row in split
    }
    suitable = [row for row in asked if row[_LABEL] is True]
    others = [row for row in asked if row[_LABEL] is False]
    nodes = [node for skeleton in skeletons.values() for node in skeleton.nodes]
    clean = [row for row in asked if not row["warnings"]]
    return {
        "questions": len(rows),
        "failed": len(rows) - len(asked),
        "valid": in_percent(len(clean), len(asked)),
        "split of suitable": in_percent(sum(bool(row["nodes"]) for row in suitable), len(suitable)),
        "whole of others": in_percent(sum(not row["nodes"] for row in others), len(others)),
        "split of all": in_percent(len(split), len(asked)),
        "parts": interval([float(len(s.nodes)) for s in skeletons.values()]),
        "parallelism": _mean(len(s.nodes) / s.depth for s in skeletons.values()),
        "dependencies a part": _mean(len(node.dependencies) for node in nodes),
        "hard parts": _mean(node.difficulty >= HARD for node in nodes),
        "tokens a part": _mean(row["tokens"] / len(row["nodes"]) for row in split),
        "words a heading": _mean(len(node.heading.split()) for node in nodes),
        "first token, s": interval(_times(asked, "first_token_s")),
        "first line, s": interval(_times(split, "first_line_s")),
        "plan, s": interval(_times(split, "plan_s")),
        "plain word, s": interval(_times([r for r in asked if not r["nodes"]], "plan_s")),
        "prompt tokens": median(
            [float(row["input_tokens"]) for row in asked if row["input_tokens"]]
        ),
        "asked twice": sum(row["calls"] > 1 for row in asked),
    }


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else math.nan


def _times(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


_SHARES: Final = ("valid", "split of suitable", "whole of others", "split of all")


def table_of(figures: Mapping[str, Any]) -> Table:
    """The figures for people."""
    table = Table("", "", title=f"Plans for {figures['questions']} questions", title_justify="left")
    for name, value in figures.items():
        if name in _SHARES:
            text = "-" if math.isnan(value["median"]) else with_interval(value, 0) + " %"
        elif isinstance(value, Mapping):
            text = with_interval(value, 1)
        elif isinstance(value, float):
            text = rounded(value, 2)
        else:
            text = str(value)
        table.add_row(name, text)
    return table


def labels_of(questions: Sequence[Asked]) -> dict[str, bool]:
    """Which questions should be split, by id; those that do not say are left out.

    Raises:
        InvalidInputError: A label is no truth value.
    """
    labels: dict[str, bool] = {}
    for asked in questions:
        if asked.split is None:
            continue
        if asked.split not in (True, False):
            msg = f'question {asked.question.id}: "{_LABEL}" is {asked.split!r}; give true or false'
            raise InvalidInputError(msg)
        labels[asked.question.id] = bool(asked.split)
    return labels


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures.

    Raises:
        SystemExit: For wrong options (2), or the planner's model cannot be asked at all.
        InvalidInputError: The questions, or the rows to go on from, cannot be used.
        OSError: A file cannot be read or written.
    """
    options = parser("planner", __doc__ or "")
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add_models(options, large="needed, here or in SGD_LARGE", planner="default: the large model")
    options.add_argument(
        "--questions", type=existing_file, required=True, metavar="FILE", help="JSON lines"
    )
    options.add_argument(
        "--limit", type=count(1), metavar="N", help="questions, from all categories"
    )
    options.add_argument(
        "--users", type=count(1), default=1, help="questions planned at the same time"
    )
    options.add_argument("--mode", choices=("auto", "always"), default="auto")
    options.add_argument(
        "--plain-above",
        type=probability,
        metavar="P",
        help="how sure the planner must be that a question stays whole; needs log-probabilities",
    )
    options.add_argument("--max-nodes", type=count(2, 99), metavar="N", help="most parts of a plan")
    options.add_argument("--temperature", type=number, help="the server's own if not given")
    options.add_argument(
        "--resume", type=new_file, metavar="FILE", help="JSONL of rows to go on from"
    )
    args = options.parse_args(argv)
    names = names_of(args)
    if not names:
        options.error("--large, or the environment variable SGD_LARGE, must name a model")
    questions = read_questions(args.questions, limit=args.limit)
    labels = labels_of(questions)
    given = {} if args.temperature is None else {"temperature": args.temperature}
    wanted = {"max_nodes": args.max_nodes, "plain_above": args.plain_above}
    kept = {name: value for name, value in wanted.items() if value is not None}
    models = models_of(args, names, **given)
    runnable = SGDRunnable(**models, mode=args.mode, **kept)
    digest = {
        "models": dict(names),
        "mode": args.mode,
        "prompts": runnable.prompts.planner,
        "examples": runnable.prompts.examples,
        **given,
        **kept,
    }
    journal = Journal(args.resume, digest)
    rows = asyncio.run(run(runnable, questions, labels, journal, users=args.users))
    figures = summary(rows)
    Console().print(table_of(figures))
    save(args.json, "planner", argv, figures)


if __name__ == "__main__":
    main()
