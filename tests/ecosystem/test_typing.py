"""The types that users get: a script of theirs under two type checkers at their strictest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ecosystem.user_script import run
from tests.support.models import PLANNER, Stage, planning
from tests.support.skeletons import skeleton

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("user_script.py")


def test_it_runs() -> None:
    stage = Stage({PLANNER: planning(skeleton("1", "2"))})
    name, said = run(stage.model("small"), stage.model("large"))
    assert name == "write"
    assert "## Heading 1" in "".join(said)


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_users_script_is_typed(checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.read_text())
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
