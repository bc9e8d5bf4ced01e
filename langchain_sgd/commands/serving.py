"""What `langchain-sgd serve` does."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from langchain_sgd.arguments import DONE
from langchain_sgd.bundled import BUNDLED_QUESTIONS
from langchain_sgd.commands.models import key_of
from langchain_sgd.commands.ports import check_port
from langchain_sgd.embedded.server import EmbeddedServer
from langchain_sgd.models import TIERS

_SILENCE_S: Final = 10.0
"""After so long, nobody is to think that nothing happens."""


class Over(Protocol):
    """A `threading.Event`."""

    def wait(self, timeout: float) -> bool:
        """Whether it is set within this time."""


def serve(args: argparse.Namespace) -> int:
    """Serve models until interrupted."""
    key = key_of(args, "serve")
    check_port(args.host, args.port)
    began = time.monotonic()

    def say(line: str) -> None:
        # Aside, so that the URLs can be read by a program.
        sys.stderr.write(f"{time.monotonic() - began:4.0f} s  {line[0].upper()}{line[1:]}\n")
        sys.stderr.flush()

    server = EmbeddedServer(
        args.model or None,
        host=args.host,
        port=args.port,
        api_key=key,
        slots=args.slots,
        context=args.context,
        threads=args.threads,
        engine=args.engine,
        progress=say,
    )
    ready = threading.Event()

    def tell(running: EmbeddedServer) -> None:
        ready.set()
        say("ready")
        lines = [f"{name:<8} {url}" for name, url in running.urls.items()]
        named = {name: running.urls[name] for name in TIERS if name in running.urls}
        if named:
            settings = [f"SGD_{name.upper()}={url}" for name, url in named.items()]
            lines += ["", f"export {' '.join(settings)}"]
        if not args.model:
            lines += ["", "These two models write launch briefs for products, and nothing else:"]
            lines += [f'langchain-sgd ask "{BUNDLED_QUESTIONS[0][0]}"']
        sys.stdout.write("\n".join([*lines, "", "Ctrl-C ends it.", ""]))
        sys.stdout.flush()

    threading.Thread(target=remind, args=(say, ready, server.steps), daemon=True).start()
    try:
        server.serve_forever(tell)
    finally:
        ready.set()
    return DONE


def remind(say: Callable[[str], None], over: Over, steps: Mapping[str, str]) -> None:
    """Say now and then what is done for each model that is not ready, until that is over."""
    waited: dict[tuple[str, str], int] = {}
    while not over.wait(_SILENCE_S):
        # Another thread adds to them.
        for each in list(steps.items()):
            waited[each] = waited.get(each, 0) + 1
            name, step = each
            say(f"{name} is not ready: {step}, for {waited[each] * _SILENCE_S:.0f} s or more")
