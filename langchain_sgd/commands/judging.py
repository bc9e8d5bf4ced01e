"""What `langchain-sgd judge` does."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from langchain_sgd.arguments import DONE, FAILED
from langchain_sgd.commands.models import given_key
from langchain_sgd.commands.written import STDOUT, write_json
from langchain_sgd.costs import Price
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.files import read_text
from langchain_sgd.judging import (
    Cost,
    Interval,
    Judged,
    JudgeError,
    JudgePrompts,
    Judging,
    Pair,
    Rates,
    Tally,
    by_category,
    by_method,
    make_pairs,
    read_answers,
    read_references,
    tally,
)
from langchain_sgd.judging.people import read_sheet
from langchain_sgd.models import name_from_environment, resolve
from langchain_sgd.models.urls import is_url
from langchain_sgd.redaction import describe
from langchain_sgd.terminal.safe import one_line, safe

_WARNINGS_SHOWN = 5
_RETRIES = 2
_NOBODY = RunnableLambda[Any, Any](lambda _: "", name="nobody")
"""Where people judge, no model is asked."""


def judge(args: argparse.Namespace) -> int:
    """Compare the answers and print what came of it; 1 if the user would rather not."""
    notes = Console(stderr=True)
    pairs = make_pairs(
        read_answers(args.answers, options=args.options),
        args.against,
        methods=args.methods,
        references=read_references(args.references) if args.references else None,
        limit=args.limit,
    )
    if args.write_pairs or args.read_pairs:
        return _by_people(pairs, args, notes)
    model, name = _judge(args)
    judging = Judging(
        pairs,
        model,
        name=name,
        prompts=_prompts(args.prompts),
        path=args.resume,
        concurrency=args.concurrency,
        reply_tokens=args.max_tokens,
    )
    questions = len({pair.question_id for pair in pairs})
    cost = judging.cost
    price = Price(input=args.price[0], output=args.price[1]) if args.price else None
    told = f"{name}: {len(pairs)} pairs of answers to {questions} questions, in both orders: "
    notes.print(Text(one_line(told + told_cost(cost, price))), soft_wrap=True)
    if cost.calls and not args.yes and sys.stdin.isatty() and not _agreed(notes):
        notes.print("Nothing was asked.")
        return FAILED
    try:
        judged = _run(judging, cost, notes)
    except JudgeError as error:
        if args.json is not None:  # no figures of an earlier run shall pass for this one's
            write_json(args.json, {**_head(judging, args), "error": describe(error)})
        raise
    return _tell(judging, judged, args, notes)


def _by_people(pairs: Sequence[Pair], args: argparse.Namespace, notes: Console) -> int:
    """Write the pairs for people to read, or take their verdicts back."""
    judging = Judging(
        pairs,
        _NOBODY,
        name=f"reader {args.reader}",
        prompts=_prompts(args.prompts),
        path=args.resume,
    )
    if args.write_pairs:
        calls = judging.cost.calls
        if args.write_pairs == STDOUT:
            sys.stdout.write(safe(judging.sheet()))
        else:
            _refuse_filled(args.write_pairs)
            args.write_pairs.write_text(safe(judging.sheet()), encoding="utf-8")
        told = f"{calls} pairs written, each two answers in one order: fill in the verdicts,"
        notes.print(Text(f"{told} then give the file to --read-pairs."), soft_wrap=True)
        return DONE
    unclear = judging.take(read_text(args.read_pairs))
    _warn(unclear, notes)
    if told := told_open(*judging.open_pairs):
        notes.print(Text(told), soft_wrap=True)
    return _tell(judging, judging.judged(), args, notes)


def _refuse_filled(path: Path) -> None:
    """A sheet that somebody has begun to fill in is hours of work."""
    if path.exists() and any(read_sheet(read_text(path))):
        msg = f"{path} holds verdicts: give it to --read-pairs, or name another file"
        raise InvalidInputError(msg)


def told_open(unread: int, once: int) -> str:
    """Which pairs do not count yet, and what to do; nothing if all do."""
    kinds = {"have a verdict in one order only": once, "have no verdict": unread}
    found = [f"{count} {what}" for what, count in kinds.items() if count]
    if not found:
        return ""
    return (
        f"Pairs that do not count yet: {' and '.join(found)}. A pair counts once both of its orders have"
        " a verdict: fill in the rest of the sheet and give it to --read-pairs again."
    )


def _tell(
    judging: Judging, judged: Sequence[Judged], args: argparse.Namespace, notes: Console
) -> int:
    """Print what came of the pairs, and write it."""
    _warn(judging.warnings, notes)
    methods = {
        method: (tally(group), by_category(group)) for method, group in by_method(judged).items()
    }
    for method, (total, categories) in methods.items():
        table = comparison(method, args.against, total, categories)
        (notes if args.json == STDOUT else Console()).print(table)
    if args.json is not None:
        write_json(args.json, _figures(judging, args, judged, methods))
    return DONE


def _judge(args: argparse.Namespace) -> tuple[Runnable[Any, Any], str]:
    """The judge, and what names it in the verdicts: the model and what changes its words."""
    name = args.judge or name_from_environment("judge")
    if not name:
        msg = (
            "no judge: name a model with --judge or SGD_JUDGE, by its URL or as provider:model, such as"
            " openai:gpt-6-luna"
        )
        raise InvalidInputError(msg)
    settings: dict[str, Any] = {"max_tokens": args.max_tokens}
    if args.temperature is not None:
        settings["temperature"] = args.temperature
    elif is_url(name):  # a server of one's own; some hosted models take no temperature
        settings["temperature"] = 0.0
    retries = {"max_retries": _RETRIES} if is_url(name) else {}  # providers' clients have their own
    model = resolve(name, what="judge", api_key=given_key(args), **settings, **retries)
    return model, _named(getattr(model, "url", name), settings)


def _named(model: str, settings: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value:g}" for key, value in sorted(settings.items()))
    return f"{model} ({said})"


def _prompts(path: Path | None) -> JudgePrompts:
    if path is None:
        return JudgePrompts()
    try:
        return JudgePrompts.model_validate_json(read_text(path))
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
            for fault in error.errors()
        )
        msg = f"{path} holds no prompts: {faults}"
        raise InvalidInputError(msg) from error


# -- the cost


def told_cost(cost: Cost, price: Price | None) -> str:
    """The cost in a line."""
    kept = f"; {cost.kept} verdicts are there already" if cost.kept else ""
    if not cost.calls:
        return f"no calls{kept}."
    told = f"{cost.calls} calls, about {cost.input_tokens:,} tokens to read"
    if cost.output_tokens is not None:
        told += f" and at most {cost.output_tokens:,} to write"
    if price is not None and (most := cost.price(price)) is not None:
        told += f", at most about {most:.2f} in the currency of --price"
    return f"{told}{kept}."


def _agreed(notes: Console) -> bool:
    return notes.input("Go on? [y/N] ").strip().lower() in {"y", "yes"}


# -- asking


def _run(judging: Judging, cost: Cost, notes: Console) -> list[Judged]:
    progress = Progress(
        TextColumn("judging"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
    with progress:
        task = progress.add_task("judging", total=cost.calls)
        return asyncio.run(judging.arun(lambda _: progress.advance(task)))


def _warn(warnings: Sequence[str], notes: Console) -> None:
    for warning in warnings[:_WARNINGS_SHOWN]:
        notes.print(Text(f"warning: {one_line(warning)}"), soft_wrap=True)
    if (more := len(warnings) - _WARNINGS_SHOWN) > 0:
        notes.print(f"warning: {more} more like these")


# -- what came of it


def comparison(method: str, against: str, total: Tally, categories: Mapping[str, Tally]) -> Table:
    """A method against another, in all and by category."""
    agreement = "-" if total.agreement is None else f"{total.agreement:.0%}"
    first = "-" if total.first_place is None else f"{total.first_place:.0%}"
    kinds = {
        "unusable verdicts": total.unusable,
        "identical": total.identical,
        "missing": total.missing,
    }
    counted = "".join(f" {name.capitalize()}: {count}." for name, count in kinds.items() if count)
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=Text(f"{one_line(method)} against {one_line(against)}"),
        title_justify="left",
        caption="Percent [95 % interval]. A side wins if the judge prefers it in both orders; the rest are"
        " ties. Net: wins less losses over all. Like length: the net of those pairs alone whose answers"
        " differ by at most 20 % in characters, and their number; a stratum, not a model of the judge."
        f" Both orders agreed in {agreement} of pairs; {first} of choices fell on the"
        f" answer shown first.{counted}",
        caption_justify="left",
    )
    made.add_column("", overflow="fold")
    for column in ("pairs", "win", "lose", "net", "like length", "length"):
        # Where the terminal is narrow, intervals go below their figures and stay whole.
        width = len("[+20,+100]") if column in {"net", "like length"} else None
        made.add_column(column, justify="right", min_width=width)
    if len(categories) > 1:
        for name, each in categories.items():
            made.add_row(Text(one_line(name)), *_cells(each))
        made.add_section()
    made.add_row("all", *_cells(total))
    return made


def _cells(found: Tally) -> list[str]:
    rates = found.rates
    return [
        str(rates.pairs),
        _share(rates.win),
        _share(rates.lose),
        _net(rates),
        f"{_net(found.alike)} ({found.alike.pairs})" if found.alike.pairs else "-",
        "-" if found.length_ratio is None else f"x{found.length_ratio:.2f}",
    ]


def _share(figure: Interval | None) -> str:
    """Without a space inside the brackets, where a narrow table would break it."""
    if figure is None:
        return "-"
    return f"{figure.value:.0%} [{100 * figure.low:.0f},{100 * figure.high:.0f}]"


def _net(rates: Rates) -> str:
    if (net := rates.net) is None:
        return "-"
    value, low, high = (f"{round(100 * each):+d}" for each in (net.value, net.low, net.high))
    return f"{value} [{low},{high}]"


def _head(judging: Judging, args: argparse.Namespace) -> dict[str, Any]:
    from langchain_sgd.bench._output import environment  # noqa: PLC0415 - above the commands

    return {
        "benchmark": "judge",
        "judge": judging.name,
        "command": shlex.join(["langchain-sgd", *sys.argv[1:]]),
        "against": args.against,
        **environment(),
    }


def _figures(
    judging: Judging,
    args: argparse.Namespace,
    judged: Sequence[Judged],
    methods: Mapping[str, tuple[Tally, Mapping[str, Tally]]],
) -> dict[str, Any]:
    return {
        **_head(judging, args),
        "figures": {
            method: {
                "all": total.to_json(),
                "categories": {name: each.to_json() for name, each in categories.items()},
            }
            for method, (total, categories) in methods.items()
        },
        "pairs": [asdict(each) for each in judged],
        "warnings": judging.warnings,
        **({"remarks": judging.remarks} if args.read_pairs else {}),
    }
