"""What `langchain-sgd bench` does."""

from __future__ import annotations

import argparse
import importlib

from langchain_sgd.arguments import BENCHES, DONE


def bench(args: argparse.Namespace) -> int:
    """Run a benchmark; without a name, list them."""
    if args.name is None or args.help:
        print("langchain-sgd bench NAME [options]; --help after a name shows its options\n")
        for name, what in BENCHES.items():
            print(f"  {name:<12} {what}")
        return DONE
    module = importlib.import_module(f"langchain_sgd.bench.{args.name}")
    code: int | None = module.main(args.rest)
    return DONE if code is None else code
