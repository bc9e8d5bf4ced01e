"""The graph on a real LangGraph Server: `langgraph dev` on loopback, without an account or tracing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from langchain_sgd import Report
from tests.scripted_engine import ScriptedEngine
from tests.support.asked import asks_for
from tests.support.travel import REPLIES
from tests.tgi_server import Fault, TGITestServer, WireEntry

pytest.importorskip("langgraph_api", reason="LangGraph Server is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "langgraph_server"
SECTIONS = {"Trains": "Trains are slow.", "Planes": "Planes are loud.", "Advice": "Stay at home."}
ANSWER = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in SECTIONS.items())


def parts(answer: str) -> str:
    """An answer without its opening, which comes only if it is sooner than the plan: here both are at once."""
    return answer.removeprefix("An undivided answer.\n\n")


PIRATE = "Answer as a pirate."
ASKED_FOR = ("Plan long answers", PIRATE)


def is_opening(entry: WireEntry) -> bool:
    said = json.dumps(entry.json)
    asked = asks_for(entry.json) or any(words in said for words in ASKED_FOR)
    return entry.method == "POST" and not asked


def hold_openings(tgi: TGITestServer) -> None:
    """No plain answer is whole before the plan is there: it would be kept, and nothing split."""
    tgi.inject(Fault("stall", after=4), times=None, when=is_opening)


QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Train or plane?"}]}


@contextmanager
def langgraph_dev(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """The example's configuration, served; its URL and its log."""
    config = json.loads((EXAMPLE / "langgraph.json").read_text())
    config["env"] = environment
    (folder / "langgraph.json").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("langgraph")), "dev", "--no-browser"]
    command += ["--no-reload", "--host", "127.0.0.1", "--port", str(port)]
    # An environment of its own, so that nobody's account or tracing is used.
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANGSMITH_TRACING": "false"}
    clean["LANGGRAPH_CLI_NO_ANALYTICS"] = "1"
    log = folder / "server.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(  # noqa: S603 - the server that we test on
            command, cwd=folder, env=clean, stdout=out, stderr=out, start_new_session=True
        ) as server,
    ):
        try:
            yield f"http://127.0.0.1:{port}", log
        finally:
            os.killpg(server.pid, signal.SIGTERM)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[LangGraphClient, TGITestServer]]:
    engines = {name: ScriptedEngine(REPLIES, model_id=f"lab/{name}") for name in ("small", "large")}
    async with TGITestServer(engines, api_key="key-of-the-endpoints") as tgi:
        environment = {
            "SGD_SMALL_URL": tgi.url_of("small"),
            "SGD_LARGE_URL": tgi.url_of("large"),
            "SGD_API_KEY": "key-of-the-endpoints",
        }
        with langgraph_dev(folder, environment) as (url, log):
            async with httpx.AsyncClient() as http, asyncio.timeout(240):
                while not await is_up(http, url):  # noqa: ASYNC110 - it calls nobody back
                    await asyncio.sleep(0.25)
            async with get_client(url=url) as client:
                yield client, tgi
            assert "key-of-" not in log.read_text()


