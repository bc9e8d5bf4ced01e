"""What a bundled model is asked, as the text of one user turn: made by the package's own prompts.

Training, evaluation and tests use these, so that a model meets the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from langchain_core.messages import HumanMessage

from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.skeleton import Skeleton

_MAX_NODES = 16
"""Not a word of the templates uses it."""


def planner_prompt(question: str) -> str:
    """The user turn that asks for a skeleton."""
    messages = BRIEFS_PROMPTS.for_planner([HumanMessage(question)], max_nodes=_MAX_NODES)
    return str(messages[-1].content)


def node_prompt(question: str, skeleton: Skeleton, heading: str, answers: Mapping[str, str]) -> str:
    """The user turn that asks for one section; `answers` are those of other sections by heading."""
    node = next(n for n in skeleton.nodes if n.heading == heading)
    messages = BRIEFS_PROMPTS.for_node(
        [HumanMessage(question)],
        node,
        planned=skeleton.up_to(node),
        answers={n.id: answers[n.heading] for n in skeleton.nodes if n.heading in answers},
    )
    return str(messages[-1].content)


def skeleton_text(skeleton: Skeleton) -> str:
    """The skeleton in the package's wire format."""
    return "".join(
        f"{n.id}|{n.heading}|{n.scope}|{','.join(n.dependencies) or '-'}|{n.difficulty}\n"
        for n in skeleton.nodes
    )
