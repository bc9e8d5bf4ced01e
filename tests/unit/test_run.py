"""`Run` by itself: what it says to models, what it emits, what it reports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_sgd.run import NOSTREAM, Run

from langchain_sgd import Prompts, SGDRunnable
from langchain_sgd.events import Discarded, Ended, Event, PlainChosen, Planned, Started, Token
from langchain_sgd.skeleton import Node, NodeId
from tests.support.models import PLAIN, PLANNER, Say, ScriptedChat, Stage, planning
from tests.support.skeletons import skeleton

PLANNED = skeleton("1", "2 <- 1")
ONE, TWO = PLANNED.nodes


def run_of(stage: Stage, config: RunnableConfig | None = None, **options: Any) -> Run:
    on_event = options.pop("on_event", None)
    sgd = SGDRunnable(**stage.pair(), **options)
    return Run(sgd.settings, config or {}, conversation=[HumanMessage("Why?")], on_event=on_event)


async def test_a_node_is_decoded_with_its_dependencies_answers() -> None:
    stage = Stage()
    run = run_of(stage)
    for node in PLANNED.nodes:
        run.planned(node)
    record = await run.decode(TWO, PLANNED.nodes, {NodeId("1"): "FIRST"})
    assert record.status == "complete"
    assert "## Heading 1\n\nFIRST" in stage.calls[0].prompt
    assert stage.calls[0].prompt.startswith("human: Why?")


async def test_prompts_share_their_beginning() -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    run = run_of(stage)
    await run.plan(run.planned)
    await run.decode(ONE, PLANNED.nodes[:1], {})
    await run.decode(TWO, PLANNED.nodes, {NodeId("1"): "FIRST"})
    beginnings = [call.prompt.split("\n\n---\n")[0] for call in stage.calls]
    assert beginnings == ["human: Why?"] * 3
    one, two = (call.prompt for call in stage.calls[1:])
    assert two.startswith(one.split("\n\n---\nWrite part")[0])


async def test_the_models_config_says_what_is_asked() -> None:
    seen: list[RunnableConfig] = []

    async def look(_: Any, config: RunnableConfig) -> AIMessage:
        seen.append(config)
        return AIMessage("text")

    sgd = SGDRunnable(large=RunnableLambda(look))
    config: RunnableConfig = {
        "tags": ["mine"],
        "metadata": {"user": "u"},
        "configurable": {"mine": 1, "thread_id": "t", "__private": 2, "checkpoint_id": "c"},
    }
    run = Run(sgd.settings, config, conversation=[HumanMessage("Why?")])
    run.planned(ONE)
    await run.decode(ONE, [ONE], {})
    assert seen[0]["tags"] == ["mine", "sgd:large", NOSTREAM]
    assert seen[0]["metadata"]["user"] == "u"
    assert seen[0]["metadata"]["sgd_node_id"] == "1"
    assert seen[0]["configurable"] == {"mine": 1}
    assert config["configurable"]["thread_id"] == "t"  # the caller's own is left as it is


async def test_events_of_a_restarted_node() -> None:
    events: list[Event] = []
    stage = Stage({"1": [Say("wrong", error=ConnectionError("lost")), Say("right")]})
    run = run_of(stage, on_event=events.append)
    run.planned(ONE)
    record = await run.decode(ONE, [ONE], {})
    kinds = [type(event) for event in events]
    assert kinds == [Planned, Started, Token, Discarded, Started, Token, Ended]
    assert [e.attempt for e in events if isinstance(e, Started)] == [1, 2]
    assert record.answer == "right"
    assert len(record.attempts) == 2


async def test_a_skipped_node_asks_nobody_and_says_why() -> None:
    stage = Stage()
    run = run_of(stage)
    run.planned(ONE)
    run.planned(TWO)
    record = await run.decode(TWO, PLANNED.nodes, {NodeId("1"): None})
    assert record.status == "skipped"
    assert record.error is not None
    assert "1" in record.error
    assert stage.calls == []


async def test_the_answers_heading_and_thoughts_are_left_out() -> None:
    stage = Stage({"1": Say(["<thi", "nk>hm</think>", "## Heading 1\n", "\nThe text. \n\n"])})
    run = run_of(stage)
    run.planned(ONE)
    assert (await run.decode(ONE, [ONE], {})).answer == "The text."


async def test_usage_and_model_are_noted_for_each_attempt() -> None:
    stage = Stage({"1": [Say("cut", finish="length", usage=(5, 1)), Say("whole", usage=(6, 2))]})
    run = run_of(stage)
    run.planned(ONE)
    record = await run.decode(ONE, [ONE], {})
    assert [attempt.model for attempt in record.attempts] == ["small-model", "large-model"]
    assert (record.usage.input_tokens, record.usage.output_tokens) == (11, 3)


class RefusalError(Exception):
    """What a server says that knows no grammar."""

    status_code = 422


class NoGrammar(ScriptedChat):
    """Claims to take a grammar and refuses it."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if {"response_format", "grammar", "regex", "extra_body"} & set(kwargs):
            raise RefusalError
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk


