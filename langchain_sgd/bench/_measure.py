"""What comparing methods takes: asking once, keeping rows through a kill, summing up with intervals."""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from langchain_core.messages import AIMessageChunk
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import Row, RowFile
from langchain_sgd.redaction import describe
from langchain_sgd.report import REPORT_KEY
from langchain_sgd.runnable import SGDRunnable

_RESAMPLES: Final = 2000
_CUT: Final = 0.025
"""Share cut off at each end of the resampled medians: what is left is a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    id: str
    text: str
    category: str


@dataclass(frozen=True, slots=True)
class Method:
    """A way to answer questions."""

    name: str
    build: Callable[[Question, int], SGDRunnable]
    """The Runnable for a question and a seed."""


async def ask(runnable: SGDRunnable, value: Any) -> Row:
    """One run as its caller sees it: streamed, first text and last chunk timed.

    A run that fails is a row, too, with an `error` and no answer: methods are compared on what they do.
    """
    began = time.perf_counter()
    row: Row = {"ttft_s": None, "answer": "", "error": None}
    parts: list[str] = []
    last: AIMessageChunk | None = None
    try:
        async with aclosing(cast("Any", runnable.astream(value))) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    if not parts:
                        row["ttft_s"] = time.perf_counter() - began
                    parts.append(chunk.text)
                last = chunk
    except Exception as error:  # noqa: BLE001 - the row says it, and the table counts it
        row["error"] = describe(error)
    row["wall_s"] = time.perf_counter() - began
    row["answer"] = "".join(parts)
    row["report"] = last.response_metadata.get(REPORT_KEY) if last is not None else None
    return row


def seed_of(question: str, seed: int) -> int:
    """A seed for each question, the same for all methods; SGD derives one for each node."""
    digest = hashlib.sha256(f"{seed}:{question}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def shuffled(methods: Sequence[Method], question: str, seed: int) -> list[Method]:
    """The methods in an order of this question's own, the same after a restart."""
    order = list(methods)
    random.Random(seed_of(question, seed)).shuffle(order)
    return order


# -- rows


class Journal:
    """Rows in a JSONL file: each is written when it is measured, so a killed bench goes on after it.

    Rows of other options may stand in the same file; they are left alone.

    Args:
        path: The file; None keeps the rows in memory only.
        options: What rows must agree in to belong together: models, engine, sampling.

    Raises:
        InvalidInputError: The file holds something else than rows; nothing in it is touched then.
    """

    def __init__(self, path: Path | None, options: Mapping[str, Any]) -> None:
        text = json.dumps(options, sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._rows: dict[tuple[str, ...], Row] = {}
        self._file: RowFile | None = None
        if path is None:
            return
        self._file = RowFile(
            path,
            begins='{"key": [',
            fields=("key", "options", "error"),
            what="no row of a bench; name a new file, or one that --resume has written",
        )
        for _, row in self._file.rows:
            if row["options"] == self.digest:
                self._rows[tuple(row["key"])] = row

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, *key: str) -> bool:
        """Whether this run was measured; a failed one is tried again."""
        return key in self._rows and self._rows[key]["error"] is None

    def row(self, *key: str) -> Row | None:
        """A row that was measured, or failed."""
        return self._rows.get(key)

    def add(self, row: Row, *key: str) -> None:
        """Keep a row; its key is the method, the question and whatever else tells runs apart."""
        row = {"key": list(key), "options": self.digest, **row}
        self._rows[key] = row
        if self._file is not None:
            self._file.add(row)

    def check_questions(self, text_of: Callable[[Row], str | None]) -> None:
        """See that rows are of the questions that are asked: two files may both number theirs from 1.

        Args:
            text_of: What is asked now where a row stands; None if nothing is.

        Raises:
            InvalidInputError: It is something else.
        """
        for row in self._rows.values():
            if text_of(row) not in {None, row["question"]}:
                msg = (
                    f"the rows to go on from have another question under the id {row['question_id']!r}:"
                    f" {row['question'][:80]!r}; give this file of questions its own --resume file"
                )
                raise InvalidInputError(msg)

    def rows(self) -> list[Row]:
        """All rows of these options, in the order in which they were first tried."""
        return list(self._rows.values())


# -- figures


def median(values: Iterable[float]) -> float:
    """The median; NaN of nothing."""
    found = list(values)
    return statistics.median(found) if found else math.nan


def interval(values: Sequence[float], *, seed: int = 1) -> dict[str, float]:
    """The median and its 95 % interval, by resampling; one value has no interval."""
    if len(values) < 2:
        return {"median": median(values), "low": math.nan, "high": math.nan}
    rng = random.Random(seed)
    medians = sorted(
        statistics.median(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES)
    )
    cut = int(_RESAMPLES * _CUT)
    return {
        "median": statistics.median(values),
        "low": medians[cut],
        "high": medians[-1 - cut],
    }


def paired(
    base: Mapping[str, float], other: Mapping[str, float], *, seed: int = 1
) -> dict[str, float]:
    """The median of base over other, question by question, with its 95 % interval."""
    ratios = [base[key] / other[key] for key in base if other.get(key)]
    return {**interval(ratios, seed=seed), "questions": len(ratios)}


def column(rows: Iterable[Row], name: str) -> dict[str, float]:
    """One figure of every row that has it and did not fail, by question."""
    return {
        row["question_id"]: row[name]
        for row in rows
        if row["error"] is None and row.get(name) is not None
    }


def by(rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    """The rows in groups."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def with_interval(figure: Mapping[str, float], digits: int = 2) -> str:
    """`1.83 [1.79, 1.90]`; an interval that is none, or has no width, is left out."""
    value, low, high = figure["median"], figure["low"], figure["high"]
    if math.isnan(value):
        return "-"
    wide = not (math.isnan(low) or math.isnan(high)) and low < high
    more = f" [{low:.{digits}f}, {high:.{digits}f}]" if wide else ""
    return f"{value:.{digits}f}{more}"


def rounded(value: float, digits: int = 0, unit: str = "") -> str:
    """`1.83x`; a dash for what was not found."""
    return f"{value:.{digits}f}{unit}" if math.isfinite(value) else "-"


def progress() -> Progress:
    """The bar that all benches show."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


# -- what a report tells beside its times


def tokens_by_tier(report: Mapping[str, Any]) -> dict[str, int]:
    """Tokens generated by each tier, the planner's under `planner`."""
    return {tier: usage["output_tokens"] for tier, usage in report["usage"].items()}


def node_prompts(report: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt tokens of all node calls, and how many of them the server had cached."""
    used = [a["usage"] for n in report["nodes"] for a in n["attempts"] if a["usage"]]
    return sum(u["input_tokens"] for u in used), sum(u["cached_tokens"] for u in used)
