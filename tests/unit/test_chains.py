"""`SGDRunnable` in chains: what LangChain's users expect of a Runnable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from operator import itemgetter
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run

from langchain_sgd import NodeDecodeError, Report, SGDRunnable
from langchain_sgd.bench.virtual_time import run_virtual
from tests.support.models import PLANNER, Say, Stage, planning, settle
from tests.support.skeletons import skeleton

PROMPT = ChatPromptTemplate.from_messages(
    [
        SystemMessage("You write for experts."),
        MessagesPlaceholder("history", optional=True),
        ("human", "Tell me of {subject}."),
    ]
)
ANSWER = "## Heading 1\n\none and only\n\n## Heading 2\n\ntwo words"


def stage(**lines: Say) -> Stage:
    said = {
        PLANNER: planning(skeleton("1", "2 <- 1")),
        "1": Say(["one ", "and ", "only"]),
        "2": Say(["two ", "words"]),
    }
    return Stage({**said, **lines})


def made(on: Stage, **options: Any) -> SGDRunnable:
    return SGDRunnable(**on.pair(), **options)


# -- prompt | sgd | parser


async def test_a_prompt_before_and_a_parser_behind() -> None:
    on = stage()
    chain = PROMPT | made(on) | StrOutputParser()
    asked = {"subject": "bridges", "history": [HumanMessage("Hello."), AIMessage("Hi.")]}
    assert chain.invoke(asked) == await chain.ainvoke(asked) == ANSWER
    said = "human: Hello.\nai: Hi.\nhuman: Tell me of bridges."
    for call in on.calls:
        assert call.prompt.startswith("system: You write for experts.\n")
        # Examples, for the planner and for writers, are turns before the conversation.
        assert said in call.prompt


async def test_the_whole_chain_streams() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2"))})
    on.gated = True
    chain = PROMPT | made(on) | StrOutputParser() | RunnableGenerator(shouting)
    async with aclosing(cast("Any", chain.astream({"subject": "bridges"}))) as stream:
        on.release(PLANNER, "1")
        assert (await anext(stream)).startswith("## HEADING 1")
        assert not on.of("2") or on.of("2")[0].ended is None
        on.release("2")
        rest = [piece async for piece in stream]
    assert "".join(rest).endswith("TWO WORDS")


async def shouting(pieces: Any) -> Any:
    async for piece in pieces:
        yield piece.upper()


def test_the_whole_chain_streams_without_a_loop() -> None:
    pieces = list((PROMPT | made(stage()) | StrOutputParser()).stream({"subject": "bridges"}))
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 1


async def test_a_mapping_that_is_made_in_the_chain_is_an_input() -> None:
    on = stage()
    chain = {"question": itemgetter("q")} | made(on) | StrOutputParser()
    assert await chain.ainvoke({"q": "Why?"}) == ANSWER
    assert "".join([piece async for piece in chain.astream({"q": "Why?"})]) == ANSWER
    assert on.calls[0].prompt.endswith("human: Why?")
    assert "\nhuman: Why?\n\n" in on.calls[1].prompt


async def test_beside_others() -> None:
    on = stage()
    chain = RunnableParallel(
        long=made(on) | StrOutputParser(), short=RunnableLambda(lambda _: "Briefly.")
    )
    expected = {"long": ANSWER, "short": "Briefly."}
    assert chain.invoke("Why?") == await chain.ainvoke("Why?") == expected
    total: Any = None
    async for piece in chain.astream("Why?"):
        total = piece if total is None else total + piece
    assert total == expected


async def test_its_answer_is_assigned() -> None:
    chain = RunnablePassthrough.assign(answer=itemgetter("messages") | made(stage()))
    state = await chain.ainvoke({"messages": [HumanMessage("Why?")], "user": "u1"})
    assert state["user"] == "u1"
    assert Report.from_message(state["answer"]).status == "complete"


# -- config


def tree(run: Run) -> Any:
    return run.name, [tree(child) for child in run.child_runs]


async def test_configured_names_tags_and_metadata_are_in_the_trace() -> None:
    collector = RunCollectorCallbackHandler()
    sgd = made(stage()).with_config(run_name="writer", tags=["mine"], metadata={"user": "u1"})
    await (PROMPT | sgd).ainvoke({"subject": "bridges"}, {"callbacks": [collector]})
    (run,) = collector.traced_runs
    inside: Any = [(PLANNER, []), ("node:1", []), ("node:2", [])]
    assert tree(run) == (
        "RunnableSequence",
        [("ChatPromptTemplate", []), ("writer", inside)],
    )
    for child in run.child_runs[1].child_runs:
        assert "mine" in (child.tags or [])
        assert child.extra["metadata"]["user"] == "u1"


async def test_its_fields_are_configurable_for_each_call() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2", "3"))})
    on.lines["3"] = Say("three words")
    sgd = made(on, limits={"large": 7}).configurable_fields(
        threshold=ConfigurableField(id="sgd_threshold"),
        mode=ConfigurableField(id="sgd_mode"),
        max_nodes=ConfigurableField(id="sgd_max_nodes"),
    )

    async def tiers(**values: Any) -> list[str]:
        message = await sgd.ainvoke("Why?", {"configurable": values})
        return [node.tier for node in Report.from_message(message).nodes]

    assert await tiers() == ["small", "small", "small"]
    assert await tiers(sgd_threshold=1) == ["large", "large", "large"]
    assert await tiers(sgd_max_nodes=2) == ["small", "small"]
    assert await tiers(sgd_mode="never") == ["large"]
    assert await tiers() == ["small", "small", "small"]


async def test_a_configured_copy_streams_in_a_chain_and_shares_the_limits() -> None:
    on = stage()
    sgd = made(on, limits={"small": 1})
    configured = sgd.configurable_fields(headings=ConfigurableField(id="sgd_headings"))
    chain = configured | StrOutputParser()
    config: RunnableConfig = {"configurable": {"sgd_headings": False}}
    pieces = [piece async for piece in chain.astream("Why?", config)]
    assert "".join(pieces) == "one and only\n\ntwo words"
    assert len(pieces) > 1
    (copy, _) = cast("Any", configured).prepare(config)
    assert copy.headings is False
    assert copy.limits["small"] is sgd.limits["small"]


async def test_a_value_that_is_out_of_range_is_named() -> None:
    sgd = made(stage()).configurable_fields(max_nodes=ConfigurableField(id="sgd_max_nodes"))
    with pytest.raises(ValueError, match="max_nodes"):
        await sgd.ainvoke("Why?", {"configurable": {"sgd_max_nodes": 0}})


async def test_an_alternative_is_chosen_by_name() -> None:
    sgd = made(stage()).configurable_alternatives(
        ConfigurableField(id="writer"), default_key="sgd", plain=made(stage(), mode="never")
    )
    config: RunnableConfig = {"configurable": {"writer": "plain"}}
    assert Report.from_message(await sgd.ainvoke("Why?")).status == "complete"
    message = await sgd.ainvoke("Why?", config)
    assert Report.from_message(message).status == "plain"


# -- retry and fallbacks


def failing_once() -> Stage:
    """No answer at the first asking, whole at the second."""
    on = stage()
    on.lines[PLANNER] = [Say("PLAIN"), planning(skeleton("1", "2 <- 1"))]
    on.lines["plain"] = Say(error=ValueError("no"))
    return on


async def test_it_is_retried() -> None:
    on = failing_once()
    sgd = made(on, retries=0).with_retry(
        retry_if_exception_type=(NodeDecodeError,), wait_exponential_jitter=False
    )
    assert (await sgd.ainvoke("Why?")).text == ANSWER
    assert on.parts().count(PLANNER) == 2


async def test_a_retried_batch_asks_only_what_failed_again() -> None:
    on = failing_once()
    sgd = made(on, retries=0).with_retry(
        retry_if_exception_type=(NodeDecodeError,), wait_exponential_jitter=False
    )
    answers = await sgd.abatch(["A?", "B?"])
    assert [answer.text for answer in answers] == [ANSWER, ANSWER]
    assert on.parts().count(PLANNER) == 3


async def _ainvoke(sgd: Runnable[Any, AIMessage]) -> str:
    return (await sgd.ainvoke("Why?")).text


async def _astream(sgd: Runnable[Any, AIMessage]) -> str:
    return "".join([chunk.text async for chunk in sgd.astream("Why?")])


async def _invoke(sgd: Runnable[Any, AIMessage]) -> str:
    return sgd.invoke("Why?").text


async def _stream(sgd: Runnable[Any, AIMessage]) -> str:
    return "".join(chunk.text for chunk in sgd.stream("Why?"))


async def _abatch(sgd: Runnable[Any, AIMessage]) -> str:
    return (await sgd.abatch(["Why?", "How?"]))[0].text


@pytest.mark.parametrize("ask", [_ainvoke, _astream, _invoke, _stream, _abatch])
@pytest.mark.parametrize("on_node_error", ["raise", "partial"])
async def test_a_fallback_stands_in(ask: Callable[..., Any], on_node_error: str) -> None:
    refusing = Stage(
        {PLANNER: planning(skeleton("1", "2"))}, default=Say([], error=ValueError("refused"))
    )
    sgd = made(refusing, retries=0, on_node_error=on_node_error).with_fallbacks(
        [made(stage())], exceptions_to_handle=(NodeDecodeError,)
    )
    assert await ask(sgd) == ANSWER


# -- batches


def slowly(*parts: str) -> Stage:
    lines = {part: Say(f"text of {part}", each_s=1) for part in parts}
    return stage(**{PLANNER: planning(skeleton(*parts)), **lines})


@pytest.mark.parametrize("wrap", ["alone", "in a chain", "bound", "retried"])
def test_max_concurrency_bounds_the_calls_of_a_batch(wrap: str) -> None:
    on = slowly("1", "2", "3", "4")
    sgd = made(on)
    runnable: Runnable[Any, Any] = {
        "alone": sgd,
        "in a chain": RunnableLambda(str) | sgd | StrOutputParser(),
        "bound": sgd.with_config(tags=["mine"]),
        "retried": sgd.with_retry(),
    }[wrap]
    run_virtual(runnable.abatch(["A?", "B?", "C?"], {"max_concurrency": 3}))
    assert on.peak == 3
    assert len(on.calls) == 15


def test_tier_limits_hold_across_a_batch_and_across_runs() -> None:
    on = slowly("1", "2", "3", "4")
    sgd = made(on, limits={"small": 2, "planner": 1})

    async def everything() -> None:
        done = sgd.abatch_as_completed(["A?", "B?"])
        assert sorted([index async for index, _ in done]) == [0, 1]
        await sgd.abatch(["C?", "D?"])

    run_virtual(everything())
    assert on.peak <= 3


async def test_a_batch_gives_errors_in_their_places() -> None:
    on = failing_once()
    answers = await made(on, retries=0).abatch(["A?", "B?"], return_exceptions=True)
    assert [type(answer) for answer in answers] == [NodeDecodeError, AIMessage]


# -- events


async def test_events_carry_the_names_of_the_nodes() -> None:
    chain = PROMPT | made(stage()) | StrOutputParser()
    events = [event async for event in chain.astream_events({"subject": "bridges"}, version="v2")]
    started = [e["name"] for e in events if e["event"].endswith("_start")]
    assert started[:4] == ["RunnableSequence", "ChatPromptTemplate", "SGDRunnable", PLANNER]
    assert sorted(started[4:]) == ["StrOutputParser", "node:1", "node:2"]
    assert texts(events, "on_chat_model_stream", "node:1") == "one and only"
    assert texts(events, "on_chain_stream", "SGDRunnable") == ANSWER
    (end,) = [e for e in events if e["event"] == "on_chat_model_end" and e["name"] == "node:2"]
    assert "sgd:small" in end.get("tags", [])
    metadata = end["metadata"]
    assert metadata["sgd_node_id"] == "2"
    assert metadata["sgd_dependencies"] == ["1"]


def texts(events: Iterable[Any], kind: str, name: str) -> str:
    return "".join(
        e["data"]["chunk"].text for e in events if (e["event"], e["name"]) == (kind, name)
    )


async def test_events_can_be_filtered_by_tier() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2!"))})
    events = made(on).astream_events("Why?", version="v2", include_tags=["sgd:large"])
    assert {event["name"] async for event in events} == {"node:2"}


async def test_leaving_a_chains_stream_closes_the_models_streams() -> None:
    on = stage(**{PLANNER: planning(skeleton("1", "2")), "1": Say(["one "], hang=True)})
    chain = PROMPT | made(on) | StrOutputParser()
    async with aclosing(cast("Any", chain.astream({"subject": "bridges"}))) as stream:
        async for piece in stream:
            if "one" in piece:
                break
    await settle(lambda: on.in_flight == 0)
    assert on.of("1")[0].outcome in {"closed", "cancelled"}


# -- what it says of itself


def test_its_schemas_are_useful() -> None:
    sgd = made(stage())
    assert sgd.get_input_jsonschema()["required"] == ["question"]
    assert sgd.OutputType is AIMessage
    assert sgd.get_name() == "SGDRunnable"
    assert SGDRunnable(**stage().pair(), name="writer").get_name() == "writer"
