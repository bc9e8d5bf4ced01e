"""Skeletons for tests: short spelling, random ones."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from langchain_sgd.skeleton import Node, NodeId, Skeleton


def skeleton(*specs: str, difficulty: int = 2) -> Skeleton:
    """`skeleton("1", "2 <- 1", "3 <- 1,2")`; a `!` after the id makes a node hard."""
    nodes = []
    for spec in specs:
        name, _, dependencies = spec.partition("<-")
        hard = name.strip().endswith("!")
        node_id = name.strip().rstrip("!")
        nodes.append(
            Node(
                id=NodeId(node_id),
                heading=f"Heading {node_id}",
                scope=f"what {node_id} covers",
                dependencies=tuple(NodeId(d.strip()) for d in dependencies.split(",") if d.strip()),
                difficulty=5 if hard else difficulty,
            )
        )
    return Skeleton(nodes=tuple(nodes))


@st.composite
def skeletons(draw: st.DrawFn, min_nodes: int = 2, max_nodes: int = 9) -> Skeleton:
    """Any skeleton whose ids are numbers in order, as planners write them."""
    count = draw(st.integers(min_nodes, max_nodes))
    nodes = []
    for n in range(1, count + 1):
        earlier = [str(d) for d in range(1, n)]
        chosen = (
            draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True)) if earlier else []
        )
        nodes.append(
            Node(
                id=NodeId(str(n)),
                heading=f"Heading {n}",
                scope=f"what {n} covers",
                dependencies=tuple(NodeId(d) for d in sorted(chosen, key=int)),
                difficulty=draw(st.integers(1, 5)),
            )
        )
    return Skeleton(nodes=tuple(nodes))


def random_skeleton(
    rng: random.Random, nodes: tuple[int, int] = (5, 12), roots: float = 0.35
) -> Skeleton:
    """A skeleton of the kind that planners write: at most two dependencies, some roots."""
    made: list[Node] = []
    for n in range(1, rng.randint(*nodes) + 1):
        earlier = [str(d) for d in range(1, n)]
        count = 0 if not earlier or rng.random() < roots else min(len(earlier), rng.choice((1, 2)))
        made.append(
            Node(
                id=NodeId(str(n)),
                heading=f"Heading {n}",
                scope=f"what {n} covers",
                dependencies=tuple(NodeId(d) for d in rng.sample(earlier, count)),
                difficulty=rng.randint(1, 5),
            )
        )
    return Skeleton(nodes=tuple(made))
