from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.answer import (
    AGAIN,
    CUT,
    CUT_PLAN,
    MISSING,
    Assembler,
    assemble,
    assemble_plain,
    section,
)
from langchain_sgd.events import (
    PLAIN_ID,
    Discarded,
    Ended,
    Event,
    Opened,
    PlainChosen,
    PlanEnded,
    Planned,
    Started,
    Token,
)
from langchain_sgd.prose import closed
from langchain_sgd.report import NodeStatus
from langchain_sgd.skeleton import Node, NodeId
from tests.support.skeletons import skeleton

ONE, TWO, THREE = skeleton("1", "2", "3").nodes


def token(node: Node, text: str) -> Token:
    return Token(node.id, text, 0)


def ended(node: Node, text: str, status: NodeStatus = "complete") -> Ended:
    return Ended(node.id, status, text, 0)


def discarded(node: Node) -> Discarded:
    return Discarded(node.id, "why", 0)


def fed(*events: Event, headings: bool = True) -> list[str]:
    assembler = Assembler(headings=headings)
    return [assembler.feed(event) for event in events]


PLANNED = [Planned(node, 0) for node in (ONE, TWO, THREE)]


@dataclass
class Story:
    """A run's events, and what each node came to."""

    nodes: Sequence[Node]
    events: list[Event]
    ended: dict[NodeId, tuple[NodeStatus, str]]
    cut: bool
    restarts: bool


@st.composite
def stories(draw: st.DrawFn, *, restarts: bool) -> Story:
    """Any interleaving of what can happen in a run; the words are few, so that attempts agree at times."""
    nodes = skeleton(*(str(n) for n in range(1, draw(st.integers(1, 4)) + 1))).nodes
    words = st.lists(st.sampled_from(["a", "b", " c\n", "\n```\n"]), min_size=1, max_size=4)
    threads: list[list[Event]] = []
    ends: dict[NodeId, tuple[NodeStatus, str]] = {}
    for node in nodes:
        attempts = draw(st.lists(words, min_size=1, max_size=3 if restarts else 1))
        status: NodeStatus = draw(
            st.sampled_from(("complete", "complete", "truncated", "failed", "skipped"))
        )
        thread: list[Event] = []
        if status != "skipped":
            for number, tokens in enumerate(attempts, 1):
                if number > 1:
                    thread.append(discarded(node))
                thread.append(Started(node.id, "small", number, 0))
                thread += [token(node, text) for text in tokens]
        kept = {"complete": attempts[-1], "truncated": draw(st.sampled_from(attempts))}
        text = "".join(kept.get(status, ()))
        if status == "failed" and not restarts:
            thread = thread[:1]
        ends[node.id] = (status, text)
        thread.append(ended(node, text, status))
        threads.append(thread)
    cut = draw(st.booleans())
    planning: list[Event] = [*(Planned(node, 0) for node in nodes), PlanEnded(0, cut)]
    events: list[Event] = []
    while planning or any(threads):
        known = sum(isinstance(event, Planned) for event in events)
        ready = [thread for thread in threads[:known] if thread]
        queue = draw(st.sampled_from([planning, *ready] if planning else ready))
        events.append(queue.pop(0))
    return Story(nodes, events, ends, cut, restarts)


def visible(events: Sequence[Event], *, headings: bool) -> str:
    """What may be shown after these events, if nothing was ever discarded: from scratch."""
    parts: list[str] = []
    texts: dict[str, str] = {}
    ends: dict[str, Ended] = {}
    planned = [event.node for event in events if isinstance(event, Planned)]
    for event in events:
        if isinstance(event, Token):
            texts[event.node_id] = texts.get(event.node_id, "") + event.text
        elif isinstance(event, Ended):
            ends[event.node_id] = event
    for node in planned:
        head = f"## {node.heading}\n\n" if headings else ""
        if node.id not in ends:
            if node.id in texts:
                parts.append(head + texts[node.id])
            return "\n\n".join(parts)
        parts.append(section(node, ends[node.id].status, ends[node.id].text, headings=headings))
    if any(isinstance(event, PlanEnded) and event.cut for event in events):
        parts.append(CUT_PLAN)
    return "\n\n".join(parts)


