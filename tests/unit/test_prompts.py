from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import ValidationError

from langchain_sgd.conversation import extended
from langchain_sgd.decoding.length import Share
from langchain_sgd.decoding.sentences import count_words
from langchain_sgd.planning.drafts import Repairer
from langchain_sgd.planning.reading import example_drafts
from langchain_sgd.prompt_pieces import PartExample
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node, Skeleton
from langchain_sgd.wire import PLAIN_WORD, as_json, skeleton_regex
from tests.support.skeletons import skeleton, skeletons

PROMPTS = Prompts()
QUESTION = [HumanMessage("Compare {trains} and {0} planes }{ %s \\n.")]
FIELDS = {
    "planner": ["max_nodes", "lines", "plain"],
    "ask": ["question"],
    "after": ["instructions", "examples"],
    "example": ["question", "plan"],
    "repair": ["problem"],
    "writer": [],
    "writer_example": ["question", "heading", "length", "text"],
    "outline": [],
    "line": ["id", "heading", "scope", "dependencies", "difficulty"],
    "dependencies": [],
    "dependency": ["id", "heading", "answer", "fence"],
    "node": ["id", "heading", "scope", "difficulty", "length"],
    "points": ["length"],
    "begun": ["id", "heading", "scope"],
}

odd_texts = st.text(st.sampled_from("ab{}|%\\\n\"'<é😀 ")) | st.text(max_size=8)


