from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from rich.console import Console, RenderableType

from langchain_sgd import SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.events import (
    PLAIN_ID,
    Discarded,
    Ended,
    Event,
    PlainChosen,
    PlanEnded,
    Planned,
    Started,
    Token,
)
from langchain_sgd.report import Report
from langchain_sgd.skeleton import NodeId, Skeleton
from langchain_sgd.terminal import LiveView, report_line, report_tree, skeleton_tree
from langchain_sgd.terminal.live import _Screen, _split, _Ticker
from langchain_sgd.terminal.safe import json_text, one_line, safe
from langchain_sgd.terminal.state import RunState
from tests.support.models import Say, Stage, cut, planning
from tests.support.reports import WILD, every_case, plain, wild_reports, wild_skeletons
from tests.support.skeletons import skeleton

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ONE, TWO = NodeId("1"), NodeId("2")


def console(width: int = 120, *, terminal: bool = False, **options: Any) -> Console:
    settings = {"force_terminal": terminal, "height": 30, "legacy_windows": False, "_environ": {}}
    return Console(file=io.StringIO(), width=width, **{**settings, **options})


def printed(renderable: RenderableType, width: int = 120, **options: Any) -> str:
    made = console(width, **options)
    made.print(renderable)
    return written(made)


def written(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


def row(text: str, part: str) -> str:
    return next(line for line in text.splitlines() if part in line)


# -- trees


def test_a_node_hangs_under_the_dependency_that_it_waited_for_last() -> None:
    lines = printed(report_tree(every_case())).splitlines()
    begin = next(n for n, line in enumerate(lines) if "Travel" in line)
    assert [re.split(r"\b\s{2,}|>\s", line)[0] for line in lines[begin : begin + 4]] == [
        "├─ ◆ 1 Travel by <train",
        "│  ├─ ◆ 2 Costs",
        "│  │  └─ ◆ 5 Advice",
        "│  └─ 4 Example",
    ]
    assert "needs 1, 2" in lines[begin + 2]


def test_a_report_tells_what_became_of_each_node() -> None:
    text = printed(report_tree(every_case()))
    assert "✂ cut short" in row(text, "Example")
    assert "✕ failed" in row(text, "Luggage")
    assert "∅ skipped" in row(text, "Checklist")
    assert row(text, "Advice").split()[-3:] == ["1.50", "s", "1,300"]
    assert "! node 6: <refused>" in text
    assert "◆" in row(text, "Advice")
    assert "◆" not in row(text, "Night trains")


def test_bars_follow_the_times() -> None:
    text = printed(report_tree(every_case()))
    costs, advice = row(text, "Costs"), row(text, "Advice")
    assert costs.rindex("━") <= advice.index("━")
    assert "╌" in advice
    assert "✕" in row(text, "Night trains")
    assert "━" not in row(text, "Luggage")


@pytest.mark.parametrize("report", [every_case(), plain()])
def test_bars_and_what_they_mean_fit_in_80_columns(report: Report) -> None:
    text = printed(report_tree(report), width=80)
    assert "━" in row(text, "2 Costs" if report.skeleton else "undivided answer")
    assert "━ writes" in text
    assert ("✕ not taken" in text) is ("✕ failed" in text)
    assert row(text, "tier").split()[-2:] == ["took", "tokens"]


def test_a_picture_has_one_unit() -> None:
    text = printed(report_tree(every_case()))
    assert "0.40 s" in text  # the first text, in a run of seconds
    assert " ms" not in text
    text = printed(report_tree(plain()))
    assert "350 ms" in text
    assert not re.search(r"\d s\b", text)


def test_narrow_terminals_get_no_bars() -> None:
    text = printed(report_tree(every_case()), width=60)
    assert "━" not in text
    assert "Advice" in text


def test_a_plain_run_says_why() -> None:
    text = printed(report_tree(plain()))
    assert "Answered undivided: it is short." in text
    assert "undivided answer" in text


def test_a_skeleton_shows_scopes_and_difficulty() -> None:
    text = printed(skeleton_tree(every_case().skeleton))
    assert "route & time" in row(text, "Travel")
    assert "●●○○○" in row(text, "Travel")
    assert "●○○○○ easy, ●●●●● hard" in text.splitlines()[0]
    assert "3 deep" in text


def test_a_skeleton_without_nodes_says_so() -> None:
    assert "0 nodes · at most 0 at once · 0 deep" in printed(skeleton_tree(plain().skeleton))


@pytest.mark.parametrize("terminal", [False, True])
def test_markup_in_a_scope_or_heading_is_text(terminal: bool) -> None:  # noqa: FBT001
    words = "[link=http://x]y[/link] [/b] [red]z"
    made = Skeleton.parse([{"id": "1", "heading": words, "scope": words}])
    text = printed(skeleton_tree(made), 200, terminal=terminal)
    assert ANSI.sub("", text).count(words) == 2
    assert "\x1b]8" not in text


def test_terminals_without_unicode_get_ascii() -> None:
    made = Console(
        file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=100, force_terminal=False
    )
    made.print(report_tree(every_case()))
    made.print(skeleton_tree(skeleton("1", "2 <- 1")))  # would raise for a sign that is not ASCII


@settings(max_examples=25, deadline=None)
@given(wild_reports(), st.sampled_from([20, 100]))
@example(every_case(), 20)
def test_any_report_is_printed_without_control_characters(report: Report, width: int) -> None:
    text = printed(report_tree(report), width=width)
    assert all(char == "\n" or char.isprintable() or ord(char) > 0x9F for char in text)
    assert "\n" not in report_line(report)


@settings(max_examples=20, deadline=None)
@given(wild_skeletons())
def test_any_skeleton_is_printed_whole(made: Skeleton) -> None:
    text = printed(skeleton_tree(made))
    assert text.count("●") >= sum(node.difficulty for node in made.nodes)


@given(WILD)
def test_safe_texts_cannot_steer_a_terminal(text: str) -> None:
    shown = safe(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert safe(shown) == shown
    assert "\n" not in one_line(text)


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\u202e\ud83d\x7f"), max_size=9))
def test_json_reads_back_as_it_was_and_steers_nothing(text: str) -> None:
    shown = json_text({"text": text})
    assert json.loads(shown) == {"text": text}
    assert safe(shown) == shown
    shown.encode()


# -- the state


def events() -> Iterator[Event]:
    nodes = skeleton("1", "2 <- 1").nodes
    yield Planned(nodes[0], 0.1)
    yield Planned(nodes[1], 0.2)
    yield Started(ONE, "small", 1, 0.3)
    yield Token(ONE, "wrong", 0.4)
    yield Discarded(ONE, "it broke", 0.5)
    yield Started(ONE, "large", 2, 0.6)
    yield PlanEnded(0.7)
    yield Token(ONE, "right", 0.8)
    yield Ended(ONE, "complete", "right", 0.9)
    yield Started(TWO, "small", 1, 1.0)


def test_the_state_follows_the_events() -> None:
    state = RunState()
    for event in events():
        state.feed(event)
        if isinstance(event, Discarded):
            assert state.nodes[ONE].tail == ""
            assert state.waits_for(state.nodes[TWO]) == [ONE]
    one, two = state.nodes.values()
    assert (one.status, one.tier, one.attempt, one.pieces, one.tail) == (
        "complete", "large", 2, 1, "right",
    )  # fmt: skip
    assert (one.started_s, one.ended_s) == (0.3, 0.9)
    assert state.waits_for(two) == []
    assert (state.planned_s, state.count("running")) == (0.7, 1)


def test_a_plain_run_has_one_part() -> None:
    state = RunState()
    for event in (PlainChosen("short", 0.1), Started(PLAIN_ID, "large", 1, 0.2)):
        state.feed(event)
    assert [node.node for node in state.nodes.values()] == [None]
    assert state.plain == "short"


def test_the_legend_tells_the_waits_that_are_there_in_the_pictures_words() -> None:
    made = console(width=120)
    made.print(report_tree(every_case()))
    assert "waits for other parts" in written(made)
    made = console(width=120)
    made.print(report_tree(plain()))
    said = written(made)
    assert "waits for a token" in said
    assert "other parts" not in said


# -- the view


@pytest.mark.parametrize(
    ("text", "blocks", "rest"),
    [
        ("one\ntwo", [], "one\ntwo"),
        ("one\n\ntwo\n\n", ["one", "two"], ""),
        ("```\na\n\nb\n```\n\nc", ["```\na\n\nb\n```"], "c"),
        ("```\na\n\nb", [], "```\na\n\nb"),
        ("~~~\n```\n\n~~~\n\n", ["~~~\n```\n\n~~~"], ""),
        ("\n\n\none", [], "one"),
    ],
)
def test_paragraphs_are_finished_by_blank_lines_outside_of_code(
    text: str, blocks: list[str], rest: str
) -> None:
    assert _split(text) == (blocks, rest)


def screen(made: Console, seconds: float = 1.9) -> _Screen:
    moments = iter([0.0])
    return _Screen(made, lambda: next(moments, seconds))


def test_the_screen_shows_nodes_at_work_and_the_unfinished_paragraph() -> None:
    made = console()
    shown = screen(made)
    for event in events():
        shown.feed(event, event.text if isinstance(event, Token) else "")
    made.print(shown)
    text = written(made)
    assert "wrongright" in text.splitlines()[0]
    assert "✔" in row(text, "Heading 1")
    assert "large (2)" in row(text, "Heading 1")
    assert "0.6 s" in row(text, "Heading 1")
    assert "0.9 s" in row(text, "Heading 2")
    assert "1 of 2 written, 1 in flight, 1.9 s" in text


def test_the_screen_says_what_a_node_waits_for() -> None:
    made = console()
    shown = screen(made)
    for event in list(events())[:3]:
        shown.feed(event, "")
    made.print(shown)
    assert "waits for 1" in row(written(made), "Heading 2")
    assert "still planning" in written(made)


def test_a_small_terminal_shows_the_nodes_at_work() -> None:
    made = console(height=14)
    shown = screen(made)
    many = skeleton(*[str(n) for n in range(1, 31)])
    for node in many.nodes:
        shown.feed(Planned(node, 0.1), "")
    shown.feed(Started(NodeId("30"), "small", 1, 0.2), "")
    made.print(shown)
    text = written(made)
    assert "Heading 30" in text
    assert len(text.splitlines()) <= 14


def sgd(*lines: str, **how: Any) -> SGDRunnable:
    answer = Say(cut("A first paragraph.\n\n- with *a* list\n\nand \x1b[31mred\x1b[0m words", 3))
    stage = Stage({"planner": planning(skeleton(*lines)), **how}, default=answer)
    return SGDRunnable(**stage.pair())


@pytest.mark.parametrize(("takes_s", "calls"), [(0.0, 120), (0.02, 55), (0.5, 3)])
def test_drawing_takes_a_tenth_of_the_time_at_most(takes_s: float, calls: int) -> None:
    made, now = 0, 0.0

    def draw() -> None:
        nonlocal made, now
        made += 1
        now += takes_s

    async def ten_seconds() -> None:
        ticker = _Ticker(draw, lambda: now)
        ticker.start()
        await asyncio.sleep(10.01)  # of virtual time
        ticker.stop()
        await asyncio.sleep(10)

    run_virtual(ten_seconds())
    assert made == pytest.approx(calls, abs=1)


async def test_without_a_terminal_the_text_comes_as_it_is_and_nothing_else() -> None:
    made, notes = console(), console()
    run = sgd("1", "2 <- 1")
    message = await LiveView(made, notes=notes).follow(run.aevents("Question?"))
    assert written(made) == safe(str(message.content)) + "\n"
    assert "\x1b" not in written(made) + written(notes)
    assert written(notes).startswith("complete")


async def test_on_a_terminal_the_answer_ends_up_in_the_scrollback() -> None:
    made = console(80, terminal=True)
    await LiveView(made).follow(sgd("1", "2 <- 1").aevents("Question?"))
    raw = written(made)
    text = ANSI.sub("", raw)
    for part in ("Heading 1", "Heading 2"):
        assert text.count(part) >= 2  # in the answer and in the summary
    assert text.count("A first paragraph.") >= 2
    assert "�[31mred" in text
    assert text.index("complete ·") > text.rindex("A first paragraph.")
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1  # the cursor is back


async def test_no_color_is_respected() -> None:
    made = console(80, terminal=True, _environ={"NO_COLOR": "1"})
    await LiveView(made).follow(sgd("1", "2").aevents("Question?"))
    assert not re.search(r"\x1b\[(\d+;)*(3[0-7]|38|4[0-7]|48|9[0-7])", written(made))


async def test_a_dumb_terminal_gets_plain_text() -> None:
    made = console(80, terminal=True, _environ={"TERM": "dumb"})
    await LiveView(made).follow(sgd("1", "2").aevents("Question?"))
    assert "\x1b" not in written(made)


async def test_headings_may_be_left_out() -> None:
    made = console()
    run = SGDRunnable(headings=False, **Stage({"planner": planning(skeleton("1", "2"))}).pair())
    message = await LiveView(made, headings=False).follow(run.aevents("Question?"))
    assert written(made) == f"{message.content}\n"


@pytest.mark.parametrize("terminal", [False, True])
async def test_an_error_leaves_the_text_so_far_and_a_whole_terminal(terminal: bool) -> None:  # noqa: FBT001
    made = console(terminal=terminal)
    closed = []

    async def broken() -> AsyncIterator[Event | AIMessage]:
        try:
            for event in events():
                yield event
            raise ValueError("no more")
        finally:
            closed.append(True)

    with pytest.raises(ValueError, match="no more"):
        await LiveView(made).follow(broken())
    assert "right" in written(made)
    assert closed == [True]
    assert written(made).count("\x1b[?25l") == written(made).count("\x1b[?25h")


async def test_an_error_in_the_output_closes_the_run() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    stage = Stage({"planner": planning(skeleton("1", "2")), "2": Say(hang=True)})
    run = SGDRunnable(**stage.pair())
    made = Console(file=Full(), force_terminal=False)
    with pytest.raises(BrokenPipeError):
        await LiveView(made).follow(run.aevents("Question?"))
    assert stage.in_flight == 0


@pytest.mark.parametrize("terminal", [False, True])
async def test_an_undivided_answer_that_came_to_nothing_is_no_text(terminal: bool) -> None:  # noqa: FBT001
    made = console(terminal=terminal)
    stage = Stage({"planner": Say("PLAIN"), "plain": Say([], error=ValueError("no"))})
    with pytest.raises(SkeletonGraphError):
        await LiveView(made).follow(SGDRunnable(**stage.pair()).aevents("Question?"))
    assert "missing" not in written(made)


async def test_events_without_a_message_are_refused() -> None:
    async def short() -> AsyncIterator[Event | AIMessage]:
        yield PlainChosen("short", 0.1)

    with pytest.raises(ValueError, match="aevents"):
        await LiveView(console()).follow(short())
