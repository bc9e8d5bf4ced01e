"""From a conversation to a skeleton, node by node, while the planner's model still writes.

A plan that cannot be used is asked for once more, with the reason; after that the question is answered
plainly. Nothing here raises for what a model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from langchain_core.messages import BaseMessage

from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.planning.wire import MIN_NODES
from langchain_sgd.prompts import PLAIN_WORD, Prompts
from langchain_sgd.skeleton import Draft, Node, Repairer, Skeleton, clean_line

_LONG_QUESTION = 4
"""Words from which a heading that equals the question is no heading."""
_UNREAD_SHOWN = 3

Mode = Literal["auto", "always", "never"]
"""Whether to split a question: the planner decides, always if a skeleton comes, never."""

ReadLine = Callable[[str], Draft | None]
"""Reads one line of the planner's text; None if it is no node."""


class Ask(Protocol):
    """Streams one call of the planner's model."""

    async def __call__(
        self, messages: Sequence[BaseMessage], on_text: Callable[[str], bool | None], /
    ) -> bool:
        """Feed the text to `on_text` until it returns True; whether a token limit cut the text."""
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
    failed: bool = False
    """The planner's model failed: whether the question splits is not known."""

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
    on_heading: Callable[[str], None] | None = None,
    read_line: ReadLine | None = None,
    begun: Sequence[Node] = (),
) -> Plan:
    """Ask for a skeleton; `on_node` gets each node once it stands.

    The first node is held until the second has begun, because a skeleton of one node is answered
    plainly instead. `on_heading` gets its heading before that, as soon as it is closed, on trust: what
    follows may still be no skeleton.

    With `begun`, the nodes that an interrupted planner had written already, the plan goes on from them;
    they are not given again.

    Raises:
        Exception: What the model raises, if no node was given yet; later the nodes given are the plan.
    """
    warnings: list[str] = []
    problem: str | None = None
    question = conversation[-1].text
    example = "" if question.strip() in prompts.planner else prompts.planner
    for _ in range(2):
        reading = _Reading(
            max_nodes,
            on_node,
            on_heading,
            read_line=read_line,
            question=question,
            example=example,
            begun=begun,
        )
        messages = prompts.for_planner(
            conversation, max_nodes=max_nodes, problem=problem, begun=begun
        )
        try:
            cut = await ask(messages, reading.feed)
        except Exception as error:
            if len(reading.nodes) == len(begun):
                raise
            warnings += reading.warnings
            warnings.append(
                f"the planner broke off after {len(reading.nodes)} nodes; the answer may lack parts:"
                f" {str(error) or type(error).__name__}"
            )
            return Plan(reading.nodes, warnings=warnings, cut=True)
        reading.close(cut=cut)
        warnings += reading.warnings
        if reading.given:
            if cut:
                warnings.append("a token limit cut the plan; the answer may lack parts")
            return Plan(reading.nodes, warnings=warnings, cut=cut)
        if mode == "auto" and reading.plain:
            return Plan(plain="the planner chose to answer undivided", warnings=warnings)
        if mode == "auto" and (reading.nodes or reading.echoed):
            return Plan(plain="the plan has one part only", warnings=warnings)
        problem = reading.problem
        warnings.append(f"unusable plan: {problem}")
    return Plan(plain=f"no usable skeleton after one repair: {problem}", warnings=warnings)


class _Reading:
    """One attempt's text on its way to nodes."""

    def __init__(
        self,
        max_nodes: int,
        on_node: Callable[[Node], None],
        on_heading: Callable[[str], None] | None,
        *,
        read_line: ReadLine | None,
        question: str,
        example: str,
        begun: Sequence[Node] = (),
    ) -> None:
        self._parser = SkeletonParser(read_line, early=on_heading is not None)
        self._repairer = Repairer(max_nodes, list(begun))
        self._begun = {str(node.id) for node in begun}
        self._on_node = on_node
        self._on_heading = on_heading
        self._question = _words(question)
        self._example = example
        self.given = bool(begun)
        """Nodes were handed out: there is a skeleton, whatever comes."""
        self.echoed = False
        """A part was the question itself."""
        self._parroted = False
        """The plan is that of an example in the prompt."""
        self._over = False
        """More nodes came than are taken."""

    @property
    def nodes(self) -> list[Node]:
        return self._repairer.nodes

    @property
    def warnings(self) -> list[str]:
        return self._repairer.warnings

    @property
    def plain(self) -> bool:
        return self._parser.plain

    @property
    def problem(self) -> str:
        if self.plain:
            return f"this question must be split; {PLAIN_WORD} is not allowed."
        if self._parroted:
            return "it repeats an example; plan the question itself."
        if self.nodes or self.echoed:
            return f"it has one part only; at least {MIN_NODES} are needed."
        return "it holds no line of the form number|heading|scope|needed|difficulty."

    def feed(self, text: str) -> bool:
        """Read more; True when enough was read."""
        self._admit(self._parser.feed(text))
        if self._on_heading is not None and self._parser.heading is not None:
            self._announce(self._on_heading, clean_line(self._parser.heading))
        if self._parser.begun and not self.given and self.nodes:
            self._give(self.nodes)
        if self._repairer.full and self._parser.begun:
            self._over = True
        return self.plain or self._parroted or self._over

    def close(self, *, cut: bool) -> None:
        self._admit(self._parser.close(cut=cut))
        if self._over:
            self.warnings.append(f"the planner wrote more than {self._repairer.max_nodes} nodes")
            return  # the model was stopped in the middle of a line
        self.warnings.extend(
            f"could not read a line of the plan: {line[:80]!r}"
            for line in self._parser.unread[:_UNREAD_SHOWN]
        )

    def _admit(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            if draft.id.strip() in self._begun or self._parroted or self._repeats(draft):
                continue
            if self._repairer.full:
                self._over = True
                return
            node = self._repairer.admit(draft)
            if node is None:
                continue
            if self.given:
                self._on_node(node)
            elif len(self.nodes) >= MIN_NODES:
                self._give(self.nodes)

    def _announce(self, on_heading: Callable[[str], None], heading: str) -> None:
        """Give the first heading, once, unless the node may be one that is left out."""
        self._on_heading = None
        is_left_out = f"|{heading}|" in self._example or self._is_question(heading)
        if heading and not is_left_out:
            on_heading(heading)

    def _is_question(self, heading: str) -> bool:
        return len(self._question) >= _LONG_QUESTION and _words(heading) == self._question

    def _repeats(self, draft: Draft) -> bool:
        """Whether it is the question again, or, at the plan's beginning, an example of the prompt."""
        if draft.scope and not self.nodes and f"|{draft.heading}|{draft.scope}|" in self._example:
            self._parroted = True
            return True
        if self._is_question(draft.heading):
            self.warnings.append(f"left out node {draft.id!r}: it repeats the question")
            self.echoed = True
            return True
        return False

    def _give(self, nodes: Sequence[Node]) -> None:
        self.given = True
        for node in nodes:
            self._on_node(node)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
