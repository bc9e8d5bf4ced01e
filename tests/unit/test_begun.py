"""Parts that go on from a begun answer, on servers that go on with a last message of the model's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_sgd import Prompts, Report, SGDRunnable
from langchain_sgd.decoding import opening as opening_module
from tests.support.models import PLAIN, PLANNER, Call, Say, ScriptedChat, Stage, planning, settle
from tests.support.skeletons import skeleton

SPLIT = planning(skeleton("1", "2", "3 <- 1"))
OPENS = Say(["It ", "is ", "so. ", "And more."], hang=True)


class ChatTGI(ScriptedChat):
    """Known by its name."""

    base_url: str = "http://gpu:8080"
    model: str = "m"


class Thinking(ChatTGI):
    """Begins a message of its own, with a thought, where it was to go on."""

    def _chunk(self, text: str, end: Say | None) -> AIMessageChunk:
        chunk = super()._chunk(text, end)
        if is_begun(self.stage.calls[-1]):
            chunk.additional_kwargs["reasoning_content"] = "Hm."
        return chunk


class RefusalError(Exception):
    status_code = 400


def stage(**lines: Any) -> Stage:
    return Stage({PLANNER: SPLIT, PLAIN: OPENS, **lines})


def sgd(on: Stage, **options: Any) -> SGDRunnable:
    models = {"small": ChatTGI(name="small", stage=on), "large": ChatTGI(name="large", stage=on)}
    return SGDRunnable(**{**models, "least_share": 0, "constrain": False, **options})


async def answer(runnable: SGDRunnable, value: Any = "Why?") -> Report:
    return Report.from_message(await runnable.ainvoke(value))


def is_begun(call: Call) -> bool:
    return isinstance(call.messages[-1], AIMessage)


async def test_parts_go_on_from_the_opening_and_their_heading() -> None:
    on = stage()
    report = await answer(sgd(on))
    assert report.status == "complete"
    for part in ("1", "2", "3"):
        (call,) = on.of(part)
        assert call.messages[-1] == AIMessage(
            f"It is so.\n\n{part}. **Heading {part}** (what {part} covers):"
        )
    assert "text of 1" in on.of("3")[0].prompt
    assert not is_begun(on.of(PLANNER)[0])
    assert not is_begun(on.of(PLAIN)[0])


async def test_a_part_waits_for_the_opening_and_no_longer() -> None:
    on = stage()
    on.gated = True
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(answer(sgd(on)))
        on.release(PLANNER, "1", "2", "3")
        await settle(lambda: bool(on.of(PLANNER)) and on.of(PLANNER)[0].outcome == "done")
        await settle()
        assert on.parts() == [PLAIN, PLANNER]
        on.release(PLAIN)
    assert asking.result().status == "complete"


async def test_no_part_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "_PATIENCE_S", 0.0)
    on = stage(**{PLAIN: Say(["It "], hang=True)})
    report = await answer(sgd(on))
    assert report.status == "complete"
    assert on.of("1")[0].messages[-1] == AIMessage("1. **Heading 1** (what 1 covers):")


@pytest.mark.parametrize(
    "plain", [Say("", error=RuntimeError("gone")), Say(["It is"], error=RuntimeError("gone"))]
)
async def test_without_an_opening_they_go_on_from_their_heading(plain: Say) -> None:
    on = stage(**{PLAIN: plain})
    report = await answer(sgd(on, retries=0))
    assert report.status == "complete"
    assert on.of("1")[0].messages[-1] == AIMessage("1. **Heading 1** (what 1 covers):")


@pytest.mark.parametrize(
    "options",
    [
        {"continue_message": False},
        {"prompts": Prompts(begun="")},
        {"prompts": Prompts(writer="Be terse.")},
    ],
)
async def test_whoever_does_not_want_it_has_writers_told(options: dict[str, Any]) -> None:
    on = stage()
    await answer(sgd(on, **options))
    assert not any(map(is_begun, on.calls))


async def test_an_answer_that_is_to_have_a_form_is_not_begun() -> None:
    on = stage()
    await answer(sgd(on).bind(response_format={"type": "json_object"}))  # type: ignore[arg-type]
    assert not any(map(is_begun, on.calls))


async def test_a_tier_that_is_not_known_to_go_on_is_told_in_words() -> None:
    on = stage()
    large = on.model("large")
    report = await answer(sgd(on, large=large, large_share=0.5))
    assert report.status == "complete"
    by_tier = {call.model: is_begun(call) for call in on.calls if call.part in "123"}
    assert by_tier == {"small": True, "large": False}


async def test_a_server_that_refuses_is_asked_in_words_at_once_and_from_then_on() -> None:
    on = stage(**{"1": [Say(error=RefusalError("no")), Say("One.")]})
    runnable = sgd(on, retries=0, headings=False)
    report = await answer(runnable, {"question": "Why?", "skeleton": skeleton("1")})
    assert report.status == "complete"
    first, second = on.of("1")
    assert (is_begun(first), is_begun(second)) == (True, False)
    assert [attempt.error is None for attempt in report.nodes[0].attempts] == [False, True]
    await answer(runnable, {"question": "Why?", "skeleton": skeleton("1")})
    assert not is_begun(on.calls[-1])


async def test_a_server_that_takes_the_text_for_a_thought_is_asked_in_words() -> None:
    on = stage(**{"1": [Say(""), Say("One.")]})
    report = await answer(sgd(on, retries=0), {"question": "Why?", "skeleton": skeleton("1")})
    assert [is_begun(call) for call in on.of("1")] == [True, False]
    assert report.nodes[0].answer == "One."


async def test_a_server_that_thinks_anew_is_asked_in_words_and_from_then_on() -> None:
    on = stage(**{"1": [Say("Whole answer."), Say("One.")]})
    runnable = sgd(on, retries=0, small=None, large=Thinking(name="large", stage=on))
    given = {"question": "Why?", "skeleton": skeleton("1")}
    report = await answer(runnable, given)
    assert [is_begun(call) for call in on.of("1")] == [True, False]
    assert report.nodes[0].answer == "One."
    message = await runnable.ainvoke(given)
    assert "Whole" not in message.text
    assert not is_begun(on.calls[-1])


async def test_an_answer_from_the_beginning_is_no_going_on() -> None:
    on = stage(**{"1": [Say(["1. **Oth", "er**: All of it."]), Say("One.")]})
    report = await answer(sgd(on, retries=0), {"question": "Why?", "skeleton": skeleton("1")})
    assert [is_begun(call) for call in on.of("1")] == [True, False]
    assert report.nodes[0].answer == "One."


async def test_a_model_that_thinks_first_is_told_in_words() -> None:
    on = stage(**{"1": Say("I think so.</think>One."), PLANNER: planning(skeleton("1", "2 <- 1"))})
    runnable = sgd(on, opening=False)
    report = await answer(runnable)
    assert report.nodes[0].answer == "One."
    assert not is_begun(on.of("2")[0])


async def test_a_server_that_says_the_begun_answer_again_is_understood() -> None:
    on = stage(**{"1": Say(["It is so.\n", "\n1. **Heading 1*", "* (what 1 covers): One", " is."])})
    report = await answer(sgd(on, retries=0))
    assert report.nodes[0].answer == "One is."
    assert len(on.of("1")) == 1


async def test_a_part_ends_before_the_next_point() -> None:
    on = stage(**{"1": Say([" One", " is so.", "\n\n2", ". **Heading 2**", ": Two."])})
    report = await answer(sgd(on))
    assert report.nodes[0].answer == "One is so."
    assert report.nodes[0].status == "complete"
    assert on.of("1")[0].outcome == "closed"
