from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import ValidationError

from langchain_sgd.planning.parsing import parse_line
from langchain_sgd.prompts import PLAIN_WORD, Prompts, extended
from langchain_sgd.skeleton import Node, Skeleton
from tests.support.skeletons import skeleton, skeletons

PROMPTS = Prompts()
QUESTION = [HumanMessage("Compare {trains} and {0} planes }{ %s \\n.")]
FIELDS = {
    "planner": ["max_nodes"],
    "repair": ["problem"],
    "outline": [],
    "line": ["id", "heading", "scope", "dependencies", "difficulty"],
    "dependencies": [],
    "dependency": ["id", "heading", "answer"],
    "node": ["id", "heading", "scope", "difficulty"],
}

odd_texts = st.text(st.sampled_from("ab{}|%\\\n\"'<é😀 ")) | st.text(max_size=8)


def node_prompt(value: Skeleton, node: Node, answers: dict[str, str] | None = None) -> str:
    (message,) = PROMPTS.for_node(
        QUESTION,
        node,
        planned=value.up_to(node),
        answers={d: (answers or {}).get(d, f"answer {d}") for d in node.dependencies},
    )
    return str(message.content)


class TestTemplates:
    @pytest.mark.parametrize("name", FIELDS)
    def test_every_field_is_given_and_no_other(self, name: str) -> None:
        assert name in Prompts.model_fields
        Prompts.model_validate({name: "".join(f"{{{field}}}" for field in FIELDS[name])})
        with pytest.raises(ValidationError, match=rf"'{name}' template names 'nonsense'"):
            Prompts.model_validate({name: "{nonsense}"})

    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            ("{", "not a format string"),
            ("}", "not a format string"),
            ("{id:zz}", "not a format string"),
            ("{id:{width}}", "not a format string"),
            ("{}", "names ''"),
            ("{0}", "names '0'"),
            ("{heading.__class__}", "names 'heading.__class__'"),
            ("{heading[0]}", r"names 'heading\[0\]'"),
        ],
    )
    def test_a_template_that_could_not_be_filled_is_refused(
        self, template: str, reason: str
    ) -> None:
        with pytest.raises(ValidationError, match=reason):
            Prompts(node=template)

    @pytest.mark.parametrize("name", FIELDS)
    def test_a_doubled_brace_is_a_brace_in_every_template(self, name: str) -> None:
        prompts = Prompts.model_validate({name: "<{{x}}>"})
        value = skeleton("1", "2 <- 1")
        texts = [
            *prompts.for_planner(QUESTION, max_nodes=5, problem="p"),
            *prompts.for_node(
                QUESTION, value["2"], planned=value.nodes, answers={value["1"].id: "a"}
            ),
        ]
        assert "<{x}>" in "".join(str(m.content) for m in texts)

    def test_a_misspelt_template_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            Prompts.model_validate({"plannner": ""})

    @given(odd_texts, odd_texts, odd_texts)
    def test_braces_in_the_users_and_the_models_words_are_harmless(
        self, question: str, heading: str, answer: str
    ) -> None:
        nodes = [
            {"id": 1, "heading": heading or "H", "scope": answer},
            {"id": 2, "heading": "second", "dependencies": [1]},
        ]
        if not nodes[0]["heading"].strip():  # type: ignore[attr-defined]
            return
        value = Skeleton.parse(nodes)
        asked = [HumanMessage(question)]
        (message,) = PROMPTS.for_node(
            asked, value["2"], planned=value.nodes, answers={value["1"].id: answer}
        )
        text = str(message.content)
        assert text.startswith(question)
        assert f"\n\n## {value['1'].heading}\n\n{answer}\n\n---\n" in text
        (message,) = PROMPTS.for_planner(asked, max_nodes=5, problem=answer)
        assert str(message.content).startswith(question)
        assert answer in str(message.content)


class TestPrefix:
    @given(skeletons())
    def test_two_nodes_share_all_up_to_the_earlier_ones_line(self, value: Skeleton) -> None:
        prompts = [node_prompt(value, node) for node in value.nodes]
        outline = str(QUESTION[0].content) + PROMPTS.outline
        for index, node in enumerate(value.nodes):
            outline += PROMPTS.line_of(node)
            for later in prompts[index:]:
                assert later.startswith(outline)

    def test_planner_and_nodes_share_the_conversation(self) -> None:
        value = skeleton("1", "2 <- 1")
        (planner,) = PROMPTS.for_planner(QUESTION, max_nodes=9)
        for text in (str(planner.content), node_prompt(value, value["2"])):
            assert text.startswith(str(QUESTION[0].content))

    def test_a_repair_begins_with_the_first_request(self) -> None:
        (first,) = PROMPTS.for_planner(QUESTION, max_nodes=9)
        (again,) = PROMPTS.for_planner(QUESTION, max_nodes=9, problem="it was empty.")
        assert str(again.content).startswith(str(first.content))
        assert "it was empty." in str(again.content)

    def test_lines_at_hand_change_nothing(self) -> None:
        value = skeleton("1", "2", "3 <- 1,2")
        lines = [PROMPTS.line_of(node) for node in value.nodes]
        answers = {value["2"].id: "two", value["1"].id: "one"}
        one, other = (
            PROMPTS.for_node(
                QUESTION, value["3"], planned=value.nodes, answers=answers, lines=given
            )
            for given in (None, lines)
        )
        assert one == other


