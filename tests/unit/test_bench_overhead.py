"""The overhead benchmark: that it measures what it says and writes it down."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from langchain_sgd.bench import overhead
from langchain_sgd.bench.models import InstantModel, random_skeleton


async def test_the_bare_scheduler_answers_every_node() -> None:
    skeleton = random_skeleton(random.Random(2), least=9, most=9)
    answers = await overhead.bare(skeleton, InstantModel(tokens=2))
    assert answers == {node.id: "word word " for node in skeleton.nodes}


def test_the_command_measures_every_design(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "overhead.json"
    arguments = ["--nodes", "3", "--repeats", "1", "--tokens", "2", "--imports", "0"]
    overhead.main([*arguments, "--json", str(out)])
    assert "microseconds a node" in " ".join(capsys.readouterr().out.split())
    figures = json.loads(out.read_text())["figures"]
    assert set(figures["ms_per_run"]["3"]) == {"bare asyncio", "SGDRunnable", "literal StateGraph"}
    assert all(map(math.isfinite, figures["us_per_token"].values()))