async def is_up(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/ok")).is_success
    except httpx.TransportError:
        return False


def report_of(state: Any) -> Report:
    message = state["messages"][-1]
    return Report.from_message(AIMessage("", response_metadata=message["response_metadata"]))


async def schemas_are_read_without_a_model(client: LangGraphClient, tgi: TGITestServer) -> None:
    (assistant,) = await client.assistants.search()
    assert assistant["graph_id"] == "sgd"
    schemas: Any = await client.assistants.get_schemas(assistant["assistant_id"])
    options = schemas["context_schema"]["properties"]
    assert {"mode", "threshold", "max_nodes", "approve"} < {*options}
    assert options["system_prompt"]["langgraph_nodes"] == ["answer"]
    assert "messages" in schemas["input_schema"]["properties"]
    drawn = await client.assistants.get_graph(assistant["assistant_id"])
    assert [node["id"] for node in drawn["nodes"]] == ["__start__", "answer", "__end__"]
    assert tgi.log == []


async def tokens_stream_in_order(client: LangGraphClient, _: TGITestServer) -> None:
    thread = await client.threads.create()
    texts: list[str] = []
    states: list[Any] = []
    async for part in client.runs.stream(
        thread["thread_id"], "sgd", input=QUESTION, stream_mode=["messages-tuple", "values"]
    ):
        data: Any = part.data
        if part.event == "messages":
            texts.append(data[0]["content"])
        elif part.event == "values":
            states.append(data)
    assert "".join(texts) == states[-1]["messages"][-1]["content"]
    assert parts("".join(texts)) == ANSWER
    assert len([text for text in texts if text]) >= len(SECTIONS)
    report = report_of(states[-1])
    assert (report.status, report.thread_id) == ("complete", thread["thread_id"])
    assert {node.id: node.attempts[0].tier for node in report.nodes} == {
        "1": "small",
        "2": "large",
        "3": "large",
    }


async def a_second_turn_sees_the_first(client: LangGraphClient, tgi: TGITestServer) -> None:
    thread = await client.threads.create()
    for text in ("First?", "Second?"):
        question: Any = {"messages": [{"role": "user", "content": text}]}
        state: Any = await client.runs.wait(thread["thread_id"], "sgd", input=question)
    assert len(state["messages"]) == 4
    assert "First?" in tgi.prompts[-1]
    assert "Stay at home." in tgi.prompts[-1]


async def options_come_with_the_run(client: LangGraphClient, tgi: TGITestServer) -> None:
    before = len(tgi.log)
    context = {"mode": "never", "system_prompt": PIRATE}
    thread = await client.threads.create()
    state: Any = await client.runs.wait(thread["thread_id"], "sgd", input=QUESTION, context=context)
    assert state["messages"][-1]["content"] == "An undivided answer."
    (asked,) = tgi.log[before:]
    assert PIRATE in asked.prompts[0]


async def a_human_edits_the_skeleton(client: LangGraphClient, tgi: TGITestServer) -> None:
    thread = await client.threads.create()
    where = (thread["thread_id"], "sgd")
    waiting: Any = await client.runs.wait(*where, input=QUESTION, context={"approve": True})
    (asked,) = waiting["__interrupt__"]
    nodes = asked["value"]["skeleton"]["nodes"]
    assert [node["heading"] for node in nodes] == [*SECTIONS]
    before = len(tgi.log)
    # Without the option: the approval belongs to the question.
    state: Any = await client.runs.wait(*where, command={"resume": {"nodes": nodes[:2]}})
    assert state["messages"][-1]["content"] == ANSWER.partition("\n\n## Advice")[0]
    assert len(tgi.log) - before == 3  # the short first part goes to the large model, too


async def a_human_accepts_or_refuses(client: LangGraphClient, tgi: TGITestServer) -> None:
    for resume, answer in ((True, ANSWER), (False, "An undivided answer.")):
        thread = await client.threads.create()
        where = (thread["thread_id"], "sgd")
        waiting: Any = await client.runs.wait(*where, input=QUESTION, context={"approve": True})
        assert waiting["__interrupt__"]
        state: Any = await client.threads.get_state(thread["thread_id"])
        assert state["next"] == ["answer"]
        if not resume:
            tgi.heal()  # now the plain answer is wanted whole
        state = await client.runs.wait(*where, command={"resume": resume})
        assert parts(state["messages"][-1]["content"]) == answer
        assert report_of(state).status == ("complete" if resume else "plain")
    hold_openings(tgi)


async def a_failed_run_goes_on(client: LangGraphClient, tgi: TGITestServer) -> None:
    thread = await client.threads.create()
    where = (thread["thread_id"], "sgd")
    before = len(tgi.log)
    tgi.inject(
        "unauthorized",
        times=None,
        when=lambda entry: asks_for(entry.json, 3),
    )
    failed: Any = await client.runs.wait(
        *where, input=QUESTION, context={"on_node_error": "raise"}, raise_error=False
    )
    assert "NodeDecodeError" in json.dumps(failed)
    asked = len(tgi.log) - before
    tgi.heal()
    hold_openings(tgi)
    state: Any = await client.runs.wait(*where, input=None, context={"on_node_error": "raise"})
    assert parts(state["messages"][-1]["content"]) == ANSWER
    assert len(tgi.log) - before == asked + 1
    assert [node.restored for node in report_of(state).nodes] == [True, True, False]


async def two_users_are_served_at_once(client: LangGraphClient, tgi: TGITestServer) -> None:
    async def ask(text: str) -> str:
        question: Any = {"messages": [{"role": "user", "content": text}]}
        thread = await client.threads.create()
        state: Any = await client.runs.wait(thread["thread_id"], "sgd", input=question)
        return str(state["messages"][-1]["content"])

    before = len(tgi.prompts)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(f"Question {n}?")) for n in (1, 2)]
    assert [parts(task.result()) for task in asked] == [ANSWER, ANSWER]
    prompts = tgi.prompts[before:]
    assert [sum(f"Question {n}?" in prompt for prompt in prompts) for n in (1, 2)] == [6, 6]


async def a_remote_graph_is_a_runnable(client: LangGraphClient, _: TGITestServer) -> None:
    remote = RemoteGraph("sgd", client=client)
    assert parts((await remote.ainvoke(QUESTION))["messages"][-1]["content"]) == ANSWER
    thread = await client.threads.create()
    config: RunnableConfig = {"configurable": {"thread_id": thread["thread_id"]}}
    texts: list[str] = []
    async for part in remote.astream(QUESTION, config, stream_mode="messages"):
        message: Any = part[0]  # type: ignore[index]
        texts.append(message["content"] if isinstance(message, dict) else message.content)
    assert parts("".join(texts)) == ANSWER


async def the_example_client_works(client: LangGraphClient, __: TGITestServer) -> None:
    url = str(client.http.client.base_url)
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE / "client.py",
        env={"LANGGRAPH_URL": url, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await example.communicate()
    assert example.returncode == 0
    streamed, approved = said.decode().split("-- planned")
    assert parts(streamed.strip()) == ANSWER
    assert approved.strip().endswith(ANSWER)
    assert "3 Advice ['1', '2']" in approved


async def test_langgraph_server(tmp_path: Path) -> None:
    # One test, since the server takes long to start.
    async with served(tmp_path) as where:
        hold_openings(where[1])
        await schemas_are_read_without_a_model(*where)
        await tokens_stream_in_order(*where)
        await a_second_turn_sees_the_first(*where)
        await options_come_with_the_run(*where)
        await a_human_edits_the_skeleton(*where)
        await a_human_accepts_or_refuses(*where)
        await a_failed_run_goes_on(*where)
        await two_users_are_served_at_once(*where)
        await a_remote_graph_is_a_runnable(*where)
        await the_example_client_works(*where)
