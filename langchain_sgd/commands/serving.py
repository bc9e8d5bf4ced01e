"""What `langchain-sgd serve` and `doctor` do."""

from __future__ import annotations

import argparse
import asyncio
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from langchain_sgd.cli import DONE, FAILED
from langchain_sgd.commands.models import TIERS, key_of, urls_of
from langchain_sgd.drawing.colors import STATUS_COLORS
from langchain_sgd.embedded.doctor import Check, diagnose, diagnose_endpoint
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.terminal.safe import one_line


def serve(args: argparse.Namespace) -> int:
    """Serve models until interrupted."""
    key = key_of(args, "serve")
    server = EmbeddedServer(
        dict(args.model) or None,
        host=args.host,
        port=args.port,
        api_key=key,
        slots=args.slots,
        context=args.context,
        threads=args.threads,
        engine=args.engine,
        progress=_say,
    )

    def tell(running: EmbeddedServer) -> None:
        lines = [f"{name:<8} {url}" for name, url in running.urls.items()]
        named = {name: running.urls[name] for name in TIERS if name in running.urls}
        if named:
            settings = [f"SGD_{name.upper()}_URL={url}" for name, url in named.items()]
            lines += ["", f"export {' '.join(settings)}"]
        sys.stdout.write("\n".join([*lines, "", "Ctrl-C ends it.", ""]))
        sys.stdout.flush()

    server.serve_forever(tell)
    return DONE


def _say(line: str) -> None:
    """What takes long, while it does; aside, so that the URLs can be read by a program."""
    sys.stderr.write(f"{line[0].upper()}{line[1:]}\n")
    sys.stderr.flush()


def doctor(args: argparse.Namespace) -> int:
    """Print what was checked; 1 if something will not do."""

    async def look() -> list[Check]:
        urls = urls_of(args)
        checks = await diagnose() if not urls else []
        for tier, url in urls.items():
            checks += await diagnose_endpoint(url, name=tier, api_key=key_of(args, tier))
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
