"""What all benchmarks share: options, tables, JSON with date and machine, order statistics."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from langchain_sgd.argument_types import Parser, new_file

PACKAGES = ("langchain-core", "langgraph", "langchain-sgd")


def parser(name: str, description: str) -> Parser:
    """A benchmark's command line, with the options that all have."""
    made = Parser(
        prog=f"langchain-sgd bench {name}",
        description=description,
        # An option `--api-key` that stands for `--api-key-env` would print the key.
        allow_abbrev=False,
    )
    made.add_argument("--json", type=new_file, metavar="FILE", help="write the figures there, too")
    return made


def environment() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: version(name) for name in PACKAGES},
    }


def command_of(name: str, argv: Sequence[str] | None) -> str:
    """The command that repeats a benchmark; None stands for the options of this process."""
    return shlex.join(["langchain-sgd", "bench", name, *(sys.argv[1:] if argv is None else argv)])


def save(path: Path | None, name: str, argv: Sequence[str] | None, figures: Any) -> None:
    """Write the figures as JSON, with what is needed to repeat them; one that was not found is null."""
    if path is None:
        return
    how = {"benchmark": name, "command": command_of(name, argv)}
    record = {**how, **environment(), "figures": _finite(figures)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = ""
) -> None:
    """Print a table; the first column is text, the others are figures.

    Texts are shown as they are: a category `[x]` is no markup. Where the terminal is too narrow for all
    columns, there are several tables below each other, each with the first column: nothing is cut.
    """
    console = Console(markup=False, emoji=False)
    cells = [list(map(str, row)) for row in rows]
    needs = [
        min(_need(column, [row[n] for row in cells]), console.width // 2)
        for n, column in enumerate(columns)
    ]
    parts = _fitting(needs, console.width)
    for part in parts:
        table = Table(show_header=any(columns), title_justify="left", caption_justify="left")
        table.title = title if part is parts[0] else None
        table.caption = note or None if part is parts[-1] else None
        is_tight = _width([max(needs[n], cell_len(columns[n])) for n in part]) > console.width
        for n in part:
            table.add_column(
                columns[n],
                justify="right" if n else "left",
                overflow="fold",
                width=needs[n] if is_tight else None,
            )
        for row in cells:
            table.add_row(*(row[n] for n in part))
        console.print(table)


def _need(column: str, cells: Sequence[str]) -> int:
    """The width at which no cell is broken, and the heading between words only."""
    return max(map(cell_len, [*cells, *column.split(), ""]))


def _width(columns: Sequence[int]) -> int:
    """Of a table, with what stands between its columns."""
    return sum(column + 3 for column in columns) + 1


def _fitting(needs: Sequence[int], width: int) -> list[list[int]]:
    """The columns in groups that fit, each with the first one."""
    parts: list[list[int]] = [[0]]
    for n in range(1, len(needs)):
        if len(parts[-1]) > 1 and _width([needs[i] for i in [*parts[-1], n]]) > width:
            parts.append([0])
        parts[-1].append(n)
    return parts


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 95th percentile and maximum."""
    ordered = sorted(values)
    return {
        "mean": statistics.fmean(ordered),
        "median": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
        "max": ordered[-1],
    }