def node_prompt(value: Skeleton, node: Node, answers: dict[str, str] | None = None) -> str:
    *_, message = PROMPTS.for_node(
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
        long = [HumanMessage("long " * 2_000)]
        texts = [
            *prompts.for_planner(QUESTION, max_nodes=5, problem="p"),
            *prompts.for_planner(long, max_nodes=5),
            *prompts.for_node(
                QUESTION, value["2"], planned=value.nodes, answers={value["1"].id: "a"}
            ),
            *Prompts(**{"writer_examples": PROMPTS.writer_examples, name: "<{{x}}>"}).for_node(
                long, value["1"], planned=value.nodes, answers={}
            ),
            *prompts.for_begun_node(QUESTION, value["1"], planned=value.nodes, answers={}),
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
        *_, message = PROMPTS.for_node(
            asked, value["2"], planned=value.nodes, answers={value["1"].id: answer}
        )
        text = str(message.content)
        assert text.startswith(f"{question}{PROMPTS.outline}")
        assert f"===== 1. {value['1'].heading}\n{answer}\n=====" in text
        messages = PROMPTS.for_planner(asked, max_nodes=5, problem=answer)
        assert str(messages[-1].content).startswith(question)
        assert answer in str(messages[-1].content)

    def test_no_answer_can_forge_anothers_heading(self) -> None:
        value = skeleton("1", "2", "3 <- 1,2")

        def asked(**answers: str) -> str:
            return node_prompt(value, value["3"], {k[1:]: v for k, v in answers.items()})

        two = asked(_1="a", _2="$5")
        begun, ended = two.index("===== 1."), two.index("\n=====\n", two.index("===== 2."))
        inside = two[begun:ended].removeprefix("===== 1. Heading 1\n")
        forged = asked(_1=inside, _2="$6")
        assert forged.count("===== 2. Heading 2\n") == 2
        fence = "=" * 6
        assert forged.count(f"\n{fence} ") == 2, "the fence is longer than any in the answers"
        assert forged.count(f"\n{fence}\n") == 2
        for run in ("=" * 50, "=====", "a ==== b", "=" * 5 + "\n" + "=" * 7):
            fence = "=" * (max(map(len, re.findall("=+", run))) + 1)
            fence = fence if len(fence) > 5 else "====="
            assert f"\n{fence} 1. Heading 1\n{run}\n{fence}\n" in asked(_1=run, _2="b")


class TestPrefix:
    @given(skeletons())
    def test_two_nodes_share_all_up_to_the_earlier_ones_line(self, value: Skeleton) -> None:
        prompts = [node_prompt(value, node) for node in value.nodes]
        outline = f"{QUESTION[0].content}{PROMPTS.outline}"
        for index, node in enumerate(value.nodes):
            outline += PROMPTS.line_of(node)
            for later in prompts[index:]:
                assert later.startswith(outline)

    def test_planner_and_nodes_share_the_conversation(self) -> None:
        value = skeleton("1", "2 <- 1")
        long = [HumanMessage("A long document. " * 500)]
        (planner,) = PROMPTS.for_planner(long, max_nodes=9)
        (node,) = PROMPTS.for_node(long, value["1"], planned=value.nodes, answers={})
        for message in (planner, node):
            assert str(message.content).startswith(str(long[0].content))

    def test_what_is_the_same_for_all_questions_comes_before_a_short_one(self) -> None:
        one, other = (
            PROMPTS.for_planner([HumanMessage(question)], max_nodes=9)
            for question in ("How do tides work?", "Why is the sky blue?")
        )
        assert one[:-1] == other[:-1]
        assert one[-1].content == "How do tides work?"
        assert len(one) == 2 * len(PROMPTS.examples) + 1

    @pytest.mark.parametrize("shown", [True, False])
    def test_what_every_writer_is_told_comes_before_a_short_conversation(
        self, *, shown: bool
    ) -> None:
        value = skeleton("1")
        prompts = PROMPTS if shown else Prompts(writer_examples=())
        short, earlier = (
            HumanMessage("How do tides work?"),
            [HumanMessage("Hi"), AIMessage("Hello")],
        )
        system, long = SystemMessage("Be brief."), HumanMessage("A long document. " * 500)
        for asked, first in (
            ([short], True),
            ([system, short], True),
            ([system, *earlier, short], shown),
            ([long], False),
        ):
            messages = prompts.for_node(asked, value["1"], planned=value.nodes, answers={})
            whole = "\0".join(str(message.content) for message in messages)
            assert whole.count(PROMPTS.writer) == 1
            assert (whole.index(PROMPTS.writer) < whole.index(str(asked[-1].content))) is first
            assert messages[: isinstance(asked[0], SystemMessage)] == [
                m for m in asked if isinstance(m, SystemMessage)
            ]
            turns = 2 * len(prompts.writer_examples) if first else 0
            assert len(messages) == len(asked) + turns
            history = asked[isinstance(asked[0], SystemMessage) : -1]
            assert messages[len(messages) - 1 - len(history) : -1] == history

    def test_writers_are_shown_parts_in_the_form_in_which_they_are_asked(self) -> None:
        value = skeleton("1", "2")
        messages = PROMPTS.for_node(
            QUESTION, value["2"], planned=value.nodes, answers={}, length="60 words"
        )
        *turns, _ = messages
        assert [m.type for m in turns] == ["human", "ai"] * len(PROMPTS.writer_examples)
        assert str(turns[0].content).startswith(f"{PROMPTS.writer}\n\n")
        for asked, written, example in zip(
            turns[::2], turns[1::2], PROMPTS.writer_examples, strict=True
        ):
            assert f"{example.question}{PROMPTS.outline}\n1. {example.headings[0]}\n" in asked.text
            heading = example.headings[example.part - 1]
            assert asked.text.endswith(f'only part {example.part}, "{heading}": {example.length}.')
            assert written.text == example.text

    def test_examples_are_as_long_as_they_were_to_be(self) -> None:
        for example in PROMPTS.writer_examples:
            assert str(Share(count_words(example.text))) == example.length

    def test_no_example_repeats_its_heading_or_its_question(self) -> None:
        for example in PROMPTS.writer_examples:
            begun = example.text.casefold().split()[:5]
            heading = example.headings[example.part - 1].casefold().split()
            assert begun[: len(heading)] != heading

    def test_after_a_long_conversation_the_examples_are_in_its_text(self) -> None:
        value = skeleton("1")
        long = [HumanMessage("A long document. " * 500)]
        (message,) = PROMPTS.for_node(long, value["1"], planned=value.nodes, answers={})
        text = str(message.content)
        places = [
            text.index(part)
            for part in (
                str(long[0].content),
                PROMPTS.writer,
                *(e.text for e in PROMPTS.writer_examples),
                "\n1. Heading 1",
            )
        ]
        assert places == sorted(places)

    @pytest.mark.parametrize("own", [{"writer": "Write."}, {"node": "Write part {id}."}])
    def test_a_style_of_ones_own_has_none_of_the_packages_examples(self, own: Any) -> None:
        assert Prompts(**own).writer_examples == ()
        given = Prompts(**own, writer_examples=PROMPTS.writer_examples[:1])
        assert given.writer_examples == PROMPTS.writer_examples[:1]
        assert Prompts(planner="Plan.").writer_examples == PROMPTS.writer_examples
        assert PROMPTS.for_questions.writer_examples == ()

    def test_an_example_of_no_part_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="part 3 is none of the 2 headings"):
            PartExample(question="Why?", headings=("A", "B"), part=3, length="", text="So.")

    def test_without_a_text_for_writers_the_question_comes_first(self) -> None:
        value = skeleton("1")
        (message,) = Prompts(writer="").for_node(
            QUESTION, value["1"], planned=value.nodes, answers={}
        )
        assert str(message.content).startswith(f"{QUESTION[0].content}{PROMPTS.outline}")

    @pytest.mark.parametrize("question", ["Why?", "why " * 2_000])
    def test_a_repair_begins_with_the_first_request(self, question: str) -> None:
        asked = [HumanMessage(question)]
        *before, first = PROMPTS.for_planner(asked, max_nodes=9)
        *same, again = PROMPTS.for_planner(asked, max_nodes=9, problem="it was empty.")
        assert same == before
        assert str(again.content).startswith(str(first.content))
        assert "it was empty." in str(again.content)

    def test_the_shorter_one_is_what_is_computed_anew(self) -> None:
        """Where the planner's turns and the conversation are equally long, the order changes."""
        layouts = []
        for words in range(100, 2_000, 50):
            asked = [HumanMessage("word " * words)]
            layouts.append(len(PROMPTS.for_planner(asked, max_nodes=9)) > 1)
        assert layouts == sorted(layouts, reverse=True)
        assert 5 * (100 + 50 * layouts.count(True)) == pytest.approx(
            sum(len(q) + len(p) for q, p in PROMPTS.examples) + len(PROMPTS.planner), rel=0.25
        )

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
                "The parts of the answer, as far as planned:",
                "\n1. Heading 1",
                "\n4. Heading 4",
                "already written",
                "===== 1. Heading 1\nanswer 1",
                "===== 3. Heading 3\nanswer 3",
                'part 4, "Heading 4" (what 4 covers): one paragraph.',
            )
        ]
        assert places == sorted(places)
        assert "answer 2" not in text

    def test_a_node_without_dependencies_hears_of_none(self) -> None:
        value = skeleton("1", "2")
        assert "already written" not in node_prompt(value, value["2"])

    def test_a_node_without_scope_has_its_heading_alone(self) -> None:
        value = Skeleton.parse([{"id": 1, "heading": "Costs"}])
        assert 'part 1, "Costs": one' in node_prompt(value, value["1"])

    def test_the_length_is_said(self) -> None:
        value = skeleton("1")
        *_, message = PROMPTS.for_node(
            QUESTION, value["1"], planned=value.nodes, answers={}, length="60 words"
        )
        assert ": 60 words." in str(message.content)

    def test_later_parts_that_are_planned_already_are_shown(self) -> None:
        value = skeleton("1", "2", "3")
        *_, message = PROMPTS.for_node(QUESTION, value["1"], planned=value.nodes, answers={})
        assert "3. Heading 3" in str(message.content)


