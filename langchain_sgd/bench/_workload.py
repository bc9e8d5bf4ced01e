"""Questions of known lengths, and users who ask them on simulated servers."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_sgd.bench.latency import CHARACTERS_A_TOKEN, LatencyEngine
from langchain_sgd.bench.models import StreamOnly, lines_of, random_skeleton
from langchain_sgd.embedded.engine import Counters
from langchain_sgd.files import read_text
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Node, NodeId, Skeleton

TOKENS_A_WORD: Final = 4 / 3
"""The usual rule of thumb for English: 100 tokens are about 75 words."""
COLUMNS: Final = ("dataset", "model", "question_id", "category", "words", "sot_label")
"""What a table of answer lengths must hold; `sot_label` is 1, 0 or empty."""
LENGTHS_HELP: Final = (
    f"CSV table of answers, with the columns {', '.join(COLUMNS)} (1: suits parallel writing, 0: does not,"
    " empty: nobody was asked)"
)
_WORD: Final = "word".ljust(CHARACTERS_A_TOKEN)[: CHARACTERS_A_TOKEN - 1] + " "
_QUESTION: Final = "What should one know about subject number {id} before deciding on it?"
_HARD, _EASY = 5, 1


@dataclass(frozen=True, slots=True)
class Length:
    """A published answer's length."""

    id: str
    category: str
    tokens: int
    splits: bool | None
    """Whether people found that the question suits parallel writing; None where nobody was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is assumed of plans, beside the answers' lengths."""

    nodes: int = 5
    line_tokens: int = 24
    """Tokens of a line of the plan."""
    independent: float = 0.65
    """Share of nodes without dependencies, apart from the first, which never has any."""
    hard: float = 1.0
    """Share of nodes for the large model."""
    expansion: float = 1.2
    """Tokens of all parts together over those of the plain answer."""


class Script(Protocol):
    """What simulated models write."""

    @property
    def question(self) -> str:
        """What is asked."""
        ...

    def pieces(self, metadata: Mapping[str, Any]) -> list[str]:
        """What a model writes in the call that this is the metadata of, by tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A `Script` of assumed lengths: one question as the simulated models will answer it."""

    question: str
    skeleton: Skeleton | None
    """None if the planner says that it does not split."""
    plain: int
    parts: Mapping[NodeId, int]
    line: int

    def pieces(self, metadata: Mapping[str, Any]) -> list[str]:
        """What a model writes in the call that this is the metadata of, by tokens."""
        if (node_id := metadata.get("sgd_node_id")) is not None:
            return [_WORD] * self.parts[node_id]
        if "sgd_plain" in metadata:
            return [_WORD] * self.plain
        if self.skeleton is None:
            return ["PLAIN\n"]
        return [piece for line in lines_of(self.skeleton) for piece in cut(line, self.line)]


