"""`langchain-sgd demo`: a question answered before your eyes, then the same with other ways to answer.

The bundled models answer; nothing is prepared. Questions come from the held-out side of their domain, so
they were never trained on, and the domain's checker counts which facts the parts of an answer agree on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_sgd.cli import DONE
from langchain_sgd.drawing.words import seconds
from langchain_sgd.embedded.briefs import evaluate
from langchain_sgd.embedded.briefs.checker import Share, Tally
from langchain_sgd.embedded.briefs.domain import Brief, briefs
from langchain_sgd.embedded.process import served
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.terminal import LiveView
from langchain_sgd.tgi.chat import ChatTGI

_MAX_TOKENS = 640
"""Enough for a whole answer undivided; a model that goes on and on is stopped."""


@dataclass(slots=True)
class Compared:
    """What one way to answer came to over the questions."""

    tally: Tally = field(default_factory=Tally)
    reports: list[Report] = field(default_factory=list)


def demo(args: argparse.Namespace) -> int:
    """Answer one question with the live view, then compare on a few."""
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    asked = list(itertools.islice(briefs(seed, held_out=True), args.questions + 1))
    console = Console()
    asyncio.run(_demo(asked, console, plain=args.plain or None))
    if console.is_terminal:
        sys.stdout.write(f"\nlangchain-sgd demo --seed {seed} asks the same again.\n")
    return DONE


async def _demo(asked: Sequence[Brief], console: Console, *, plain: bool | None) -> None:
    async with served(bundled_models()) as server:
        models = {
            name: ChatTGI(base_url=url, temperature=0.0, max_tokens=_MAX_TOKENS)
            for name, url in server.urls.items()
        }
        await _show(evaluate.methods(models), asked, console, plain=plain)


async def _show(
    methods: Mapping[str, SGDRunnable],
    asked: Sequence[Brief],
    console: Console,
    *,
    plain: bool | None,
) -> None:
    first, *others = asked
    console.print(Text(first.question, style="bold"), end="\n\n")
    view = LiveView(console, notes=console, plain=plain)
    await view.follow(methods["SGD, adaptive"].aevents(first.question))
    if not others:
        return
    with console.status(f"Comparing on {len(others)} more questions ..."):
        compared = await compare(methods, others)
    console.print()
    console.print(table(compared))


async def compare(
    methods: Mapping[str, SGDRunnable], asked: Sequence[Brief]
) -> dict[str, Compared]:
    """Every way on every question, one at a time, so that the wall times are each one's own."""
    found = {name: Compared() for name in methods}
    for brief in asked:
        for name, method in methods.items():
            message = await method.ainvoke(brief.question)
            found[name].tally.add(brief.question, message.text)
            found[name].reports.append(Report.from_message(message))
    return found


def table(compared: Mapping[str, Compared]) -> Table:
    """Wall time, decode steps in sequence and facts kept, way by way."""
    count = max(len(each.reports) for each in compared.values())
    made = Table(
        box=box.SIMPLE_HEAD,
        title=f"The same {count} question{'s' if count != 1 else ''}, the same models, one at a time",
        title_justify="left",
        caption="Medians. Steps: tokens that had to be decoded one after another, of the plan too."
        " Facts kept: what one part invents and another repeats alike. With models this small a step"
        " for several streams takes as many times longer, so fewer steps save no time here; with larger"
        " ones they do (README, Benchmarks).",
        caption_justify="left",
    )
    made.add_column("", no_wrap=True)
    for name in ("wall time", "first text", "steps", "facts kept", "all right"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, each in compared.items():
        firsts = [report.ttft_s for report in each.reports if report.ttft_s is not None]
        made.add_row(
            name,
            seconds(statistics.median(report.wall_s for report in each.reports)),
            seconds(statistics.median(firsts)) if firsts else "",
            f"{statistics.median(map(steps_in_sequence, each.reports)):.0f}",
            _share(each.tally.fact_consistency),
            f"{each.tally.exactness.successes:.0f} of {count}",
        )
    return made


def steps_in_sequence(report: Report) -> float:
    """Tokens that had to be decoded one after another, as far as the plan let nodes start early."""
    ended = report.planner.ended_s if report.planner else 0.0
    return report.sequential_tokens(planned_first=all(n.started_s >= ended for n in report.nodes))


def _share(share: Share) -> str:
    return f"{share.value:.0%}" if share.trials else "-"
