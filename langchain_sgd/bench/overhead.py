"""What the machinery costs: models that answer at once, so all that is measured is ours.

Beside a bare asyncio scheduler and the literal LangGraph graph, alternating in one run.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_sgd.argument_types import count
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench.models import InstantModel, random_skeleton
from langchain_sgd.graph import build_graph
from langchain_sgd.prompts import Prompts
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import NodeId, Skeleton


async def bare(skeleton: Skeleton, model: InstantModel) -> dict[NodeId, str]:
    """The least that does the job: a task a node, each awaiting its dependencies."""
    prompts, question = Prompts(), [HumanMessage("Which?")]
    tasks: dict[NodeId, asyncio.Task[str]] = {}

    async def decode(index: int) -> str:
        node = skeleton.nodes[index]
        answers = {d: await tasks[d] for d in node.dependencies}
        messages = prompts.for_node(
            question, node, planned=skeleton.nodes[: index + 1], answers=answers
        )
        return "".join([piece async for piece in model.astream(messages)])

    async with asyncio.TaskGroup() as group:
        for index, node in enumerate(skeleton.nodes):
            tasks[node.id] = group.create_task(decode(index))
    return {node_id: task.result() for node_id, task in tasks.items()}


async def _timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def per_run(nodes: int, repeats: int, seed: int) -> dict[str, float]:
    """Median milliseconds of one run of `nodes` nodes, by design."""
    rng = random.Random(seed)
    skeleton = random_skeleton(rng, least=nodes, most=nodes)
    model = InstantModel()
    sgd = SGDRunnable(large=model)
    given = {"question": "Which?", "skeleton": skeleton}

    async def literal() -> None:
        graph = build_graph(skeleton, sgd).compile()
        await graph.ainvoke({"question": "Which?"}, {"recursion_limit": nodes + 2})

    designs: dict[str, Callable[[], Awaitable[Any]]] = {
        "bare asyncio": lambda: bare(skeleton, model),
        "SGDRunnable": lambda: sgd.ainvoke(given),
        "literal StateGraph": literal,
    }
    times: dict[str, list[float]] = {name: [] for name in designs}
    for round_ in range(repeats + 1):
        gc.collect()
        for name, work in designs.items():
            elapsed = await _timed(work)
            if round_:
                times[name].append(elapsed * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


async def per_token(tokens: int, repeats: int) -> dict[str, float]:
    """Median microseconds that one more streamed token takes, 8 nodes, with and without tracing.

    Of the difference between answers of `tokens` and of twice as many tokens a node: what a run costs
    anyway is another figure.
    """
    skeleton = random_skeleton(random.Random(1), least=8, most=8)
    given = {"question": "Which?", "skeleton": skeleton}
    short, long = (SGDRunnable(large=InstantModel(tokens * times)) for times in (1, 2))

    async def stream(sgd: SGDRunnable, callbacks: list[Any]) -> None:
        async for _ in sgd.astream(given, {"callbacks": callbacks}):
            pass

    ways: dict[str, Callable[[SGDRunnable], Awaitable[Any]]] = {
        "invoke": lambda sgd: sgd.ainvoke(given),
        "stream": lambda sgd: stream(sgd, []),
        "stream, traced": lambda sgd: stream(
            sgd, [RunCollectorCallbackHandler(), AsyncCallbackHandler()]
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(repeats + 1):
        for name, way in ways.items():
            once = await _timed(functools.partial(way, short))
            twice = await _timed(functools.partial(way, long))
            if round_:
                times[name].append((twice - once) / (8 * tokens) * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def import_ratio(repeats: int) -> dict[str, float]:
    """Seconds to import this package and langgraph.graph alone, each in a fresh process."""
    times: dict[str, list[float]] = {"langchain_sgd": [], "langgraph.graph": []}
    for _ in range(repeats):
        for module, found in times.items():
            code = (
                f"import time; t = time.perf_counter(); import {module};"
                " print(time.perf_counter() - t)"
            )
            done = subprocess.run(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            found.append(float(done.stdout))
    ours, theirs = (statistics.median(values) for values in times.values())
    return {"langchain_sgd s": ours, "langgraph.graph s": theirs, "ratio": ours / theirs}


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("overhead", __doc__ or "")
    options.add_argument("--nodes", type=count(1), nargs="+", default=[8, 64, 512])
    options.add_argument("--repeats", type=count(1), default=40, help="runs of the smallest size")
    options.add_argument(
        "--tokens", type=count(1), default=200, help="tokens a node, when streaming"
    )
    options.add_argument("--imports", type=count(0), default=7)
    args = options.parse_args(argv)
    runs = {
        nodes: asyncio.run(per_run(nodes, max(5, args.repeats * args.nodes[0] // nodes), 1))
        for nodes in args.nodes
    }
    tokens = asyncio.run(per_token(args.tokens, max(3, args.repeats // 8)))
    imports = import_ratio(args.imports) if args.imports else {}
    show(
        "One run, zero-cost models: milliseconds (microseconds a node)",
        ("nodes", *runs[args.nodes[0]]),
        [
            (nodes, *(f"{ms:.1f} ({ms / nodes * 1000:.0f})" for ms in values.values()))
            for nodes, values in runs.items()
        ],
    )
    show(
        f"Streaming, 8 nodes of {args.tokens} tokens: microseconds a token",
        ("", "us"),
        [(name, f"{value:.1f}") for name, value in tokens.items()],
    )
    if imports:
        show("Import", ("", ""), [(name, f"{value:.2f}") for name, value in imports.items()])
    save(
        args.json,
        "overhead",
        argv,
        {"ms_per_run": runs, "us_per_token": tokens, "import": imports},
    )


if __name__ == "__main__":
    main()
