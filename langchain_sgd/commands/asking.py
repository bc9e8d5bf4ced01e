"""What `langchain-sgd ask` and `plan` do."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import AIMessage
from rich.console import Console
from rich.text import Text

from langchain_sgd.arguments import DONE, FAILED
from langchain_sgd.cli import in_a_line
from langchain_sgd.commands.models import bundled, models_of, names_of
from langchain_sgd.commands.written import STDOUT, write_json
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.planning.planner import Plan
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.terminal import LiveView, report_line, skeleton_tree
from langchain_sgd.terminal.safe import one_line, safe


def ask(args: argparse.Namespace) -> int:
    """Answer a question; 1 if parts of the answer are missing, or all of it."""
    question = _question(args)
    try:
        with _without_log():
            message = _answer(args, question)
    except (Exception, KeyboardInterrupt) as error:
        _write(args, question, "", getattr(error, "report", None), in_a_line(error, args))
        raise
    report = Report.from_message(message)
    lost = _lost(report)
    _write(args, question, str(message.text) if lost is None else "", report, lost)
    if lost is not None:
        _notes().print(Text(f"langchain-sgd: {one_line(lost)}"), soft_wrap=True)
        return FAILED
    return FAILED if report.status == "partial" else DONE


def _answer(args: argparse.Namespace, question: str) -> AIMessage:
    with _models(args, question) as models:
        sgd = SGDRunnable(
            **models,
            mode=args.mode,
            max_nodes=args.max_nodes,
            threshold=args.threshold,
            deadline_s=args.deadline,
            seed=args.seed,
        )
        if args.json == STDOUT:
            message = asyncio.run(sgd.ainvoke(question))
            report = Report.from_message(message)
            _notes().print(Text(report_line(report)), soft_wrap=True)
            _warn(report.warnings)
            return message
        view = LiveView(notes=_notes(), plain=args.plain or None)
        return asyncio.run(view.follow(sgd.aevents(question)))


def _write(
    args: argparse.Namespace, question: str, answer: str, report: Report | None, error: str | None
) -> None:
    """What became of the question, for programs: also if there is no answer."""
    if args.json is not None:
        told = None if report is None else report.to_json()
        found = {"question": question, "answer": answer, "report": told, "error": error}
        write_json(args.json, found)


def _lost(report: Report) -> str | None:
    """Why an undivided answer came to nothing, if it did."""
    if report.skeleton or any(node.answer for node in report.nodes):
        return None
    reason = next((node.error for node in report.nodes if node.error), "the model wrote nothing")
    return f"there is no answer: {reason}"


def plan(args: argparse.Namespace) -> int:
    """Print the skeleton of a question; where it is better answered undivided, say so."""
    question = _question(args)
    with _models(args, question) as models:
        sgd = SGDRunnable(**models, mode=args.mode, max_nodes=args.max_nodes)
        made = asyncio.run(sgd.aplan(question))
    _warn(made.warnings)
    code = FAILED if made.failed else DONE
    if args.format == "json":
        write_json(STDOUT, _plan_json(made))
        return code
    if (skeleton := made.skeleton) is None:
        _notes().print(Text(f"No skeleton: {one_line(made.plain or '')}."), soft_wrap=True)
        return code
    if args.format == "tree":
        Console().print(skeleton_tree(skeleton))
    elif args.format == "mermaid":
        sys.stdout.write(safe(skeleton.to_mermaid()))
    else:
        from langchain_sgd.drawing import skeleton_svg  # noqa: PLC0415 - for this format only

        sys.stdout.write(safe(skeleton_svg(skeleton)) + "\n")
    return DONE


# -- the question and the models


def _question(args: argparse.Namespace) -> str:
    try:
        question = _stdin() if args.question == ["-"] else " ".join(args.question)
        question.encode()  # Python keeps bytes that are no text as halves of characters
    except UnicodeError as error:
        msg = "the question is not UTF-8 text"
        raise InvalidInputError(msg) from error
    if not question.strip():
        msg = "the question is empty"
        raise InvalidInputError(msg)
    return question.strip()


def _stdin() -> str:
    """All of it, without the mark that Windows puts before text."""
    return sys.stdin.read().removeprefix("\ufeff")


@contextmanager
def _models(args: argparse.Namespace, question: str) -> Iterator[dict[str, Any]]:
    """The models as options of `SGDRunnable`: the named ones, or the bundled ones while they are used."""
    if names := names_of(args):
        yield dict(models_of(args, names))
        return
    with bundled() as models:
        from langchain_sgd.embedded.briefs.domain import read_question  # noqa: PLC0415

        if read_question(question) is None:
            note = (
                "note: no model is named (--large MODEL or SGD_LARGE), so the bundled"
                " demonstration models answer. They know launch briefs only; see langchain-sgd demo."
            )
            _notes().print(Text(note), soft_wrap=True)
        yield models


def _plan_json(made: Plan) -> dict[str, Any]:
    nodes = [node.model_dump(mode="json") for node in made.nodes] if made.plain is None else []
    return {"nodes": nodes, "plain": made.plain, "warnings": made.warnings, "cut": made.cut}


@contextmanager
def _without_log() -> Iterator[None]:
    """A run's warnings are not written by Python where nobody handles logs: the command tells them itself."""
    log, nobody = logging.getLogger("langchain_sgd"), logging.NullHandler()
    log.addHandler(nobody)
    try:
        yield
    finally:
        log.removeHandler(nobody)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        _notes().print(Text(f"warning: {one_line(warning)}"), soft_wrap=True)


def _notes() -> Console:
    return Console(stderr=True)
