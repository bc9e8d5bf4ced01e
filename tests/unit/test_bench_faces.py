"""The faces that are measured do the same work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd import SGDRunnable
from langchain_sgd.bench import faces
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton


async def test_the_bare_engine_gives_the_runnables_answer() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2 <- 1", "3"))})
    sgd = SGDRunnable(**stage.pair())
    assert await faces.engine(sgd) == (await sgd.ainvoke(faces.QUESTION)).content
    assert sorted(stage.parts()) == sorted(["1", "2", "3", PLANNER] * 2)


def test_figures_are_printed_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces.main(["--nodes", "3", "--repeats", "1", "--json", str(tmp_path / "faces.json")])
    assert "ChatSGD.astream" in capsys.readouterr().out
    figures = json.loads((tmp_path / "faces.json").read_text())["figures"]
    assert figures["nodes"] == 3
    assert all(ms > 0 for ms in figures["cpu_ms_per_run"].values())
    assert len(figures["cpu_ms_per_run"]) == 8
