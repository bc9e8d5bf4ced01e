"""Prompts that lack one idea of the package, to measure what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from langchain_core.messages import BaseMessage

from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node, NodeId


class _Variant(Prompts):
    @classmethod
    def of(cls, prompts: Prompts) -> Self:
        """The same templates, put together otherwise."""
        return cls(**prompts.model_dump())


class AnswersWithheld(_Variant):
    """No node is shown what it depends on; the order of decoding stays."""

    def for_node(
        self,
        conversation: Sequence[BaseMessage],
        node: Node,
        *,
        planned: Sequence[Node],
        answers: Mapping[NodeId, str],
        lines: Sequence[str] | None = None,
        length: str = "",
    ) -> list[BaseMessage]:
        """What the model that decodes `node` is asked."""
        del answers
        return super().for_node(
            conversation, node, planned=planned, answers={}, lines=lines, length=length
        )


class NodeFirst(_Variant):
    """The node's heading comes before the question, so that no two prompts share it; else as always."""

    def for_node(
        self,
        conversation: Sequence[BaseMessage],
        node: Node,
        *,
        planned: Sequence[Node],
        answers: Mapping[NodeId, str],
        lines: Sequence[str] | None = None,
        length: str = "",
    ) -> list[BaseMessage]:
        """What the model that decodes `node` is asked."""
        *before, last = super().for_node(
            conversation, node, planned=planned, answers=answers, lines=lines, length=length
        )
        return [*before, last.model_copy(update={"content": f"{node.heading}. {last.text}"})]
