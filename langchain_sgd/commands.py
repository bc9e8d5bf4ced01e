"""What `langchain-sgd ask`, `plan`, `serve` and `doctor` do."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_sgd.cli import DONE, FAILED
from langchain_sgd.drawing.colors import STATUS_COLORS
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.planning.planner import Plan
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.terminal import LiveView, report_line, skeleton_tree
from langchain_sgd.terminal.safe import one_line

_TIERS = ("small", "large", "planner")
_STDOUT = Path("-")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def ask(args: argparse.Namespace) -> int:
    """Answer a question; 1 if parts of the answer are missing."""
    question = _question(args)
    with _models(args, question) as models:
        sgd = SGDRunnable(
            **models,
            mode=args.mode,
            max_nodes=args.max_nodes,
            threshold=args.threshold,
            deadline_s=args.deadline,
            seed=args.seed,
        )
        if args.json == _STDOUT:
            message = asyncio.run(sgd.ainvoke(question))
            _notes().print(Text(report_line(Report.from_message(message))), soft_wrap=True)
        else:
            view = LiveView(notes=_notes(), plain=args.plain or None)
            message = asyncio.run(view.follow(sgd.aevents(question)))
    report = Report.from_message(message)
    if args.json is not None:
        found = {"question": question, "answer": message.text, "report": report.to_json()}
        text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
        if args.json == _STDOUT:
            sys.stdout.write(text)
        else:
            args.json.write_text(text, encoding="utf-8")
    return FAILED if report.status == "partial" else DONE


def plan(args: argparse.Namespace) -> int:
    """Print the skeleton of a question; 1 if there is none and the format can only show one."""
    question = _question(args)
    with _models(args, question) as models:
        sgd = SGDRunnable(**models, mode=args.mode, max_nodes=args.max_nodes)
        made = asyncio.run(sgd.aplan(question))
    for warning in made.warnings:
        _notes().print(Text(f"warning: {one_line(warning)}"), soft_wrap=True)
    if args.format == "json":
        sys.stdout.write(json.dumps(_plan_json(made), ensure_ascii=False, indent=2) + "\n")
        return DONE
    if (skeleton := made.skeleton) is None:
        _notes().print(Text(f"No skeleton: {one_line(made.plain or '')}."), soft_wrap=True)
        return DONE if args.format == "tree" else FAILED
    if args.format == "tree":
        Console().print(skeleton_tree(skeleton))
    elif args.format == "mermaid":
        sys.stdout.write(skeleton.to_mermaid())
    else:
        from langchain_sgd.drawing import skeleton_svg  # noqa: PLC0415 - for this format only

        sys.stdout.write(skeleton_svg(skeleton) + "\n")
    return DONE


def serve(args: argparse.Namespace) -> int:
    """Serve models until interrupted."""
    key = _key(args, "serve")
    if args.host not in _LOOPBACK and key is None:
        msg = (
            f"--host {args.host} opens the models to the network: put a key into an environment"
            " variable and name it with --api-key-env"
        )
        raise InvalidInputError(msg)
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415 - loads an engine

    server = EmbeddedServer(
        dict(args.model) or None,
        host=args.host,
        port=args.port,
        api_key=key,
        slots=args.slots,
        context=args.context,
        threads=args.threads,
    )

    def tell(running: EmbeddedServer) -> None:
        lines = [f"{name:<8} {url}" for name, url in running.urls.items()]
        named = {name: running.urls[name] for name in _TIERS if name in running.urls}
        if named:
            settings = [f"SGD_{name.upper()}_URL={url}" for name, url in named.items()]
            lines += ["", f"export {' '.join(settings)}"]
        sys.stdout.write("\n".join([*lines, "", "Ctrl-C ends it.", ""]))
        sys.stdout.flush()

    server.serve_forever(tell)
    return DONE


def doctor(args: argparse.Namespace) -> int:
    """Print what was checked; 1 if something will not do."""
    from langchain_sgd.embedded.doctor import diagnose, diagnose_endpoint  # noqa: PLC0415 - an engine

    async def look() -> list[Any]:
        urls = _urls(args)
        checks = await diagnose() if not urls else []
        for tier, url in urls.items():
            checks += await diagnose_endpoint(url, name=tier, api_key=_key(args, tier))
        return checks

    checks = asyncio.run(look())
    table = Table.grid(padding=(0, 2))
    for check in checks:
        color = STATUS_COLORS["complete" if check.ok else "failed"]
        found = Text(one_line(check.detail))
        if check.remedy:
            found.append(f"\n{check.remedy}", style="bold")
        sign = Text("ok" if check.ok else "FAILED", style=f"bold {color}")
        table.add_row(sign, Text(one_line(check.name)), found)
    Console().print(table)
    return DONE if all(check.ok for check in checks) else FAILED


# -- the question and the models


def _question(args: argparse.Namespace) -> str:
    question = sys.stdin.read() if args.question == ["-"] else " ".join(args.question)
    if not question.strip():
        msg = "the question is empty"
        raise InvalidInputError(msg)
    return question.strip()


@contextmanager
def _models(args: argparse.Namespace, question: str) -> Iterator[dict[str, Any]]:
    """The models as options of `SGDRunnable`: the endpoints, or the bundled ones while they are used."""
    if urls := _urls(args):
        if "large" not in urls:
            msg = (
                f"{' and '.join(urls)} given, but no large model:"
                " name its server with --large URL or SGD_LARGE_URL"
            )
            raise InvalidInputError(msg)
        from langchain_sgd.tgi import TGIEndpoint  # noqa: PLC0415 - loads the HTTP client

        yield {tier: TGIEndpoint(url, api_key=_key(args, tier)) for tier, url in urls.items()}
        return
    with bundled() as models:
        from langchain_sgd.embedded.briefs.domain import read_question  # noqa: PLC0415

        if read_question(question) is None:
            note = (
                "note: no endpoint is configured (--large URL or SGD_LARGE_URL), so the bundled"
                " demonstration models answer. They know launch briefs only; see langchain-sgd demo."
            )
            _notes().print(Text(note), soft_wrap=True)
        yield models


@contextmanager
def bundled() -> Iterator[dict[str, Any]]:
    """The bundled models, served while they are used, as options of `SGDRunnable`."""
    from langchain_sgd.embedded.briefs.prompts import BRIEFS_PROMPTS  # noqa: PLC0415 - an engine
    from langchain_sgd.embedded.server import EmbeddedServer  # noqa: PLC0415

    with EmbeddedServer() as server:
        yield {**server.urls, "prompts": BRIEFS_PROMPTS}


def _urls(args: argparse.Namespace) -> dict[str, str]:
    """The endpoints that options, or else the environment, name."""
    urls = {
        tier: getattr(args, tier) or os.environ.get(f"SGD_{tier.upper()}_URL") for tier in _TIERS
    }
    return {tier: url for tier, url in urls.items() if url}


def _key(args: argparse.Namespace, tier: str) -> SecretStr | None:
    """The key for a tier's server: from the environment, never from the command line."""
    if args.api_key_env is not None:
        if key := os.environ.get(args.api_key_env):
            return SecretStr(key)
        msg = f"--api-key-env {args.api_key_env}: this environment variable is not set"
        raise InvalidInputError(msg)
    key = os.environ.get(f"SGD_{tier.upper()}_API_KEY") or os.environ.get("SGD_API_KEY")
    return SecretStr(key) if key else None


def _plan_json(made: Plan) -> dict[str, Any]:
    nodes = [node.model_dump(mode="json") for node in made.nodes] if made.plain is None else []
    return {"nodes": nodes, "plain": made.plain, "warnings": made.warnings, "cut": made.cut}


def _notes() -> Console:
    return Console(stderr=True)
