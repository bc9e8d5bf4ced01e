"""What `langchain-sgd check` does: models, or without any this machine and the bundled ones."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from langchain_sgd.arguments import DONE, FAILED
from langchain_sgd.checking import QUESTIONS
from langchain_sgd.checking import check as check_models
from langchain_sgd.commands.models import bundled, models_of, names_of
from langchain_sgd.commands.written import STDOUT, write_json
from langchain_sgd.drawing.colors import STATUS_COLORS
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.findings import Finding
from langchain_sgd.terminal.safe import one_line

_PYTHON: Final = (3, 11)
_PACKAGES: Final = {
    "langchain-core": "1.7",
    "langgraph": "1.2.19",
    "pydantic": "2.11",
    "httpx": "0.27",
    "rich": "13.9",
}
_COLORS: Final = {"ok": "complete", "note": "truncated", "failed": "failed"}


def check(args: argparse.Namespace) -> int:
    """Print what was found as it is found, and the verdict; 1 if something does not work."""
    if args.questions > len(QUESTIONS):
        msg = f"--questions {args.questions}: there are {len(QUESTIONS)}; bench planner takes your own"
        raise InvalidInputError(msg)
    console = Console(stderr=args.json == STDOUT)
    show = _Shown(console)
    names = names_of(args)
    machine = [] if names else [*check_python(), *check_packages()]
    for finding in machine:
        show(finding)
    how: dict[str, Any] = {
        "most": args.questions,
        "timeout_s": args.timeout,
        "on_finding": show,
    }
    if names:
        how |= models_of(args, names)
        verdict = asyncio.run(check_models(**how))
    else:
        with bundled() as models:
            verdict = asyncio.run(check_models(**models, **how))
    ok = verdict.ok and all(finding.state != "failed" for finding in machine)
    console.print()
    console.print(Text(one_line(verdict.summary), style="bold"), soft_wrap=True)
    if verdict.options:
        said = ", ".join(f"{name}={value!r}" for name, value in verdict.options.items())
        console.print(Text(f"Suggested: SGDRunnable(..., {said})"), soft_wrap=True)
    if args.json is not None:
        found = [{"name": f.name, "state": f.state, "detail": f.detail} for f in machine]
        write_json(args.json, {**verdict.to_json(), "machine": found})
    return DONE if ok else FAILED


class _Shown:
    """Prints findings as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, finding: Finding) -> None:
        line = Text(f"{finding.state:<7}", style=f"bold {STATUS_COLORS[_COLORS[finding.state]]}")
        line.append(f"{one_line(finding.name)}: ", style="bold")
        line.append(one_line(finding.detail), style="default")
        if finding.remedy:
            line.append(f"\n       {one_line(finding.remedy)}", style="italic")
        self._console.print(line, soft_wrap=True)


def check_python() -> Iterator[Finding]:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, _PYTHON))
    if sys.version_info >= _PYTHON:
        yield Finding("python", "ok", found)
    else:
        yield Finding("python", "failed", found, f"Use Python {needed} or newer.")


def check_packages() -> Iterator[Finding]:
    """The packages that a run imports."""
    for package, minimum in _PACKAGES.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "failed", "not installed", f"pip install {package}")
            continue
        if _numbers(version) >= _numbers(minimum):
            yield Finding(package, "ok", version)
        else:
            yield Finding(package, "failed", version, f'pip install "{package}>={minimum}"')


def _numbers(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