class TestOrder:
    def test_the_first_nodes_tokens_pass_through(self) -> None:
        assert fed(
            *PLANNED,
            token(ONE, "a"),
            token(TWO, "x"),
            token(ONE, "b"),
            ended(TWO, "x"),
            ended(ONE, "ab"),
            token(THREE, "c"),
            ended(THREE, "c"),
        )[3:] == [
            "## Heading 1\n\na",
            "",
            "b",
            "",
            "\n\n## Heading 2\n\nx",
            "\n\n## Heading 3\n\nc",
            "",
        ]

    def test_a_later_nodes_text_is_shown_as_far_as_it_is_when_its_turn_comes(self) -> None:
        assert fed(*PLANNED, token(TWO, "x"), token(TWO, "y"), ended(ONE, "a"), token(TWO, "z"))[
            3:
        ] == ["", "", "## Heading 1\n\na\n\n## Heading 2\n\nxy", "z"]

    def test_a_node_planned_after_all_others_ended(self) -> None:
        assert fed(PLANNED[0], ended(ONE, "a"), PLANNED[1], token(TWO, "b")) == [
            "",
            "## Heading 1\n\na",
            "",
            "\n\n## Heading 2\n\nb",
        ]

    def test_without_headings(self) -> None:
        pieces = fed(*PLANNED[:2], ended(ONE, "a"), ended(TWO, "b"), headings=False)
        assert "".join(pieces) == "a\n\nb"

    def test_a_plain_run_is_the_text_alone(self) -> None:
        pieces = fed(
            PlainChosen("why", 0),
            Token(PLAIN_ID, "a", 0),
            Token(PLAIN_ID, "b", 0),
            Ended(PLAIN_ID, "truncated", "ab", 0),
        )
        assert pieces == ["", "a", "b", f"\n\n{CUT}"]
        assert "".join(pieces) == assemble_plain("truncated", "ab")

    @given(story=stories(restarts=False), headings=st.booleans())
    def test_at_every_moment_all_that_may_be_shown_is(
        self, *, story: Story, headings: bool
    ) -> None:
        assembler, shown = Assembler(headings=headings), ""
        for index, event in enumerate(story.events, 1):
            shown += assembler.feed(event)
            assert shown == visible(story.events[:index], headings=headings)
        assert shown == assemble(story.nodes, story.ended, headings=headings, cut=story.cut)
        assert assembler.interrupted == []


