"""The fit of the latency model: it finds what the times were made from, and says when it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.bench._fit import Observation, fit, predicted_s
from langchain_sgd.bench.latency import LatencyModel


def runs(model: LatencyModel) -> list[Observation]:
    """Runs of many shapes that take exactly as long as the model says."""
    shapes = [
        ("plain", 1, 400, 400, (40,)),
        ("plain", 1, 300, 300, (35,)),
        ("2 streams", 1, 60, 100, (40, 2)),
        ("4 streams", 1, 65, 200, (40, 5, 9, 2)),
        ("8 streams", 1, 70, 420, (40, 5, 9, 2, 3, 20, 30, 7)),
        ("a chain", 3, 160, 160, (40, 50, 70)),
        ("a prompt", 1, 1, 1, (100,)),
        ("a prompt", 1, 1, 1, (128,)),
        ("a prompt", 1, 1, 1, (3,)),
    ]
    seen = [Observation(kind, 1.0, *rest) for kind, *rest in shapes]  # type: ignore[arg-type]
    return [replace(each, wall_s=predicted_s(model, each)) for each in seen]


@given(
    call_s=st.floats(1e-4, 0.1),
    step_s=st.floats(1e-4, 0.1),
    stream_s=st.floats(1e-4, 0.1),
    prompt_token_s=st.floats(1e-4, 0.01),
    hidden=st.sampled_from([0, 8, 16]),
)
@settings(max_examples=60, deadline=None)
def test_the_fit_finds_the_model_that_the_times_were_made_from(
    call_s: float, step_s: float, stream_s: float, prompt_token_s: float, hidden: int
) -> None:
    truth = LatencyModel(
        name="m",
        call_s=call_s,
        step_s=step_s,
        stream_s=stream_s,
        prompt_token_s=prompt_token_s,
        hidden_tokens=hidden,
    )
    found = fit(runs(truth), name="m")
    assert found.typical < 1e-3
    assert found.model.seconds(4) == pytest.approx(truth.seconds(4), rel=0.01)
    assert found.model.seconds(0, 100) == pytest.approx(truth.seconds(0, 100), rel=0.01)
    assert found.model.call_s == pytest.approx(call_s, rel=0.05, abs=1e-5)


TRUTH = LatencyModel(
    name="m", call_s=0.002, step_s=0.001, stream_s=0.0005, prompt_token_s=0.0002, hidden_tokens=0
)


def test_one_outlier_does_not_draw_the_fit() -> None:
    seen = runs(TRUTH) * 3
    seen[4] = replace(seen[4], wall_s=seen[4].wall_s * 5)
    found = fit(seen, name="m", slots=3)
    assert found.model == replace(
        found.model, slots=3, name="m", source="given", characters_a_token=4
    )
    assert found.model.seconds(4) == pytest.approx(TRUTH.seconds(4), rel=0.01)
    assert sum(abs(error) > 0.05 for error in found.errors) == 1


def test_steps_that_get_faster_with_more_streams_are_noise() -> None:
    seen = [replace(each, wall_s=1 / each.tokens) for each in runs(TRUTH)]
    model = fit(seen, name="m").model
    assert min(model.call_s, model.step_s, model.stream_s, model.prompt_token_s) >= 0


def test_what_a_step_took_stands_beside_what_is_said_of_it() -> None:
    by_kind = fit(runs(TRUTH), name="m").by_kind()
    assert list(by_kind) == ["2 streams", "4 streams", "8 streams", "a chain", "a prompt", "plain"]
    eight = by_kind["8 streams"]
    assert eight["streams"] == pytest.approx(6)
    assert eight["step_ms"] == pytest.approx(1 + 6 * 0.5, rel=0.02)
    assert eight["fitted_step_ms"] == pytest.approx(eight["step_ms"], rel=0.02)
    assert eight["error"] == pytest.approx(0, abs=1e-3)
    assert by_kind["plain"]["runs"] == 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_runs_that_are_too_alike_are_refused(count: int) -> None:
    alike = [each for each in runs(TRUTH) if each.kind == "plain"][:count]
    with pytest.raises(ValueError, match=f"the {count} runs are too alike to calibrate mine"):
        fit(alike, name="mine")


def test_no_time_is_no_observation() -> None:
    with pytest.raises(ValueError, match="must be above zero"):
        fit([replace(each, wall_s=0.0) for each in runs(TRUTH)], name="m")
