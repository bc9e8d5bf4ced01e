"""The latency model that comes nearest to what was measured.

What is fitted is the wall time of whole runs, as their callers saw it, from what the server counted:

    wall = d * waits + a * steps + b * tokens + c * (prompt tokens that do not hide)

with the letters of `langchain_sgd.bench.latency`. A wait is a moment at which nothing is decoded because a
call is still on its way: one for a run whose calls go out together, as many as there are links in a chain.
So the parameters hold everything that a step takes, in the model and around it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.bench.latency import LatencyModel

_HIDDEN: Final = (0, 4, 8, 16, 32, 64, 128)
"""Values of `h` that are tried."""
_ROUNDS: Final = 30
"""Of reweighting; the weights stand still long before."""
_SMALL: Final = 1e-6
_NAMES: Final = ("calls", "steps", "streams", "prompts")

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured run."""

    kind: str
    """What was run, such as `4 streams`."""
    wall_s: float
    waits: int
    steps: int
    tokens: int
    """Generated in these steps."""
    prompts: tuple[int, ...]
    """Computed prompt tokens, call by call."""
    busy_s: float = 0.0
    """Seconds in the model, where the engine counts them."""

    @property
    def streams(self) -> float:
        """Mean over the steps."""
        return self.tokens / self.steps


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibrated model, and how far it is from what it was made from."""

    model: LatencyModel
    observations: tuple[Observation, ...]
    errors: tuple[float, ...]
    """Predicted over measured, less 1, run by run."""

    @property
    def typical(self) -> float:
        """The median error, without its sign."""
        return statistics.median(map(abs, self.errors))

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Medians for each kind of run, by name: what a decode step took, what the model says, the error."""
        model = self.model
        groups: dict[str, list[tuple[Observation, float]]] = {}
        for seen, error in zip(self.observations, self.errors, strict=True):
            groups.setdefault(seen.kind, []).append((seen, error))

        def step_s(seen: Observation) -> float:
            around = model.call_s * seen.waits + model.prompt_token_s * _open(seen, _hidden(model))
            return (seen.wall_s - around) / seen.steps

        def medians(pairs: Sequence[tuple[Observation, float]]) -> dict[str, float]:
            seen = [observation for observation, _ in pairs]
            return {
                "runs": len(pairs),
                "streams": statistics.median(o.streams for o in seen),
                "prompt_tokens": statistics.median(sum(o.prompts) for o in seen),
                "wall_ms": 1000 * statistics.median(o.wall_s for o in seen),
                "model_step_ms": 1000 * statistics.median(o.busy_s / o.steps for o in seen),
                "step_ms": 1000 * statistics.median(map(step_s, seen)),
                "fitted_step_ms": 1000
                * statistics.median(model.step_s + model.stream_s * o.streams for o in seen),
                "error": statistics.median(error for _, error in pairs),
            }

        return {kind: medians(groups[kind]) for kind in sorted(groups)}


def fit(observations: Sequence[Observation], *, name: str, **known: Any) -> Fit:
    """The model with the least sum of relative errors, by their size: outliers do not draw it.

    No parameter is let below zero: a step that gets faster with more streams is noise.

    Args:
        observations: Runs of different numbers of streams, lengths, prompts and waits.
        name: Of the model.
        known: Other fields of the `LatencyModel`.

    Raises:
        ValueError: The runs are too alike to tell the parameters apart, or a time is not above zero.
    """
    if any(seen.wall_s <= 0 or seen.steps <= 0 for seen in observations):
        msg = f"times and steps must be above zero to calibrate {name}"
        raise ValueError(msg)
    found: list[tuple[float, int, _Array]] = []
    for hidden in _HIDDEN:
        rows = np.array([_row(seen, hidden) for seen in observations], dtype=np.float64)
        # Relative: a row's times over its wall time should add up to 1.
        rows = rows.reshape(-1, len(_NAMES))
        rows /= np.array([[seen.wall_s] for seen in observations]).reshape(-1, 1)
        if _rank(rows) == len(_NAMES):
            weights = _least_absolute(rows)
            found.append((float(np.abs(rows @ weights - 1).sum()), hidden, weights))
    if not found:
        msg = (
            f"the {len(observations)} runs are too alike to calibrate {name}: vary the streams, the"
            " lengths, the prompts and the calls that wait for one another"
        )
        raise ValueError(msg)
    _, hidden, (call_s, step_s, stream_s, prompt_token_s) = min(found, key=lambda each: each[:2])
    model = LatencyModel(
        name=name,
        step_s=float(step_s),
        stream_s=float(stream_s),
        prompt_token_s=float(prompt_token_s),
        call_s=float(call_s),
        hidden_tokens=hidden,
        **known,
    )
    return Fit(model, tuple(observations), tuple(_error(model, seen) for seen in observations))


def predicted_s(model: LatencyModel, seen: Observation) -> float:
    """What the model says that this run takes."""
    return (
        model.call_s * seen.waits
        + model.step_s * seen.steps
        + model.stream_s * seen.tokens
        + model.prompt_token_s * _open(seen, _hidden(model))
    )


def _error(model: LatencyModel, seen: Observation) -> float:
    return predicted_s(model, seen) / seen.wall_s - 1


def _hidden(model: LatencyModel) -> float:
    if model.hidden_tokens is not None:
        return model.hidden_tokens
    return model.step_s / model.prompt_token_s if model.prompt_token_s else 0.0


def _open(seen: Observation, hidden: float) -> float:
    """Prompt tokens that do not hide; calls go out one by one, so each prompt has a step of its own."""
    return sum(max(0.0, tokens - hidden) for tokens in seen.prompts)


def _row(seen: Observation, hidden: float) -> tuple[float, float, float, float]:
    return seen.waits, seen.steps, seen.tokens, _open(seen, hidden)


def _rank(rows: _Array) -> int:
    """How many parameters the rows can tell apart; columns are scaled, as their units differ."""
    lengths = np.sqrt((rows**2).sum(axis=0))
    return int(np.linalg.matrix_rank(rows / np.where(lengths > 0, lengths, 1), tol=1e-3))


def _least_absolute(rows: _Array) -> _Array:
    """Weights from 0 on for which the rows come nearest to 1, by reweighted least squares."""
    emphasis = np.ones(len(rows))
    found = _least_squares(rows, emphasis)
    for _ in range(_ROUNDS):
        emphasis = 1 / np.sqrt(np.maximum(np.abs(rows @ found - 1), _SMALL))
        found = _least_squares(rows, emphasis)
    return found


def _least_squares(rows: _Array, emphasis: _Array) -> _Array:
    """The same by least squares; what would fall below zero is left out, the lowest first."""
    columns = list(range(rows.shape[1]))
    found = np.zeros(rows.shape[1])
    while columns:
        part, *_ = np.linalg.lstsq(rows[:, columns] * emphasis[:, None], emphasis, rcond=None)
        if part.min() >= 0:
            found[columns] = part
            break
        columns.pop(int(part.argmin()))
    return found
