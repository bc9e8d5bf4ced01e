"""The code of `docs/` that needs newer or other packages than the unit tests have: blocks marked `py`."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd import SGDRunnable
from tests.ecosystem.agents import Caller
from tests.unit.test_chains import ANSWER, stage

DOCS = Path(__file__).parents[2] / "docs"
FOUND = {
    page.name: re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for page in sorted(DOCS.glob("*.md"))
}
BLOCKS = {name: blocks for name, blocks in FOUND.items() if blocks}
TASK = {"description": "Write of bridges.", "subagent_type": "writer"}


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@pytest.mark.parametrize("page", BLOCKS)
async def test_every_block_runs(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        monkeypatch.setenv(key, "none")
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    names: dict[str, Any] = {
        "sgd": SGDRunnable(**stage().pair()),
        "caller": Caller(tool="task", args=TASK),
    }
    for block in BLOCKS[page]:
        code = block.replace('"openai:gpt-6-sol"', "caller")
        made = compile(code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(made, names)  # noqa: S307 - our own pages
        if inspect.isawaitable(waiting):
            await waiting
    if "agent" in names:
        assert "Here you are." in capsys.readouterr().out
        (said,) = [
            each.text
            for each in (await names["agent"].ainvoke(names["question"]))["messages"]
            if each.type == "tool"
        ]
        assert said == ANSWER


def test_there_are_such_blocks() -> None:
    assert sum(map(len, BLOCKS.values())) >= 3
