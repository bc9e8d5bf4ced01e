"""`SGDRunnable` as LangChain users meet it: inputs, options, composition."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import ValidationError

from langchain_sgd import (
    InvalidInputError,
    NodeDecodeError,
    Report,
    SGDRunnable,
    SkeletonError,
)
from tests.support.models import PLAIN, PLANNER, Say, Stage, others, planning
from tests.support.skeletons import skeleton
from tests.support.staged import PLANNED, THREAD, staged

# -- inputs


@pytest.mark.parametrize(
    "value",
    [
        "Why is it so?",
        {"question": "Why is it so?"},
        {"question": "Why is it so?", "skeleton": None},
        {"messages": [HumanMessage("Why is it so?")]},
        {"messages": [("human", "Why is it so?")]},
        {"messages": [{"role": "user", "content": "Why is it so?"}]},
        HumanMessage("Why is it so?"),
        [HumanMessage("Why is it so?")],
        [("system", "Be brief."), ("human", "Why is it so?")],
        [{"role": "user", "content": "Why is it so?"}],
        [HumanMessage([{"type": "text", "text": "Why is it so?"}])],
        StringPromptValue(text="Why is it so?"),
        ChatPromptValue(messages=[HumanMessage("Why is it so?")]),
        [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("Why is it so?")],
    ],
    ids=repr,
)
async def test_it_takes_what_a_chat_model_takes(value: Any) -> None:
    stage, sgd = staged()
    message = await sgd.ainvoke(value)
    assert isinstance(message, AIMessage)
    assert Report.from_message(message).status == "complete"
    assert all("Why is it so?" in call.prompt for call in stage.calls)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "question is empty"),
        (" \n\t", "question is empty"),
        ({"question": ""}, "question is empty"),
        ([], "question is empty"),
        ({"messages": []}, "question is empty"),
        ([HumanMessage("")], "question is empty"),
        ([HumanMessage([])], "question is empty"),
        ([HumanMessage([{"type": "text", "text": " "}])], "question is empty"),
        ({}, '"question"'),
        ({"question": None}, '"question"'),
        ({"question": "Why?", "messages": [HumanMessage("Why?")]}, '"question"'),
        ({"query": "Why?"}, "'query'"),
        ({"question": "Why?", "skelton": []}, "'skelton'"),
        ({"question": 7}, "int"),
        (7, "Cannot answer a int"),
        (7.5, "float"),
        (b"Why?", "bytes"),
        ([1, 2], "not of messages"),
        ({"messages": "Why?", "question": None, "x": 1}, "'x'"),
    ],
    ids=repr,
)
async def test_a_wrong_input_is_told_what_is_taken(value: Any, told: str) -> None:
    stage, sgd = staged()
    with pytest.raises(InvalidInputError, match=told):
        await sgd.ainvoke(value)
    assert stage.calls == []


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"max_tokens": "100"}, "max_tokens must be a whole number, 1 or more; it was given '100'"),
        ({"max_tokens": 0}, "it was given 0"),
        ({"max_tokens": True}, "it was given True"),
        ({"temperature": "hot"}, "temperature must be a number; it was given 'hot'"),
    ],
    ids=repr,
)
async def test_a_calls_option_that_no_model_takes_is_refused_before_anything_is_asked(
    option: dict[str, Any], told: str
) -> None:
    stage, sgd = staged()
    with pytest.raises(InvalidInputError, match=told):
        await sgd.ainvoke("Why?", **option)
    assert stage.calls == []


@pytest.mark.parametrize(
    "given",
    [
        PLANNED,
        PLANNED.model_dump(),
        PLANNED.model_dump(mode="json"),
        list(PLANNED.nodes),
        [node.model_dump() for node in PLANNED.nodes],
        [
            {"id": 1, "heading": "Heading 1"},
            {"id": 2, "heading": "Heading 2", "dependencies": [1]},
            {"id": 3, "heading": "Heading 3"},
        ],
    ],
    ids=["Skeleton", "dump", "json", "nodes", "dicts", "short"],
)
async def test_a_skeleton_may_be_given(given: Any) -> None:
    stage, sgd = staged()
    report = Report.from_message(await sgd.ainvoke({"question": "Why?", "skeleton": given}))
    assert sorted(stage.parts()) == ["1", "2", "3"]
    assert report.planner is not None
    assert report.planner.source == "given"


@pytest.mark.parametrize(
    "given", [[], {}, "1|A|a|-|1", 7, [{"heading": "A"}], {"nodes": [{"id": "1"}]}], ids=repr
)
async def test_a_bad_skeleton_is_told_its_fault(given: Any) -> None:
    stage, sgd = staged()
    with pytest.raises(SkeletonError, match="Not a usable skeleton"):
        await sgd.ainvoke({"question": "Why?", "skeleton": given})
    assert stage.calls == []


async def test_a_given_skeleton_of_one_node_is_decoded() -> None:
    stage, sgd = staged()
    report = Report.from_message(await sgd.ainvoke({"question": "Why?", "skeleton": skeleton("1")}))
    assert stage.parts() == ["1"]
    assert report.status == "complete"


# -- options


async def _async_router(_: Any) -> str:
    return "small"


async def _async_accept(_: Any, __: str) -> bool:
    return True


def test_options_are_checked_when_it_is_made() -> None:
    models = Stage().pair()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "no model"),
        ({"small": models["small"]}, "no model"),
        ({"large": models["large"], "tiers": {"a": models["large"]}}, "not both"),
        ({"tiers": {}}, "tiers is empty"),
        ({"large": 7}, "not int"),
        ({"tiers": {"a": object()}}, "not object"),
        ({**models, "treshold": 2}, "treshold"),
        ({**models, "threshold": 0}, "threshold"),
        ({**models, "large_share": 1.5}, "large_share"),
        ({**models, "large_share": 0.5, "router": lambda _: "small"}, "not both"),
        ({**models, "limits": {"medium": 3}}, "medium"),
        ({**models, "limits": {"small": True}}, "limits"),
        ({**models, "limits": {"small": "3"}}, "limits"),
        ({**models, "router": _async_router}, "must not be async"),
        ({**models, "accept": _async_accept}, "must not be async"),
        ({**models, "mode": "maybe"}, "mode"),
        ({**models, "max_nodes": 1}, "max_nodes"),
        ({**models, "retries": -1}, "retries"),
        ({**models, "deadline_s": 0}, "deadline_s"),
        ({**models, "on_node_error": "ignore"}, "on_node_error"),
        ({**models, "execution": "fast"}, "execution"),
    ]
    for options, told in wrong:
        with pytest.raises(ValidationError, match=told):
            SGDRunnable(**options)


async def test_call_options_reach_the_models_that_write() -> None:
    stage, sgd = staged(skeleton("1", "2!"))
    await sgd.ainvoke("Why?", temperature=0.3)
    await sgd.bind(temperature=0.3).ainvoke("Why?")
    assert [call.options.get("temperature") for call in stage.of("1")] == [0.3, 0.3]
    assert [call.options.get("temperature") for call in stage.of(PLANNER)] == [None, None]
    plain = Stage()
    await SGDRunnable(**plain.pair(), mode="never").ainvoke("Why?", temperature=0.3)
    assert [call.options.get("temperature") for call in plain.calls] == [0.3]


@pytest.mark.parametrize(("own", "planned_at"), [(False, 0), (True, None)])
async def test_a_call_without_chance_plans_without_if_the_planner_writes_too(
    *, own: bool, planned_at: float | None
) -> None:
    stage, sgd = staged(planner=None)
    if own:
        sgd = sgd.model_copy(update={"planner": stage.model("planner")})
    await sgd.ainvoke("Why?", temperature=0)
    assert {call.options.get("temperature") for call in stage.of(PLANNER)} == {planned_at}
    assert {call.options.get("temperature") for call in stage.of("1")} == {0}


async def test_difficulty_chooses_the_tier() -> None:
    planned = skeleton("1", "2!", "3 <- 1")
    stage, sgd = staged(planned)
    await sgd.ainvoke("Why?")
    assert stage.parts("small") == ["1", "3"]
    assert stage.parts("large") == [PLANNER, "2"]


async def test_one_model_serves_everything() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    report = Report.from_message(await SGDRunnable(large=stage.model("only")).ainvoke("Why?"))
    assert {node.tier for node in report.nodes} == {"large"}
    assert set(stage.parts("only")) == {PLANNER, PLAIN, "1", "2", "3"}


async def test_a_planner_of_its_own() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    sgd = SGDRunnable(**stage.pair(), planner=stage.model("third"))
    await sgd.ainvoke("Why?")
    assert stage.parts("third") == [PLANNER]


async def test_never_splits_nothing_and_always_takes_no_plain() -> None:
    stage, sgd = staged(mode="never")
    report = Report.from_message(await sgd.ainvoke("Why?"))
    assert stage.parts() == [PLAIN]
    assert report.status == "plain"
    assert report.planner is None
    stage = Stage({PLANNER: [Say("PLAIN"), planning(PLANNED)]})
    sgd = SGDRunnable(**stage.pair(), mode="always")
    assert Report.from_message(await sgd.ainvoke("Why?")).status == "complete"
    assert stage.parts()[:2] == [PLANNER, PLANNER]


async def test_a_plain_question_costs_one_word_of_planning() -> None:
    stage = Stage({PLANNER: Say(["PL", "AIN", "\n", "more"])})
    report = Report.from_message(await SGDRunnable(**stage.pair()).ainvoke("Why?"))
    assert stage.of(PLANNER)[0].outcome == "closed"
    assert report.status == "plain"
    assert stage.of(PLAIN)[0].prompt == "human: Why?"


async def test_every_node_has_a_seed_of_its_own() -> None:
    stage, sgd = staged(seed=7)
    await sgd.ainvoke("Why?")
    seeds = {call.part: call.options["seed"] for call in stage.calls}
    assert len(set(seeds.values())) == 4
    again, sgd = staged(seed=7)
    await sgd.ainvoke("Why?")
    assert {call.part: call.options["seed"] for call in again.calls} == seeds
    unseeded, sgd = staged()
    await sgd.ainvoke("Why?")
    assert all("seed" not in call.options for call in unseeded.calls)


async def test_planning_alone_gives_a_skeleton_to_give_back() -> None:
    stage, sgd = staged()
    plan = await sgd.aplan("Why?")
    assert plan.skeleton == PLANNED
    await sgd.ainvoke({"question": "Why?", "skeleton": plan.skeleton})
    assert stage.parts() == [PLANNER, "1", "3", "2"]
    with pytest.raises(InvalidInputError):
        await sgd.aplan("")


@pytest.mark.parametrize("opening", [False, True])
async def test_planning_alone_begins_no_answer(opening: bool) -> None:  # noqa: FBT001 - a case
    stage = Stage({PLANNER: Say(["P", "L", "AIN"], each_s=0.001)})
    plain = await SGDRunnable(**{**stage.pair(), "opening": opening}).aplan("Why?")
    assert plain.skeleton is None
    assert plain.plain
    assert stage.parts() == [PLANNER]
    assert not others()


async def test_planning_alone_needs_a_question() -> None:
    _, sgd = staged()
    with pytest.raises(InvalidInputError):
        await sgd.aplan("")


# -- composition


async def test_it_drops_into_a_chain() -> None:
    _, sgd = staged()
    prompt = ChatPromptTemplate([("system", "Be brief."), ("human", "{topic}")])
    chain = prompt | sgd | StrOutputParser()
    text = await chain.ainvoke({"topic": "Trains"})
    assert text.startswith("## Heading 1\n\n")
    both = RunnableParallel(long=chain, topic=RunnablePassthrough())
    assert (await both.ainvoke({"topic": "Trains"}))["long"] == text


async def test_with_config_reaches_every_model() -> None:
    stage, sgd = staged()
    bound = sgd.with_config(run_name="essay", tags=["mine"], metadata={"user": "u"})
    events = [event async for event in bound.astream_events("Why?", version="v2")]
    starts = [event for event in events if event["event"] == "on_chat_model_start"]
    assert len(starts) == len(stage.calls) == 4
    assert all("mine" in event["tags"] for event in starts)
    assert all(event["metadata"]["user"] == "u" for event in starts)
    assert events[0]["name"] == "essay"


async def test_fields_can_be_configured_for_each_call() -> None:
    stage, sgd = staged(skeleton("1", "2", "3", "4"), checkpointer=InMemorySaver())
    flexible = sgd.configurable_fields(
        max_nodes=ConfigurableField(id="sgd_max_nodes"),
        threshold=ConfigurableField(id="sgd_threshold"),
        mode=ConfigurableField(id="sgd_mode"),
    )
    config: RunnableConfig = {
        "configurable": {"sgd_max_nodes": 2, "sgd_threshold": 1, "thread_id": "a"}
    }
    report = Report.from_message(await flexible.ainvoke("Why?", config))
    assert [node.tier for node in report.nodes] == ["large", "large"]
    config = {"configurable": {"sgd_mode": "never", "thread_id": "b"}}
    assert Report.from_message(await flexible.ainvoke("Why?", config)).status == "plain"
    assert Report.from_message(await flexible.ainvoke("Why?", THREAD)).status == "complete"
    with pytest.raises(ValidationError, match="max_nodes"):
        await flexible.ainvoke("Why?", {"configurable": {"sgd_max_nodes": 0, "thread_id": "c"}})
    del stage


async def test_with_retry_runs_it_again() -> None:
    no = Say(error=ValueError("no"))
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: [no, Say("well")]})
    sgd = SGDRunnable(**stage.pair())
    retried = sgd.with_retry(
        retry_if_exception_type=(NodeDecodeError,),
        stop_after_attempt=2,
        wait_exponential_jitter=False,
    )
    assert (await retried.ainvoke("Why?")).text == "well"
    assert stage.parts() == [PLANNER, PLAIN, PLANNER, PLAIN]


async def test_with_fallbacks_sees_one_error_and_no_group() -> None:
    stage = Stage({"1": Say((), error=ValueError("no")), PLANNER: planning(PLANNED)})
    sgd = SGDRunnable(**stage.pair(), on_node_error="raise")
    fallback: Any = RunnableLambda(lambda _: AIMessage("fallback"))
    guarded = sgd.with_fallbacks([fallback], exceptions_to_handle=(NodeDecodeError,))
    assert (await guarded.ainvoke("Why?")).text == "fallback"
    assert [chunk.text async for chunk in guarded.astream("Why?")] == ["fallback"]


async def test_a_stream_falls_back_when_everything_is_down() -> None:
    down = Say((), error=ValueError("no"))
    stage = Stage(default=down)
    fallback: Any = RunnableLambda(lambda _: AIMessage("fallback"))
    for options in ({}, {"mode": "never"}, {"mode": "always"}):
        guarded = SGDRunnable(**stage.pair(), **options).with_fallbacks([fallback])
        assert [chunk.text async for chunk in guarded.astream("Why?")] == ["fallback"]


async def test_it_maps_and_assigns() -> None:
    _, sgd = staged()
    assert len(await sgd.map().ainvoke(["One?", "Two?"])) == 2
    chain = RunnablePassthrough.assign(answer=(lambda x: x["topic"]) | sgd | StrOutputParser())
    assert "## Heading 1" in (await chain.ainvoke({"topic": "Trains"}))["answer"]


def test_its_schemas_and_drawings() -> None:
    _, sgd = staged()
    assert set(sgd.get_input_jsonschema()["properties"]) == {"question"}
    assert "answer" in sgd.get_graph().nodes
    assert set(sgd.get_graph(skeleton=PLANNED).nodes) >= {"1", "2", "3"}
    assert sgd.get_name() == "SGDRunnable"
    assert "SECRET" not in repr(sgd)


async def test_as_a_tool_it_takes_a_question_and_gives_text() -> None:
    _, sgd = staged()
    tool = sgd.as_tool(name="essay", description="Writes essays.")
    assert (tool.name, tool.description) == ("essay", "Writes essays.")
    assert set(tool.args) == {"question"}
    assert (await tool.ainvoke({"question": "Why?"})).startswith("## Heading 1")


async def test_the_system_prompt_stays_first() -> None:
    stage, sgd = staged()
    await sgd.ainvoke([SystemMessage("Be brief."), HumanMessage("Why?")])
    assert all(call.messages[0].text == "Be brief." for call in stage.calls)
