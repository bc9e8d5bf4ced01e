"""The types that users get: a script of theirs under two type checkers at their strictest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ecosystem.agents import Caller
from tests.ecosystem.user_agents import texts
from tests.ecosystem.user_script import run
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

ROOT = Path(__file__).parents[2]
SCRIPTS = ("user_script.py", "user_agents.py")


def test_it_runs() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    name, said = run(stage.model("small"), stage.model("large"))
    assert name == "write"
    assert "## Heading 1" in "".join(said)


def test_those_under_agents_run() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    task = {"description": "Why?", "subagent_type": "writer"}
    said = texts(stage.model("large"), Caller(tool="task", args=task))
    assert len([text for text in said if "## Heading 1" in text]) == 2


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_users_script_is_typed(name: str, checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker)
    script = tmp_path / "script.py"
    script.write_text(Path(__file__).with_name(name).read_text())
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT)],
        "include": ["script.py"],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = True\nmypy_path = {ROOT}\n")
    arguments = {
        "mypy": ["--config-file=mypy.ini", "script.py"],
        "pyright": ["--pythonpath", sys.executable],
    }
    done = subprocess.run(  # noqa: S603 - the type checker of this environment
        [sys.executable, "-m", checker, *arguments[checker]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
