"""The proxy with the clients that people have: OpenAI's and LangChain's; LiteLLM's is in tests/ecosystem."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from langchain_sgd.runnable import SGDRunnable
from tests.support.commands import command, interrupted
from tests.support.models import Say, Stage, planning
from tests.support.proxy import serving
from tests.support.skeletons import skeleton
from tests.support.travel import REPLIES
from tests.tgi_server import TGITestServer
from tests.unit.test_proxy_chat import Tooled

PLAN = skeleton("1", "2 <- 1")
TEXT = "## Heading 1\n\nOne.\n\n## Heading 2\n\nTwo."
QUESTION: list[Any] = [{"role": "user", "content": "Which way?"}]


@pytest.fixture
def stage() -> Stage:
    return Stage(
        {
            "planner": planning(PLAN, usage=(100, 30)),
            "1": Say(["On", "e."], usage=(10, 2)),
            "2": Say(["Tw", "o."], usage=(20, 3)),
            "plain": Say("In one piece.", usage=(7, 4)),
        }
    )


@pytest.fixture
def url(stage: Stage) -> Iterator[str]:
    sgd = SGDRunnable(**{**stage.pair(), "large": Tooled(name="large", stage=stage)}, retries=0)
    with serving(sgd, key="a-secret") as url:
        yield f"{url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="a-secret", max_retries=0) as client:
        yield client


# -- OpenAI's


def test_openais_client_lists_asks_and_streams(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["sgd", "sgd-large", "plain"]
    whole = client.chat.completions.create(model="sgd", messages=QUESTION)
    assert whole.choices[0].message.content == TEXT
    assert whole.usage is not None
    assert whole.usage.total_tokens == 165
    stream = client.chat.completions.create(
        model="sgd", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 165
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_openais_client_gets_responses(client: openai.OpenAI, stage: Stage) -> None:
    whole = client.responses.create(model="sgd", input="Which way?", instructions="Be brief.")
    assert (whole.status, whole.output_text) == ("completed", TEXT)
    assert whole.usage is not None
    assert whole.usage.total_tokens == 165
    assert stage.of("1")[0].prompt.startswith("system: Be brief.\nhuman: ")
    with client.responses.stream(model="sgd", input="Which way?") as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        last = stream.get_final_response()
    assert "".join(deltas) == last.output_text == TEXT
    again = [*last.output, {"role": "user", "content": "And back?"}]
    assert client.responses.create(model="plain", input=again).output_text == "In one piece."  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="previous_response_id is not supported"):
        client.responses.create(model="sgd", input="x", previous_response_id=last.id)


def test_openais_client_sees_errors_as_its_own(
    client: openai.OpenAI, url: str, stage: Stage
) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-9'"):
        client.chat.completions.create(model="gpt-9", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(model="sgd", messages=QUESTION, n=2)
    with (
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    stage.lines["plain"] = Say(["Some text"], error=ValueError("gone"))
    stream = client.chat.completions.create(model="plain", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="gone"):
        list(stream)


def test_closing_openais_stream_ends_the_models(client: openai.OpenAI, stage: Stage) -> None:
    stage.lines["1"] = Say(["Some text"], hang=True)
    stream = client.chat.completions.create(model="sgd", messages=QUESTION, stream=True)
    next(iter(stream))
    stream.close()
    client.close()
    for _ in range(500):
        if stage.in_flight == 0:
            break
        signal.sigtimedwait([], 0.01)
    assert stage.in_flight == 0


# -- LangChain's


@tool
def look_up(a: int) -> str:
    """Look something up."""
    return str(a)


def chat(url: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=url, api_key="a-secret", max_retries=0, **options)


async def test_chat_openai_asks_and_streams_with_usage(url: str, stage: Stage) -> None:
    messages = [SystemMessage("Be brief."), HumanMessage("Which way?")]
    message = await chat(url, model="sgd", temperature=0.5).ainvoke(messages)
    assert message.text == TEXT
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 165
    prompt = stage.of("1")[0].prompt
    assert prompt.startswith("system: Be brief.\nhuman: ")
    assert "\nhuman: Which way?\n\n" in prompt
    assert stage.of("1")[0].options["temperature"] == 0.5
    total: Any = None
    async for chunk in chat(url, model="sgd", stream_usage=True).astream("Which way?"):
        total = chunk if total is None else total + chunk
    assert total.text == TEXT
    assert total.usage_metadata["total_tokens"] == 165


async def test_chat_openai_asks_and_streams_by_responses(url: str) -> None:
    model = chat(url, model="sgd", use_responses_api=True)
    message = await model.ainvoke([SystemMessage("Be brief."), HumanMessage("Which way?")])
    assert message.text == TEXT
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 165
    assert "".join([chunk.text async for chunk in model.astream("Which way?")]) == TEXT


async def test_chat_openai_calls_tools_of_the_large_model(url: str, stage: Stage) -> None:
    stage.lines["plain"] = Say("")
    bound = chat(url, model="sgd").bind_tools([look_up])
    called = await bound.ainvoke("Which way?")
    assert called.tool_calls == [
        {"name": "look_up", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    ]
    stage.lines["plain"] = Say("It is 1.")
    result = ToolMessage("1", tool_call_id="c1")
    message = await chat(url, model="sgd").ainvoke([HumanMessage("Which way?"), called, result])
    assert message.text == "It is 1."


async def test_a_proxy_is_a_tier_of_sgd_like_any_other_server(url: str) -> None:
    outer = SGDRunnable(large=chat(url, model="plain"), mode="never")
    assert (await outer.ainvoke("Which way?")).text == "In one piece."


# -- the command


async def test_the_command_serves_prints_where_and_ends_with_ctrl_c() -> None:
    async with TGITestServer() as server:
        server.engine.reply = lambda prompt: next(
            text for key, text in REPLIES.items() if key in prompt
        )
        arguments = ("proxy", "--large", server.url, "--port", "0")
        environment = {"SGD_PROXY_API_KEY": "a-secret"}
        async with command(*arguments, environment=environment) as (process, said):
            assert "a-secret" not in said
            assert "SGD_PROXY_API_KEY" in said
            found = re.search(r"^base_url +(\S+/v1) ", said, re.MULTILINE)
            assert found is not None
            async with openai.AsyncOpenAI(base_url=found[1], api_key="a-secret") as client:
                answer = await client.chat.completions.create(model="sgd", messages=QUESTION)
            assert answer.choices[0].message.content
            assert answer.choices[0].finish_reason == "stop"
            await interrupted(process)


async def test_the_demo_opens_the_page(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\nprintf '%s' \"$1\" > '{opened}'\n")
    browser.chmod(0o755)
    environment = {"BROWSER": str(browser)}
    async with command("demo", "--web", environment=environment, within_s=150) as (process, said):
        found = re.search(r"^page +(\S+/)$", said, re.MULTILINE)
        assert found is not None
        async with httpx.AsyncClient() as client:
            page = await client.get(found[1])
            config = (await client.get(f"{found[1]}api/config")).json()
        assert "<title>langchain-sgd" in page.text
        assert len(config["samples"]) == 3  # briefs, which the bundled models know
        await interrupted(process)
        assert opened.read_text() == found[1]
