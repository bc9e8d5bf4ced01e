"""Parts that are planned and written in parts themselves: by `expand`, or by a tier that is an `SGDRunnable`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import ValidationError

from langchain_sgd import ChatSGD, NodeDecodeError, Report, SGDRunnable, Skeleton
from langchain_sgd.answer import AGAIN, MISSING
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.langgraph.journal import fingerprint
from langchain_sgd.limits import Limit
from tests.support.models import PLAIN, PLANNER, Say, Stage, others, planning, settle
from tests.support.skeletons import skeleton

OUTER = skeleton("1", "2! <- 1", "3")
INNER = skeleton("21", "22", "23 <- 21")
DEEPER = skeleton("221", "222")
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
TEXT = """## Heading 1

one

## Heading 2

### Heading 21

two one

### Heading 22

two two

### Heading 23

two three

## Heading 3

three"""
SAID = {"1": "one", "21": "two one", "22": "two two", "23": "two three", "3": "three", "2": "two"}


def stage(*plans: Say | Skeleton, then_s: Any = 0.0, **lines: Any) -> Stage:
    """Plans in the order in which they are asked for; without any, OUTER's and INNER's."""
    said = [
        plan if isinstance(plan, Say) else planning(plan, usage=(100, 10))
        for plan in plans or (OUTER, INNER)
    ]
    texts = {part: Say(text, usage=(20, 7), then_s=then_s) for part, text in SAID.items()}
    return Stage({PLANNER: said, **texts, **lines}, default=Say(usage=(20, 7), then_s=then_s))


def hard(node: Any) -> bool:
    return bool(node.difficulty >= 4)


def expanding(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**on.pair(), **{"expand": hard, **options})


def tiered(on: Stage, inner: dict[str, Any] | None = None, **options: Any) -> SGDRunnable:
    """Hard parts go to a tier that is an SGDRunnable."""
    inner = {"least_share": 0, **(inner or {})}
    deep = SGDRunnable(small=on.model("little"), large=on.model("big"), **inner)
    tiers = {"small": on.model("small"), "deep": deep}
    return SGDRunnable(tiers=tiers, planner=on.model("large"), least_share=0, **options)


both = pytest.mark.parametrize("make", [expanding, tiered])


async def report_of(sgd: Any, config: RunnableConfig | None = None) -> Report:
    return Report.from_message(await sgd.ainvoke("Why?", config))


@both
async def test_a_part_is_written_in_parts_under_deeper_headings(make: Any) -> None:
    on = stage()
    message = await make(on).ainvoke("Why?")
    assert message.text == TEXT
    assert on.parts() == [PLANNER, "1", "3", PLANNER, "21", "22", "23"]


@both
async def test_its_report_is_a_child_of_the_report(make: Any) -> None:
    report = await report_of(make(stage()))
    assert report.status == "complete"
    parts = report["2"].parts
    assert parts is not None
    assert parts.skeleton == INNER
    assert report["2"].status == parts.status == "complete"
    assert [*report.leaves] == ["1", "2.21", "2.22", "2.23", "3"]
    assert report.leaves["2.23"].answer == "two three"
    assert report["1"].parts is report["3"].parts is None
    assert Report.model_validate(report.to_json()) == report
    # One clock for all of it.
    assert (
        report["2"].ready_s <= parts["21"].started_s <= parts["23"].ended_s <= report["2"].ended_s
    )


@both
async def test_its_writers_are_told_the_question_the_part_and_what_it_rests_on(make: Any) -> None:
    on = stage()
    await make(on).ainvoke("Why is the sky so blue?")
    planner = on.of(PLANNER)[1].prompt
    asked = planner[planner.rindex("human: ") :]
    for said in ("Why is the sky so blue?", "3. Heading 3", "===== 1. Heading 1\none\n", "part 2,"):
        assert said in asked
    writer = on.of("23")[0].prompt
    for said in (
        asked.removeprefix("human: "),
        "23. Heading 23",
        "===== 21. Heading 21\ntwo one\n",
    ):
        assert said in writer
    assert writer.count("Several writers answer a question together") == 1


async def test_every_call_is_counted_once_under_its_tiers_name() -> None:
    report = await report_of(expanding(stage()))
    assert {tier: usage.output_tokens for tier, usage in report.usage.items()} == {
        "planner": 20,
        "small": 5 * 7,
    }
    assert report["2"].usage.output_tokens == 10 + 3 * 7
    assert report.total_usage.output_tokens == 20 + 5 * 7
    assert report.models == {"planner": "large-model", "small": "small-model"}


async def test_the_tiers_inside_a_tier_stand_under_its_name() -> None:
    report = await report_of(tiered(stage()))
    assert {tier: usage.output_tokens for tier, usage in report.usage.items()} == {
        "planner": 10,
        "small": 2 * 7,
        "deep/planner": 10,
        "deep/small": 3 * 7,
    }
    assert report.models["deep/small"] == "little-model"
    assert report["2"].tier == "deep"


async def test_costs_are_those_of_the_calls_inside() -> None:
    prices = {"small": (0, 1), "large": (0, 1000)}
    costs = (await report_of(expanding(stage(), prices=prices))).costs
    assert costs is not None
    assert costs.tiers == {
        "planner": pytest.approx(20 * 1000 / 1e6),
        "small": pytest.approx(5 * 7 / 1e6),
    }
    assert costs.nodes["2"] == pytest.approx((10 * 1000 + 21) / 1e6)


@pytest.mark.parametrize(
    ("inner", "paid"),
    [({}, 31 * 50), ({"prices": {"small": (0, 3), "large": (0, 9)}}, 10 * 9 + 21 * 3)],
)
async def test_a_tier_is_paid_by_its_own_prices_or_by_the_one_for_it(
    inner: dict[str, Any], paid: float
) -> None:
    prices = {"small": (0, 1), "deep": (0, 50), "planner": (0, 0)}
    costs = (await report_of(tiered(stage(), inner, prices=prices))).costs
    assert costs is not None
    assert costs.nodes["2"] == pytest.approx(paid / 1e6)
    assert costs.uncounted_calls == 0


async def test_a_cost_cap_holds_across_levels() -> None:
    options: dict[str, Any] = {"prices": {"small": (0, 1), "large": (0, 1)}, "max_cost": 1e-9}
    on = stage()
    with pytest.raises(NodeDecodeError, match="max_cost"):
        await expanding(on, **options).ainvoke("Why?")
    assert on.parts() == [PLANNER]
    on = stage(**{PLANNER: [planning(OUTER), planning(INNER, usage=(0, 10**9))]})
    message = await expanding(on, **{**options, "max_cost": 10}).ainvoke("Why?")
    assert on.parts() == [PLANNER, "1", "3", PLANNER]
    assert "max_cost" in str(Report.from_message(message).warnings)


async def test_a_cost_cap_holds_inside_a_tier_that_is_a_run_of_its_own() -> None:
    inner = skeleton("21", "22", "23", "24")
    on = stage(OUTER, inner)
    prices = {"small": (0, 1), "deep": (0, 1), "planner": (0, 0)}
    cost = {"prices": prices, "max_cost": 40e-6, "length": 60}
    report = await report_of(tiered(on, {}, **cost))
    assert report.costs is not None
    assert report.costs.total <= 40e-6
    assert "max_cost=4e-05" in str(report.warnings)
    written = [part for part in on.parts() if part in {"21", "22", "23", "24"}]
    assert len(written) < 4


async def test_parts_of_so_many_words_are_expanded_and_the_depth_is_bounded() -> None:
    on = stage(OUTER, INNER, INNER, INNER)
    report = await report_of(expanding(on, expand=200, length=1000))
    assert [len(leaf.split(".")) for leaf in report.leaves] == [2] * 9
    on = stage(OUTER, INNER, INNER, INNER)
    assert on.parts().count(PLANNER) == 0
    await expanding(on, expand=200, length=400).ainvoke("Why?")
    assert on.parts().count(PLANNER) == 1
    assert "a few paragraphs" not in on.of("1")[0].prompt


async def test_two_levels_where_two_are_allowed() -> None:
    plans = (OUTER, INNER, DEEPER)
    on = stage(*plans)
    message = await expanding(
        on, expand=lambda node: node.id in {"2", "22", "221"}, expand_depth=2
    ).ainvoke("Why?")
    assert "#### Heading 221\n\n" in message.text
    report = Report.from_message(message)
    assert [*report.leaves] == ["1", "2.21", "2.22.221", "2.22.222", "2.23", "3"]
    assert on.parts().count(PLANNER) == 3


async def test_its_own_parts_share_its_length() -> None:
    on = stage(OUTER, INNER)
    await expanding(on, length=1200).ainvoke("Why? In 1,200 words")
    assert "255 to 345 words" in on.of("3")[0].prompt or "340 to 460 words" in on.of("3")[0].prompt
    assert "words" in on.of("23")[0].prompt.rpartition("Write only")[2]
    told = int(on.of("23")[0].prompt.rpartition(" to ")[2].split()[0])
    assert told <= 200


@both
async def test_a_part_that_its_planner_leaves_whole_is_written_as_usual(make: Any) -> None:
    on = stage(planning(OUTER), Say("PLAIN"))
    usual = stage(planning(OUTER))
    answer = await make(on).ainvoke("Why?")
    plain = SGDRunnable(**usual.pair())
    assert answer.text == (await plain.ainvoke("Why?")).text
    assert [call.prompt for call in on.of("2")] == [call.prompt for call in usual.of("2")]
    report = Report.from_message(answer)
    assert report["2"].parts is not None
    assert report["2"].parts.status == "plain"
    assert [*report.leaves] == ["1", "2", "3"]


async def test_a_chat_model_made_of_one_is_a_tier_as_well() -> None:
    on = stage()
    deep = ChatSGD(large=on.model("big"))
    tiers = {"small": on.model("small"), "deep": deep}
    sgd = SGDRunnable(tiers=tiers, planner=on.model("large"), least_share=0)
    message = await sgd.ainvoke("Why?")
    assert message.text == TEXT
    assert "2.21" in Report.from_message(message).leaves


# -- streams


@both
async def test_it_streams_in_document_order_the_first_unfinished_part_live(make: Any) -> None:
    on = stage(OUTER, INNER, **{"21": Say(["two ", "one"])})
    on.gated = True
    on.release(PLANNER, "1", "22", "3")
    got: list[str] = []

    async def read() -> None:
        async for chunk in make(on).astream("Why?"):
            got.append(chunk.text)  # noqa: PERF401 - looked at while it grows

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await settle(lambda: "21" in on.parts() and on.of("22")[0].outcome == "done")
        await settle()
        assert "".join(got) == "## Heading 1\n\none"
        on.release("21")
        await settle(lambda: "23" in on.parts())
        await settle()
        assert "".join(got) == TEXT.partition("\n\n### Heading 23")[0]
        on.release("23")
    assert "".join(got) == TEXT


@both
async def test_closing_the_stream_closes_every_call_inside(make: Any) -> None:
    on = stage(OUTER, INNER, **{"21": Say(["two "], hang=True), "22": Say(hang=True)})
    stream = make(on).astream("Why?")
    async for chunk in stream:
        if "two" in chunk.text:
            break
    await stream.aclose()
    assert on.in_flight == 0
    assert {call.outcome for call in on.calls} <= {"done", "closed", "cancelled"}
    assert not others()


async def test_what_is_begun_again_inside_leaves_no_mark_where_nobody_watches() -> None:
    def broken() -> Stage:
        lines = {"21": [Say("two o", error=ConnectionError("gone")), Say("quite another")]}
        return stage(OUTER, INNER, **lines)

    message = await expanding(broken(), retries=1).ainvoke("Why?")
    assert AGAIN not in message.text
    assert not Report.from_message(message).restarted
    assert "quite another" in message.text
    chunks = [chunk async for chunk in expanding(broken(), retries=1).astream("Why?")]
    total = sum(chunks[1:], chunks[0])
    assert total.text.count(AGAIN) == 1
    assert total.response_metadata["sgd"]["restarted"]


# -- limits and time


@both
@pytest.mark.parametrize("most", [1, 2])
def test_a_runs_limit_holds_for_all_levels_and_nothing_waits_for_itself(
    make: Any, most: int
) -> None:
    on = stage(then_s=1)
    message = run_virtual(make(on).ainvoke("Why?", {"max_concurrency": most}))
    assert message.text == TEXT
    assert on.peak == most


def test_a_tiers_limit_is_one_of_calls_inside_it() -> None:
    on = stage(OUTER, skeleton("21", "22", "23"), then_s=1)
    limit = Limit(1)
    sgd = tiered(on, {"limits": {"small": limit}}, limits={"deep": limit, "small": limit})
    message = run_virtual(sgd.ainvoke("Why?"))
    assert message.text == TEXT
    assert on.peak == 1


def test_the_deadline_ends_what_is_inside_and_keeps_what_is_finished() -> None:
    async def run(make: Any, **options: Any) -> Report:
        on = stage(OUTER, INNER, **{"22": Say([], hang=True)})
        return await report_of(make(on, **options))

    for make, options in (
        (expanding, {"deadline_s": 9}),
        (tiered, {"deadline_s": 9}),
        (tiered, {"node_timeout_s": 9}),
        (tiered, {"inner": {"deadline_s": 9}}),
        (tiered, {"inner": {"node_timeout_s": 9}}),
    ):
        report = run_virtual(run(make, **options))
        assert report.wall_s == pytest.approx(9)
        assert report["2"].status == report.status == "partial"
        assert report.leaves["2.21"].status == "complete"
        assert report.leaves["2.22"].status == "failed"


def test_a_part_that_has_nothing_when_its_time_ends_says_so() -> None:
    async def run() -> Report:
        on = stage(OUTER, Say(hang=True))
        return await report_of(expanding(on, deadline_s=9))

    report = run_virtual(run())
    assert report["2"].status == "failed"
    assert "time was used up" in str(report["2"].error)


# -- failures


@both
async def test_a_part_of_a_part_that_is_missing_is_named_once_and_makes_it_partial(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    on = stage(OUTER, INNER, **{"22": Say(error=ValueError("no such model"))})
    with caplog.at_level(logging.WARNING, "langchain_sgd"):
        message = await make(on).ainvoke("Why?")
    assert message.text == TEXT.replace("two two", MISSING)
    report = Report.from_message(message)
    assert report["2"].status == report.status == "partial"
    assert any("node 2: node 22: " in said and "no such model" in said for said in report.warnings)
    assert sum("no such model" in record.message for record in caplog.records) == sum(
        "no such model" in said for said in report.warnings
    )


async def test_a_part_that_fails_in_parts_is_written_whole() -> None:
    gone = Say(error=ValueError("no"))
    on = stage(OUTER, INNER, **dict.fromkeys(["21", "22", "23"], gone))
    report = await report_of(expanding(on))
    assert report["2"].answer == "two"
    assert report["2"].parts is None
    assert len(report["2"].attempts) == 2
    assert report.status == "complete"


async def test_raise_raises_from_inside() -> None:
    on = stage(
        OUTER, INNER, **{"22": Say(error=ValueError("no")), "2": Say(error=ValueError("no"))}
    )
    with pytest.raises(NodeDecodeError, match="Node 2 "):
        await expanding(on, on_node_error="raise").ainvoke("Why?")
    assert on.of("23")[0].outcome == "done"


async def test_calls_of_an_inner_run_that_raised_are_counted() -> None:
    on = stage(OUTER, INNER, **{"22": Say(error=ValueError("no"))})
    report = await report_of(expanding(on, on_node_error="raise"))
    assert report["2"].answer == "two"
    # Both plans, and the parts 1, 21, 23, 2 and 3.
    assert report.total_usage.output_tokens == 2 * 10 + 5 * 7


async def test_the_users_check_sees_the_parts_and_the_whole() -> None:
    seen: list[str] = []

    def accept(node: Any, text: str) -> bool:
        seen.append(node.id)
        return "### " not in text

    report = await report_of(expanding(stage(), accept=accept))
    assert sorted(seen) == ["1", "2", "2", "21", "22", "23", "3"]
    assert report["2"].answer == "two"


# -- resuming


@both
async def test_a_resumed_run_asks_for_nothing_that_is_finished_inside(make: Any) -> None:
    saver = InMemorySaver()
    on = stage(OUTER, INNER, **{"22": Say(hang=True)})
    stream = make(on, checkpointer=saver).astream("Why?", THREAD)

    async def read() -> None:
        async for _ in stream:
            pass

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        await settle(lambda: [call.outcome for call in on.of("23")] == ["done"])
        await settle()
        task.cancel()
    again = stage()
    message = await make(again, checkpointer=saver).ainvoke(None, THREAD)
    assert message.text == TEXT
    assert again.parts() == ["22"]
    report = Report.from_message(message)
    assert report.leaves["2.21"].restored
    assert not report["2"].restored
    assert make is tiered or report.decode_s == pytest.approx(
        sum(a.ended_s - a.started_s for a in report.leaves["2.22"].attempts)
    )


async def test_what_is_missing_inside_is_asked_for_on_resume() -> None:
    saver = InMemorySaver()

    def hosting(on: Stage) -> Any:
        graph: StateGraph[Any] = StateGraph(MessagesState)
        graph.add_node("write", expanding(on, on_node_error="raise", retries=0).as_node())
        graph.add_edge(START, "write")
        return graph.compile(checkpointer=saver)

    gone = Say(error=ValueError("no"))
    on = stage(OUTER, INNER, **{"22": gone, "2": gone})
    with pytest.raises(NodeDecodeError):
        await hosting(on).ainvoke({"messages": [("human", "Why?")]}, THREAD)
    again = stage()
    state = await hosting(again).ainvoke(None, THREAD)
    assert state["messages"][-1].text == TEXT
    assert again.parts() == ["22"]


# -- traces and progress


@both
async def test_traces_show_a_tree(make: Any) -> None:
    collector = RunCollectorCallbackHandler()
    await make(stage()).ainvoke("Why?", {"callbacks": [collector]})
    (root,) = collector.traced_runs
    by_name = {run.name: run for run in root.child_runs}
    assert set(by_name) == {"planner", "node:1", "node:2", "node:3"}
    inside = by_name["node:2"]
    assert inside.run_type == "chain"
    assert {run.name for run in inside.child_runs} == {
        "planner",
        "node:2.21",
        "node:2.22",
        "node:2.23",
    }
    ids = {run.extra["metadata"].get("sgd_node_id") for run in inside.child_runs}
    assert ids >= {"2.21", "2.22", "2.23"}


@both
async def test_progress_tells_the_levels_apart(make: Any) -> None:
    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("write", make(stage()).as_node())
    graph.add_edge(START, "write")
    told: list[Any] = [
        event["sgd_progress"]
        async for event in graph.compile().astream(
            {"messages": [("human", "Why?")]}, stream_mode="custom"
        )
    ]
    ended = [one["id"] for one in told if one["event"] == "ended"]
    assert sorted(ended) == ["1", "2", "2.21", "2.22", "2.23", "3"]
    (rests,) = [one for one in told if one["event"] == "planned" and one["id"] == "2.23"]
    assert rests["dependencies"] == ["2.21"]


async def test_seeds_differ_on_all_levels() -> None:
    on = stage(OUTER, skeleton("1", "3"))
    await expanding(on, seed=7).ainvoke("Why?")
    seeds = [call.options["seed"] for call in on.calls]
    assert len(set(seeds)) == len(seeds)


# -- a tier that plans, or answers undivided


async def test_the_planner_of_a_largest_tier_that_plans_is_that_tiers() -> None:
    on = stage()
    deep = SGDRunnable(large=on.model("big"), planner=on.model("planning"))
    await SGDRunnable(small=on.model("small"), large=deep, least_share=0).ainvoke("Why?")
    assert [call.model for call in on.of(PLANNER)] == ["planning", "planning"]


async def test_a_whole_question_that_such_a_tier_answers_is_its_own() -> None:
    on = stage(Say("PLAIN"), skeleton("1", "3"))
    deep = SGDRunnable(large=on.model("big"))
    message = await SGDRunnable(small=on.model("small"), large=deep).ainvoke("Why?")
    assert message.text == "## Heading 1\n\none\n\n## Heading 3\n\nthree"
    report = Report.from_message(message)
    assert report.status == "plain"
    assert report.nodes[0].parts is not None
    assert report.nodes[0].parts.status == "complete"
    on = stage(Say("PLAIN"), Say("PLAIN"), **{PLAIN: Say("short")})
    message = await SGDRunnable(large=SGDRunnable(large=on.model("big"))).ainvoke("Why?")
    assert message.text == "short"


def test_another_model_inside_makes_another_run() -> None:
    on = Stage()

    def print_of(name: str) -> str:
        deep = SGDRunnable(large=on.model(name))
        return fingerprint(SGDRunnable(tiers={"small": on.model("small"), "deep": deep}))

    assert print_of("big") == print_of("big") != print_of("bigger")


# -- what cannot be


@pytest.mark.parametrize("value", [0, True, "all", -3])
def test_a_wrong_expand_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="expand"):
        SGDRunnable(large=Stage().model("large"), expand=value)


def test_one_cannot_be_a_planner() -> None:
    model = Stage().model("large")
    with pytest.raises(ValidationError, match="planner must be a model"):
        SGDRunnable(large=model, planner=SGDRunnable(large=model))


def test_an_async_expand_is_refused() -> None:
    async def wants(node: Any) -> bool:
        return bool(node)

    with pytest.raises(ValidationError, match="expand must not be async"):
        SGDRunnable(large=Stage().model("large"), expand=wants)
