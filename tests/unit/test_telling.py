"""Whatever the answer lacks, or costs more, is told: in the report, in the log, in the answer itself."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback

from langchain_sgd import ChatSGD, InvalidInputError, NodeDecodeError, Report, SGDRunnable, recorder
from langchain_sgd.answer import AGAIN
from langchain_sgd.events import Event, Planned, Started, Voided
from tests.support.models import PLANNER, Say, Stage, plan_lines, planning
from tests.support.skeletons import skeleton

TWO = skeleton("1", "2")
NO = Say(error=ValueError("no"))
DRAFT = ["I will plan:\n", "1|Draft|a first idea|-|2\n", "2|Second draft|another|-|2\n", "No.\n"]
THOUGHT = [*DRAFT, "</think>\n", *plan_lines(TWO)]
"""A plan after a thought whose opening tag stands in the chat template."""


def thinking(**lines: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: Say(THOUGHT), **lines})
    return stage, SGDRunnable(**stage.pair())


async def test_nodes_that_were_planned_in_a_thought_count_no_longer() -> None:
    stage, sgd = thinking()
    events: list[Event] = [e async for e in sgd.aevents("Why?") if not hasattr(e, "content")]
    report = Report.from_message(await sgd.ainvoke("Why?"))
    told = [
        e.node.heading if isinstance(e, Planned) else "void"
        for e in events
        if isinstance(e, Planned | Voided)
    ]
    assert told == ["Draft", "Second draft", "void", "Heading 1", "Heading 2"]
    assert any(isinstance(event, Started) for event in events)
    assert [node.heading for node in report.nodes] == ["Heading 1", "Heading 2"]
    assert report.status == "complete"
    assert any("thoughts were taken for its plan" in warning for warning in report.warnings)
    assert stage.in_flight == 0


async def test_a_text_that_was_shown_from_a_thought_is_taken_back_in_words() -> None:
    slow = [Say(["draft text ", "and more"]), Say("good")]
    stage = Stage({PLANNER: Say(THOUGHT, each_s=0.001), "1": slow, "2": Say("two")})
    sgd = SGDRunnable(**stage.pair())
    chunks = [chunk async for chunk in sgd.astream("Why?")]
    text = "".join(chunk.text for chunk in chunks)
    before, _, after = text.partition(AGAIN)
    assert before.startswith("## Draft")
    assert after.strip() == "## Heading 1\n\ngood\n\n## Heading 2\n\ntwo"
    report = Report.from_message(chunks[-1])
    assert report.restarted


async def test_one_call_is_told_as_one() -> None:
    stage = Stage({PLANNER: planning(TWO), "small/1": NO})
    sgd = SGDRunnable(**stage.pair(), router=lambda node: "small" if node.id == "1" else "large")
    report = Report.from_message(await sgd.ainvoke("Why?"))
    [warning] = report.warnings
    assert "tier small gave no answer: 1 call came to nothing" in warning


async def test_every_warning_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage({PLANNER: planning(TWO), "small/1": NO, "small/2": NO})
    sgd = SGDRunnable(**stage.pair())
    with caplog.at_level(logging.WARNING, logger="langchain_sgd"):
        report = Report.from_message(await sgd.ainvoke("Why?"))
    assert report.status == "complete"
    [warning] = report.warnings
    assert "tier small gave no answer: 2 calls came to nothing" in warning
    assert "large answered instead" in warning
    logged = [record for record in caplog.records if record.name.startswith("langchain_sgd")]
    assert [(record.levelname, record.getMessage()) for record in logged] == [("WARNING", warning)]
    assert "\n" not in warning


@pytest.mark.parametrize("handled", [False, True])
async def test_after_a_streamed_text_a_warning_begins_a_line_where_nobody_handles_logs(
    *,
    handled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage({PLANNER: planning(TWO), "small/1": NO, "small/2": NO})
    said: list[str] = []
    monkeypatch.setattr(recorder._log, "hasHandlers", lambda: handled)
    monkeypatch.setattr(recorder._log, "warning", lambda form, *given: said.append(form % given))
    chunks = [chunk async for chunk in SGDRunnable(**stage.pair()).astream("Why?")]
    [warning] = Report.from_message(chunks[-1]).warnings
    assert said == [warning if handled else f"\n{warning}"]
    said.clear()
    await SGDRunnable(**stage.pair()).ainvoke("Why?")
    assert said == [warning]


async def test_what_is_whole_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage({PLANNER: planning(TWO)})
    with caplog.at_level(logging.DEBUG, logger="langchain_sgd"):
        report = Report.from_message(await SGDRunnable(**stage.pair()).ainvoke("Why?"))
    assert (report.warnings, caplog.records) == ((), [])


async def test_the_message_carries_the_total_and_tracers_count_once() -> None:
    said = Say("text", usage=(10, 3))
    stage = Stage({PLANNER: planning(TWO, usage=(20, 5))}, default=said)
    total = {"input_tokens": 40, "output_tokens": 11, "total_tokens": 51}
    assert (await SGDRunnable(**stage.pair()).ainvoke("Why?")).usage_metadata is None
    sgd = SGDRunnable(**stage.pair(), count_usage=True)
    with get_usage_metadata_callback() as counted:
        message = await sgd.ainvoke("Why?")
    assert message.usage_metadata == total
    assert sum(usage["total_tokens"] for usage in counted.usage_metadata.values()) == 51
    last = [chunk async for chunk in sgd.astream("Why?")][-1]
    assert last.usage_metadata == total
    with get_usage_metadata_callback() as counted:
        await ChatSGD(sgd).ainvoke("Why?")
    assert sum(usage["total_tokens"] for usage in counted.usage_metadata.values()) == 51


async def test_an_error_carries_the_parts_that_were_finished(caplog: Any) -> None:
    stage = Stage({PLANNER: planning(TWO, usage=(10, 5)), "1": Say("one", usage=(3, 2)), "2": NO})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")
    with pytest.raises(NodeDecodeError) as raised:
        await sgd.ainvoke("Why?")
    report = raised.value.report
    assert report is not None
    assert report.status == "partial"
    assert report.answers == {"1": "one"}
    assert report["2"].status == "failed"
    assert report.total_usage.output_tokens == 7
    assert caplog.records == []  # the error tells
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own bytes
    assert again.report == report


async def test_an_undivided_answer_that_fails_tells_its_calls() -> None:
    stage = Stage({}, default=NO)
    with pytest.raises(NodeDecodeError) as raised:
        await SGDRunnable(**stage.pair(), mode="never").ainvoke("Why?")
    report = raised.value.report
    assert report is not None
    assert (report.skeleton.nodes, report.nodes[0].status) == ((), "failed")
    assert len(report.nodes[0].attempts) == len(stage.calls)


async def test_an_error_before_any_call_carries_no_report() -> None:
    stage = Stage({})
    with pytest.raises(InvalidInputError) as raised:
        await SGDRunnable(**stage.pair()).ainvoke("")
    assert raised.value.report is None
