"""The examples of chains and agents run, on the bundled models and without a network."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")
pytest.importorskip("langchain", reason="langchain is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("chain.py", capsys)
    assert out.count(" words\n") == 2
    assert "['asked', 'brief']" in out


def test_an_agent_with_sgd_as_its_tool(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("agent_tool.py", capsys)
    text, _, rest = out.partition("\n\n[write_brief: ")
    assert len(text.split()) > 20
    assert rest.endswith("Here is your brief.\n")


def test_nodes_that_an_agent_decodes(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed("agent_nodes.py", capsys)
    assert "## Delivery\n\n240 lamps are in our Oakham warehouse" in out
    assert out.endswith("1: small\n2: clerk\n3: small\n")
