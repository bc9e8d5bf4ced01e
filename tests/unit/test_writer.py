"""One part by itself: what is said to models, what is told of it, what becomes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda

from langchain_sgd import Prompts, SGDRunnable
from langchain_sgd.decoding.context import NOSTREAM, RunContext, for_models
from langchain_sgd.decoding.part import Outline, Written
from langchain_sgd.decoding.writer import write_node, write_plain
from langchain_sgd.events import PLAIN_ID, Discarded, Event, Started, Token, Warned
from langchain_sgd.limits import Limit
from langchain_sgd.question import Question
from langchain_sgd.report import NodeReport
from langchain_sgd.skeleton import Node, NodeId
from tests.support.models import PLAIN, Say, ScriptedChat, Stage
from tests.support.skeletons import skeleton

PLANNED = skeleton("1", "2 <- 1")
ONE, TWO = PLANNED.nodes


def context(
    sgd: SGDRunnable, config: RunnableConfig | None = None, seen: list[Event] | None = None
) -> RunContext:
    question = Question((HumanMessage("Why?"),))
    told = [] if seen is None else seen
    return RunContext(question, sgd, for_models(config or {}), Limit(None), told.append)


async def one(stage: Stage, seen: list[Event] | None = None, **options: Any) -> Written:
    sgd = SGDRunnable(**{**stage.pair(), **options})
    return await write_node(context(sgd, seen=seen), ONE, Outline([ONE]), {})


async def by(model: Any) -> NodeReport:
    return (await write_node(context(SGDRunnable(large=model)), ONE, Outline([ONE]), {})).report


async def test_a_node_is_decoded_with_its_dependencies_answers() -> None:
    stage = Stage()
    run = context(SGDRunnable(**stage.pair()))
    written = await write_node(run, TWO, Outline(PLANNED.nodes), {NodeId("1"): "FIRST"})
    assert written.report.status == "complete"
    assert (written.report.heading, written.report.dependencies) == (TWO.heading, ("1",))
    assert "FIRST" in stage.calls[0].prompt
    prompts = run.options.prompts
    assert stage.calls[0].prompt.startswith(f"human: {prompts.writer}\n\n")
    assert f"\nhuman: Why?{prompts.outline}" in stage.calls[0].prompt


async def test_the_models_config_says_what_is_asked() -> None:
    seen: list[RunnableConfig] = []

    async def look(_: Any, config: RunnableConfig) -> AIMessage:
        seen.append(config)
        return AIMessage("text")

    config: RunnableConfig = {
        "tags": ["mine"],
        "metadata": {"user": "u"},
        "configurable": {"mine": 1, "thread_id": "t", "__private": 2, "checkpoint_id": "c"},
    }
    run = context(SGDRunnable(large=RunnableLambda(look)), config)
    await write_node(run, ONE, Outline([ONE]), {})
    assert seen[0]["tags"] == ["mine", "sgd:large", NOSTREAM]
    assert seen[0]["metadata"]["user"] == "u"
    assert seen[0]["metadata"]["sgd_node_id"] == "1"
    assert seen[0]["configurable"] == {"mine": 1}
    assert config["configurable"]["thread_id"] == "t"  # the caller's own is left as it is


async def test_events_of_a_restarted_node() -> None:
    events: list[Event] = []
    stage = Stage({"1": [Say("wrong", error=ConnectionError("lost")), Say("right")]})
    report = (await one(stage, events)).report
    assert [type(event) for event in events] == [Started, Token, Discarded, Started, Token]
    assert [e.attempt for e in events if isinstance(e, Started)] == [1, 2]
    assert (report.answer, report.answered_by, len(report.attempts)) == ("right", 1, 2)


async def test_a_skipped_node_asks_nobody_and_says_why() -> None:
    stage = Stage()
    run = context(SGDRunnable(**stage.pair()))
    report = (await write_node(run, TWO, Outline(PLANNED.nodes), {NodeId("1"): None})).report
    assert report.status == "skipped"
    assert report.error is not None
    assert "1" in report.error
    assert stage.calls == []


async def test_the_answers_heading_and_thoughts_are_left_out() -> None:
    stage = Stage({"1": Say(["<thi", "nk>hm</think>", "## Heading 1\n", "\nThe text. \n\n"])})
    assert (await one(stage)).report.answer == "The text."


async def test_a_thought_that_the_template_opened_is_taken_back_once() -> None:
    stage = Stage({"1": Say(["They want it. ", "Hmm.\n</think>\n\n", "The text."])})
    sgd = SGDRunnable(**stage.pair())
    for discards in (1, 0):  # the second time it is known, and never shown
        events: list[Event] = []
        report = (await write_node(context(sgd, seen=events), ONE, Outline([ONE]), {})).report
        assert report.answer == "The text."
        assert sum(isinstance(event, Discarded) for event in events) == discards


async def test_usage_and_model_are_noted_for_each_attempt() -> None:
    stage = Stage({"1": [Say("cut", finish="length", usage=(5, 1)), Say("whole", usage=(6, 2))]})
    report = (await one(stage)).report
    assert [attempt.model for attempt in report.attempts] == ["small-model", "large-model"]
    assert (report.usage.input_tokens, report.usage.output_tokens) == (11, 3)


@pytest.mark.parametrize("finish", ["abort", "error", "length"])
async def test_a_text_that_broke_off_far_from_its_length_is_not_whole(finish: str) -> None:
    said = "Trains are slow. They run"
    stage = Stage(
        {"small/1": Say(said, finish=finish), "large/1": Say("Trains are slow, but cosy.")}
    )
    report = (await one(stage)).report
    assert (report.status, report.tier) == ("complete", "large")
    alone = (await one(Stage({"1": Say(said, finish=finish)}))).report
    assert (alone.status, alone.answer) == ("truncated", said)


async def test_a_text_of_its_length_may_be_cut_at_a_sentence() -> None:
    said = ["Trains are slow. "] * 20 + ["They run"]
    report = (await one(Stage({"1": Say(said, finish="length")}))).report
    assert report.status == "complete"
    assert report.answer.endswith("slow.")


async def test_the_tier_of_a_kept_text_is_the_one_that_wrote_it() -> None:
    no = Say((), error=ValueError("no"))
    stage = Stage({"small/1": Say("kept but cut", finish="length"), "large/1": no})
    report = (await one(stage)).report
    assert (report.status, report.answer) == ("truncated", "kept but cut")
    assert (report.tier, report.model) == ("small", "small-model")


async def test_what_no_check_takes_is_given_and_named() -> None:
    written = await one(Stage(default=Say("a whole text")), accept=lambda *_: False)
    assert (written.report.status, written.report.answer) == ("unaccepted", "a whole text")
    assert written.has_come_to_its_end


@pytest.mark.parametrize(
    ("finish", "status"),
    [
        ("length", "truncated"),
        ("content_filter", "truncated"),
        ("max_output_tokens", "truncated"),
        ("stop", "complete"),
    ],
)
async def test_endings(finish: str, status: str) -> None:
    report = (await one(Stage(default=Say("some text", finish=finish)), small=None)).report
    assert (report.status, report.answer) == (status, "some text")


async def test_a_whole_text_is_never_lost_for_what_comes_after_it() -> None:
    async def stream(_: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        yield AIMessageChunk(content="all of it", response_metadata={"finish_reason": "stop"})
        msg = "usage is no number"
        raise TypeError(msg)

    events: list[Event] = []
    run = context(SGDRunnable(large=RunnableGenerator(stream)), seen=events)
    report = (await write_node(run, ONE, Outline([ONE]), {})).report
    assert (report.status, report.answer, len(report.attempts)) == ("complete", "all of it", 1)
    assert any("no number" in event.text for event in events if isinstance(event, Warned))


async def test_wrong_metadata_says_nothing() -> None:
    async def stream(_: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        yield AIMessageChunk(content="text", response_metadata={"model": 5, "finish_reason": ["?"]})

    report = await by(RunnableGenerator(stream))
    assert (report.status, report.answer, report.model) == ("complete", "text", None)


async def test_cumulative_usage_is_not_added_up() -> None:
    async def stream(_: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        for count in (1, 2, 3, 3):
            usage = {"input_tokens": 100, "output_tokens": count, "total_tokens": 100 + count}
            yield AIMessageChunk(content="w ", usage_metadata=cast("UsageMetadata", usage))

    usage = (await by(RunnableGenerator(stream))).usage
    assert (usage.input_tokens, usage.output_tokens) == (100, 3)


async def test_a_tool_call_is_no_answer() -> None:
    call = {"name": "look_up", "args": {}, "id": "1"}
    asks: RunnableLambda[Any, AIMessage] = RunnableLambda(
        lambda _: AIMessage("", tool_calls=[call])
    )
    written = await write_node(context(SGDRunnable(large=asks)), ONE, Outline([ONE]), {})
    assert written.report.status == "failed"
    assert "look_up" in (written.report.error or "")
    assert len(written.report.attempts) == 1


async def test_a_plain_answer_is_asked_with_the_bare_conversation() -> None:
    stage = Stage()
    run = context(SGDRunnable(**stage.pair()))
    report = (await write_plain(run, "because", run.emit)).report
    assert report.id == PLAIN_ID
    assert [call.prompt for call in stage.calls] == ["human: Why?"]
    assert stage.parts("large") == [PLAIN]


async def test_users_prompts_are_used() -> None:
    stage = Stage()
    prompts = Prompts(node='\n\nWrite part {id}, "{heading}", as a haiku.')
    await one(stage, prompts=prompts)
    assert stage.calls[0].prompt.endswith('Write part 1, "Heading 1", as a haiku.')


async def test_a_message_instead_of_a_stream_is_taken_whole() -> None:
    whole = AIMessage(
        "whole",
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        response_metadata={"model_name": "m", "finish_reason": "stop"},
    )
    report = await by(RunnableLambda(lambda _: whole))
    assert (report.answer, report.model) == ("whole", "m")
    assert report.usage.input_tokens == 3


async def test_chunks_of_content_blocks_are_text_too() -> None:
    async def blocks(_: Any) -> AIMessageChunk:
        return AIMessageChunk(content=[{"type": "text", "text": "in blocks"}])

    assert (await by(RunnableLambda(blocks))).answer == "in blocks"


async def test_nodes_of_equal_ids_cannot_be_taken_for_an_undivided_answer() -> None:
    node = Node(id=NodeId("plain"), heading="P")
    stage = Stage()
    run = context(SGDRunnable(**stage.pair()))
    assert (await write_node(run, node, Outline([node]), {})).report.id != PLAIN_ID


async def test_a_part_that_runs_on_is_ended_at_a_sentence_and_its_tokens_are_estimated() -> None:
    sentence = "One two three four five six seven eight nine ten. "
    stage = Stage({"1": Say([sentence] * 40, usage=(9, 400))})
    written = await one(stage)
    report = written.report
    assert report.status == "complete"
    assert stage.of("1")[0].outcome == "closed"
    assert report.answer.endswith("ten.")
    assert 50 <= len(report.answer.split()) <= 70
    assert report.usage.estimated
    assert report.usage.output_tokens == report.answer.count("ten.") + 1


async def test_a_part_is_told_its_share_of_the_answers_length() -> None:
    stage = Stage()
    sgd = SGDRunnable(**stage.pair(), length=400)
    await write_node(context(sgd), ONE, Outline(PLANNED.nodes), {})
    assert "170 to 230 words" in stage.calls[0].prompt
    assert stage.calls[0].options["max_tokens"] > 400


async def test_a_fallback_that_says_nothing_of_its_end_is_whole() -> None:
    class Silent(ScriptedChat):
        def _chunk(self, text: str, end: Say | None) -> AIMessageChunk:  # noqa: ARG002
            return AIMessageChunk(content=text)

    first = Stage({"1": Say("One is whole."), "2": Say(error=ConnectionError("no"))})
    second = Stage({"2": Say("Two is whole.")})
    large = first.model("large").with_fallbacks([Silent(name="other", stage=second)])
    run = context(SGDRunnable(large=large, retries=0))
    outline = Outline(PLANNED.nodes)
    assert (await write_node(run, ONE, outline, {})).report.status == "complete"
    written = await write_node(run, TWO, outline, {ONE.id: "One is whole."})
    assert (written.report.status, written.report.answer) == ("complete", "Two is whole.")
