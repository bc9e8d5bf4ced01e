"""langchain-tests' standard suites, counted: our faces beside `ChatHuggingFace` on the same kind of server.

    python -m tests.standard_suites [--json FILE]

The suites of our own classes run in the test suite, too; that of `ChatHuggingFace` runs here only, since
what it fails is not ours to mend.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import pytest
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from rich.console import Console
from rich.table import Table

from langchain_sgd.tgi.sync import LoopThread
from tests.tgi_server import TGITestServer

_HERE = Path(__file__).parent
SUITES = {
    "ChatSGD": ["integration/test_chat_sgd_standard.py"],
    "SGDRunnable.as_tool": ["integration/test_tool_standard.py"],
    "ChatTGI": ["integration/test_chat_tgi_standard.py", "unit/test_tgi_chat.py::TestStandard"],
    "ChatHuggingFace": ["standard_suites.py"],
}
_OUTCOMES = ("passed", "skipped", "xfailed", "failed")


class _HuggingFace:
    """Both suites, with the methods that this class chooses by default."""

    url: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls) -> Iterator[None]:
        """Synchronous tests block their thread: the server runs in one of its own."""
        thread = LoopThread("tgi-test-server")
        server = TGITestServer()
        thread.run(server.accept())
        cls.url = server.url
        yield
        thread.run(server.refuse())

    @property
    def chat_model_class(self) -> type[ChatHuggingFace]:
        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        endpoint: Any = HuggingFaceEndpoint
        return {"llm": endpoint(endpoint_url=self.url)}

    @property
    def supports_json_mode(self) -> bool:
        return True


class TestHuggingFaceUnit(_HuggingFace, ChatModelUnitTests):
    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {}


class TestHuggingFaceStandard(_HuggingFace, ChatModelIntegrationTests):
    pass


@dataclass
class Count:
    """What became of some suites' tests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


def count(places: Sequence[str]) -> Count:
    """Run some suites, each time in a process of their own."""
    counted = Count()
    with TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", *(str(_HERE / place) for place in places)]
        command += ["-q", "-p", "no:cacheprovider", "--benchmark-disable", f"--junit-xml={results}"]
        # What a stranger's package warns of is no failure of its suite.
        command += ["-o", "filterwarnings=ignore"]
        environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        # Our own interpreter and files; pytest writes the results itself.
        subprocess.run(  # noqa: S603
            command, env=environment, cwd=_HERE.parent, capture_output=True, check=False
        )
        cases = list(ET.parse(results).iter("testcase"))  # noqa: S314
    for case in cases:
        outcome = _outcome(case)
        counted.outcomes[outcome] += 1
        if outcome == "failed":
            suite = case.get("classname", "").rpartition(".")[2]
            counted.failed.append(f"{suite}.{case.get('name')}")
    return counted


def _outcome(case: ET.Element) -> str:
    if (skipped := case.find("skipped")) is not None:
        return "xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the counts, and what failed."""
    options = argparse.ArgumentParser(prog="python -m tests.standard_suites", description=__doc__)
    options.add_argument("--json", type=Path, metavar="FILE")
    args = options.parse_args(argv)
    counts = {name: count(places) for name, places in SUITES.items()}
    table = Table("", *_OUTCOMES, title="langchain-tests' standard suites", title_justify="left")
    for name, counted in counts.items():
        table.add_row(name, *(str(counted.outcomes[outcome]) for outcome in _OUTCOMES))
    console = Console()
    console.print(table)
    for name, counted in counts.items():
        for test in counted.failed:
            console.print(f"{name}: {test}", highlight=False, soft_wrap=True)
    if args.json:
        figures = {n: {**c.outcomes, "failures": c.failed} for n, c in counts.items()}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
