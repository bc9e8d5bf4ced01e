"""What tracing costs, and LangGraph around it: chat models that answer at once, so the rest is ours.

LangSmith's client does its whole work but for the socket; what it still has to send after an answer is
sent outside the clock. The ways alternate, so that a slow moment of the machine meets all of them.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith import Client, tracing_context
from langsmith.schemas import BatchIngestConfig, LangSmithInfo

from langchain_sgd.argument_types import count
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench.models import lines_of, random_skeleton
from langchain_sgd.platform import chat_graph
from langchain_sgd.runnable import SGDRunnable

OFF, IN_PROCESS, LANGSMITH = "off", "in process", "LangSmith's client"
Ask = Callable[[RunnableConfig], Awaitable[Any]]


class InstantChat(BaseChatModel):
    """Says its words at once, as a chat model does: with callbacks, unlike `InstantModel`."""

    words: Sequence[str]

    @property
    def _llm_type(self) -> str:
        return "instant"

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError


class _Discarding(Client):
    """LangSmith's client, which sends nothing: it serializes, batches and compresses as ever."""

    def request_with_retries(self, *args: Any, **kwargs: Any) -> Any:
        """Take the request for sent."""


@contextmanager
def _client() -> Iterator[Client]:
    # What LangSmith itself answers.
    ingest = BatchIngestConfig(
        use_multipart_endpoint=True,
        size_limit=100,
        size_limit_bytes=20_971_520,
        scale_up_qsize_trigger=1000,
        scale_up_nthreads_limit=16,
        scale_down_nempty_trigger=4,
    )
    flags = {"zstd_compression_enabled": True}
    info = LangSmithInfo(batch_ingest_config=ingest, instance_flags=flags)
    client = _Discarding(api_url="http://127.0.0.1", api_key="none", info=info)
    try:
        yield client
    finally:
        client.cleanup()


def runnable(nodes: int, tokens: int) -> SGDRunnable:
    """An `SGDRunnable` whose models answer at once, each node in `tokens` tokens."""
    skeleton = random_skeleton(random.Random(1), least=nodes, most=nodes)
    return SGDRunnable(
        large=InstantChat(words=["word "] * tokens),
        planner=InstantChat(words=lines_of(skeleton)),
        max_nodes=max(2, nodes),
    )


def _ways(sgd: SGDRunnable) -> dict[str, Ask]:
    """The ways to ask, by name."""
    graph = chat_graph(sgd)
    state = {"messages": [("human", "Which?")]}

    async def drain(stream: AsyncIterator[Any]) -> None:
        async for _ in stream:
            pass

    return {
        "ainvoke": lambda config: sgd.ainvoke("Which?", config),
        "astream": lambda config: drain(sgd.astream("Which?", config)),
        "the graph for LangGraph Server": lambda config: graph.ainvoke(state, config),
        "and its messages streamed": lambda config: drain(
            graph.astream(state, config, stream_mode="messages")
        ),
    }


async def of_graphs(nodes: int, tokens: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of a question, by the way it is asked; not traced."""
    asked = _ways(runnable(nodes, tokens))
    times: dict[str, list[float]] = {face: [] for face in asked}
    with tracing_context(enabled=False):
        for round_ in range(repeats + 1):
            for face, ask in asked.items():
                elapsed = await _timed(ask, {})
                if round_:
                    times[face].append(elapsed)
    return {face: statistics.median(found) for face, found in times.items()}


async def of_tracing(nodes: int, tokens: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a question, by the way it is traced and the way it is asked."""
    faces = _ways(runnable(nodes, tokens))
    asked = {name: faces[name] for name in ("ainvoke", "astream")}
    names = (OFF, IN_PROCESS, LANGSMITH)
    times: dict[str, dict[str, list[float]]] = {n: {face: [] for face in asked} for n in names}
    with _client() as client:
        for round_ in range(repeats + 1):
            for face, ask in asked.items():
                for name, found in times.items():
                    config: RunnableConfig = {}
                    if name == IN_PROCESS:
                        config["callbacks"] = [RunCollectorCallbackHandler()]
                    with tracing_context(enabled=name == LANGSMITH, client=client):
                        elapsed = await _timed(ask, config)
                    await asyncio.to_thread(client.flush)
                    if round_:
                        found[face].append(elapsed)
    return {
        name: {face: statistics.median(values) for face, values in found.items()}
        for name, found in times.items()
    }


async def _timed(ask: Ask, config: RunnableConfig) -> float:
    gc.collect()
    began = time.perf_counter()
    await ask(config)
    return (time.perf_counter() - began) * 1000


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("tracing", __doc__ or "")
    options.add_argument("--nodes", type=count(1), default=8)
    options.add_argument("--tokens", type=count(1), default=200, help="tokens a node")
    options.add_argument("--repeats", type=count(1), default=15)
    args = options.parse_args(argv)
    size = (args.nodes, args.tokens, args.repeats)
    traced = asyncio.run(of_tracing(*size))
    faces = asyncio.run(of_graphs(*size))
    total = args.nodes * args.tokens
    title = f"{args.nodes} nodes of {args.tokens} tokens"
    ways = [*traced[OFF]]
    show(
        f"Tracing, {title}: milliseconds a question (more than off, microseconds a token)",
        ("traced", *ways),
        [
            (
                name,
                *(
                    f"{found[way]:.0f} ({(found[way] - traced[OFF][way]) * 1000 / total:+.1f})"
                    for way in ways
                ),
            )
            for name, found in traced.items()
        ],
    )
    base = faces["ainvoke"]
    show(
        f"In a graph, {title}, not traced: milliseconds a question",
        ("", "ms", "more than ainvoke"),
        [(face, f"{ms:.0f}", f"{ms - base:+.0f}") for face, ms in faces.items()],
    )
    figures = {"size": dict(zip(("nodes", "tokens", "repeats"), size, strict=True))}
    save(args.json, "tracing", argv, {**figures, "ms_traced": traced, "ms_in_a_graph": faces})


if __name__ == "__main__":
    main()