def cut(text: str, count: int) -> list[str]:
    """The text in so many pieces of about the same length; empty ones where it is too short."""
    ends = [len(text) * i // count for i in range(count + 1)]
    return [text[a:b] for a, b in itertools.pairwise(ends)]


def read_lengths(path: Path, models: Sequence[str]) -> list[Length]:
    """The answers of these models in the table; questions that ask for nothing long are among them.

    Raises:
        ValueError: The file is not there, lacks a column, or holds no answers of these models.
    """
    if not path.is_file():
        msg = f"there are no answer lengths at {path}"
        raise ValueError(msg)
    rows = csv.DictReader(io.StringIO(read_text(path)))
    if lacking := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        msg = f"{path} lacks the columns {', '.join(lacking)}"
        raise ValueError(msg)
    found = [
        Length(
            f"{row['dataset']} {row['question_id']} {row['model']}",
            row["category"],
            max(1, round(int(row["words"]) * TOKENS_A_WORD)),
            {"1": True, "0": False}.get(row["sot_label"]),
        )
        for row in rows
        if row["model"] in models
    ]
    if not found:
        msg = f"{path} holds no answers of {', '.join(models)}"
        raise ValueError(msg)
    return found


def task_of(length: Length, shape: Shape, seed: int, *, splits: bool = True) -> Task:
    """A question with an answer of this length; its skeleton is random, the same for the same seed."""
    rng = random.Random(f"{seed} {length.id}")
    nodes = shape.nodes
    skeleton = random_skeleton(rng, least=nodes, most=nodes, roots=shape.independent)
    # The order of hardness is drawn before, so that a larger share only adds hard nodes.
    order = rng.sample(range(nodes), nodes)
    hard = set(order[: round(shape.hard * nodes)])
    skeleton = Skeleton(
        nodes=tuple(_with_difficulty(n, i in hard) for i, n in enumerate(skeleton.nodes))
    )
    weights = [rng.lognormvariate(0.0, 0.4) for _ in skeleton.nodes]
    total = shape.expansion * length.tokens / sum(weights)
    return Task(
        _QUESTION.format(id=length.id),
        skeleton if splits else None,
        length.tokens,
        {n.id: max(1, round(w * total)) for n, w in zip(skeleton.nodes, weights, strict=True)},
        shape.line_tokens,
    )


def _with_difficulty(node: Node, hard: bool) -> Node:  # noqa: FBT001 - it is the value
    return node.model_copy(update={"difficulty": _HARD if hard else _EASY})


@dataclass(eq=False)
class SimulatedModel(StreamOnly):
    """Writes what a task says, as slowly as the engine does that it shares with others."""

    engine: LatencyEngine
    task: Script

    async def astream(
        self, input: list[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncGenerator[AIMessageChunk, None]:
        """Yield a chunk a token; the last one says what was used."""
        prompt = "\n".join(str(message.text) for message in input)
        counters = Counters()
        pieces = self.task.pieces((config or {}).get("metadata", {}))
        async with aclosing(self.engine.write(prompt, pieces, counters)) as stream:
            async for piece in stream:
                yield AIMessageChunk(content=piece)
        yield AIMessageChunk(
            content="",
            usage_metadata={
                "input_tokens": counters.prompt_tokens,
                "output_tokens": len(pieces),
                "total_tokens": counters.prompt_tokens + len(pieces),
                "input_token_details": {"cache_read": counters.cached_tokens},
            },
        )


S = TypeVar("S", bound=Script)

Build = Callable[[S], SGDRunnable]
"""A method: the Runnable for a task, on servers that all tasks share."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as its user saw it."""

    began_s: float
    ended_s: float
    ttft_s: float
    tokens: int
    split: bool

    @property
    def wall_s(self) -> float:
        """How long the user waited for all of it."""
        return self.ended_s - self.began_s


async def answer(build: Build[S], task: S) -> tuple[Answered, Report]:
    """Ask once.

    Raises:
        RuntimeError: The answer is not whole: the simulation itself is wrong.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    report = Report.from_message(await build(task).ainvoke(task.question))
    if report.status == "partial" or report.ttft_s is None:
        msg = f"the simulated run of {task.question!r} failed: {report.warnings}"
        raise RuntimeError(msg)
    tokens = sum(node.usage.output_tokens for node in report.nodes)
    split = report.status == "complete"
    return Answered(began, loop.time(), report.ttft_s, tokens, split), report


async def crowd(
    build: Build[Task], tasks: Sequence[Task], users: int, rounds: int
) -> list[Answered]:
    """Users who each ask one question after the other, without a pause.

    They come one by one within what the first steps take, as people do: all at the same instant would
    find empty servers.
    """
    found: list[Answered] = []

    async def user(number: int) -> None:
        await asyncio.sleep(number * 0.05)
        for round_ in range(rounds):
            task = tasks[(number * rounds + round_) % len(tasks)]
            # Nobody asks another one's question, so no cache knows more than the planner's beginning.
            unlike = replace(task, question=f"User {number}.{round_}: {task.question}")
            found.append((await answer(build, unlike))[0])

    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(user(number))
    return found
