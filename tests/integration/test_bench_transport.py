from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_sgd.bench.transport import main


def test_chat_tgi_is_the_fastest_of_the_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "transport.json"
    main(["--rounds", "5", "--calls", "16", "--json", str(file)])
    figures = json.loads(file.read_text())["figures"]
    for other in ("ChatHuggingFace", "text_generation.AsyncClient"):
        assert figures["ChatTGI"]["p50_ms"] < figures[other]["p50_ms"]
        assert figures["ChatTGI"]["calls_per_s"] > figures[other]["calls_per_s"]
    assert "ChatTGI" in capsys.readouterr().out
