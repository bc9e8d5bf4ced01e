"""What hosted APIs are sent: the beginning that a run's prompts share, and the hints that say so."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from langchain_sgd import Report, SGDRunnable
from tests.ecosystem.recorder import Recorder, blocks

LONG = "How should we travel from Bonn to Rome? " + "We are four, and the youngest is three. " * 120
SHORT = "How should we travel?"
SYSTEM = "You work for a travel office. " * 50


class ToLoopback(httpx.AsyncBaseTransport):
    """Sends what is meant for OpenAI to the recorder."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == "api.openai.com"
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def claude(recorder: Recorder, **options: Any) -> ChatAnthropic:
    url = f"http://127.0.0.1:{recorder.port}"
    return ChatAnthropic(model="claude", api_key="none", base_url=url, **options)


def conversation(question: str) -> list[Any]:
    return [SystemMessage(SYSTEM), HumanMessage(question)]


async def asked(recorder: Recorder, question: str, model: Any, **options: Any) -> Report:
    given = conversation(question)
    before = [message.model_dump() for message in given]
    sgd = SGDRunnable(large=model, opening=False, **options)
    report = Report.from_message(await sgd.ainvoke(given))
    assert report.status == "complete"
    assert [message.model_dump() for message in given] == before
    assert len(recorder.bodies) == 4
    return report


def texts_of(bodies: list[dict[str, Any]]) -> list[str]:
    """Each prompt as one text."""
    return sorted("".join(text for _, text, _ in blocks(body)) for body in bodies)


def shared(*bodies: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """The blocks with which all of these begin."""
    rows = zip(*map(blocks, bodies), strict=False)
    return [row[0] for row in takewhile(lambda row: len(set(row)) == 1, rows)]


@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: m.bind(top_k=5), lambda m: m.with_retry(), "fallbacks"]
)
async def test_planner_and_nodes_share_their_leading_blocks(wrap: Any) -> None:
    with Recorder() as recorder:
        model = claude(recorder)
        wrapped = model.with_fallbacks([claude(recorder)]) if wrap == "fallbacks" else wrap(model)
        await asked(recorder, LONG, wrapped)
    assert shared(*recorder.bodies) == [("system", SYSTEM, True), ("user", LONG, True)]
    planner, *nodes = map(blocks, recorder.bodies)
    assert [mark for *_, mark in planner[2:]] == [False]
    for node in nodes:  # what is planned, and then its own part
        assert [mark for *_, mark in node[2:]] == [True, False]
        assert "The parts of the answer" in node[2][1]
        assert "Write only part" in node[3][1]


async def test_before_a_short_question_the_examples_are_kept() -> None:
    with Recorder() as recorder:
        await asked(recorder, SHORT, claude(recorder))
    planner, *nodes = recorder.bodies
    marked = [(role, text[-40:]) for role, text, mark in blocks(planner) if mark]
    assert [role for role, _ in marked] == ["system", "assistant"]  # the last example's plan
    assert blocks(planner)[-1] == ("user", SHORT, False)
    kept = [(role, mark) for role, _, mark in shared(*nodes)]
    examples = [("user", False), ("assistant", False), ("user", False), ("assistant", True)]
    assert kept == [("system", True), *examples, ("user", False)]  # theirs, and then the question
    assert shared(*nodes)[-1][1] == SHORT
    assert all(sum(mark for *_, mark in blocks(body)) <= 4 for body in recorder.bodies)


@pytest.mark.parametrize("question", [LONG, SHORT])
async def test_the_texts_are_the_same_without_hints(question: str) -> None:
    texts = []
    for hints in (True, False):
        with Recorder() as recorder:
            await asked(recorder, question, claude(recorder), cache_hints=hints)
        texts.append(texts_of(recorder.bodies))
        assert hints == any(mark for body in recorder.bodies for *_, mark in blocks(body))
    assert texts[0] == texts[1]


async def test_what_is_kept_is_counted_and_paid() -> None:
    with Recorder() as recorder:
        report = await asked(recorder, LONG, claude(recorder), prices={"large": (3, 15, 0.3, 3.75)})
    usage = report.total_usage
    assert (usage.input_tokens, usage.output_tokens) == (4 * 160, 4 * 7)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (4 * 100, 4 * 50)
    assert report.costs is not None
    each = (10 * 3 + 100 * 0.3 + 50 * 3.75 + 7 * 15) / 1_000_000
    assert report.costs.total == pytest.approx(4 * each)