class TestOpening:
    WHOLE = (Opened("It is", 0), Opened(" so.", 0, last=True))

    @given(stories(restarts=False))
    def test_it_stands_before_the_answer_and_changes_nothing_else(self, story: Story) -> None:
        assembler = Assembler()
        shown = "".join(assembler.feed(event) for event in self.WHOLE)
        assert shown == "It is so."
        for index, event in enumerate(story.events, 1):
            shown += assembler.feed(event)
            rest = visible(story.events[:index], headings=True)
            assert shown == "\n\n".join(filter(None, ["It is so.", rest]))
        whole = assemble(story.nodes, story.ended, cut=story.cut, opening="It is so.")
        assert shown == whole
        assert not assembler.interrupted

    @given(stories(restarts=False), st.data())
    def test_parts_wait_for_its_end_wherever_it_comes(
        self, story: Story, data: st.DataObject
    ) -> None:
        at = data.draw(st.integers(0, len(story.events)))
        events = [self.WHOLE[0], *story.events[:at], self.WHOLE[1], *story.events[at:]]
        pieces = fed(*events)
        assert pieces[: at + 1] == ["It is", *[""] * at]
        whole = assemble(story.nodes, story.ended, cut=story.cut, opening="It is so.")
        assert "".join(pieces) == whole

    def test_without_one_nothing_changes(self) -> None:
        assert assemble([ONE], {ONE.id: ("complete", "a")}) == "## Heading 1\n\na"
        assert fed(PLANNED[0], token(ONE, "a"), headings=False) == ["", "a"]

    def test_an_undivided_answer_goes_on_from_it(self) -> None:
        events: list[Event] = [
            Opened("It ", 0),
            Opened("is.", 0, last=True),
            PlainChosen("one part", 0),
            Token(PLAIN_ID, "It ", 0),
            Token(PLAIN_ID, "is.", 0),
            Token(PLAIN_ID, " And", 0),
            Token(PLAIN_ID, " so.", 0),
            Ended(PLAIN_ID, "complete", "It is. And so.", 0),
        ]
        assert fed(*events) == ["It ", "is.", "", "", "", " And", " so.", ""]

    def test_of_one_that_goes_on_otherwise_that_is_said(self) -> None:
        assembler = Assembler()
        events: list[Event] = [
            Opened("It is", 0),
            PlainChosen("one part", 0),
            Token(PLAIN_ID, "So", 0),
            Ended(PLAIN_ID, "complete", "So", 0),
        ]
        text = "".join(assembler.feed(event) for event in events)
        assert text == f"It is\n\n{AGAIN}\n\nSo"
        assert assembler.interrupted == [PLAIN_ID]


class TestMarks:
    @pytest.mark.parametrize(
        ("status", "text", "body"),
        [
            ("complete", "a", "a"),
            ("truncated", "a", f"a\n\n{CUT}"),
            ("failed", "", MISSING),
            ("skipped", "", MISSING),
        ],
    )
    def test_what_is_not_whole_is_said(self, status: NodeStatus, text: str, body: str) -> None:
        assert section(ONE, status, text) == f"## Heading 1\n\n{body}"
        assert section(ONE, status, text, headings=False) == body
        assert "".join(fed(PLANNED[0], ended(ONE, text, status))) == f"## Heading 1\n\n{body}"

    def test_a_cut_plan_is_said_at_the_end(self) -> None:
        whole = f"## Heading 1\n\na\n\n{CUT_PLAN}"
        plan_ended = PlanEnded(0, cut=True)
        assert "".join(fed(PLANNED[0], plan_ended, ended(ONE, "a"))) == whole
        assert "".join(fed(PLANNED[0], ended(ONE, "a"), plan_ended)) == whole


