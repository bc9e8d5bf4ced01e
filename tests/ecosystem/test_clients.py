"""Clients that are not among our extras: Anthropic's and Google's get what they know, LiteLLM asks the proxy."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_google_genai.chat_models import ChatGoogleGenerativeAIError

from langchain_sgd import SGDRunnable
from langchain_sgd.planning.forms import Grammar, bound, form_of
from tests.ecosystem.recorder import Recorder, text
from tests.openai_server import OpenAIServer
from tests.support.models import Say, Stage, planning
from tests.support.proxy import serving
from tests.support.skeletons import skeleton

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GRAMMAR = Grammar(regex="[0-9]{3}", gbnf="root ::= [0-9]", schema=SCHEMA, name="number")
OPTIONS: dict[str, Any] = {"max_tokens": 5, "temperature": 0.5, "seed": 3, "stop": ["x"]}
ANSWER = "## Heading 1\n\nOne.\n\n## Heading 2\n\nTwo."


async def test_anthropic_gets_what_it_has() -> None:
    with Recorder(lambda _: [text("some text")]) as recorder:
        model = ChatAnthropic(model="c", api_key="none", base_url=recorder.url)
        made = bound(model, await form_of(model), GRAMMAR, **OPTIONS)
        said = [chunk.text async for chunk in made.astream("hi")]
    assert "".join(said) == "some text"
    (body,) = recorder.bodies
    sent = {name: body[name] for name in body if name not in {"messages", "model", "stream"}}
    assert sent == {"max_tokens": 5, "temperature": 0.5, "stop_sequences": ["x"]}


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
async def test_gemini_gets_its_own_names() -> None:
    async with OpenAIServer("other") as server:
        model = ChatGoogleGenerativeAI(
            model="gemini-x", google_api_key="x", base_url=server.url, max_retries=1
        )
        made = bound(model, await form_of(model), GRAMMAR, **OPTIONS)
        with pytest.raises(ChatGoogleGenerativeAIError):
            [chunk async for chunk in made.astream("hi")]
        config = server.bodies[-1]["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"], config["seed"]) == (5, 0.5, 3)
    assert config["stopSequences"] == ["x"]
    assert "responseSchema" not in config


@pytest.mark.filterwarnings("ignore")  # its imports warn
async def test_litellm_asks_the_proxy_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched
    import litellm  # noqa: PLC0415 - it reads the variable

    stage = Stage(
        {
            "planner": planning(skeleton("1", "2 <- 1"), usage=(100, 30)),
            "1": Say(["On", "e."], usage=(10, 2)),
            "2": Say(["Tw", "o."], usage=(20, 3)),
        }
    )
    with serving(SGDRunnable(**stage.pair(), retries=0), key="a-secret") as url:
        asked: dict[str, Any] = {
            "model": "openai/sgd",
            "api_base": f"{url}/v1",
            "api_key": "a-secret",
            "messages": [{"role": "user", "content": "Which way?"}],
            "max_retries": 0,
        }
        whole = await litellm.acompletion(**asked)
        usage = {"stream_options": {"include_usage": True}}
        stream = await litellm.acompletion(**asked, stream=True, **usage)
        chunks = [chunk async for chunk in stream]
        thoughts = await litellm.acompletion(**asked, extra_body={"sgd_progress": "reasoning"})
    assert whole.choices[0].message.content == ANSWER
    assert whole.usage.total_tokens == 165
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert [c.usage.total_tokens for c in chunks if getattr(c, "usage", None)] == [165]
    assert "1. Heading 1" in thoughts.choices[0].message.reasoning_content
