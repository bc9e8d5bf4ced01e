"""What goes wrong and what becomes of it: retries, larger tiers, gaps, the planner."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator
from langgraph.checkpoint.memory import InMemorySaver

from langchain_sgd import (
    DependencyFailedError,
    InvalidInputError,
    NodeDecodeError,
    Report,
    SGDRunnable,
)
from langchain_sgd.answer import CUT, MISSING
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.retry import is_retryable
from tests.support.failing import BROKEN, TWO, WRONG, reported, tiers
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

# -- retries and larger tiers


def test_a_passing_error_is_retried_on_the_same_tier() -> None:
    stage = Stage({"1": [Say(error=BROKEN), Say(error=BROKEN), Say("well")]})
    report = run_virtual(reported(stage))
    assert tiers(report, "1") == ["small", "small", "small"]
    assert report.status == "complete"
    assert [attempt.error for attempt in report["1"].attempts][2] is None
    assert "ConnectionError" in (report["1"].attempts[0].error or "")


def test_after_its_retries_the_larger_tier_is_tried() -> None:
    stage = Stage({"small/1": Say(error=BROKEN)})
    report = run_virtual(reported(stage, retries=1))
    assert tiers(report, "1") == ["small", "small", "large"]
    assert report.status == "complete"


def test_what_is_no_answer_is_asked_for_once_more_on_every_tier() -> None:
    """A larger tier is not blamed for what the smaller one has sent."""
    garbled = ValueError("No generation chunks were returned")
    assert [is_retryable(garbled, number) for number in (1, 2)] == [True, False]
    stage = Stage({"small/1": Say(error=garbled), "large/1": [Say(error=garbled), Say("well")]})
    report = run_virtual(reported(stage))
    assert tiers(report, "1") == ["small", "small", "large", "large"]
    assert report.status == "complete"


def test_a_tier_whose_answers_all_fail_is_named_and_one_whose_texts_are_kept_is_not() -> None:
    stage = Stage({"small/1": Say(error=WRONG), "small/2": Say(error=WRONG)})
    report = run_virtual(reported(stage))
    assert [w for w in report.warnings if w.startswith("tier small gave no answer: 2 calls")]
    stage = Stage({"1": Say("so far", finish="length"), "2": Say("so far", finish="length")})
    report = run_virtual(reported(stage))
    assert report.status == "partial"
    assert not [warning for warning in report.warnings if warning.startswith("tier large")]


def test_an_error_that_will_not_pass_is_not_retried() -> None:
    stage = Stage({"small/1": Say(error=WRONG)})
    report = run_virtual(reported(stage))
    assert tiers(report, "1") == ["small", "large"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Say(""), "empty"),
        (Say("  \n "), "empty"),
        (Say("<think>hm</think>"), "empty"),
        (Say("begun", finish="length"), "token limit"),
        (Say("REFUSED"), "not accepted"),
    ],
)
def test_a_poor_answer_goes_to_the_larger_tier_at_once(said: Say, reason: str) -> None:
    stage = Stage({"small/1": said, "large/1": Say("good")})
    report = run_virtual(reported(stage, accept=lambda _, text: "REFUSED" not in text))
    assert tiers(report, "1") == ["small", "large"]
    assert reason in (report["1"].attempts[0].error or "")
    assert report["1"].answer == "good"
    assert report.status == "complete"


def test_where_no_larger_tier_can_answer_a_smaller_one_does() -> None:
    stage = Stage({"large/1": Say(error=WRONG), "small/1": Say("well")})
    report = run_virtual(reported(stage, skeleton("1!", "2")))
    assert tiers(report, "1") == ["large", "small"]
    assert (report["1"].status, report["1"].tier, report["1"].answer) == (
        "complete",
        "small",
        "well",
    )
    assert report.status == "complete"
    assert "node 1: large could not answer, so small wrote it" in report.warnings


def test_a_whole_text_of_a_smaller_tier_is_better_than_one_that_broke_off() -> None:
    stage = Stage({"large/1": Say("so far", error=WRONG), "small/1": Say("well")})
    assert run_virtual(reported(stage, skeleton("1!", "2")))["1"].answer == "well"
    stage = Stage({"large/1": Say("so far", error=WRONG), "small/1": Say(error=WRONG)})
    report = run_virtual(reported(stage, skeleton("1!", "2")))
    assert (report["1"].status, report["1"].answer) == ("truncated", "so far")


def test_a_smaller_tier_stands_in_for_an_empty_answer_too() -> None:
    stage = Stage({"large/1": Say(""), "small/1": Say("well")})
    report = run_virtual(reported(stage, skeleton("1!", "2")))
    assert tiers(report, "1") == [*["large"] * 3, "small"]
    assert report["1"].answer == "well"


@pytest.mark.parametrize(
    "said", [Say("REFUSED"), Say("cut", finish="length"), Say("", finish="content_filter")]
)
def test_a_smaller_tier_does_not_stand_in_for_a_text_that_was_not_taken(said: Say) -> None:
    stage = Stage({"large/1": said, "small/1": Say("well")})
    report = run_virtual(
        reported(stage, skeleton("1!", "2"), accept=lambda _, text: "REFUSED" not in text)
    )
    assert set(tiers(report, "1")) == {"large"}
    assert report["1"].answer != "well"


def test_a_part_that_nobody_can_answer_has_failed() -> None:
    stage = Stage({"1": Say(error=WRONG)})
    report = run_virtual(reported(stage, skeleton("1!", "2")))
    assert tiers(report, "1") == ["large", "small"]
    assert report["1"].status == "failed"


WHOLE = "word " * 40


def test_a_part_that_a_smaller_tier_leaves_nearly_empty_goes_to_a_larger_one_unseen() -> None:
    lines: dict[str, Any] = {
        "small/1": Say(["Too ", "short."]),
        "large/1": Say(WHOLE),
        "2": Say(WHOLE),
    }
    sgd = SGDRunnable(**{**Stage(lines).pair(), "least_share": 0.4})
    given = {"question": "Why?", "skeleton": skeleton("1", "2")}

    async def streamed() -> tuple[str, Report]:
        chunks = [chunk async for chunk in sgd.astream(given)]
        return "".join(str(chunk.text) for chunk in chunks), Report.from_message(chunks[-1])

    text, report = run_virtual(streamed())
    assert tiers(report, "1") == ["small", "large"]
    assert tiers(report, "2") == ["small"]
    assert report["1"].attempts[0].error == "the text is nearly empty: 2 of about 50 words"
    assert (report.status, report.restarted) == ("complete", False)
    assert text == f"## Heading 1\n\n{WHOLE.strip()}\n\n## Heading 2\n\n{WHOLE.strip()}"


def test_it_is_taken_if_nothing_else_comes() -> None:
    stage = Stage({"small/1": Say("Too short."), "large/1": Say(error=WRONG)})
    report = run_virtual(reported(stage, skeleton("1", "2!"), least_share=0.4))
    assert tiers(report, "1") == ["small", "large"]
    assert (report["1"].status, report["1"].answer) == ("complete", "Too short.")
    assert any("node 1" in warning for warning in report.warnings)


def test_of_the_largest_tier_every_length_is_taken() -> None:
    stage = Stage({"large/1": Say("Short.")})
    report = run_virtual(reported(stage, skeleton("1!", "2!"), least_share=1))
    assert tiers(report, "1") == ["large"]
    assert report["1"].answer == "Short."


def test_all_tiers_are_tried_in_order() -> None:
    stage = Stage({f"{name}/1": Say(error=WRONG) for name in ("a", "b")})
    models = {name: stage.model(name) for name in ("a", "b", "c")}
    sgd = SGDRunnable(tiers=models)
    given = {"question": "Why?", "skeleton": skeleton("1", "2")}
    report = Report.from_message(run_virtual(sgd.ainvoke(given)))
    assert tiers(report, "1") == ["a", "b", "c"]


def test_a_cut_answer_is_kept_if_nothing_better_comes() -> None:
    stage = Stage({"1": Say("the beginning", finish="length")})
    sgd = SGDRunnable(**stage.pair())
    message = run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": TWO}))
    report = Report.from_message(message)
    assert report.status == "partial"
    assert report["1"].status == "truncated"
    assert f"the beginning\n\n{CUT}" in message.text
    assert report["2"].status == "complete"  # a beginning is better than nothing
    assert "the beginning" in stage.of("2")[0].prompt


def test_retries_multiply_in_no_other_layer() -> None:
    stage = Stage({"1": Say(error=BROKEN)})
    report = run_virtual(reported(stage, skeleton("1", "2 <- 1", "3"), retries=2))
    assert len(stage.of("1")) == 6  # three on each tier
    assert stage.of("2") == []
    assert report["2"].attempts == ()


# -- partial or raise


def test_a_gap_is_named_and_its_dependents_are_skipped() -> None:
    stage = Stage({"1": Say(error=WRONG)})
    sgd = SGDRunnable(**stage.pair())
    planned = skeleton("1", "2 <- 1", "3 <- 2", "4")
    message = run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": planned}))
    report = Report.from_message(message)
    assert report.status == "partial"
    assert [node.status for node in report.nodes] == ["failed", "skipped", "skipped", "complete"]
    assert message.text.count(MISSING) == 3
    assert "SECRET-DETAIL" not in message.text
    assert any("node 1" in warning for warning in report.warnings)
    assert any("node 2" in warning and "1" in warning for warning in report.warnings)


def test_raise_lets_siblings_end_and_names_the_node() -> None:
    stage = Stage({"1": Say(error=WRONG), "3": Say("late", then_s=5.0)})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")
    with pytest.raises(NodeDecodeError, match=r"Node 1 \('Heading 1'\).*'large'") as caught:
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2 <- 1", "3")}))
    assert caught.value.__cause__ is WRONG
    assert caught.value.node is not None
    assert caught.value.node.id == "1"
    assert stage.of("3")[0].outcome == "done"
    assert stage.of("2") == []


def test_a_failed_dependency_never_hides_the_first_error() -> None:
    stage = Stage({"2": Say(error=WRONG)})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")
    planned = skeleton("1", "2", "3 <- 1,2", "4 <- 3")
    with pytest.raises(NodeDecodeError) as caught:
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": planned}))
    assert not isinstance(caught.value, DependencyFailedError)


def test_nothing_answered_raises_whatever_was_asked_for() -> None:
    stage = Stage({"1": Say(error=WRONG), "2": Say(error=WRONG)})
    sgd = SGDRunnable(**stage.pair())
    with pytest.raises(NodeDecodeError, match="Node 1"):
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2", "3 <- 1")}))


def test_a_run_with_no_answer_at_all_can_be_resumed() -> None:
    # The servers were down; when they are back, the thread goes on.
    down = [Say(error=WRONG), Say(error=WRONG), Say("well")]
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1", "3")), "1": down, "3": down})
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    with pytest.raises(NodeDecodeError):
        run_virtual(sgd.ainvoke("Why?", thread))
    report = Report.from_message(run_virtual(sgd.ainvoke(None, thread)))
    assert report.status == "complete"
    assert len(stage.of(PLANNER)) == 1
    assert [node.status for node in report.nodes] == ["complete"] * 3


def test_a_plain_run_that_fails_raises() -> None:
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: Say(error=WRONG)})
    sgd = SGDRunnable(**stage.pair())
    with pytest.raises(NodeDecodeError, match="Plain decoding") as caught:
        run_virtual(sgd.ainvoke("Why?"))
    assert caught.value.node is None


@pytest.mark.parametrize("on_node_error", ["partial", "raise"])
def test_a_user_s_own_error_is_raised_as_it_is(on_node_error: str) -> None:
    def accept(_: object, __: str) -> bool:
        msg = "my bug"
        raise LookupError(msg)

    sgd = SGDRunnable(**Stage().pair(), accept=accept, on_node_error=on_node_error)
    with pytest.raises(LookupError, match="my bug"):
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2 <- 1", "3")}))


def test_a_router_that_names_no_tier_is_told_which_there_are() -> None:
    sgd = SGDRunnable(**Stage().pair(), router=lambda _: "huge")
    with pytest.raises(InvalidInputError, match=r"'huge'.*node 1.*'small', 'large'"):
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2 <- 1")}))


# -- the planner


def test_a_planner_that_fails_ends_in_plain_decoding() -> None:
    stage = Stage({PLANNER: Say("1|A|a", error=BROKEN)})
    sgd = SGDRunnable(**stage.pair(), retries=1)
    message = run_virtual(sgd.ainvoke("Why?"))
    report = Report.from_message(message)
    assert stage.parts() == [PLANNER, PLANNER, PLAIN]
    assert report.status == "plain"
    assert report.reason == "the planner failed"
    assert any("ConnectionError" in warning for warning in report.warnings)
    assert "SECRET-DETAIL" not in message.text


def test_a_planner_that_talks_nonsense_is_asked_once_more() -> None:
    stage = Stage({PLANNER: Say("Sure! Here is a poem about trains.")})
    report = Report.from_message(run_virtual(SGDRunnable(**stage.pair()).ainvoke("Why?")))
    assert stage.parts() == [PLANNER, PLANNER, PLAIN]
    assert "could not be used" in stage.of(PLANNER)[1].prompt
    assert report.status == "plain"


def test_a_planner_that_breaks_off_leaves_a_partial_answer() -> None:
    planned = skeleton("1", "2", "3", "4")
    lines = ["1|A|a|-|1\n", "2|B|b|1|1\n", "3|C|c"]
    stage = Stage({PLANNER: Say(lines, error=BROKEN)})
    report = Report.from_message(run_virtual(SGDRunnable(**stage.pair()).ainvoke("Why?")))
    assert len(report.skeleton) < len(planned)
    assert report.status == "partial"
    assert any("planner" in warning and "lack parts" in warning for warning in report.warnings)


def test_a_planner_that_repeats_itself_for_ever_is_stopped() -> None:
    async def endless() -> Report:
        stage = Stage({PLANNER: Say([f"{n}|Part {n}|x|-|1\n" for n in range(1, 5000)])})
        report = Report.from_message(await SGDRunnable(**stage.pair()).ainvoke("Why?"))
        assert stage.of(PLANNER)[0].outcome == "closed"
        return report

    report = run_virtual(endless())
    assert len(report.nodes) == 12
    assert any("more than 12" in warning for warning in report.warnings)


async def test_a_tier_that_gives_no_text_says_so() -> None:
    stage = Stage()
    numbers: Any = RunnableGenerator(_numbers)
    sgd = SGDRunnable(small=numbers, large=stage.model("large"))
    report = Report.from_message(
        await sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2")})
    )
    assert "it gave int" in (report["1"].attempts[0].error or "")
    assert report.status == "complete"


async def _numbers(_: Any) -> Any:
    yield 1
