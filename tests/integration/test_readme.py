"""The README's code runs as it stands there, on servers of ours in place of its `gpu-1` and `gpu-2`."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.cli import main
from langchain_sgd.embedded.server import EmbeddedServer
from tests.scripted_engine import ScriptedEngine
from tests.support.travel import REPLIES

# The blocks load two real models, and the command is started anew for what runs until it is stopped.
pytestmark = pytest.mark.timeout(240)

README = (Path(__file__).parents[2] / "README.md").read_text()
SERVERS = {"small": "http://gpu-1:8080", "large": "http://gpu-2:8080"}
NOT_RUN = {
    "pip install": "the package and a registry are not this test's to install from",
    "make ": "make demo and make test install everything anew; the first is run below as a command",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def with_servers(text: str, urls: Mapping[str, str]) -> str:
    for tier, url in SERVERS.items():
        text = text.replace(url, urls[tier])
    assert "gpu-" not in text
    return text


@pytest.fixture
def urls() -> Iterator[Mapping[str, str]]:
    engines = {name: ScriptedEngine(REPLIES, model_id=f"lab/{name}") for name in SERVERS}
    # In a thread: the README's code is synchronous.
    with EmbeddedServer(engines) as server:
        yield server.urls


def test_every_python_block_runs(
    urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    printed: list[str] = []
    for block in blocks("python"):
        line = README[: README.index(block)].count("\n")
        code = "\n" * line + with_servers(block, urls)
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
        printed.append(capsys.readouterr().out)
    text = "".join(printed)
    assert len(printed) >= 8
    assert all(printed)
    assert text.count("## Advice\n\nStay at home.") >= 4
    assert "'large': Usage(" in text
    assert "complete" in text
    assert names["answer"].response_metadata["sgd"]["planner"]["source"] == "approved"
    # What the bundled models wrote.
    assert printed[1].count("## ") >= 2


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).parents[2]
    anchors = {
        "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    local = [target for target in targets if not target.startswith("https://")]
    assert "docs/timelines.svg" in local
    for target in local:
        assert target in anchors if target.startswith("#") else (root / target).exists(), target


def test_every_command_is_run_or_has_a_reason() -> None:
    found = commands()
    assert len(found) >= 8
    for command in found:
        assert command.startswith(("langchain-sgd ", *NOT_RUN)), command


ENDED = {"langchain-sgd serve", "langchain-sgd demo"}
"""What runs long, or until it is stopped: run below."""


@pytest.mark.parametrize(
    "command", [c for c in commands() if c.startswith("langchain-sgd ") and c not in ENDED]
)
def test_a_command_runs(
    command: str, urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, *arguments = shlex.split(with_servers(command, urls), comments=True)
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


def test_serve_runs_until_it_is_stopped() -> None:
    assert "langchain-sgd serve" in commands()
    command = [sys.executable, "-m", "langchain_sgd", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        assert server.stdout is not None
        said = ""
        while "Ctrl-C ends it." not in said:
            line = server.stdout.readline()
            assert line, f"it ended after {said!r}"
            said += line
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    assert "SGD_LARGE_URL=http://127.0.0.1:" in said


def test_demo_runs() -> None:
    assert "langchain-sgd demo" in commands()
    command = [sys.executable, "-m", "langchain_sgd", "demo", "--questions", "1", "--plain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert "## " in done.stdout
