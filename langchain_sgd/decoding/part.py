"""A part of the answer as a value: what is to be written, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_sgd.decoding.context import TOKENS_A_WORD
from langchain_sgd.decoding.length import Share
from langchain_sgd.events import Ended
from langchain_sgd.journal import Forgetful, Journal
from langchain_sgd.report import NodeReport
from langchain_sgd.skeleton import Node, NodeId
from langchain_sgd.tiers import Tier


@dataclass(frozen=True, slots=True)
class Outline:
    """What is planned when a part begins."""

    nodes: Sequence[Node]
    lines: Sequence[str] | None = None
    """The nodes as prompts show them, if they are at hand."""
    complete: bool = True
    """No more nodes will come."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be written, and by whom it may be."""

    id: NodeId
    run_name: str
    messages: Sequence[BaseMessage]
    path: Sequence[Tier]
    """The tiers to try, in order: the chosen one and the larger ones."""
    heading: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    smaller: Sequence[Tier] = ()
    """Asked in turn if none of them could answer: a smaller model's text is better than a gap."""
    node: Node | None = None
    """None for an undivided answer."""
    planned_s: float = 0.0
    begun: Callable[[], Sequence[BaseMessage]] | None = None
    """Makes what a server is given in place of `messages` that goes on with a last message of the model's
    own; None: nobody is given such a thing."""
    share: Share | None = None
    """Its length; None: as long as the writer likes."""
    outline: str = ""
    """What is planned, as its prompt shows it."""
    question: Sequence[BaseMessage] = ()
    """What is asked where it is planned and written in parts itself."""
    journal: Journal = field(default_factory=Forgetful)
    """Where those are kept."""

    def least_words(self, tier: Tier, least_share: float) -> int:
        """With fewer words, the text of a tier that has a larger one beside it is not taken."""
        if self.share is None or self.node is None or tier is self.path[-1]:
            return 0
        return 0 if tier in self.smaller else round(self.share.words * least_share)

    @property
    def name(self) -> str:
        """As warnings call it."""
        return "undivided answer" if self.node is None else f"node {self.id}"

    @property
    def expected_tokens(self) -> int:
        """Of its text; 0 where nobody knows."""
        return 0 if self.share is None else round(self.share.words * TOKENS_A_WORD)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a part; nobody has been told of its end yet."""

    report: NodeReport
    cause: BaseException | None = None
    """What was raised last, if the part has no answer or one that an error broke off."""

    @property
    def has_come_to_its_end(self) -> bool:
        """Whether there is an answer, and no error broke it off."""
        return bool(self.report.answer) and self.cause is None

    def ended(self) -> Ended:
        """The event that tells of it."""
        report = self.report
        return Ended(report.id, report.status, report.answer, report.ended_s, report)
