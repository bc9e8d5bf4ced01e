"""Tokens a second of a local model, by the number of streams that are decoded at once.

Every stream continues a short text of its own for as many tokens; the best of the rounds counts, the prompts'
own computation included. What several streams gain over one is what SGD can gain on this machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from langchain_sgd.argument_types import count, existing_path
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.embedded.engine import Counters, GenerateRequest
from langchain_sgd.embedded.load import EngineName, LocalEngine, load
from langchain_sgd.embedded.server import bundled_models

_PROMPT = "Case {}: count. 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,"


async def _stream(engine: LocalEngine, name: str, tokens: int) -> int:
    request = GenerateRequest(_PROMPT.format(name), tokens)
    return len([token async for token in engine.generate(request, Counters())])


async def rate(engine: LocalEngine, streams: int, *, tokens: int, name: str) -> float:
    """Tokens a second of so many streams at once."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        made = [
            group.create_task(_stream(engine, f"{name}-{stream}", tokens))
            for stream in range(streams)
        ]
    return sum(task.result() for task in made) / (time.perf_counter() - started)


async def measure(
    path: Path,
    engine_name: EngineName,
    counts: Sequence[int],
    *,
    tokens: int,
    rounds: int,
    threads: int | None,
) -> dict[str, Any]:
    """One model's row."""
    started = time.perf_counter()
    engine = await asyncio.to_thread(
        load, path, engine=engine_name, slots=max(counts), context=1024, threads=threads
    )
    loaded_s = time.perf_counter() - started
    try:
        await rate(engine, 1, tokens=8, name="warm up")
        best = dict.fromkeys(counts, 0.0)
        for turn in range(rounds):
            for count in counts:
                found = await rate(engine, count, tokens=tokens, name=f"{turn}-{count}")
                best[count] = max(best[count], found)
    finally:
        await engine.aclose()
    return {
        "model": engine.info.model_id,
        "dtype": engine.info.dtype,
        "engine": engine.name,
        "loaded_s": loaded_s,
        "tokens_a_second": best,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the table."""
    options = parser("engines", __doc__ or "")
    options.add_argument(
        "models", nargs="*", type=existing_path, metavar="PATH", help="default: the bundled"
    )
    options.add_argument("--engine", choices=get_args(EngineName), default="auto")
    options.add_argument("--streams", nargs="+", type=count(1), default=[1, 2, 4, 8], metavar="N")
    options.add_argument("--tokens", type=count(1), default=64, help="of each stream; default 64")
    options.add_argument(
        "--rounds", type=count(1), default=2, help="the best of them counts; default 2"
    )
    options.add_argument("--threads", type=count(1), help="default: the engine's choice")
    args = options.parse_args(argv)
    rows = [
        asyncio.run(
            measure(
                path,
                args.engine,
                args.streams,
                tokens=args.tokens,
                rounds=args.rounds,
                threads=args.threads,
            )
        )
        for path in args.models or bundled_models().values()
    ]
    show(
        "Tokens a second, by streams at once",
        ["model", "engine", "ready after", *map(str, args.streams), "gain"],
        [_cells(row, args.streams) for row in rows],
        f"{args.tokens} tokens each, best of {args.rounds} rounds, prompts included.",
    )
    save(args.json, "engines", argv, {"rows": rows})


def _cells(row: dict[str, Any], counts: Sequence[int]) -> list[object]:
    rates = [row["tokens_a_second"][count] for count in counts]
    figures = [f"{each:.1f}" for each in rates]
    gain = f"{rates[-1] / rates[0]:.1f}x"
    return [
        f"{row['model']} {row['dtype']}",
        row["engine"],
        f"{row['loaded_s']:.1f} s",
        *figures,
        gain,
    ]
