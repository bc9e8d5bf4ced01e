"""What a TGI server says of itself and of the work it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

Timings = dict[str, float | int | str]
"""Numbers of one call, by name with unit, such as `queue_time_ms` and `generated_tokens`."""

_TIMING_HEADERS: Final[Mapping[str, tuple[str, type[float | int | str]]]] = {
    "x-compute-time": ("compute_time_s", float),
    "x-compute-type": ("compute_type", str),
    "x-compute-characters": ("compute_characters", int),
    "x-total-time": ("total_time_ms", int),
    "x-validation-time": ("validation_time_ms", int),
    "x-queue-time": ("queue_time_ms", int),
    "x-inference-time": ("inference_time_ms", int),
    "x-time-per-token": ("time_per_token_ms", int),
    "x-prompt-tokens": ("prompt_tokens", int),
    "x-generated-tokens": ("generated_tokens", int),
}
"""TGI's headers (router/src/server.rs) and our names for them; streams carry only the characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What `/info` tells; a field that a server leaves out is None."""

    model_id: str
    version: str | None = None
    router: str | None = None
    """`text-generation-router...` for TGI itself."""
    max_concurrent_requests: int | None = None
    """Requests beyond these are refused as overload."""
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None
    """Prompt and answer together."""
    max_stop_sequences: int | None = None
    max_best_of: int | None = None
    max_client_batch_size: int | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Take what is known of an `/info` answer that holds a `model_id`."""
        known: dict[str, Any] = {field.name: body.get(field.name) for field in fields(cls)}
        return cls(**known)


def read_timings(headers: Mapping[str, str]) -> Timings:
    """Take the numbers out of an answer's headers; what is absent or unreadable is left out."""
    timings: Timings = {}
    for header, (name, convert) in _TIMING_HEADERS.items():
        value = headers.get(header)
        if value is None:
            continue
        try:
            timings[name] = convert(value)
        except ValueError:
            continue
    return timings