class TestRestarts:
    def test_a_restart_that_nobody_saw_leaves_no_mark(self) -> None:
        events: list[Event] = [
            *PLANNED[:2],
            token(TWO, "lost"),
            discarded(TWO),
            token(TWO, "new"),
            ended(ONE, "a"),
            ended(TWO, "new"),
        ]
        assert "".join(fed(*events)) == "## Heading 1\n\na\n\n## Heading 2\n\nnew"

    def test_the_same_words_again_are_shown_once(self) -> None:
        assembler = Assembler(headings=False)
        events: list[Event] = [
            PLANNED[0],
            token(ONE, "a b"),
            discarded(ONE),
            *(token(ONE, text) for text in ("a", " ", "b", " c")),
            ended(ONE, "a b c"),
        ]
        assert [assembler.feed(e) for e in events] == ["", "a b", "", "", "", "", " c", ""]
        assert assembler.interrupted == []

    def test_other_words_start_the_part_again(self) -> None:
        assembler = Assembler(headings=False)
        events: list[Event] = [
            PLANNED[0],
            token(ONE, "a b"),
            discarded(ONE),
            token(ONE, "a"),
            token(ONE, " x"),
            token(ONE, " y"),
            ended(ONE, "a x y"),
        ]
        again = f"\n\n{AGAIN}\n\na x"
        assert [assembler.feed(e) for e in events] == ["", "a b", "", "", again, " y", ""]
        assert assembler.interrupted == ["1"]

    def test_an_answer_shorter_than_what_was_shown_starts_again(self) -> None:
        # Else the reader would keep words that the answer, and its dependents, do not have.
        events: list[Event] = [
            PLANNED[0],
            token(ONE, "a b"),
            discarded(ONE),
            token(ONE, "a"),
            ended(ONE, "a"),
        ]
        assert "".join(fed(*events, headings=False)) == f"a b\n\n{AGAIN}\n\na"

    def test_text_that_no_answer_followed_breaks_off(self) -> None:
        events: list[Event] = [
            PLANNED[0],
            token(ONE, "a b"),
            discarded(ONE),
            ended(ONE, "", "failed"),
        ]
        assert "".join(fed(*events, headings=False)) == f"a b\n\n{CUT}"

    @given(stories(restarts=True))
    def test_what_differs_from_the_answer_is_marked(self, story: Story) -> None:
        assembler = Assembler()
        shown = "".join(assembler.feed(event) for event in story.events)
        shown = shown.removesuffix(f"\n\n{CUT_PLAN}") if story.cut else shown
        headings = re.findall(r"^## (.*)$", shown, re.MULTILINE)
        assert headings == [node.heading for node in story.nodes]
        bodies = re.split(r"(?:\n\n)?^## .*\n\n", shown, flags=re.MULTILINE)[1:]
        for node, body in zip(story.nodes, bodies, strict=True):
            status, text = story.ended[node.id]
            if f"## {node.heading}\n\n{body}" == section(node, status, text):
                assert node.id not in assembler.interrupted
            elif status == "complete":
                assert body.endswith(f"\n\n{AGAIN}\n\n{text}{closed(text)}")
                assert node.id in assembler.interrupted
            else:
                assert body.endswith(f"\n\n{CUT}")


@pytest.mark.parametrize("status", ["complete", "truncated"])
def test_what_a_part_leaves_open_is_closed_before_the_next(status: NodeStatus) -> None:
    code = "Do this:\n\n```python\nprint("
    events: list[Event] = [
        *PLANNED[:2],
        PlanEnded(0, cut=False),
        token(ONE, code),
        ended(ONE, code, status),
    ]
    events += [token(TWO, "two"), ended(TWO, "two")]
    mark = f"\n\n{CUT}" if status == "truncated" else ""
    shown = "".join(fed(*events))
    assert shown == f"## Heading 1\n\n{code}\n```{mark}\n\n## Heading 2\n\ntwo"
    assert shown == assemble([ONE, TWO], {ONE.id: (status, code), TWO.id: ("complete", "two")})


def test_an_undivided_answer_stays_as_it_is_written() -> None:
    code = "```python\nprint("
    plain = PlainChosen("why", 0), Token(PLAIN_ID, code, 0), Ended(PLAIN_ID, "complete", code, 0)
    assert "".join(fed(*plain)) == code
    assert assemble_plain("complete", code) == code
    assert assemble_plain("truncated", code) == f"{code}\n```\n\n{CUT}"


def test_a_heading_is_shown_when_its_text_has_begun_and_is_still_held_back() -> None:
    value = skeleton("1", "2")
    assembler = Assembler()
    one, two = value.nodes
    for node in value.nodes:
        assert assembler.feed(Planned(node, 0.0)) == ""
    assert assembler.feed(Token(two.id, "", 0.1)) == ""
    assert assembler.feed(Token(one.id, "", 0.2)) == f"## {one.heading}\n\n"
    assert assembler.feed(Token(one.id, "", 0.2)) == ""
    assert assembler.feed(Token(one.id, "Text.", 0.3)) == "Text."
    given = assembler.feed(Ended(one.id, "complete", "Text.", 0.4))
    assert given == f"\n\n## {two.heading}\n\n"
    assert assembler.feed(Ended(two.id, "complete", "More.", 0.5)) == "More."
