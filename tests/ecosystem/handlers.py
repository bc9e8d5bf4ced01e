"""What Langfuse's handler costs a question, as it comes and called inline: processor time, medians.

python -m tests.ecosystem.handlers
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_sgd import SGDRunnable
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

PARTS, PIECES, ROUNDS = 8, 60, 9


def handlers() -> dict[str, Any]:
    found: dict[str, Any] = {"none": None}
    for name in ("as it comes", "inline"):
        handler = CallbackHandler(public_key="pk")
        handler.run_inline = name == "inline"
        found[name] = handler
    return found


async def spent(handler: Any) -> float:
    plan = planning(skeleton(*map(str, range(1, PARTS + 1))))
    sgd = SGDRunnable(**Stage({PLANNER: plan}, default=Say(["word "] * PIECES)).pair())
    before = time.process_time()
    await sgd.ainvoke("Why?", {"callbacks": [handler] if handler else []})
    return 1000 * (time.process_time() - before)


async def main() -> None:
    client = Langfuse(
        public_key="pk",
        secret_key="sk",
        span_exporter=InMemorySpanExporter(),
        tracer_provider=TracerProvider(),
    )
    times: dict[str, list[float]] = {name: [] for name in handlers()}
    for _ in range(ROUNDS + 1):  # the first round is no measurement: modules are loaded
        for name, handler in handlers().items():
            times[name].append(await spent(handler))
    client.shutdown()
    print(f"{PARTS} parts of {PIECES} pieces, {ROUNDS} rounds, ms of processor time")  # noqa: T201
    for name, all_of in times.items():
        print(f"{name}: {statistics.median(all_of[1:]):.0f}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
