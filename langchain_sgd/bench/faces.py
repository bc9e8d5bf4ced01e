"""What each face costs over the bare engine, on models that answer at once.

The bare engine is what all faces use, without LangChain's runs and LangGraph's graph around it: it plans,
decodes each node when its dependencies have answers, and joins them. All designs alternate in
one run, with the same planner writing the same skeleton. What is counted is processor time, which is all
there is to wait for here, and which a busy machine disturbs less than the clock on the wall.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

from langchain_sgd.argument_types import count
from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench.models import InstantModel, TimedPlanner, random_skeleton
from langchain_sgd.chat import ChatSGD
from langchain_sgd.decoding.context import RunContext
from langchain_sgd.journal import Forgetful
from langchain_sgd.limits import Limit
from langchain_sgd.question import Question
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.telling import Telling

QUESTION = "Which?"
ENGINE = "bare engine"


async def engine(sgd: SGDRunnable) -> str:
    """One question through the engine alone."""
    telling = Telling(sgd)

    def context(question: Question) -> RunContext:
        return RunContext(question, sgd, {}, Limit(None), telling.feed)

    question = Question((HumanMessage(QUESTION),))
    message = await telling.working(context)(question, Forgetful(), None)
    return str(message.text)


def _drained(runnable: Runnable[Any, Any], value: Any) -> Callable[[], Awaitable[None]]:
    async def drain() -> None:
        async for _ in runnable.astream(value):
            pass

    return drain


def _in_a_graph(model: BaseChatModel) -> Callable[[], Awaitable[None]]:
    async def write(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    compiled = graph.compile()

    async def drain() -> None:
        asked: Any = {"messages": [HumanMessage(QUESTION)]}
        async for _ in compiled.astream(asked, stream_mode="messages"):
            pass

    return drain


def designs(nodes: int, tokens: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every way in, as something to await."""
    skeleton = random_skeleton(random.Random(1), least=nodes, most=nodes)
    sgd = SGDRunnable(
        large=InstantModel(tokens),
        planner=TimedPlanner(skeleton, 0.0),
        max_nodes=max(2, nodes),
    )
    chat, tool = ChatSGD(sgd), sgd.as_tool()
    chain = ChatPromptTemplate.from_template("{question}") | sgd | StrOutputParser()
    call: dict[str, Any] = {
        "name": tool.name,
        "args": {"question": QUESTION},
        "id": "1",
        "type": "tool_call",
    }
    quiet: RunnableConfig = {"callbacks": []}
    return {
        ENGINE: lambda: engine(sgd),
        "SGDRunnable.ainvoke": lambda: sgd.ainvoke(QUESTION, quiet),
        "SGDRunnable.astream": _drained(sgd, QUESTION),
        "prompt | sgd | parser": lambda: chain.ainvoke({"question": QUESTION}),
        "ChatSGD.ainvoke": lambda: chat.ainvoke(QUESTION),
        "ChatSGD.astream": _drained(chat, QUESTION),
        "ChatSGD in a graph, messages": _in_a_graph(chat),
        "tool.ainvoke": lambda: tool.ainvoke(call),
    }


async def measure(
    works: Mapping[str, Callable[[], Awaitable[Any]]], repeats: int
) -> dict[str, float]:
    """Median milliseconds of processor time of each design; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(repeats + 1):
        gc.collect()
        for name, work in works.items():
            began = time.process_time()
            await work()
            if round_:
                times[name].append((time.process_time() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    options = parser("faces", __doc__ or "")
    options.add_argument("--nodes", type=count(1), default=8)
    options.add_argument("--tokens", type=count(1), default=1, help="tokens a node")
    options.add_argument("--repeats", type=count(1), default=60)
    args = options.parse_args(argv)
    found = asyncio.run(measure(designs(args.nodes, args.tokens), args.repeats))
    base = found[ENGINE]
    show(
        f"One run of {args.nodes} nodes, zero-cost models",
        ("", "CPU ms", "over the engine, ms", "a node, us"),
        [
            (name, f"{ms:.2f}", f"{ms - base:+.2f}", f"{(ms - base) / args.nodes * 1000:.0f}")
            for name, ms in found.items()
        ],
    )
    save(
        args.json,
        "faces",
        argv,
        {"nodes": args.nodes, "tokens": args.tokens, "cpu_ms_per_run": found},
    )


if __name__ == "__main__":
    main()
