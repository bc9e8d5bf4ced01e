"""Models whose cost is known, for measuring everything around them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_sgd.skeleton import Node, NodeId, Skeleton


def random_skeleton(
    rng: random.Random,
    *,
    least: int = 5,
    most: int = 12,
    roots: float = 0.35,
    dependencies: int = 2,
) -> Skeleton:
    """A skeleton of a random shape.

    Args:
        rng: Source of randomness.
        least: Fewest nodes.
        most: Most nodes.
        roots: Share of nodes without dependencies.
        dependencies: Most dependencies of a node.
    """
    nodes: list[Node] = []
    for index in range(rng.randint(least, most)):
        count = 0 if not nodes or rng.random() < roots else rng.randint(1, dependencies)
        chosen = rng.sample([node.id for node in nodes], min(count, len(nodes)))
        nodes.append(
            Node(
                id=NodeId(str(index + 1)),
                heading=f"Part {index + 1}",
                scope=f"subject {index + 1}",
                dependencies=tuple(sorted(chosen, key=int)),
                difficulty=rng.randint(1, 5),
            )
        )
    return Skeleton(nodes=tuple(nodes))


def lines_of(skeleton: Skeleton) -> list[str]:
    """The skeleton in the wire format, a line a node."""
    return [
        f"{n.id}|{n.heading}|{n.scope}|{','.join(n.dependencies) or '-'}|{n.difficulty}\n"
        for n in skeleton.nodes
    ]


class StreamOnly(Runnable[Any, Any]):
    """A model for benches, which is only ever streamed."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Not needed: every call of the package streams."""
        raise NotImplementedError


class InstantModel(StreamOnly):
    """Answers at once; what is left to measure is the machinery."""

    def __init__(self, tokens: int = 1) -> None:
        self.tokens = tokens

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str]:
        """Yield `tokens` words."""
        for _ in range(self.tokens):
            yield "word "


@dataclass(eq=False)
class TimedModel(StreamOnly):
    """Writes a node for as long as `seconds` says, found by the node's name in the call's config."""

    seconds: Mapping[NodeId, float]

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str]:
        """Sleep, then yield the node's name."""
        node_id = (config or {}).get("metadata", {})["sgd_node_id"]
        await asyncio.sleep(self.seconds[node_id])
        yield f"answer {node_id}"


@dataclass(eq=False)
class TimedPlanner(StreamOnly):
    """Writes a skeleton, one line each `seconds_per_line`."""

    skeleton: Skeleton
    seconds_per_line: float

    async def astream(
        self, input: list[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the lines; the end comes with the last one."""
        for line in lines_of(self.skeleton):
            await asyncio.sleep(self.seconds_per_line)
            yield AIMessageChunk(content=line)
