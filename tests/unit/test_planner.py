"""The planner with a scripted model: what it asks, what it hands out and when, what it comes to."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_sgd.planning.drafts import Draft
from langchain_sgd.planning.planner import Heard, Mode, OnText, Plan, plan
from langchain_sgd.planning.reading import plain_probability
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node, Skeleton
from langchain_sgd.wire import as_json
from tests.support.chunks import cut

QUESTION = [HumanMessage("How do I plan a garden in the north?")]
TWO = "1 Site\n2 Plants <1 *\n"
THREE = TWO + "3 Care\n"
EXAMPLE = Prompts().examples[0][1]
PLAIN = Plan(plain="the planner chose to answer undivided")

Chunk = str | Exception
PIECES = (
    *("1 Site\n", "2 Site\n", "2 Site and site *\n", "2 Plants <1 *\n", "3 Care\n", "3 Plants\n"),
    *("4 Soil: what it is and what it needs before anything grows there.\n", "4 C#\n", "5 C\n"),
    *(f"2 {QUESTION[0].text}\n", "5 Care <1,2", "6 Tools\n", "2|Water|when|1|3\n", "Prose.\n"),
    *(
        EXAMPLE.splitlines(keepends=True)[0],
        "1 A" + " and more" * 50,
        "2 Beds " * 17 + "\n",
        "PLAIN",
    ),
)
CUT = "\x00cut"
"""A chunk that stands for the token limit."""


class Scripted:
    """A model that says what it was told to, one script for each call; it stops when it is told to."""

    def __init__(self, *scripts: Sequence[Chunk]) -> None:
        self._scripts = list(scripts)
        self.asked: list[str] = []
        self.said: list[list[str]] = []
        self.plain: list[bool] = []
        self.first: Mapping[str, float] | None = None

    async def __call__(
        self, messages: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool
    ) -> Heard:
        self.asked.append(str(messages[-1].content))
        self.plain.append(plain)
        said: list[str] = []
        self.said.append(said)
        for chunk in self._scripts.pop(0):
            await asyncio.sleep(0)
            if isinstance(chunk, Exception):
                raise chunk
            if chunk == CUT:
                return "cut"
            said.append(chunk)
            if on_text(chunk, self.first):
                return "all"
        return "all"


async def planned(
    *scripts: Sequence[Chunk] | str,
    mode: Mode = "auto",
    max_nodes: int = 9,
    on_node: Callable[[Node], None] = lambda _: None,
    question: Sequence[BaseMessage] = QUESTION,
) -> tuple[Plan, list[Node], Scripted]:
    given_nodes: list[Node] = []

    def note(node: Node) -> None:
        given_nodes.append(node)
        on_node(node)

    ask = Scripted(*([script] if isinstance(script, str) else script for script in scripts))
    result = await plan(
        question, ask, prompts=Prompts(), max_nodes=max_nodes, mode=mode, on_node=note
    )
    assert (result.skeleton is None) == (result.plain is not None)
    if result.plain is None:
        assert given_nodes == result.nodes
    else:
        assert given_nodes == []
    return result, given_nodes, ask


class TestSkeletons:
    async def test_nodes_are_handed_out_in_order(self) -> None:
        result, nodes, ask = await planned(list(THREE))
        assert [node.id for node in nodes] == ["1", "2", "3"]
        assert nodes[1].dependencies == ("1",)
        assert (result.warnings, result.cut, len(ask.asked)) == ([], False, 1)
        assert result.skeleton == Skeleton(nodes=tuple(nodes))

    @given(st.data())
    def test_chunks_do_not_matter(self, data: st.DataObject) -> None:
        result, _, _ = asyncio.run(planned(data.draw(cut(THREE))))
        whole, _, _ = asyncio.run(planned(THREE))
        assert result == whole

    async def test_the_first_node_is_held_until_the_second_begins(self) -> None:
        seen: list[str] = []
        at: list[int] = []
        parts = ["1 Site\n", "\n", "2", " ", "P", "lants <1 *", "\n"]

        async def ask(_: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool) -> Heard:  # noqa: ARG001
            for part in parts:
                on_text(part)
                at.append(len(seen))
            return "all"

        await plan(
            QUESTION,
            ask,
            prompts=Prompts(),
            max_nodes=9,
            mode="auto",
            on_node=lambda node: seen.append(node.id),
        )
        assert at == [0, 0, 0, 0, 1, 1, 2]

    async def test_nodes_are_handed_out_while_the_planner_still_writes(self) -> None:
        # LLMCompiler's loop blocked on its queue: a dependent waited for the next planned task (defect 3).
        async with asyncio.timeout(5):
            second = asyncio.Event()

            async def ask(
                _: Sequence[BaseMessage],
                on_text: OnText,
                /,
                *,
                plain: bool,  # noqa: ARG001
            ) -> Heard:
                on_text(TWO)
                await second.wait()  # the model goes on only when node 2 has been handed out
                on_text("3 Care\n")
                return "all"

            result = await plan(
                QUESTION,
                ask,
                prompts=Prompts(),
                max_nodes=9,
                mode="auto",
                on_node=lambda node: second.set() if node.id == "2" else None,
            )
        assert len(result.nodes) == 3

    async def test_a_cycle_ends_in_a_skeleton_and_warnings(self) -> None:
        # LLMCompiler never returned from one (defect 2).
        result, nodes, _ = await planned("1|A|a|2|1\n2|B|b|1,3|1\n3|C|c|3|1")
        assert [node.dependencies for node in nodes] == [(), ("1",), ()]
        assert len(result.warnings) == 3

    async def test_several_lines_in_one_chunk_lose_no_node(self) -> None:
        # LLMCompiler kept 1 and 2 (defect 4).
        _, nodes, _ = await planned("".join(f"{n} H{n}\n" for n in range(1, 5)))
        assert [node.id for node in nodes] == ["1", "2", "3", "4"]

    async def test_the_limit_ends_the_call(self) -> None:
        lines = [f"{n} H{n}\n" for n in range(1, 9)]
        result, nodes, ask = await planned(list("".join(lines)), max_nodes=3)
        assert [node.id for node in nodes] == ["1", "2", "3"]
        assert "".join(ask.said[0]) == "".join(lines[:3]) + "4 H"
        assert result.warnings == ["the planner wrote more than 3 nodes"]
        for chunks in (lines, ["".join(lines)]):
            other, _, ask = await planned(chunks, max_nodes=3)
            assert other == result
            assert len(ask.said[0]) <= 4

    async def test_the_limit_is_no_fault_if_nothing_follows(self) -> None:
        result, _, _ = await planned(THREE + "\nThat is all.", max_nodes=3)
        assert (len(result.nodes), result.warnings) == (3, [])

    @pytest.mark.parametrize("size", [1, 40, 200])
    async def test_one_part_is_never_a_plan_however_its_text_is_cut(self, size: int) -> None:
        text = "1|Intro|opening|-|2\n2|Details|everything else|see the intro|moderately hard\n"
        result, nodes, _ = await planned([text[n : n + size] for n in range(0, len(text), size)])
        assert [(node.heading, node.scope) for node in nodes] == [
            ("Intro", "opening"),
            ("Details", "everything else"),
        ]
        assert result.plain is None

    @pytest.mark.parametrize("size", [1, 50, 5_000])
    async def test_a_plan_that_runs_on_is_stopped_and_lacks_parts(self, size: int) -> None:
        text = TWO + "3 Care" + " and more" * 500
        chunks = [text[n : n + size] for n in range(0, len(text), size)]
        result, nodes, ask = await planned(chunks)
        assert [node.id for node in nodes] == ["1", "2", "3"]
        assert re.fullmatch(r"Care( and more)+( and)? …", nodes[2].heading)
        assert len(nodes[2].heading) <= 100
        assert len("".join(ask.said[0])) < len(TWO) + 410 + size
        assert result.cut
        assert result.warnings == [
            "the planner wrote a line without an end",
            "the plan ends in the middle; the answer may lack parts",
        ]

    async def test_a_first_line_without_an_end_is_no_plan_of_one_part(self) -> None:
        result, nodes, ask = await planned("1 Site" + " and more" * 500, THREE)
        assert [node.heading for node in nodes] == ["Site", "Plants", "Care"]
        assert "could not be used: it wrote a line without an end." in ask.asked[1]
        assert not result.cut

    async def test_a_long_heading_is_cut_between_words_and_the_plan_goes_on(self) -> None:
        long = "Which plants " + "grow well in gardens of the north, and " * 3 + "which do not"
        result, nodes, _ = await planned(list(f"1 Site\n2 {long} <1\n3 Care\n"))
        assert [node.id for node in nodes] == ["1", "2", "3"]
        assert (result.cut, result.warnings) == (False, [])
        heading, scope = nodes[1].heading, nodes[1].scope
        assert len(heading) <= 100
        assert f"{heading.removesuffix(' …')} {scope.removeprefix('… ')}" == long
        assert nodes[1].dependencies == ("1",)

    async def test_prose_without_end_is_stopped(self) -> None:
        text = "I think that this is a long story. " * 1_000
        result, _, ask = await planned([*text], "PLAIN")
        assert result.plain == PLAIN.plain
        assert len("".join(ask.said[0])) < 9_000

    async def test_a_plan_that_repeats_itself_is_stopped(self) -> None:
        result, nodes, ask = await planned(list("1 A\n2 B\n3 A\n4 B\n5 A\n"))
        assert [node.heading for node in nodes] == ["A", "B"]
        assert "".join(ask.said[0]) == "1 A\n2 B\n3 A\n4 B\n"
        assert [w for w in result.warnings if "repeats" in w]

    async def test_one_repeated_part_is_left_out_alone(self) -> None:
        result, nodes, _ = await planned("1 A\n2 B\n3 A\n4 C <3\n5 B\n6 D\n")
        assert [node.heading for node in nodes] == ["A", "B", "C", "D"]
        assert nodes[2].dependencies == ("1",)
        assert len(result.warnings) == 2

    async def test_headings_that_differ_in_a_sign_are_no_repeats(self) -> None:
        _, nodes, _ = await planned("1 Jobs with C\n2 Jobs with C#\n3 Jobs with C++\n")
        assert [node.heading for node in nodes] == ["Jobs with C", "Jobs with C#", "Jobs with C++"]

    async def test_a_heading_that_says_one_thing_twice_says_it_once(self) -> None:
        result, nodes, _ = await planned(
            "1 Safety\n2 Safety and safety *\n3 Coût et coût\n4 Black and white\n"
        )
        assert [node.heading for node in nodes] == ["Safety", "Coût", "Black and white"]
        assert len(result.warnings) == 1

    @pytest.mark.parametrize(
        "second", ["Site", "site *", "Site and site", "**Site**", "{question}"]
    )
    async def test_a_second_line_that_is_no_part_makes_no_plan(self, second: str) -> None:
        text = f"1 Site\n2 {second.format(question=QUESTION[0].text)}\n"
        for form in (text, as_json(text)):
            for chunks in ([form], list(form)):
                result, _, _ = await planned(chunks)
                assert result.plain == "the plan has one part only"

    @given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.data())
    def test_what_a_plan_comes_to_does_not_depend_on_chunks(
        self, text: str, data: st.DataObject
    ) -> None:
        text = data.draw(st.sampled_from([text, as_json(text)]))
        whole, _, _ = asyncio.run(planned(text, THREE, max_nodes=5))
        result, _, _ = asyncio.run(planned(data.draw(cut(text)), THREE, max_nodes=5))
        assert result == whole

    async def test_a_closed_object_ends_the_call(self) -> None:
        script = ['{"parts":["1 A","2 B"', "]}", " \n", " \n"]
        result, nodes, ask = await planned(script)
        assert ([node.heading for node in nodes], result.warnings) == (["A", "B"], [])
        assert ask.said == [script[:2]]

    async def test_an_object_that_ends_in_the_middle_is_a_cut_plan(self) -> None:
        result, nodes, _ = await planned('{"parts":["1 A","2 B","3')
        assert [node.heading for node in nodes] == ["A", "B"]
        assert result.cut
        assert result.warnings == ["the plan ends in the middle; the answer may lack parts"]

    async def test_a_thought_without_an_opening_tag_voids_what_it_gave(self) -> None:
        given_nodes: list[str] = []
        result = await plan(
            QUESTION,
            Scripted(list("1 Draft\n2 Other\nNo.\n</think>\n" + THREE)),
            prompts=Prompts(),
            max_nodes=9,
            mode="auto",
            on_node=lambda node: given_nodes.append(node.heading),
            on_void=given_nodes.clear,
        )
        assert given_nodes == [node.heading for node in result.nodes] == ["Site", "Plants", "Care"]

    async def test_the_form_of_the_prompt_is_that_of_the_grammar(self) -> None:
        ask = Scripted(['{"parts":["1 A","2 B"]}'])
        seen: list[Sequence[BaseMessage]] = []

        async def note(
            messages: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool
        ) -> Heard:
            seen.append(messages)
            return await ask(messages, on_text, plain=plain)

        await plan(
            QUESTION,
            note,
            prompts=Prompts(),
            max_nodes=9,
            mode="auto",
            on_node=lambda _: None,
            form="json",
        )
        assert seen == [Prompts().for_planner(QUESTION, max_nodes=9, form="json")]

    @pytest.mark.parametrize(
        "question",
        [
            QUESTION[0].text,
            "如何在三个月内学好一门外语并通过考试？",  # noqa: RUF001
            "一か月で料理を学ぶにはどうすればいいですか",
            "Gardens: how do I plan one in the north that lives through a long winter?",
            "Please tell me " + "how plants and stones and water are put together " * 3 + "well?",
        ],
    )
    async def test_the_question_as_a_node_is_left_out(self, question: str) -> None:
        result, nodes, _ = await planned(
            f"1 {question}\n2 A\n3 B <1", question=[HumanMessage(question)]
        )
        assert [node.heading for node in nodes] == ["A", "B"]
        assert any("repeats the question" in warning for warning in result.warnings)


class TestPlain:
    async def test_plain_ends_the_call_at_once(self) -> None:
        result, _, ask = await planned(["PL", "AIN", ".", " because", " it is short"])
        assert (result, ask.said) == (PLAIN, [["PL", "AIN", "."]])
        result, _, _ = await planned(["PL", "AIN"])
        assert result == PLAIN
        result, nodes, _ = await planned(["PLAIN", " would be wrong here.\n", THREE])
        assert len(nodes) == 3

    @pytest.mark.parametrize(
        "text",
        [
            "1|Site|light|-|2",
            "1 Site\n",
            f"1 {QUESTION[0].content}\n",
        ],
    )
    async def test_one_part_is_answered_plainly_without_asking_again(self, text: str) -> None:
        result, _, ask = await planned(text)
        assert result.plain == "the plan has one part only"
        assert len(ask.asked) == 1

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            ("A garden needs light. First, ...", "it holds no line of a plan"),
            ("", "it holds no line of a plan"),
            ("<think>PLAIN? 1|A|a|-|1\n2|B|b|-|1", "it holds no line of a plan"),
            (EXAMPLE, "it repeats an example"),
        ],
    )
    async def test_an_unusable_plan_is_asked_for_once_more_with_the_reason(
        self, first: str, reason: str
    ) -> None:
        result, nodes, ask = await planned(first, THREE)
        assert len(nodes) == 3
        assert len(ask.asked) == 2
        assert reason not in ask.asked[0]
        assert f"Your last plan could not be used: {reason}" in ask.asked[1]
        assert ask.asked[1].startswith(ask.asked[0])
        assert [w for w in result.warnings if w.startswith(f"unusable plan: {reason}")]

        result, _, ask = await planned(first, first)
        assert len(ask.asked) == 2
        assert result.plain is not None
        assert result.plain.startswith(f"no usable skeleton after one repair: {reason}")

    async def test_the_example_is_no_echo_if_it_is_the_question(self) -> None:
        asked, text = Prompts().examples[0]
        for question in (asked, asked.replace("sleep", "rest")):
            _, nodes, ask = await planned(text, question=[HumanMessage(question)])
            assert (len(nodes), len(ask.asked)) == (len(text.splitlines()), 1)

    async def test_the_repaired_plan_may_be_plain(self) -> None:
        result, _, _ = await planned("nonsense", "PLAIN")
        assert result.plain == PLAIN.plain
        assert len(result.warnings) == 1


class TestSurety:
    @staticmethod
    async def planned(
        *scripts: str,
        first: Mapping[str, float] | None,
        plain_above: float | None = 0.8,
        mode: Mode = "auto",
        nodes: list[Node] | None = None,
    ) -> tuple[Plan, Scripted]:
        ask = Scripted(*([script] for script in scripts))
        ask.first = first
        result = await plan(
            QUESTION,
            ask,
            prompts=Prompts(),
            max_nodes=9,
            mode=mode,
            on_node=(nodes if nodes is not None else []).append,
            plain_above=plain_above,
        )
        return result, ask

    async def test_a_planner_that_is_hardly_sure_of_plain_is_asked_for_lines(self) -> None:
        result, ask = await self.planned("PLAIN", THREE, first={"PLAIN": -0.5})
        assert (len(result.nodes), result.plain, result.warnings) == (3, None, [])
        assert ask.plain == [True, False]
        assert ask.asked[0] == ask.asked[1], "what was computed serves both"

    @pytest.mark.parametrize(
        ("first", "above"),
        [
            ({"PLAIN": -0.1}, 0.8),
            (None, 0.8),
            ({"PLAIN": -0.5}, None),
            ({"{": -0.1, "Well": -3}, 0.8),
        ],
    )
    async def test_one_that_is_sure_or_says_nothing_of_it_is_believed(
        self, first: Mapping[str, float] | None, above: float | None
    ) -> None:
        result, ask = await self.planned("PLAIN", first=first, plain_above=above)
        assert (result, ask.plain) == (PLAIN, [True])
        result, ask = await self.planned(THREE, first=first and {"1": 0.0}, plain_above=above)
        assert (len(result.nodes), ask.plain) == (3, [True])

    async def test_who_insists_has_it(self) -> None:
        result, _ = await self.planned("PLAIN", "PLAIN", first={"PLAIN": -0.5})
        assert result == PLAIN

    async def test_a_plan_that_was_begun_with_doubt_is_not_gone_on_with(self) -> None:
        nodes: list[Node] = []
        first = {"1": math.log(0.6), "PL": math.log(0.25), "The": math.log(0.15)}
        result, ask = await self.planned(THREE, first=first, plain_above=0.25, nodes=nodes)
        assert result.plain == "the planner was not sure enough of a split (plain_above)"
        assert (nodes, ask.said, ask.plain) == ([], [[THREE]], [True])
        result, _ = await self.planned(THREE, first=first, plain_above=0.3)
        assert len(result.nodes) == 3, "0.25 of 0.85"

    async def test_plain_is_never_allowed_where_a_split_is_wanted(self) -> None:
        _, ask = await self.planned("PLAIN", THREE, first={"PLAIN": -0.5}, mode="always")
        assert ask.plain == [False, False]
        result, _ = await self.planned(THREE, first={"PLAIN": -0.1, "1": -3}, mode="always")
        assert len(result.nodes) == 3


@pytest.mark.parametrize(
    ("first", "chance"),
    [
        ({"PLAIN": math.log(0.4)}, 0.4),
        ({" PL": math.log(0.3), "1": math.log(0.1)}, 0.75),
        ({"P": math.log(0.3), "2": math.log(0.1), "PLA": math.log(0.3), "Pay": 0.0}, 6 / 7),
        ({"1": math.log(0.9)}, None),
        ({"1": math.log(0.9), "2": -9.0}, 0),
        ({"<think>": 0.0}, None),
        ({"{": -0.1, "[": -4.0}, None),
        ({" ": 0.0, "": 0.0}, None),
    ],
)
def test_how_probable_plain_is(first: Mapping[str, float], chance: float | None) -> None:
    assert plain_probability(first) == (chance if chance is None else pytest.approx(chance))


class TestAlways:
    async def test_plain_is_asked_for_once_more(self) -> None:
        result, nodes, ask = await planned("PLAIN", THREE, mode="always")
        assert (len(nodes), result.plain) == (3, None)
        assert "PLAIN is not allowed" in ask.asked[1]

    @pytest.mark.parametrize("text", ["PLAIN", '{"parts": []}', "1 Site", "nonsense"])
    async def test_twice_no_skeleton_is_plain_all_the_same(self, text: str) -> None:
        result, _, ask = await planned(text, text, mode="always")
        assert result.plain is not None
        assert result.plain.startswith("no usable skeleton after one repair")
        assert len(ask.asked) == 2


class TestEnds:
    async def test_a_cut_plan_says_so_and_leaves_its_last_line_out(self) -> None:
        result, nodes, _ = await planned([TWO, "3 Care and wat", CUT])
        assert [node.id for node in nodes] == ["1", "2"]
        assert result.cut
        assert result.warnings == ["a token limit cut the plan; the answer may lack parts"]

    async def test_a_cut_before_the_second_node_is_plain(self) -> None:
        result, _, _ = await planned(["1 Site\n", CUT])
        assert (result.plain, result.cut) == ("the plan has one part only", False)

    @pytest.mark.parametrize("before", ["", "Well", "1 Site", "1 Site\n"])
    async def test_an_error_before_a_node_was_handed_out_is_raised(self, before: str) -> None:
        # LLMCompiler lost the exception, and its scheduler never returned (defect 1).
        with pytest.raises(ConnectionError, match="reset"):
            await planned([before, ConnectionError("reset")])

    async def test_an_error_afterwards_leaves_the_nodes_handed_out(self) -> None:
        result, nodes, _ = await planned([TWO, "3 Care", ConnectionError("reset by peer")])
        assert [node.id for node in nodes] == ["1", "2"]
        assert result.cut
        assert "reset by peer" in str(result.error)

    async def test_one_that_is_told_that_nobody_needs_a_plan_is_not_asked_again(self) -> None:
        async def ask(_: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool) -> Heard:  # noqa: ARG001
            on_text("1 Site\n")
            return "needless"

        given_nodes: list[Node] = []
        result = await plan(
            QUESTION,
            ask,
            prompts=Prompts(),
            max_nodes=9,
            mode="auto",
            on_node=given_nodes.append,
        )
        assert result == Plan(plain="the answer was whole before its plan", needless=True)
        assert given_nodes == []

    async def test_being_cancelled_is_no_failure_of_the_planner(self) -> None:
        began = asyncio.Event()

        async def ask(_: Sequence[BaseMessage], on_text: OnText, /, *, plain: bool) -> Heard:  # noqa: ARG001
            on_text(TWO)
            began.set()
            await asyncio.Event().wait()
            return "all"

        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                plan(
                    QUESTION,
                    ask,
                    prompts=Prompts(),
                    max_nodes=9,
                    mode="auto",
                    on_node=lambda _: None,
                )
            )
            await began.wait()
            task.cancel()
        assert task.cancelled()


async def test_another_reader_of_lines_may_be_given() -> None:
    def bullets(line: str) -> Draft | None:
        mark, _, text = line.partition(" ")
        return Draft(str(len(text)), text, difficulty=1) if mark == "*" else None

    result = await plan(
        QUESTION,
        Scripted(["Points:\n* one\n* three\n"]),
        prompts=Prompts(),
        max_nodes=9,
        mode="auto",
        on_node=lambda _: None,
        read_line=bullets,
    )
    assert [(node.id, node.heading) for node in result.nodes] == [("3", "one"), ("5", "three")]