class TestOrder:
    def test_question_outline_answers_in_skeleton_order_own_part_last(self) -> None:
        value = skeleton("1", "2", "3", "4 <- 3,1")
        text = node_prompt(value, value["4"])
        places = [
            text.index(part)
            for part in (
                "Compare",
                "The parts, as far as planned:",
                "\n1. Heading 1: what 1 covers",
                "\n4. Heading 4: what 4 covers",
                "already written",
                "## Heading 1\n\nanswer 1",
                "## Heading 3\n\nanswer 3",
                'Write part 4, "Heading 4"',
            )
        ]
        assert places == sorted(places)
        assert "answer 2" not in text

    def test_a_node_without_dependencies_hears_of_none(self) -> None:
        value = skeleton("1", "2")
        assert "already written" not in node_prompt(value, value["2"])

    def test_a_node_without_scope_covers_its_heading(self) -> None:
        value = Skeleton.parse([{"id": 1, "heading": "Costs"}])
        assert "It covers: Costs\n" in node_prompt(value, value["1"])


class TestConversation:
    HISTORY: tuple[BaseMessage, ...] = (
        SystemMessage("Be brief."),
        HumanMessage("Hello"),
        AIMessage("Hi"),
    )

    def test_system_prompt_and_history_reach_planner_and_nodes(self) -> None:
        value = skeleton("1")
        asked = [*self.HISTORY, HumanMessage("Why?", name="eva")]
        for messages in (
            PROMPTS.for_planner(asked, max_nodes=5),
            PROMPTS.for_node(asked, value["1"], planned=value.nodes, answers={}),
        ):
            assert messages[:-1] == list(self.HISTORY)
            assert isinstance(messages[-1], HumanMessage)
            assert messages[-1].name == "eva"
            assert str(messages[-1].content).startswith("Why?\n\n---\n")

    def test_images_stay_and_the_text_comes_last(self) -> None:
        image: dict[str, Any] = {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,AA=="},
        }
        content: list[str | dict[str, Any]] = [{"type": "text", "text": "What is it?"}, image]
        (message,) = extended([HumanMessage(content)], "\nmore")
        assert message.content == [*content, {"type": "text", "text": "\nmore"}]

    @pytest.mark.parametrize(
        "last",
        [AIMessage("I said"), ToolMessage("found", tool_call_id="1"), SystemMessage("Be brief.")],
    )
    def test_another_role_at_the_end_is_followed_by_a_message(self, last: BaseMessage) -> None:
        assert extended([*self.HISTORY, last], "\n\n---\nmore") == [
            *self.HISTORY,
            last,
            HumanMessage("---\nmore"),
        ]

    def test_what_was_passed_in_is_not_changed(self) -> None:
        content: list[str | dict[str, Any]] = [{"type": "text", "text": "Q"}]
        asked = [HumanMessage(content)]
        extended(asked, "more")
        assert asked[0].content == [{"type": "text", "text": "Q"}]


class TestPlannersPrompt:
    def test_its_examples_are_skeletons_in_the_wire_format(self) -> None:
        """Each is a sound skeleton by itself, and together they show both ways to answer."""
        blocks = PROMPTS.planner.split("\nQuestion: ")[1:]
        assert len(blocks) >= 3
        plain = 0
        for block in blocks:
            _, *lines = block.split("\n\n")[0].strip().splitlines()
            if lines == [PLAIN_WORD]:
                plain += 1
                continue
            drafts = [draft for line in lines if (draft := parse_line(line))]
            assert len(drafts) == len(lines) >= 2
            found = Skeleton.parse(
                [
                    {
                        "id": d.id,
                        "heading": d.heading,
                        "scope": d.scope,
                        "dependencies": d.dependencies,
                        "difficulty": d.difficulty,
                    }
                    for d in drafts
                ]
            )
            assert found.width > 1 or len(found.roots) == 1
        assert plain == 1

    def test_the_limit_is_said(self) -> None:
        fields = [f for _, f, _, _ in string.Formatter().parse(PROMPTS.planner) if f]
        assert fields == ["max_nodes"]
        (message,) = PROMPTS.for_planner(QUESTION, max_nodes=37)
        assert "at most 37." in str(message.content)

    def test_it_is_short(self) -> None:
        # The planner's prefill is paid by every question, split or not.
        assert len(PROMPTS.planner) < 2_400
