"""`langchain-sgd demo`: plain decoding and SGD race on one question, with the bundled models.

The runs are real and nothing is prepared. They are run one after another, so that each has the engine for
itself, and then shown side by side on one clock, slowly enough to be read. Questions come from the held-out
side of the models' domain, so they were never trained on, and the domain's checker counts which facts the
parts of an answer agree on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import statistics
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from langchain_sgd.arguments import DONE
from langchain_sgd.embedded.briefs import evaluate
from langchain_sgd.embedded.briefs.checker import Tally
from langchain_sgd.embedded.briefs.domain import Brief, briefs
from langchain_sgd.embedded.process import served
from langchain_sgd.embedded.server import bundled_models
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.terminal.race import Frame, Lane, run_lane
from langchain_sgd.terminal.recording import recording
from langchain_sgd.tgi.chat import ChatTGI

_MAX_TOKENS = 640
"""Enough for a whole answer undivided; a model that goes on and on is stopped."""

PLAIN, SGD, OUTLINED = "plain decoding", "SGD", "Skeleton-of-Thought"
_SHOWN_S, _HZ = 14.0, 20.0
_WIDTH, _HEIGHT, _HIGHEST = 80, 22, 40
_LONG = 7
"""Sections of an answer from which it is long: what SGD is for."""


@dataclass(slots=True)
class Compared:
    """What one way to answer came to over the questions."""

    tally: Tally = field(default_factory=Tally)
    walls_s: list[float] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)

    @property
    def facts(self) -> float:
        """The share of facts on which parts agree."""
        return self.tally.fact_consistency.value


def demo(args: argparse.Namespace) -> int:
    """Show the race, then say what came of it."""
    if args.web:
        refuse_beside_web(args)
        return _page(args)
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    long = (brief for brief in briefs(seed, held_out=True) if len(brief.headings) >= _LONG)
    asked = list(itertools.islice(long, args.questions))
    console = Console()
    animated = console.is_terminal and not console.is_dumb_terminal and not args.plain
    compared = asyncio.run(_measured(asked, console, quiet=not animated))
    middle = shown(compared)
    lanes = [compared[name].lanes[middle] for name in (PLAIN, SGD)]
    question, verdict = Text(asked[middle].question, style="bold"), Text(sentence(compared))
    width = min(console.width, _WIDTH)
    again = (
        f"langchain-sgd demo --seed {seed} asks the same again.\n" if console.is_terminal else ""
    )
    around = len(question.wrap(console, width)) + len(verdict.wrap(console, width))
    # What the shell says next stands below all this.
    height = min(console.height - around - 2, _HIGHEST) if console.is_terminal else _HEIGHT
    console.print(question, width=width)
    _show(console, lanes, height, animated=animated)
    console.print(verdict, width=width)
    if args.svg is not None:
        args.svg.write_text(
            recording(question.plain, lanes, verdict.plain, seconds=_SHOWN_S), encoding="utf-8"
        )
    sys.stdout.write(again)
    return DONE


def refuse_beside_web(args: argparse.Namespace) -> None:
    """The page has a race of its own, which these options do not reach."""
    from langchain_sgd.cli import parsed  # noqa: PLC0415 - above the commands

    usual = vars(parsed(["demo", "--web"]))
    names = [
        name for name in ("questions", "seed", "plain", "svg") if vars(args)[name] != usual[name]
    ]
    if names:
        given = ", ".join(f"--{name}" for name in names)
        msg = f"--web opens the live page, which knows no {given}: leave one or the other out"
        raise InvalidInputError(msg)


def shown(compared: Mapping[str, Compared]) -> int:
    """The question with SGD's median, so that what is seen is what the sentence says."""
    ratios = _ratios(compared, SGD)
    return ratios.index(statistics.median_low(ratios))


def _page(args: argparse.Namespace) -> int:
    """The same on the proxy's page."""
    from langchain_sgd.cli import parsed  # noqa: PLC0415 - the proxy's own defaults
    from langchain_sgd.commands.proxy import proxy  # noqa: PLC0415 - an extra

    del args
    return proxy(parsed(["proxy", "--port", "0"]), opened=webbrowser.open, is_demo=True)


async def _measured(
    asked: Sequence[Brief], console: Console, *, quiet: bool
) -> dict[str, Compared]:
    status = console.status("Loading two models ...", spinner="dots")
    if not quiet:
        status.start()
    try:
        async with served(bundled_models()) as server:
            models = {
                name: ChatTGI(base_url=url, temperature=0.0, max_tokens=_MAX_TOKENS)
                for name, url in server.urls.items()
            }
            every = evaluate.methods(models)
            ways = {PLAIN: every[PLAIN], SGD: every["SGD, large"], OUTLINED: every[OUTLINED]}
            status.update("Warming up ...")
            warm = next(briefs(0, held_out=True))
            for way in ways.values():  # first calls cost more, and are nobody's merit
                await way.ainvoke(warm.question)
            count = f"{len(asked)} question{'s' if len(asked) != 1 else ''}, three ways"
            status.update(f"Writing: {count}, one at a time ...")
            return await compare(ways, asked)
    finally:
        status.stop()


async def compare(ways: Mapping[str, SGDRunnable], asked: Sequence[Brief]) -> dict[str, Compared]:
    """Every way on every question, one at a time, so that the wall times are each one's own.

    The order of the ways changes from question to question.
    """
    found = {name: Compared() for name in ways}
    names = list(ways)
    for index, brief in enumerate(asked):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            lane = await run_lane(name, ways[name].aevents(brief.question))
            found[name].tally.add(brief.question, lane.message.text)
            found[name].walls_s.append(lane.report.wall_s)
            found[name].lanes.append(lane)
    return found


def sentence(compared: Mapping[str, Compared]) -> str:
    """What one remembers: how much sooner, over all questions, and what it costs in facts."""
    count = len(compared[PLAIN].walls_s)
    where = (
        "On this question"
        if count == 1
        else f"This was the middle one of {count} questions. In the median"
    )
    told = []
    for name in (SGD, OUTLINED):
        if name in compared:
            times = statistics.median_low(_ratios(compared, name))
            speed = f"{times:.1f}x sooner" if times >= 1 else f"{1 / times:.1f}x later"
            facts = f"{compared[name].facts:.0%} of its facts agree"
            told.append(f"{name}'s whole answer came {speed}, and {facts}")
    return f"{where}, {'. '.join(told)}. Plain decoding: {compared[PLAIN].facts:.0%}."


def _ratios(compared: Mapping[str, Compared], name: str) -> list[float]:
    """How much sooner than plainly each question was answered."""
    walls = zip(compared[PLAIN].walls_s, compared[name].walls_s, strict=True)
    return [plain / other for plain, other in walls]


def _show(console: Console, lanes: Sequence[Lane], height: int, *, animated: bool) -> None:
    span = max(lane.report.wall_s for lane in lanes)
    if not animated:
        console.print(Frame(lanes, span, height), width=_WIDTH)
        return
    slower = max(_SHOWN_S / span, 1.0)
    note = f"Shown {slower:.0f} times slower than it was." if slower > 1 else ""
    began = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while (at_s := (time.monotonic() - began) / slower) < span:
            live.update(Frame(lanes, at_s, height, note), refresh=True)
            time.sleep(1 / _HZ)
        live.update(Frame(lanes, span, height, note), refresh=True)
