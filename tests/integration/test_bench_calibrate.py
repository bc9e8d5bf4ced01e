"""The calibration on real engines: what is measured and compared, never how fast or how near."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.bench import _random_model, calibrate, simulate
from langchain_sgd.bench._embedded_figures import PLAIN, SGD
from langchain_sgd.bench.latency import LatencyModel

pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

from langchain_sgd.embedded.server import bundled_models

SMALL: dict[str, Any] = {"width": 64, "layers": 1, "hidden": 64, "heads": 2}


@pytest.fixture
def bundled() -> Path:
    return bundled_models()["large"]


@pytest.fixture
def random_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A much smaller model in the place of the one of 60 million weights."""
    path = tmp_path / "random.gguf"
    _random_model.write_random_model(path, **SMALL)
    monkeypatch.setattr(calibrate, "cached_model", lambda: path)


def figures_of(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], LatencyModel]:
    out, model = tmp_path / "out.json", tmp_path / "model.json"
    calibrate.main([*arguments, "--json", str(out), "--save", str(model)])
    return json.loads(out.read_text())["figures"], LatencyModel.read(model)


@pytest.mark.usefixtures("bundled")
def test_the_bundled_model_is_calibrated_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, model = figures_of(tmp_path, "--questions", "1", "--calibrating", "1")
    assert figures["model"] == model.to_json()
    assert (model.name, model.slots) == ("bundled-large-openvino", 8)
    assert 2 < model.characters_a_token < 5
    assert figures["runs"]["8 streams"]["streams"] > figures["runs"]["2 streams"]["streams"] > 1
    check = figures["check"]
    assert check["questions"] + len(check["left_out"]) == 1
    for name in (PLAIN, SGD):
        found = check["methods"][name]
        assert found["predicted_s"] > 0
        error = found["predicted_s"] / found["measured_s"] - 1
        assert found["errors"]["median"] == pytest.approx(error)
    plain, sgd = (check["methods"][name] for name in (PLAIN, SGD))
    # One stream, one way. Which parts overlap depends on the fitted times, which a busy machine spoils.
    assert plain["predicted_steps"] == pytest.approx(plain["measured_steps"], abs=2)
    assert sgd["predicted_steps"] > 0.5 * sgd["measured_steps"]
    predicted = plain["predicted_s"] / sgd["predicted_s"]
    assert check["speedup"]["predicted"] == pytest.approx(predicted)
    printed = " ".join(capsys.readouterr().out.split())
    assert "SIMULATION beside measurement: 1 held-out questions" in printed
    assert simulate.given_model(tmp_path / "model.json", "llama-33b-a100") == model


@pytest.mark.usefixtures("random_file")
def test_texts_of_fixed_lengths_are_replayed_too(tmp_path: Path) -> None:
    arguments = ("--model-size", "60m", "--questions", "1", "--calibrating", "1", "--slots", "4")
    figures, model = figures_of(tmp_path, *arguments)
    assert (model.name, model.slots) == ("random-60m-openvino", 4)
    assert "6 streams" not in figures["runs"]
    assert figures["check"]["questions"] == 1
    assert figures["check"]["left_out"] == {}