async def test_own_marks_and_a_bound_hint_are_left_alone() -> None:
    with Recorder() as recorder:
        await asked(recorder, LONG, claude(recorder).bind(cache_control={"type": "ephemeral"}))
    assert all(not mark for body in recorder.bodies for *_, mark in blocks(body))


async def asked_of_openai(
    question: str, *, model: str, use_responses_api: bool = False, **options: Any
) -> list[dict[str, Any]]:
    with Recorder() as recorder:
        async with httpx.AsyncClient(transport=ToLoopback(recorder.port)) as client:
            chat = ChatOpenAI(
                model=model,
                api_key="none",
                http_async_client=client,
                use_responses_api=use_responses_api,
            )
            await asked(recorder, question, chat.with_retry(), constrain=False, **options)
    return recorder.bodies


async def keys(question: str, **options: Any) -> list[str | None]:
    bodies = await asked_of_openai(question, model="gpt-5-nano", **options)
    return [body.get("prompt_cache_key") for body in bodies]


async def test_the_calls_of_a_run_have_one_key_at_openai() -> None:
    first = await keys(LONG)
    assert len(set(first)) == 1
    assert first[0]
    assert set(await keys(LONG + "!")).isdisjoint(first)
    planner, *nodes = await keys(SHORT)
    assert planner is None  # its examples are the same for all runs
    assert len(set(nodes)) == 1
    assert await keys(LONG, cache_hints=False) == [None] * 4


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("name", ["gpt-5.6", "gpt-6-sol"])
async def test_newer_models_of_openai_are_told_where_beginnings_end(
    name: str, *, responses: bool
) -> None:
    bodies = await asked_of_openai(LONG, model=name, use_responses_api=responses)
    assert shared(*bodies) == [("system", SYSTEM, True), ("user", LONG, True)]
    planner, *nodes = map(blocks, bodies)
    assert [mark for *_, mark in planner[2:]] == [False]
    for node in nodes:  # what is planned, and then its own part
        assert [mark for *_, mark in node[2:]] == [True, False]
        assert "The parts of the answer" in node[2][1]
        assert "Write only part" in node[3][1]
    assert all(body["prompt_cache_options"] == {"mode": "explicit"} for body in bodies)
    assert len({body["prompt_cache_key"] for body in bodies}) == 1


@pytest.mark.parametrize("responses", [False, True])
async def test_openai_is_given_no_mark_on_an_answer_and_four_at_most(*, responses: bool) -> None:
    bodies = await asked_of_openai(SHORT, model="gpt-6-sol", use_responses_api=responses)
    for body in bodies:
        marks = [role for role, _, mark in blocks(body) if mark]
        assert marks[0] == "system"
        assert set(marks[1:]) == {"user"}
        assert len(marks) <= 4
    bare = await asked_of_openai(SHORT, model="gpt-6-sol", cache_hints=False)
    assert texts_of(bare) == texts_of(bodies)


@pytest.mark.parametrize(
    "options", [{"model": "gpt-5.5"}, {"model": "gpt-6-sol", "cache_hints": False}]
)
async def test_older_models_of_openai_and_whoever_wants_none_get_no_marks(options: Any) -> None:
    for body in await asked_of_openai(LONG, **options):
        assert "prompt_cache_options" not in body
        assert all(isinstance(message["content"], str) for message in body["messages"])


async def test_what_openai_keeps_is_counted_and_paid() -> None:
    with Recorder() as recorder:
        async with httpx.AsyncClient(transport=ToLoopback(recorder.port)) as client:
            model = ChatOpenAI(model="gpt-6-sol", api_key="none", http_async_client=client)
            prices = {"large": (2, 16, 0.2, 2.5)}
            report = await asked(recorder, LONG, model, constrain=False, prices=prices)
    usage = report.total_usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (640, 400, 120)
    each = (30 * 2 + 100 * 0.2 + 30 * 2.5 + 7 * 16) / 1_000_000
    assert report.costs is not None
    assert report.costs.total == pytest.approx(4 * each)


async def test_another_server_behind_openais_client_is_told_nothing() -> None:
    with Recorder() as recorder:
        url = f"http://127.0.0.1:{recorder.port}/v1"
        model = ChatOpenAI(model="lab/model", api_key="none", base_url=url)
        await asked(recorder, LONG, model, constrain=False)
    assert not any("prompt_cache_key" in body for body in recorder.bodies)
