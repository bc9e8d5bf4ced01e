"""The README's code runs as it stands there, on servers of ours in place of those it names."""

from __future__ import annotations

import ast
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
from langchain_sgd.embedded.briefs import domain
from langchain_sgd.embedded.briefs.checker import Tally
from langchain_sgd.embedded.briefs.domain import MAX_SECTIONS, MAX_WIDTH, MIN_SECTIONS
from langchain_sgd.embedded.server import EmbeddedServer
from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.travel import REPLIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SERVERS = {
    "http://gpu-1:8000": "small",
    "http://gpu-2:8000": "large",
    "http://tgi-1:8080": "small",
    "http://tgi-2:8080": "large",
    "openai:gpt-6-luna": "small",
    "openai:gpt-6-sol": "large",
}
"""What the README names, and which of our servers stands in for it."""
NOT_RUN = {
    "pip install": "the package and a registry are not this test's to install from",
    "make": "it installs, too; what it would do is compared with what is said of it",
}


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.encode()) <= 8192


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def with_servers(text: str, urls: Mapping[str, str]) -> str:
    for named, tier in SERVERS.items():
        text = re.sub(rf"{re.escape(named)}(?![\w-])", urls[tier], text)
    assert "gpu-" not in text
    assert "openai:" not in text
    return text


@pytest.fixture
def urls() -> Iterator[Mapping[str, str]]:
    engines = {
        name: ScriptedEngine(REPLIES, model_id=f"lab/{name}", pace=Pace(plans_first=True))
        for name in ("small", "large")
    }
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
    assert len(printed) == 8
    assert all(printed)
    text = "".join(printed)
    # All but the bundled models' brief, which the checker reads.
    assert text.count("## Advice\n\nStay at home.") == 6
    assert "complete" in text
    assert "'large': Usage(" in text


def questions() -> list[str]:
    """What the README and the examples ask the bundled models."""
    sources = [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    texts = [
        node.value
        for source in [*blocks("python"), *sources]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [text for text in texts if text.startswith("Write a launch brief")]
    return [text.format(product="lamp", town="Oakham", readers="nurses") for text in found]


def test_questions_to_the_bundled_models_are_such_as_they_were_trained_on() -> None:
    assert len(questions()) >= 8
    for question in questions():
        asked = domain.read_question(question)
        assert isinstance(asked, domain.Brief), question
        assert MIN_SECTIONS <= len(asked.headings) <= MAX_SECTIONS, question
        assert domain.skeleton(asked.headings).width <= MAX_WIDTH + 1, question


def test_the_facts_of_the_bundled_answer_agree() -> None:
    question = next(q for q in questions() if "invitation." in q and "Oakham" in q)
    tally = Tally()
    with EmbeddedServer() as server:
        for seed in range(6):
            answer = server.runnable(seed=seed).invoke(question)
            tally.add(question, answer.text)
            assert answer.response_metadata["sgd"]["warnings"] == []
    assert tally.fact_consistency.value >= 0.95


def test_every_command_is_run_or_has_a_reason() -> None:
    found = commands()
    assert len(found) >= 6
    for command in found:
        assert command.startswith(("langchain-sgd ", *NOT_RUN)), command


def test_the_makefile_does_what_is_said_of_it() -> None:
    dry = {
        target: subprocess.run(  # noqa: S603 - our own Makefile
            ["make", "--dry-run", "--always-make", target],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for target in ("demo", "test")
    }
    for target, done in dry.items():
        (line,) = (c for c in commands() if c.startswith(f"make {target}"))
        for said in line.partition("#")[2].removesuffix(", in .venv").split(" and "):
            # Beside what is said there stand options and the folder of the environment.
            words = said.replace(" -e ", " --editable ").replace('".[embedded]"', "'.[embedded]'")
            for word in shlex.split(words):
                assert word in done, (target, said)


def runs_on(command: str) -> bool:
    """Whether it runs until it is stopped."""
    return command.split()[1] in {"proxy", "mcp"}


@pytest.mark.parametrize(
    "command",
    [c for c in commands() if c.startswith(("langchain-sgd ask", "langchain-sgd plan"))],
)
def test_a_command_runs(
    command: str, urls: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, *arguments = shlex.split(with_servers(command, urls), comments=True)
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", [c for c in commands() if runs_on(c)])
def test_a_server_runs_until_it_is_stopped(command: str, urls: Mapping[str, str]) -> None:
    _, *arguments = shlex.split(with_servers(command, urls))
    run = [sys.executable, "-m", "langchain_sgd", *arguments, "--port", "0"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        assert server.stdout is not None
        said = ""
        while "Ctrl-C ends it." not in said:
            line = server.stdout.readline()
            assert line, f"it ended after {said!r}"
            said += line
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in {0, 130}
    assert "http://127.0.0.1:" in said


def test_demo_runs() -> None:
    assert "langchain-sgd demo" in commands()
    command = [sys.executable, "-m", "langchain_sgd", "demo", "--questions", "1", "--plain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert "SGD's whole answer came" in " ".join(done.stdout.split())