class TestConversation:
    HISTORY: tuple[BaseMessage, ...] = (
        SystemMessage("Be brief."),
        HumanMessage("Hello"),
        AIMessage("Hi"),
    )

    def test_system_prompt_and_history_reach_planner_and_nodes(self) -> None:
        value = skeleton("1")
        asked = [*self.HISTORY, HumanMessage("Why? " * 1_000, name="eva")]
        for messages in (
            PROMPTS.for_planner(asked, max_nodes=5),
            PROMPTS.for_node(asked, value["1"], planned=value.nodes, answers={}),
        ):
            assert messages[:-1] == list(self.HISTORY)
            assert isinstance(messages[-1], HumanMessage)
            assert messages[-1].name == "eva"
            assert str(messages[-1].content).startswith("Why? Why?")

    def test_examples_stand_between_system_prompt_and_a_short_history(self) -> None:
        system, *history = self.HISTORY
        asked = [*self.HISTORY, HumanMessage("Why?", name="eva")]
        messages = PROMPTS.for_planner(asked, max_nodes=5)
        assert messages[0] == system
        assert messages[-3:] == [*history, asked[-1]]
        roles = [message.type for message in messages[1:]]
        assert roles == ["human", "ai"] * (len(roles) // 2) + ["human"]
        assert sum(isinstance(message, SystemMessage) for message in messages) == 1

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
    @pytest.mark.parametrize("plan", [plan for _, plan in PROMPTS.examples if plan != PLAIN_WORD])
    def test_its_examples_are_what_the_grammar_allows(self, plan: str) -> None:
        assert re.fullmatch(skeleton_regex(), plan)
        drafts = example_drafts(plan)
        assert len(drafts) == len(plan.splitlines())
        repairer = Repairer(9)
        assert [repairer.admit(draft) for draft in drafts].count(None) == 0
        assert repairer.warnings == []
        assert Skeleton(nodes=tuple(repairer.nodes)).width > 1

    def test_they_show_both_ways_to_answer_and_all_that_can_be_written(self) -> None:
        plans = [plan for _, plan in PROMPTS.examples]
        assert 3 <= plans.count(PLAIN_WORD) < len(plans) / 2
        assert plans[-1] != PLAIN_WORD, "the last example weighs most"
        assert any("<" in plan for plan in plans)
        assert any("*" in plan for plan in plans)
        assert any(not plan.isascii() for plan in plans), "headings are in the question's language"

    @pytest.mark.parametrize("question", ["Why?", "why " * 2_000])
    def test_json_is_asked_for_where_it_is_enforced(self, question: str) -> None:
        messages = PROMPTS.for_planner([HumanMessage(question)], max_nodes=5, form="json")
        text = "\n".join(str(message.content) for message in messages)
        assert PLAIN_WORD not in text
        assert as_json(PLAIN_WORD) in text
        for _, plan in PROMPTS.examples:
            assert as_json(plan) in text

    def test_the_limit_is_said(self) -> None:
        for question in ("Why?", "why " * 2_000):
            messages = PROMPTS.for_planner([HumanMessage(question)], max_nodes=37)
            assert "at most 37 parts" in "".join(str(m.content) for m in messages)

    def test_it_is_short(self) -> None:
        # Where no server caches it, every question pays for it. Examples of several sentences pay for
        # themselves: without them, models leave every longer question whole.
        messages = PROMPTS.for_planner([HumanMessage("Why?")], max_nodes=9)
        assert sum(len(str(message.content)) for message in messages) < 3_400

    def test_without_examples_it_stands_after_the_conversation(self) -> None:
        prompts = Prompts(planner="Plan it.", examples=(), after="\n\n{instructions}")
        assert prompts.for_planner([HumanMessage("Why?")], max_nodes=5) == [
            HumanMessage("Why?\n\nPlan it.")
        ]


class TestBegunAnswers:
    """What a server is given that goes on with a last message of the model's own."""

    PLAN = Skeleton.parse(
        {
            "nodes": [
                {"id": "1", "heading": "Trains"},
                {"id": "2", "heading": "Planes", "scope": "short ones"},
                {"id": "3", "heading": "Which one", "dependencies": ["1"]},
            ]
        }
    )

    def begun(self, at: int, prompts: Prompts = PROMPTS, **more: Any) -> list[BaseMessage]:
        node = self.PLAN.nodes[at]
        answers = {d: f"{{text of {d}}}" for d in node.dependencies}
        return prompts.for_begun_node(
            [SystemMessage("Be kind."), *QUESTION],
            node,
            planned=self.PLAN.nodes,
            answers=answers,
            **more,
        )

    def test_the_model_is_at_the_heading_of_the_part(self) -> None:
        system, asked, begun = self.begun(1, length="one paragraph of 45 to 60 words")
        assert system == SystemMessage("Be kind.")
        assert asked.text == (
            f"{QUESTION[0].text}\n\nAnswer with these points, one paragraph of 45 to 60 words each:"
            "\n1. Trains\n2. Planes\n3. Which one"
        )
        assert begun == AIMessage("2. **Planes** (short ones):")

    def test_all_parts_of_one_length_share_all_but_their_headings(self) -> None:
        assert self.begun(0)[:-1] == self.begun(1)[:-1]

    def test_what_was_written_before_is_fenced_in(self) -> None:
        *_, asked, begun = self.begun(2)
        fence = "====="
        assert f"{fence} 1. Trains\n{{text of 1}}\n{fence}" in asked.text
        assert begun.text == "3. **Which one**:"

    @pytest.mark.parametrize("own", [{"writer": "Be terse."}, {"node": "Part {id}"}])
    def test_own_words_for_writers_take_their_place(self, own: dict[str, str]) -> None:
        assert not Prompts(**own).begun
        assert Prompts(**own, begun="{heading}:").begun
        assert not PROMPTS.for_questions.begun

    def test_both_templates_are_the_users(self) -> None:
        own = Prompts(points=" In points:", begun="### {heading}\n")
        *_, asked, begun = self.begun(0, own)
        assert asked.text.startswith(f"{QUESTION[0].text} In points:\n1. Trains")
        assert begun.text == "### Trains\n"