async def test_a_refused_grammar_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage({PLANNER: planning(PLANNED)})
    model = NoGrammar(name="large", stage=stage)
    monkeypatch.setattr("langchain_sgd.run.constrained", lambda model, **_: model.bind(grammar="g"))
    run = Run(SGDRunnable(large=model).settings, {}, conversation=[HumanMessage("Why?")])
    plan = await run.plan(lambda _: None)
    assert plan.skeleton == PLANNED
    assert any("without the grammar" in warning for warning in run.warnings)
    assert len(run.planner_attempts) == 2


async def test_planning_that_fails_says_so() -> None:
    stage = Stage({PLANNER: Say((), error=ValueError("no"))})
    plan = await run_of(stage).plan(lambda _: None)
    assert plan.failed
    assert plan.plain == "the planner failed"
    assert any("ValueError" in warning for warning in plan.warnings)


async def test_a_plain_answer_is_asked_with_the_bare_conversation() -> None:
    events: list[Event] = []
    stage = Stage()
    record = await run_of(stage, on_event=events.append).answer_plainly("because")
    assert record.id == PLAIN
    assert [call.prompt for call in stage.calls] == ["human: Why?"]
    assert isinstance(events[0], PlainChosen)
    assert stage.parts("large") == [PLAIN]


async def test_restored_answers_fill_the_report() -> None:
    stage = Stage()
    before = run_of(stage)
    for node in PLANNED.nodes:
        before.planned(node)
    records = [
        await before.decode(ONE, [ONE], {}),
        await before.decode(TWO, PLANNED.nodes, {NodeId("1"): "FIRST"}),
    ]
    after = run_of(stage)
    after.absorb(PLANNED, records, cut=False)
    after.absorb(PLANNED, records, cut=False)
    report = after.report(PLANNED, source="planner")
    assert report.status == "complete"
    assert all(node.restored for node in report.nodes)
    assert await after.assemble(PLANNED, cut=False) == await before.assemble(PLANNED, cut=False)


async def test_text_given_piece_by_piece_is_the_assembled_text() -> None:
    pieces: list[str] = []
    stage = Stage({"1": Say(["a", "b"]), "2": Say(["c"])})
    sgd = SGDRunnable(**stage.pair())
    run = Run(sgd.settings, {}, conversation=[HumanMessage("Why?")], on_text=pieces.append)
    for node in PLANNED.nodes:
        run.planned(node)
    run.plan_ended()
    await run.decode(ONE, [ONE], {})
    await run.decode(TWO, PLANNED.nodes, {NodeId("1"): "ab"})
    assert "".join(pieces) == await run.assemble(PLANNED, cut=False)
    assert "".join(pieces) == "## Heading 1\n\nab\n\n## Heading 2\n\nc"


async def test_users_prompts_are_used() -> None:
    stage = Stage()
    run = run_of(stage, prompts=Prompts(node='\n\nWrite part {id}, "{heading}", as a haiku.'))
    run.planned(ONE)
    await run.decode(ONE, [ONE], {})
    assert stage.calls[0].prompt.endswith('Write part 1, "Heading 1", as a haiku.')


async def test_a_message_instead_of_a_stream_is_taken_whole() -> None:
    whole = AIMessage(
        "whole",
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        response_metadata={"model_name": "m", "finish_reason": "stop"},
    )
    run = Run(
        SGDRunnable(large=RunnableLambda(lambda _: whole)).settings,
        {},
        conversation=[HumanMessage("Why?")],
    )
    run.planned(ONE)
    record = await run.decode(ONE, [ONE], {})
    assert (record.answer, record.model) == ("whole", "m")
    assert record.usage.input_tokens == 3


async def test_chunks_of_content_blocks_are_text_too() -> None:
    async def blocks(_: Any) -> AIMessageChunk:
        return AIMessageChunk(content=[{"type": "text", "text": "in blocks"}])

    run = Run(
        SGDRunnable(large=RunnableLambda(blocks)).settings,
        {},
        conversation=[HumanMessage("Why?")],
    )
    node = Node(id=NodeId("1"), heading="H")
    run.planned(node)
    assert (await run.decode(node, [node], {})).answer == "in blocks"
