"""The MCP tool, asked by the SDK's own client: in process, over standard input and output, over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from langchain_sgd.arguments import USAGE
from langchain_sgd.cli import main
from langchain_sgd.runnable import SGDRunnable
from tests.support.commands import command, interrupted
from tests.support.models import Say, Stage, planning, settle
from tests.support.proxy import serving_app
from tests.support.skeletons import skeleton
from tests.support.travel import REPLIES
from tests.tgi_server import TGITestServer

pytest.importorskip("mcp", reason="pip install langchain-sgd[mcp]")

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from langchain_sgd.events import Ended, Event, PlanEnded, Planned, Voided
from langchain_sgd.mcp import _Steps, http_app, make_server

PLAN = skeleton("1", "2 <- 1")
TEXT = "## Heading 1\n\nOne.\n\n## Heading 2\n\nTwo."
Steps = list[tuple[float, float | None, str | None]]


def a_stage(**lines: Any) -> Stage:
    return Stage({"planner": planning(PLAN), "1": Say("One."), "2": Say("Two."), **lines})


async def write(client: Client, question: str = "Which way?") -> tuple[Any, Steps]:
    steps: Steps = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    result = await client.call_tool(
        "write_long_answer", {"question": question}, progress_callback=note
    )
    return result, steps


async def test_the_tool_is_described_and_writes_with_progress() -> None:
    async with Client(make_server(SGDRunnable(**a_stage().pair()))) as client:
        [tool] = (await client.list_tools()).tools
        assert tool.name == "write_long_answer"
        assert list(tool.input_schema["properties"]) == ["question"]
        assert "reports, comparisons" in (tool.description or "")
        assert not re.search(r"^ ", tool.description or "", re.MULTILINE)
        result, steps = await write(client)
    assert not result.is_error
    assert [part.text for part in result.content] == [TEXT]
    assert [message for _, _, message in steps] == [
        "planned: Heading 1",
        "planned: Heading 2",
        "written: Heading 1",
        "written: Heading 2",
    ]
    assert [done for done, _, _ in steps] == [1, 2, 3, 4]
    assert steps[-1][1] == 4


def test_a_plan_that_is_voided_counts_among_the_steps() -> None:
    steps = _Steps()
    nodes = skeleton("1", "2", "3").nodes
    thought: list[Event] = [Planned(node, 0.0) for node in nodes]
    plan: list[Event] = [*thought[:2], PlanEnded(0.0)]
    written: list[Event] = [Ended(node.id, "complete", "x", 0.0) for node in nodes[:2]]
    events = (*thought, Voided(0.0), *plan, *written)
    told = [(steps.done, steps.total) for event in events if steps.feed(event)]
    assert told[-1] == (7, 7)
    assert [done for done, _ in told] == [1, 2, 3, 4, 5, 6, 7]


async def test_a_run_without_an_answer_is_the_tools_error() -> None:
    stage = Stage({"plain": Say("", error=ValueError("the GPU is on fire"))})
    sgd = SGDRunnable(**stage.pair(), mode="never", retries=0)
    async with Client(make_server(sgd)) as client:
        result, _ = await write(client)
    assert result.is_error
    assert "the GPU is on fire" in result.content[0].text


async def test_a_client_that_cancels_ends_the_models() -> None:
    stage = a_stage(**{"1": Say(["a"], hang=True)})
    async with Client(make_server(SGDRunnable(**stage.pair()))) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(write, client)
            await settle(lambda: "1" in stage.parts())
            group.cancel_scope.cancel()
        await settle(lambda: stage.in_flight == 0)


@asynccontextmanager
async def tgi() -> AsyncIterator[str]:
    async with TGITestServer() as server:
        server.engine.reply = lambda prompt: next(
            text for key, text in REPLIES.items() if key in prompt
        )
        yield server.url


def a_command(*arguments: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=[*arguments],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


async def test_over_standard_input_and_output() -> None:
    script = (
        "from langchain_sgd.mcp import make_server\n"
        "from tests.integration.test_mcp import SGDRunnable, a_stage\n"
        "make_server(SGDRunnable(**a_stage().pair())).run('stdio')\n"
    )
    async with Client(a_command("-c", script)) as client:
        result, steps = await write(client)
    assert result.content[0].text == TEXT
    assert steps[-1] == (4, 4, "written: Heading 2")


async def test_the_command_serves_standard_input_and_output() -> None:
    async with (
        tgi() as url,
        Client(a_command("-m", "langchain_sgd", "mcp", "--large", url)) as client,
    ):
        result, _ = await write(client)
    assert not result.is_error
    assert result.content[0].text


def test_requests_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[Any] = []
    monkeypatch.setattr(
        "mcp.server.mcpserver.server.configure_logging", lambda level, *_: levels.append(level)
    )
    make_server(SGDRunnable(**a_stage().pair()))
    assert levels == ["WARNING"]


async def test_over_http_with_a_key() -> None:
    app = http_app(
        make_server(SGDRunnable(**a_stage().pair())), key=SecretStr("a-secret"), hosts={"127.0.0.1"}
    )
    with serving_app(app, lifespan="on") as url:
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer a-secret"}) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            result, steps = await write(client)
        assert result.content[0].text == TEXT
        assert steps[-1] == (4, 4, "written: Heading 2")
        async with httpx2.AsyncClient() as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await http.post(f"{url}/mcp", json=body)).status_code == 401
            headers = {"Authorization": "Bearer a-secret", "Host": "evil.example"}
            assert (await http.post(f"{url}/mcp", json=body, headers=headers)).status_code == 403


async def test_the_command_serves_http() -> None:
    async with tgi() as url:
        arguments = ("mcp", "--http", "--port", "0", "--large", url)
        async with command(*arguments, environment={}) as (process, said):
            found = re.search(r"^MCP at (\S+/mcp)$", said, re.MULTILINE)
            assert found is not None
            async with asyncio.timeout(50), Client(streamable_http_client(found[1])) as client:
                result, _ = await write(client)
            assert not result.is_error
            assert result.content[0].text
            assert "Traceback" not in await interrupted(process)


def test_beyond_loopback_there_must_be_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SGD_PROXY_API_KEY", raising=False)
    arguments = ["mcp", "--http", "--host", "0.0.0.0", "--large", "http://127.0.0.1:9"]  # noqa: S104
    assert main(arguments) == USAGE
    assert "SGD_PROXY_API_KEY" in capsys.readouterr().err
