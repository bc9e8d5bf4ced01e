"""How a model is shown the functions that it may call, and those that it has called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from langchain_sgd.embedded._bodies import ChatBody, Tool, read
from langchain_sgd.embedded._model import Model
from langchain_sgd.embedded._tools import free_call, may_be_call, selected_tools
from langchain_sgd.embedded._validation import Limits
from langchain_sgd.embedded.app import make_app, serving
from tests.scripted_engine import ScriptedEngine

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
}
TURNS = [
    {"role": "user", "content": "Weather in Rome?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "Sunny."},
]


class Recording(ScriptedEngine):
    """Keeps what its template is given."""

    def __init__(self, *, template_uses_tools: bool) -> None:
        super().__init__(template_uses_tools=template_uses_tools)
        self.given: list[Mapping[str, Any]] = []

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        self.given = list(messages)
        return await super().render_chat(messages, tools)


def body() -> ChatBody:
    tools = [{"type": "function", "function": WEATHER}]
    return read(ChatBody, {"messages": TURNS, "tools": tools})


async def given(*, template_uses_tools: bool) -> list[Mapping[str, Any]]:
    engine = Recording(template_uses_tools=template_uses_tools)
    chat = body()
    tools: Sequence[Tool] = selected_tools(chat.tools, chat.tool_choice)
    await Model(engine, Limits(max_total_tokens=100)).prompt(chat, tools)
    return engine.given


async def test_a_template_that_knows_tools_is_given_calls_once_and_as_maps() -> None:
    _, called, _ = await given(template_uses_tools=True)
    assert called["content"] == ""
    (call,) = called["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": {"city": "Rome"}}


async def test_another_template_is_given_what_the_grammar_makes_the_model_write() -> None:
    _, called, _ = await given(template_uses_tools=False)
    assert "tool_calls" not in called
    assert json.loads(called["content"]) == {"function": {"_name": "get_weather", "city": "Rome"}}


@pytest.mark.parametrize("template_uses_tools", [True, False])
async def test_what_a_tool_said_is_left_as_it_is(template_uses_tools: bool) -> None:  # noqa: FBT001
    asked, _, answered = await given(template_uses_tools=template_uses_tools)
    assert answered["content"] == "Sunny."
    assert asked["content"].startswith("Weather in Rome?\n---\n")
    assert ("get_weather" in asked["content"]) is not template_uses_tools


TOOLS = (Tool("get_weather", None, {}),)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>', {"city": "Oslo"}),
        (' {"name": "get_weather", "parameters": {}}', {}),
        ('{"name": "other", "arguments": {}}', None),
        ('{"name": "get_weather", "arguments": 3}', None),
        ("It is sunny.", None),
        ('{"a": 1}', None),
        ("{", None),
    ],
)  # fmt: skip
def test_calls_that_nobody_forced_are_read(text: str, arguments: dict[str, Any] | None) -> None:
    call = free_call(text, TOOLS)
    assert (None if call is None else json.loads(call.arguments)) == arguments
    if call is not None:
        assert all(may_be_call(text[:end]) for end in range(len(text)))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "called"),
    [
        ("It is sunny in Rome.", False),
        ('{"a": "no call"}', False),
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>', True),
    ],
)
async def test_after_a_tools_answer_the_model_may_answer(
    reply: str,
    called: bool,  # noqa: FBT001
    stream: bool,  # noqa: FBT001
) -> None:
    request = {
        "messages": TURNS,
        "tools": [{"type": "function", "function": WEATHER}],
        "stream": stream,
    }
    engine = ScriptedEngine(reply, template_uses_tools=True)
    async with (
        serving(make_app({"m": engine})) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=request) as response,
    ):
        text = await response.text()
    if stream:
        blocks = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
        assert blocks.pop() == "[DONE]"
        deltas = [json.loads(block)["choices"][0]["delta"] for block in blocks]
    else:
        deltas = [json.loads(text)["choices"][0]["message"]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or []]
    assert said == ("" if called else reply)
    assert [call["name"] for call in calls if call["name"]] == (["get_weather"] if called else [])
    if called:
        assert json.loads("".join(call["arguments"] for call in calls)) == {"city": "Oslo"}
