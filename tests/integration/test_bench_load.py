"""The load bench on the bundled model and real sockets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench import load

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")


def test_real_users_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "load.json"
    arguments = ["--real", "--users", "1", "2", "--answers", "2", "--busy", "1", "4"]
    assert load.main([*arguments, "--json", str(out)]) == 0
    assert "Measured: the bundled large model" in capsys.readouterr().out
    figures = json.loads(out.read_text())["figures"]
    assert figures["kind"] == "measurement"
    assert figures["best"].keys() == figures["users"].keys() == {"1", "2"}
    for methods in figures["users"].values():
        assert list(methods) == load.methods([1, 4])
        assert all(found["answers"] + found["failures"] == 2 for found in methods.values())
        assert methods[load.PLAIN]["split"] == 0


def test_users_who_wait_too_long_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "load.json"
    arguments = ["--real", "--users", "2", "--answers", "2", "--timeout", "0.001"]
    assert load.main([*arguments, "--json", str(out)]) == 0
    assert "no answer within 0.001 s" in " ".join(capsys.readouterr().out.split())
    figures = json.loads(out.read_text())["figures"]
    assert {found["failures"] for found in figures["users"]["2"].values()} == {2}
    assert figures["best"] == {"2": None}
