"""What `langchain-sgd serve` does."""

from __future__ import annotations

import argparse
import sys

from langchain_sgd.arguments import DONE
from langchain_sgd.commands.models import key_of
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.models import TIERS


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
            settings = [f"SGD_{name.upper()}={url}" for name, url in named.items()]
            lines += ["", f"export {' '.join(settings)}"]
        sys.stdout.write("\n".join([*lines, "", "Ctrl-C ends it.", ""]))
        sys.stdout.flush()

    server.serve_forever(tell)
    return DONE


def _say(line: str) -> None:
    """What takes long, while it does; aside, so that the URLs can be read by a program."""
    sys.stderr.write(f"{line[0].upper()}{line[1:]}\n")
    sys.stderr.flush()
