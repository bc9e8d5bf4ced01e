"""What is replayed on a GPU: the recorded texts, found by the prompt that asks for them."""

from __future__ import annotations

from typing import Any

from langchain_sgd.prompts import Prompts
from tests.servers.replay import texts_of

USAGE = {"usage": {"output_tokens": 7}}
SKELETON = {
    "nodes": [
        {"id": "1", "heading": "Rent", "dependencies": [], "difficulty": 2},
        {"id": "2", "heading": "Verdict", "dependencies": ["1"], "difficulty": 4},
    ]
}


def row(
    tier: str | None, question: str = "Rent or buy?", error: str | None = None
) -> dict[str, Any]:
    def node(name: str, text: str, by: str) -> dict[str, Any]:
        return {"id": name, "answer": text, "tier": by, "attempts": [USAGE]}

    if tier is None:
        report: dict[str, Any] = {"skeleton": None, "nodes": [node("@plain", "All.", "large")]}
    else:
        nodes = [node("1", f"By {tier}.", tier), node("2", "At last.", "large")]
        report = {"skeleton": SKELETON, "planner": {"attempts": [USAGE]}, "nodes": nodes}
    return {"question": question, "error": error, "report": report}


def test_each_model_has_the_texts_that_it_wrote() -> None:
    texts = texts_of(iter([row(None), row("large"), row("small")]))["Rent or buy?"]
    assert texts["plain"] == ("All.", 7)
    assert texts["plan"] == ("1 Rent\n2 Verdict <1 *", 7)
    assert texts["parts"]["small"] == {"1": ("By small.", 7)}
    assert texts["parts"]["large"] == {"1": ("By large.", 7), "2": ("At last.", 7)}


def test_a_question_that_some_method_did_not_answer_is_left_out() -> None:
    failed = row("small", "And boats?", error="Error: no")
    assert texts_of(iter([row(None, "And boats?"), row("large", "And boats?"), failed])) == {}


def test_the_prompts_are_those_that_are_looked_for() -> None:
    prompts = Prompts()
    assert prompts.planner.startswith("Plan long answers")
    assert 'Write only part {id}, "' in prompts.node
