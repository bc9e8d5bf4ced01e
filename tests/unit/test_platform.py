"""The factory for graph servers: settings from the environment, models once, options by run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import ValidationError

from langchain_sgd import InvalidInputError, Report, SGDRunnable, platform
from langchain_sgd.models import TIERS
from langchain_sgd.platform import Options, chat_graph, make_graph
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

ASKED: Any = {"messages": [("human", "Why?")]}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for tier in TIERS:
        for what in ("", "_URL", "_API_KEY", "_LIMIT"):
            monkeypatch.delenv(f"SGD_{tier.upper()}{what}", raising=False)
    monkeypatch.delenv("SGD_API_KEY", raising=False)
    platform._runnable.cache_clear()
    yield
    platform._runnable.cache_clear()


def test_a_missing_model_is_told_with_its_variable() -> None:
    with pytest.raises(InvalidInputError, match=r"SGD_LARGE .*provider:model"):
        make_graph({})


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5"])
def test_a_limit_must_be_a_number(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGD_LARGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SGD_LARGE_LIMIT", limit)
    with pytest.raises(InvalidInputError, match="SGD_LARGE_LIMIT"):
        make_graph()


def test_models_and_limits_are_made_once_for_the_same_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[dict[str, Any]] = []

    class Noted(SGDRunnable):
        def __init__(self, **options: Any) -> None:
            built.append(options)
            super().__init__(**options)

    monkeypatch.setattr(platform, "SGDRunnable", Noted)
    monkeypatch.setenv("SGD_LARGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SGD_SMALL_URL", "http://127.0.0.1:8")
    monkeypatch.setenv("SGD_LARGE_LIMIT", "4")
    monkeypatch.setenv("SGD_API_KEY", "for all")
    monkeypatch.setenv("SGD_SMALL_API_KEY", "for the small")
    make_graph()
    make_graph({})
    (options,) = built
    assert options["limits"] == {"large": 4}
    assert options["large"].url == "http://127.0.0.1:9"
    keys = {tier: options[tier].key.get_secret_value() for tier in ("small", "large")}
    assert keys == {"small": "for the small", "large": "for all"}
    monkeypatch.setenv("SGD_LARGE_LIMIT", "8")
    monkeypatch.setenv("SGD_LARGE", "openai:gpt-5-nano")  # goes before the older variable
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    make_graph()
    assert built[1]["limits"] == {"large": 8}
    assert built[1]["large"].model_name == "gpt-5-nano"
    assert built[1]["large"].openai_api_key.get_secret_value() == "theirs"


def test_a_graph_brings_no_checkpointer_and_draws_without_models() -> None:
    graph = chat_graph(SGDRunnable(**Stage().pair()))
    assert graph.checkpointer is None
    assert [*graph.get_graph().nodes] == ["__start__", "answer", "__end__"]
    properties = graph.get_context_jsonschema()["properties"]  # type: ignore[index]
    assert {*properties} == {*Options.model_fields}


async def test_options_of_a_run_change_that_run_only() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2!")), PLAIN: Say("all in one")})
    graph = chat_graph(SGDRunnable(**stage.pair(), threshold=6, headings=False))
    state = await graph.ainvoke(ASKED, context=Options(mode="never"))
    assert state["messages"][-1].text == "all in one"
    state = await graph.ainvoke(ASKED, context=Options(threshold=1))
    assert Report.from_message(state["messages"][-1])["1"].tier == "large"
    state = await graph.ainvoke(ASKED)
    report = Report.from_message(state["messages"][-1])
    assert [node.tier for node in report.nodes] == ["small", "small"]
    # What a run does not say stays as the server's owner has it.
    assert "##" not in state["messages"][-1].text


async def test_the_system_prompt_reaches_every_call_and_is_not_kept() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    graph = chat_graph(SGDRunnable(**stage.pair())).copy({"checkpointer": InMemorySaver()})
    thread: Any = {"configurable": {"thread_id": "t"}}
    state = await graph.ainvoke(ASKED, thread, context=Options(system_prompt="Be brief."))
    assert [message.type for message in state["messages"]] == ["human", "ai"]
    assert all(call.prompt.startswith("system: Be brief.") for call in stage.calls)


async def test_copies_share_their_limits() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2", "3"))}, default=Say(then_s=0.001))
    graph = chat_graph(SGDRunnable(large=stage.model("large"), limits={"large": 1}))
    await graph.abatch([ASKED] * 3, context=Options(headings=False))
    assert stage.peak == 1


@pytest.mark.parametrize("given", [{"thresold": 3}, {"threshold": 9}, {"mode": "sometimes"}])
def test_a_wrong_option_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options(**given)
