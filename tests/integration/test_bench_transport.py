"""The transport benchmark: that it measures all clients on one server and writes it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench.transport import main


def test_the_command_measures_every_client(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "transport.json"
    main(["--rounds", "1", "--calls", "4", "--json", str(file)])
    figures = json.loads(file.read_text())["figures"]
    for client in ("ChatTGI", "ChatHuggingFace", "text_generation.AsyncClient"):
        assert figures[client]["p50_ms"] > 0
        assert figures[client]["calls_per_s"] > 0
    assert "ChatTGI" in capsys.readouterr().out
