"""From a conversation to a skeleton, node by node, while the planner's model still writes.

A plan that cannot be used is asked for once more, with the reason; after that the question is answered
plainly. Nothing here raises for what a model wrote, and what is read depends on the text alone, not on
where its chunks end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from langchain_core.messages import BaseMessage

from langchain_sgd.planning.reading import CHOSEN, Reading, ReadLine
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node, Skeleton
from langchain_sgd.wire import Form

Mode = Literal["auto", "always", "never"]
"""Whether to split a question: the planner decides, always if a skeleton comes, never."""


class OnText(Protocol):
    """Takes a piece of the planner's text."""

    def __call__(self, text: str, /, first: Mapping[str, float] | None = None) -> bool | None:
        """Read it; True: enough was read.

        Where they are known, `first` has the log-probabilities of what the first token might have been.
        """
        ...


Heard = Literal["all", "cut", "needless"]
"""How listening to the planner ended: nothing more was to come or to be read, a token limit cut the text, or
nobody needs a plan any more."""


class Ask(Protocol):
    """Streams one call of the planner's model."""

    async def __call__(
        self, messages: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool
    ) -> Heard:
        """Feed the text to `on_text` until it returns True, or nobody needs a plan any more.

        If `plain`, the grammar allows the plain word, else lines only.
        """
        ...


@dataclass(slots=True)
class Plan:
    """What planning came to."""

    nodes: list[Node] = field(default_factory=list)
    plain: str | None = None
    """Why there is no skeleton; None if there is one."""
    warnings: list[str] = field(default_factory=list)
    cut: bool = False
    """The planner failed half-way: the nodes are a beginning."""
    error: Exception | None = None
    """What broke the plan off, if it was the planner's model that failed."""
    failed: bool = False
    """The planner's model failed: whether the question splits is not known."""
    needless: bool = False
    """Nobody needed it any more: whether the question splits is not known."""
    cached: bool = False
    """The planner was not asked: it has answered this question before."""

    @property
    def skeleton(self) -> Skeleton | None:
        """The nodes as a skeleton; None if the question is answered undivided."""
        return Skeleton(nodes=tuple(self.nodes)) if self.plain is None else None


async def plan(
    conversation: Sequence[BaseMessage],
    ask: Ask,
    *,
    prompts: Prompts,
    max_nodes: int,
    mode: Mode,
    on_node: Callable[[Node], None],
    on_void: Callable[[], None] | None = None,
    read_line: ReadLine | None = None,
    form: Form = "lines",
    begun: Sequence[Node] = (),
    plain_above: float | None = None,
) -> Plan:
    """Ask for a skeleton; `on_node` gets each node once it stands.

    The first node is held until the second has begun, because a skeleton of one node is answered
    plainly instead. `on_void` is told when all nodes given so far were part of a thought
    that only its end shows to be one; without it, they stay.

    With `begun`, the nodes that an interrupted planner had written already, the plan goes on from them;
    they are not given again.

    If `plain_above` is given and the server gives log-probabilities, the probability of the plain word
    decides, whatever the planner then wrote: at this one or above, the question stays whole; below it, a
    planner that said plain is asked once more, for lines only.

    Raises:
        Exception: What the model raises, if no node was given yet; later the nodes given are the plan.
    """
    warnings: list[str] = []
    problem: str | None = None
    question = conversation[-1].text
    plain = mode == "auto"
    for _ in range(2):
        reading = Reading(
            max_nodes,
            on_node,
            on_void,
            read_line=read_line,
            question=question,
            examples=prompts.examples,
            begun=begun,
            plain_above=plain_above if plain else None,
        )
        messages = prompts.for_planner(
            conversation, max_nodes=max_nodes, form=form, problem=problem, begun=begun
        )
        try:
            heard = await ask(messages, reading.feed, plain=plain)
        except Exception as error:
            if not reading.given or len(reading.nodes) == len(begun):
                raise
            reading.close(cut=True)
            return Plan(
                reading.nodes, warnings=[*warnings, *reading.warnings], cut=True, error=error
            )
        if heard == "needless":
            return Plan(plain="the answer was whole before its plan", needless=True)
        cut = heard == "cut"
        broken = reading.close(cut=cut)
        warnings += reading.warnings
        if reading.given:
            if cut or broken:
                what = "a token limit cut the plan" if cut else "the plan ends in the middle"
                warnings.append(f"{what}; the answer may lack parts")
            return Plan(reading.nodes, warnings=warnings, cut=cut or broken)
        if reading.whole is not None:
            return Plan(plain=reading.whole, warnings=warnings)
        if reading.is_unsure:
            plain = False
            continue
        if mode == "auto" and reading.plain:
            return Plan(plain=CHOSEN, warnings=warnings)
        if mode == "auto" and reading.has_one_part:
            return Plan(plain="the plan has one part only", warnings=warnings)
        problem = reading.problem
        warnings.append(f"unusable plan: {problem}")
    if problem is None:
        return Plan(plain=CHOSEN, warnings=warnings)
    return Plan(plain=f"no usable skeleton after one repair: {problem}", warnings=warnings)
