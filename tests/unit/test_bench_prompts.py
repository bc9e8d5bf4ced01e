"""Prompts without one idea: only that idea must be missing."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_sgd.bench._prompts import AnswersWithheld, NodeFirst
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import NodeId
from tests.support.skeletons import skeleton

QUESTION = "Which way is best?\n\nBe short."
CONVERSATION: list[BaseMessage] = [
    SystemMessage("Be polite."),
    HumanMessage("Hello"),
    AIMessage("Hi"),
    HumanMessage(QUESTION),
]
MADE = skeleton("1", "2", "3 <- 1,2")
ANSWERS = {NodeId("1"): "By train.\n\nSlowly.", NodeId("2"): "By plane."}
BOTH = pytest.mark.parametrize("prompts", [Prompts(), BRIEFS_PROMPTS], ids=["default", "briefs"])


def asked(
    prompts: Prompts, index: int = 2, answers: dict[NodeId, str] = ANSWERS
) -> list[BaseMessage]:
    node = MADE.nodes[index]
    return prompts.for_node(CONVERSATION, node, planned=MADE.up_to(node), answers=answers)


@BOTH
def test_withheld_answers_are_all_that_is_missing(prompts: Prompts) -> None:
    variant = AnswersWithheld.of(prompts)
    assert asked(variant) == asked(prompts, answers={})
    assert "By train" not in str(asked(variant)[-1].text)
    assert "By train" in str(asked(prompts)[-1].text)
    assert asked(variant, 0, {}) == asked(prompts, 0, {})


@BOTH
def test_with_the_node_first_no_prompts_begin_alike_and_nothing_is_lost(prompts: Prompts) -> None:
    variant = NodeFirst.of(prompts)
    changed, usual = asked(variant), asked(prompts)
    assert changed[:-1] == usual[:-1]
    last = str(changed[-1].text)
    assert last == f"Heading 3. {usual[-1].text}"
    others = [str(asked(variant, n, {})[-1].text) for n in (0, 1)]
    assert {text.partition(".")[0] for text in (last, *others)} == {
        "Heading 1",
        "Heading 2",
        "Heading 3",
    }


@BOTH
@pytest.mark.parametrize("kind", [AnswersWithheld, NodeFirst])
def test_the_planner_is_asked_as_always(
    prompts: Prompts, kind: type[AnswersWithheld | NodeFirst]
) -> None:
    usual = prompts.for_planner(CONVERSATION, max_nodes=7)
    assert kind.of(prompts).for_planner(CONVERSATION, max_nodes=7) == usual
