"""How long a part that is finished is not yet saved, and what does not wait for that.

Random skeletons, several runs at a time; each part takes a moment, and its last piece of text is the
moment from which a kill should lose nothing. Nothing is to be asked before its question is saved, nor a part
before those that it needs are. Needs `langgraph-checkpoint-sqlite`, or `langgraph-checkpoint-postgres`
with `--postgres`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd.argument_types import count, seconds
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench.models import StreamOnly, TimedPlanner, random_skeleton
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import NodeId, Skeleton

_NODES = 8


@dataclass
class Life:
    """When things happened in one run."""

    skeleton: Skeleton
    asked: float | None = None
    """When its question was in the saver."""
    started: dict[NodeId, float] = field(default_factory=dict)
    written: dict[NodeId, float] = field(default_factory=dict)
    """When a part's last piece of text came."""
    saved: dict[NodeId, float] = field(default_factory=dict)

    @property
    def delays(self) -> list[float]:
        """Seconds from a part's last piece to its text in the saver."""
        return [self.saved[name] - at for name, at in self.written.items()]

    @property
    def early(self) -> int:
        """Calls that were made before what they rest on was saved."""
        never = float("inf")
        asked = never if self.asked is None else self.asked
        return sum(
            began
            < max([asked, *(self.saved.get(d, never) for d in self.skeleton[name].dependencies)])
            for name, began in self.started.items()
        )


class _Model(StreamOnly):
    """Writes each part in some pieces, and notes when."""

    def __init__(self, life: Life, rng: random.Random, longest_s: float) -> None:
        self._life, self._rng, self._longest_s = life, rng, longest_s

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str]:
        """Three pieces, a moment before each."""
        node_id = (config or {}).get("metadata", {})["sgd_node_id"]
        self._life.started[node_id] = time.perf_counter()
        for _ in range(3):
            await asyncio.sleep(self._rng.uniform(0, self._longest_s / 3))
            self._life.written[node_id] = time.perf_counter()
            yield f"some text of {node_id}. "


def _noting(kind: type[BaseCheckpointSaver[Any]], lives: dict[str, Life]) -> Any:
    """The saver's class, which notes when things are saved."""

    async def aput(self: Any, config: RunnableConfig, *rest: Any, **more: Any) -> RunnableConfig:
        done: RunnableConfig = await kind.aput(self, config, *rest, **more)
        life = lives[config["configurable"]["thread_id"]]
        life.asked = life.asked or time.perf_counter()
        return done

    async def aput_writes(
        self: Any,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        *rest: Any,
        **more: Any,
    ) -> None:
        await kind.aput_writes(self, config, writes, *rest, **more)
        life = lives[config["configurable"]["thread_id"]]
        for _, value in writes:
            if isinstance(value, dict) and "answered_by" in value:
                life.saved.setdefault(value["id"], time.perf_counter())

    return type(kind.__name__, (kind,), {"aput": aput, "aput_writes": aput_writes})


async def measure(
    kind: str, runs: int, at_once: int, longest_s: float, url: str = ""
) -> list[Life]:
    """Run as often as told, with the saver that is named."""
    lives: dict[str, Life] = {}
    places = asyncio.Semaphore(at_once)
    async with AsyncExitStack() as stack:
        saver = await stack.enter_async_context(_saver(kind, lives, stack, url))
        if kind != "memory":
            await saver.setup()

        async def run(number: int) -> None:
            rng, thread = random.Random(number), uuid4().hex
            skeleton = random_skeleton(rng, least=_NODES, most=_NODES)
            life = lives[thread] = Life(skeleton)
            sgd = SGDRunnable(
                large=_Model(life, rng, longest_s),
                planner=TimedPlanner(skeleton, 0.0),
                opening=False,
                checkpointer=cast("BaseCheckpointSaver[Any]", saver),
            )
            async with places:
                await sgd.ainvoke("Which?", {"configurable": {"thread_id": thread}})

        async with asyncio.TaskGroup() as group:
            for number in range(runs):
                group.create_task(run(number))
    return list(lives.values())


def _saver(
    kind: str, lives: dict[str, Life], stack: AsyncExitStack, url: str
) -> AbstractAsyncContextManager[Any]:
    if kind == "memory":
        return nullcontext(_noting(InMemorySaver, lives)())
    if kind == "postgres":
        from langgraph.checkpoint.postgres.aio import (  # noqa: PLC0415 - not a dependency
            AsyncPostgresSaver,
        )

        made = _noting(AsyncPostgresSaver, lives).from_conn_string(url)
    else:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415 - neither

        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = _noting(AsyncSqliteSaver, lives).from_conn_string(str(Path(folder, "runs.sqlite")))
    return cast("AbstractAsyncContextManager[Any]", made)


def figures(lives: Iterable[Life]) -> dict[str, float]:
    """Milliseconds until a part is saved, and how many calls did not wait."""
    lives = list(lives)
    delays = sorted(delay * 1000 for life in lives for delay in life.delays)
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return {
        "parts": len(delays),
        "median_ms": statistics.median(delays),
        "p95_ms": cuts[94],
        "p99_ms": cuts[98],
        "max_ms": delays[-1],
        "calls": sum(len(life.started) for life in lives),
        "calls_too_early": sum(life.early for life in lives),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("saving", __doc__ or "")
    options.add_argument("--runs", type=count(1), default=50)
    options.add_argument("--at-once", type=count(1), nargs="+", default=[1, 8])
    options.add_argument("--longest", type=seconds, default=0.3, metavar="S", help="of a part")
    options.add_argument("--postgres", default="", metavar="URL", help="measure there, too")
    args: argparse.Namespace = options.parse_args(argv)
    kinds = ["memory", "sqlite", *(["postgres"] if args.postgres else [])]
    found = {
        f"{kind}, {at_once} at a time": figures(
            asyncio.run(measure(kind, args.runs, at_once, args.longest, args.postgres))
        )
        for kind in kinds
        for at_once in args.at_once
    }
    show(
        f"From a part's last text until it is saved: {args.runs} runs of {_NODES} parts",
        ("", "parts", "median ms", "p95 ms", "p99 ms", "longest ms", "calls too early"),
        [
            (
                name,
                f["parts"],
                *(f"{f[key]:.1f}" for key in ("median_ms", "p95_ms", "p99_ms", "max_ms")),
                f"{f['calls_too_early']} of {f['calls']}",
            )
            for name, f in found.items()
        ],
        note="Too early: before the question, or a part that is needed, was saved.",
    )
    save(args.json, "saving", argv, found)


if __name__ == "__main__":
    main()
