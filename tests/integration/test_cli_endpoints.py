"""The command against TGI servers on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from langchain_sgd.cli import main
from langchain_sgd.models import ENDPOINTS
from langchain_sgd.report import Report
from tests.openai_server import OpenAIServer
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.asked import asks_for
from tests.support.travel import REPLIES
from tests.tgi_server import Fault, TGITestServer

ANSWER = """\
An undivided answer.

## Trains

Trains are slow.

## Planes

Planes are loud.

## Advice

Stay at home.
"""


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TGITestServer]:
    for tier in ("SMALL", "LARGE", "PLANNER"):
        monkeypatch.delenv(f"SGD_{tier}", raising=False)
        monkeypatch.delenv(f"SGD_{tier}_URL", raising=False)
    monkeypatch.delenv("SGD_API_KEY", raising=False)
    ENDPOINTS.clear()
    pace = Pace(plans_first=True)
    engines = {
        name: ScriptedEngine(REPLIES, model_id=f"lab/{name}", pace=pace)
        for name in ("small", "large")
    }
    async with TGITestServer(engines) as made:
        yield made


async def run(server: TGITestServer, *arguments: str) -> int:
    """The command in a thread, since it runs a loop of its own."""
    command, *rest = arguments
    urls = ["--small", server.url_of("small"), "--large", server.url_of("large")]
    return await asyncio.to_thread(main, [command, *urls, *rest])


async def test_ask_streams_the_answer_and_tells_the_outcome_beside_it(
    server: TGITestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(server, "ask", "Train", "or", "plane?") == 0
    said = capsys.readouterr()
    assert said.out == ANSWER
    assert said.err.startswith("complete · ")
    assert "3 nodes" in said.err
    # Both servers are asked at once what they are.
    asked = [each.path for each in server.log if each.method == "POST"]
    assert asked[0].startswith("/large")
    assert "Train or plane?" in server.prompts[0]


async def test_a_warning_of_ask_is_told_once_and_on_a_line_of_its_own(
    server: TGITestServer,
) -> None:
    server.inject("fail", times=None, when=lambda entry: asks_for(entry.json, 2))
    urls = ["--small", server.url_of("small"), "--large", server.url_of("large")]
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "langchain_sgd", "ask", "Which?", *urls),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    lines = (await asking.communicate())[0].decode().splitlines()
    [told] = [line for line in lines if "node 2" in line]
    assert told.startswith("warning: node 2: ")


async def test_ask_takes_the_question_from_standard_input(
    server: TGITestServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io  # noqa: PLC0415

    monkeypatch.setattr(sys, "stdin", io.StringIO("What about ships?\n"))
    assert await run(server, "ask", "-", "--mode", "never") == 0
    assert capsys.readouterr().out == "An undivided answer.\n"
    assert "What about ships?" in server.prompts[0]


async def test_ask_writes_answer_and_report(server: TGITestServer, tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    assert await run(server, "ask", "Which?", "--json", str(file), "--threshold", "6") == 0
    found = json.loads(file.read_text())
    assert found["question"] == "Which?"
    assert found["answer"] + "\n" == ANSWER
    report = Report.model_validate(found["report"])
    assert {node.attempts[0].tier for node in report.nodes} == {"small"}
    assert report.nodes[0].attempts[0].model == "lab/small"


async def test_json_on_standard_output_is_all_that_stands_there(
    server: TGITestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(server, "ask", "Which?", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["report"]["status"] == "complete"


async def test_a_partial_answer_is_given_with_code_1(
    server: TGITestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.inject("fail", times=None, when=lambda entry: asks_for(entry.json, 2))
    assert await run(server, "ask", "Which?") == 1
    said = capsys.readouterr()
    assert "Trains are slow." in said.out
    assert "This part is missing" in said.out
    assert "partial" in said.err
    assert "warning: node 2" in said.err


async def test_ask_takes_a_server_of_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    async with OpenAIServer("vllm", says="An undivided answer.") as vllm:
        arguments = ["ask", "--large", vllm.url, "--mode", "never", "Which?"]
        assert await asyncio.to_thread(main, arguments) == 0
    assert capsys.readouterr().out == "An undivided answer.\n"


async def test_a_server_that_refuses_the_key_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGD_API_KEY", "hf_wrong_secret")
    async with TGITestServer(ScriptedEngine(REPLIES), api_key="right") as server:
        code = await asyncio.to_thread(main, ["ask", "--large", server.url, "Which?"])
    said = capsys.readouterr()
    assert code == 1
    assert said.err.startswith("langchain-sgd: ")
    assert server.url in said.err
    assert "hf_wrong_secret" not in said.err


async def test_a_closed_port_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ask", "--large", "http://127.0.0.1:9", "--mode", "never", "Which?"]
    assert await asyncio.to_thread(main, arguments) == 1
    said = capsys.readouterr()
    assert "http://127.0.0.1:9" in said.err
    assert said.err.count("\n") == 1


async def test_the_deadline_gives_what_is_finished(
    server: TGITestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.inject(
        Fault("stall", after=1),
        times=None,
        when=lambda e: asks_for(e.json, 2),
    )
    assert await run(server, "ask", "Which?", "--deadline", "6.0") == 1
    said = capsys.readouterr()
    assert "Trains are slow." in said.out
    assert "partial" in said.err


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("tree", "└─ 3 Advice"),
        ("mermaid", "graph TD"),
        ("json", '"heading": "Planes"'),
        ("svg", "<svg"),
    ],
)
async def test_plan_prints_the_skeleton(
    server: TGITestServer, capsys: pytest.CaptureFixture[str], wanted: str, part: str
) -> None:
    assert await run(server, "plan", "Which?", "--format", wanted) == 0
    out = capsys.readouterr().out
    assert part in out
    if wanted == "json":
        assert [node["id"] for node in json.loads(out)["nodes"]] == ["1", "2", "3"]
    if wanted == "svg":
        ET.fromstring(out)  # noqa: S314 - our own picture
    assert len(server.prompts) == 1


@pytest.mark.parametrize("wanted", ["tree", "mermaid", "json", "svg"])
async def test_plan_says_when_there_is_no_skeleton(
    server: TGITestServer, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    for engine in server.engines.values():
        engine.reply = "PLAIN"
    assert await run(server, "plan", "Which?", "--format", wanted) == 0
    said = capsys.readouterr()
    if wanted == "json":
        assert json.loads(said.out)["nodes"] == []
    else:
        assert "No skeleton: the planner chose" in said.err


async def test_ctrl_c_closes_the_streams(server: TGITestServer) -> None:
    server.inject(Fault("stall", after=3), times=None, when=lambda e: asks_for(e.json))
    urls = ["--small", server.url_of("small"), "--large", server.url_of("large")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "langchain_sgd", "ask", *urls, "Which?",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"An undivided answer.\n"
        process.send_signal(signal.SIGINT)
    except BaseException:
        process.kill()
        raise
    finally:
        _, error = await process.communicate()
    assert process.returncode == 130
    assert error == b"langchain-sgd: interrupted\n"
    await server.idle()
    stalled = [entry for entry in server.log if asks_for(entry.json)]
    assert stalled
    assert all(entry.disconnected for entry in stalled)


async def test_a_reader_that_has_gone_ends_the_run_quietly(server: TGITestServer) -> None:
    command = (
        f"{sys.executable} -m langchain_sgd ask --large {server.url_of('large')} Which?"
        " | head -1; exit ${PIPESTATUS[0]}"
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert out == b"An undivided answer.\n"
    assert b"Traceback" not in error
    assert b"Exception" not in error
