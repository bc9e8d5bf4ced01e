"""What the examples that writers are shown, and `cut_repeats`, are worth on a model of yours.

    langchain-sgd bench planner --large URL --questions FILE.jsonl --resume plans.jsonl
    python -m tests.servers.writers --large URL --plans plans.jsonl --limit 8 --json FILE

The same plans are written in each way, in turn. Where the server is a vLLM, its own counters say
how much of all prompts came from its prefix cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_sgd import Node, Prompts, Report, SGDRunnable, Skeleton
from langchain_sgd.repetition import overlap

_SHOWN = f"shown {len(Prompts().writer_examples)} parts"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "told in words only": {"prompts": Prompts(writer_examples=())},
    _SHOWN: {},
    f"{_SHOWN}, repeats cut": {"cut_repeats": True},
}
_LEAST_PARTS = 3
_LETTERS = 4
"""Of a word that counts as the question's."""


@dataclass(frozen=True)
class Figures:
    """Of all parts of some answers; shares are from 0 to 1."""

    parts: int
    words: float
    """Of a part."""
    ended: float
    """Share of the parts that were far too long, and ended at a sentence."""
    echo: float
    """Share of the question's words that stand in a part's first sentence."""
    repeated: float
    """Share of words in runs that an earlier part has too."""
    seconds: float
    """Of all answers."""


def figures(written: Iterable[tuple[str, Report]]) -> Figures:
    """What questions and the reports of their answers amount to."""
    words: list[int] = []
    ended: list[bool] = []
    echo: list[float] = []
    repeated: list[float] = []
    seconds = 0.0
    for question, report in written:
        asked = _words(question)
        answers = {str(node.id): node.answer for node in report.nodes if node.answer}
        for node in report.nodes:
            if node.answer:
                words.append(len(node.answer.split()))
                # A stream that is left tells no usage.
                ended.append(node.usage.estimated)
                first = re.split(r"(?<=[.!?])\s", node.answer, maxsplit=1)[0]
                echo.append(len(asked & _words(first)) / max(1, len(asked)))
        repeated.append(overlap(answers).share)
        seconds += report.wall_s
    mean = statistics.fmean
    return Figures(len(words), mean(words), mean(ended), mean(echo), mean(repeated), seconds)


def plans(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, Skeleton]]:
    """Questions that were split into several parts, with their plans, from the rows of `bench planner`."""
    return [
        (row["question"], Skeleton(nodes=tuple(Node(**node) for node in row["nodes"])))
        for row in rows
        if len(row.get("nodes") or ()) >= _LEAST_PARTS
    ]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.casefold()) if len(word) >= _LETTERS}


def hits(url: str) -> tuple[float, float] | None:
    """Prompt tokens that a vLLM took from its prefix cache, and all that it looked for; None for others."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - the user's server
            text: str = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return None
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    found = [re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE) for name in names]
    return (sum(map(float, found[0])), sum(map(float, found[1]))) if all(found) else None


async def measure(large: str, made: Sequence[tuple[str, Skeleton]]) -> dict[str, Any]:
    """Have every plan written in each way; the figures by the way's name."""
    written: dict[str, list[tuple[str, Report]]] = {name: [] for name in VARIANTS}
    base = large.partition("#")[0].rstrip("/").removesuffix("/v1")
    before = await asyncio.to_thread(hits, base)
    for number, (question, skeleton) in enumerate(made):
        names = list(VARIANTS) if number % 2 else list(VARIANTS)[::-1]
        for name in names:
            sgd = SGDRunnable(large=large, **VARIANTS[name])
            given = {"question": question, "skeleton": skeleton}
            began = time.monotonic()
            message = await sgd.ainvoke(given, temperature=0)
            report = Report.from_message(message)
            written[name].append((question, report))
            print(
                f"{number + 1} of {len(made)}, {name}: {time.monotonic() - began:.1f} s", flush=True
            )
    found: dict[str, Any] = {name: asdict(figures(each)) for name, each in written.items()}
    after = await asyncio.to_thread(hits, base)
    if before is not None and after is not None:
        found["prefix_hits"] = (after[0] - before[0]) / (after[1] - before[1])
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--large", required=True, metavar="URL")
    parser.add_argument("--plans", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--limit", type=int, default=8, metavar="N", help="plans; default: %(default)s"
    )
    parser.add_argument(
        "--skip", type=int, default=0, metavar="N", help="plans left out before them"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows = map(json.loads, args.plans.read_text().splitlines())
    made = plans(rows)[args.skip : args.skip + args.limit]
    found = asyncio.run(measure(args.large, made))
    text = json.dumps(found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
