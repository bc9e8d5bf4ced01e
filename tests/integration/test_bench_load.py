"""The load bench on the bundled model and real sockets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench import load
from langchain_sgd.embedded.engine import EngineError
from langchain_sgd.embedded.server import bundled_models

try:
    bundled_models()
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)


def test_real_users_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "load.json"
    load.main(["--real", "--users", "1", "2", "--answers", "2", "--json", str(out)])
    assert "Measured: the bundled large model" in capsys.readouterr().out
    figures = json.loads(out.read_text())["figures"]
    assert figures["kind"] == "measurement"
    for methods in figures["users"].values():
        assert set(methods) == set(load.METHODS)
        assert all(found["answers"] == 2 for found in methods.values())
        assert methods[load.PLAIN]["split"] == 0
