"""What time does to a run: silence, deadlines, models that are slow to stop or deaf."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.exceptions import ModelTimeoutError
from langchain_core.runnables import RunnableGenerator

from langchain_sgd import (
    Report,
    RunDeadlineError,
    SGDRunnable,
)
from langchain_sgd.answer import CUT
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.limits import in_line
from tests.support.failing import BROKEN, TWO, WRONG, reported, tiers
from tests.support.models import PLAIN, PLANNER, Say, Stage, others
from tests.support.skeletons import skeleton

# -- time


def test_a_silent_model_is_given_up() -> None:
    stage = Stage({"small/1": Say("I", hang=True), "large/1": Say("good")})

    async def main() -> float:
        report = await reported(stage, stall_timeout_s=10.0, retries=0)
        assert "nothing came for 10 s" in (report["1"].attempts[0].error or "")
        assert not others()
        return report.wall_s

    assert run_virtual(main()) == pytest.approx(10.0)
    assert stage.calls[0].outcome == "cancelled"


def test_slow_but_steady_is_no_stall() -> None:
    stage = Stage({"1": Say(["a"] * 50, each_s=9.0)})
    report = run_virtual(reported(stage, stall_timeout_s=10.0))
    assert tiers(report, "1") == ["small"]
    assert report.wall_s == pytest.approx(450.0)


def test_a_node_s_time_begins_with_its_first_call() -> None:
    # 2 waits 20 s for 1, and 3 waits 20 s for a slot; neither wait is its own.
    stage = Stage({str(n): Say(then_s=10.0) for n in (1, 2, 3)})
    planned = skeleton("1", "2 <- 1", "3")
    report = run_virtual(reported(stage, planned, node_timeout_s=11.0, limits={"small": 1}))
    assert report.status == "complete"
    assert report.wall_s == pytest.approx(30.0)


def test_a_node_s_time_covers_all_its_attempts() -> None:
    stage = Stage({"1": Say(["some", " words"], each_s=2.0, then_s=1.0, error=BROKEN)})
    report = run_virtual(reported(stage, skeleton("1", "2"), node_timeout_s=12.0, retries=9))
    assert report["1"].ended_s == pytest.approx(12.0)
    assert report["1"].status in {"failed", "truncated"}
    assert "time" in (report["1"].error or "")


def test_the_deadline_returns_what_is_finished() -> None:
    stage = Stage({"1": Say("quick", then_s=1.0), "2": Say(["half", " more"], each_s=6.0)})

    async def main() -> Report:
        report = await reported(stage, skeleton("1", "2", "3 <- 2"), deadline_s=10.0)
        assert not others()
        return report

    report = run_virtual(main())
    assert report.wall_s == pytest.approx(10.0)
    assert [node.status for node in report.nodes] == ["complete", "truncated", "failed"]
    assert report["2"].answer == "half"
    assert stage.parts() == ["1", "2"]  # nobody is asked after the deadline
    assert report["3"].attempts == ()


def test_the_deadline_holds_while_waiting_for_a_slot() -> None:
    stage = Stage({"1": Say(then_s=8.0), "2": Say(then_s=8.0)})
    planned = skeleton("1", "2", "3")
    report = run_virtual(reported(stage, planned, deadline_s=10.0, limits={"small": 1}))
    assert report.wall_s == pytest.approx(10.0)
    assert [node.status for node in report.nodes] == ["complete", "truncated", "failed"]
    assert "time was used up" in (report["3"].error or "")
    assert stage.parts() == ["1", "2"]


def test_the_deadline_holds_while_planning() -> None:
    stage = Stage({PLANNER: Say((), hang=True)})
    sgd = SGDRunnable(**stage.pair(), deadline_s=10.0)

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(RunDeadlineError, match="10 s"):
            await sgd.ainvoke("Why?")
        assert not others()
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == pytest.approx(10.0)
    assert stage.parts() == [PLANNER]


def test_the_deadline_holds_while_the_planner_waits_for_a_slot() -> None:
    stage = Stage({PLANNER: Say(["PL", "AIN"], each_s=4.0), PLAIN: Say(then_s=1.0)})
    sgd = SGDRunnable(**stage.pair(), deadline_s=10.0, limits={"planner": 1})

    async def main() -> float:
        clock = asyncio.get_running_loop().time
        began = clock()
        first, second = await sgd.abatch(["One?", "Two?"], return_exceptions=True)
        assert Report.from_message(first).status == "plain"
        assert isinstance(second, RunDeadlineError)
        return clock() - began

    assert run_virtual(main()) == pytest.approx(10.0)


def test_a_planner_that_breaks_off_goes_on_from_its_lines_when_asked_again() -> None:
    lines = ["1 Alpha\n", "2 Beta\n", "3 Gam"]
    whole = "1 Alpha\n2 Beta\n3 Gamma\n"
    stage = Stage({PLANNER: [Say(lines, error=BROKEN), Say(whole)]})
    report = Report.from_message(run_virtual(SGDRunnable(**stage.pair()).ainvoke("Why?")))
    assert (report.status, report.warnings) == ("complete", ())
    assert [node.heading for node in report.nodes] == ["Alpha", "Beta", "Gamma"]
    assert sorted(stage.parts()) == ["1", "2", "3", PLANNER, PLANNER]
    assert "1 Alpha\n2 Beta\n" in stage.of(PLANNER)[1].prompt


def test_a_planner_that_breaks_off_for_good_says_so() -> None:
    stage = Stage({PLANNER: Say(["1 Alpha\n", "2 Beta\n", "3 Gam"], error=WRONG)})
    report = Report.from_message(run_virtual(SGDRunnable(**stage.pair()).ainvoke("Why?")))
    assert report.status == "partial"
    assert [node.heading for node in report.nodes] == ["Alpha", "Beta"]
    assert "the planner broke off after 2 nodes" in report.warnings[0]


@pytest.mark.parametrize("kind", [TimeoutError, ModelTimeoutError])
def test_a_text_that_runs_on_until_its_clients_time_ends_is_kept_and_not_asked_for_again(
    kind: type[Exception],
) -> None:
    run_on = Say(["again "] * 100, each_s=1.0, error=kind("no complete answer in 100 s"))
    stage = Stage({PLAIN: run_on})
    sgd = SGDRunnable(large=stage.model("large"), mode="never")
    message = run_virtual(sgd.ainvoke("Why?"))
    assert stage.parts() == [PLAIN]
    assert message.text.startswith("again again")
    assert message.text.endswith(CUT)
    assert Report.from_message(message).nodes[0].status == "truncated"


def test_a_stream_that_does_not_say_how_it_ended_was_broken_off_if_others_say_it() -> None:
    stage = Stage({PLAIN: [Say("whole"), Say("half a sent", finish="")]})
    sgd = SGDRunnable(large=stage.model("large"), mode="never", retries=0)

    async def main() -> list[str]:
        return [str((await sgd.ainvoke(question)).text) for question in ("One?", "Two?")]

    assert run_virtual(main()) == ["whole", f"half a sent\n\n{CUT}"]


def test_a_model_that_never_says_how_its_streams_end_is_believed() -> None:
    stage = Stage({PLAIN: Say("whole", finish="")})
    sgd = SGDRunnable(large=stage.model("large"), mode="never", retries=0)
    assert run_virtual(sgd.ainvoke("Why?")).text == "whole"


def test_a_wait_in_the_clients_own_queue_is_no_silence() -> None:
    async def translate(_: Any) -> Any:
        tell = in_line.get()
        assert tell is not None
        tell(1)
        await asyncio.sleep(100)
        tell(-1)
        await asyncio.sleep(4)
        yield "text"

    sgd = SGDRunnable(
        large=RunnableGenerator(translate), stall_timeout_s=5.0, retries=0, mode="never"
    )
    assert run_virtual(sgd.ainvoke("Why?")).text == "text"


def test_a_plan_cut_by_the_deadline_keeps_its_finished_nodes() -> None:
    lines = ["1|A|a|-|1\n", "2|B|b|-|1\n", "3|C|c|-|1\n"]
    stage = Stage({PLANNER: Say(lines, each_s=1.0, hang=True)})
    sgd = SGDRunnable(**stage.pair(), deadline_s=10.0)
    report = Report.from_message(run_virtual(sgd.ainvoke("Why?")))
    assert report.wall_s == pytest.approx(10.0)
    assert report.status == "partial"
    assert [node.status for node in report.nodes] == ["complete"] * 3


@pytest.mark.parametrize("on_node_error", ["partial", "raise"])
def test_a_deadline_with_nothing_answered_raises(on_node_error: str) -> None:
    stage = Stage({"1": Say((), hang=True), "2": Say((), hang=True)})
    sgd = SGDRunnable(**stage.pair(), deadline_s=10.0, on_node_error=on_node_error)
    with pytest.raises(RunDeadlineError, match="deadline of 10 s"):
        run_virtual(sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1", "2", "3 <- 1")}))


def test_without_any_bound_a_hanging_model_can_still_be_cancelled() -> None:
    stage = Stage({"1": Say(hang=True)})
    sgd = SGDRunnable(**stage.pair(), stall_timeout_s=None)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await sgd.ainvoke({"question": "Why?", "skeleton": TWO})
        assert not others()

    run_virtual(main())


# -- models that do not behave


def test_a_model_that_is_slow_to_stop_is_waited_for() -> None:
    stage = Stage({"small/1": Say(hang=True, stubborn_s=3.0), "large/1": Say("good")})

    async def main() -> Report:
        report = await reported(stage, stall_timeout_s=10.0, retries=0)
        assert not others()
        return report

    report = run_virtual(main())
    assert report["1"].answer == "good"
    assert report.wall_s == pytest.approx(13.0)


def test_a_model_whose_cleanup_hangs_is_cancelled_again() -> None:
    stage = Stage({"small/1": Say(hang=True, stubborn_s=1e9), "large/1": Say("good")})

    async def main() -> Report:
        report = await reported(stage, stall_timeout_s=10.0, retries=0)
        assert not others()
        return report

    report = run_virtual(main())
    assert "nothing came for 10 s" in (report["1"].attempts[0].error or "")
    assert report["1"].answer == "good"
    assert report.wall_s == pytest.approx(15.0)


def test_a_hanging_cleanup_does_not_outlive_the_deadline_for_long() -> None:
    stage = Stage({"1": Say("begun", hang=True, stubborn_s=1e9)})
    report = run_virtual(reported(stage, skeleton("1", "2"), deadline_s=10.0))
    assert [node.status for node in report.nodes] == ["truncated", "complete"]
    assert report.wall_s == pytest.approx(15.0)


def test_a_model_that_ignores_its_timeout_is_stopped_at_its_next_word() -> None:
    stage = Stage({"small/1": Say(["a", "b", "c"], each_s=7.0, deaf=True), "large/1": Say("good")})
    report = run_virtual(reported(stage, skeleton("1", "2"), node_timeout_s=10.0))
    assert report["1"].answer == "a"
    assert report["1"].status == "truncated"
    assert "time was used up" in (report["1"].error or "")


def test_a_model_that_ignores_a_cancellation_is_stopped_at_its_next_word() -> None:
    stage = Stage({"1": Say(["a"] * 1000, each_s=1.0, deaf=True)})
    sgd = SGDRunnable(**stage.pair())

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10.5):
                await sgd.ainvoke({"question": "Why?", "skeleton": TWO})
        assert asyncio.get_running_loop().time() < 13.0
        assert not others()

    run_virtual(main())


def test_what_a_model_makes_of_a_timeout_is_still_a_timeout() -> None:
    async def translate(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            msg = "my client was closed"
            raise RuntimeError(msg) from None
        yield "never"

    async def main() -> Report:
        sgd = SGDRunnable(
            small=RunnableGenerator(translate), large=Stage().model("large"), stall_timeout_s=5.0
        )
        given = {"question": "Why?", "skeleton": skeleton("1", "2!")}
        return Report.from_message(await sgd.ainvoke(given))

    report = run_virtual(main())
    assert tiers(report, "1") == ["small", "small", "small", "large"]
    assert "nothing came for 5 s" in (report["1"].attempts[0].error or "")


def test_a_model_that_cancels_itself_has_failed() -> None:
    stage = Stage({"small/1": Say(error=asyncio.CancelledError()), "large/1": Say("good")})
    report = run_virtual(reported(stage, retries=0))
    assert tiers(report, "1") == ["small", "large"]
    assert report.status == "complete"


def test_a_planner_that_cancels_itself_has_failed() -> None:
    stage = Stage({PLANNER: Say(error=asyncio.CancelledError())})
    report = Report.from_message(run_virtual(SGDRunnable(**stage.pair()).ainvoke("Why?")))
    assert report.status == "plain"


def test_a_model_that_never_lets_go_of_the_loop_is_stopped() -> None:
    async def endless(_: Any) -> Any:
        while True:
            yield "word "

    async def main() -> Report:
        sgd = SGDRunnable(
            small=RunnableGenerator(endless), large=Stage().model("large"), node_timeout_s=0.05
        )
        given = {"question": "Why?", "skeleton": skeleton("1", "2!")}
        return Report.from_message(await sgd.ainvoke(given))

    report = asyncio.run(main())
    assert report["1"].status == "truncated"
    assert report["2"].status == "complete"
