"""What one server lets its clients use up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a proxy; a request beyond one of them gets an error that names it."""

    concurrent: int = 64
    """Questions answered at once; one more gets status 429."""
    body_bytes: int = 20 * 2**20
    """Of a request, pictures included; more gets status 413."""
    body_s: float = 30.0
    """Seconds for a request to arrive; later is status 408."""
    answer_s: float = 600.0
    """Seconds for one answer; later is status 504, or an error in the stream."""
    history: int = 50
    """Runs kept in memory for the page; 0 keeps none."""
    history_bytes: int = 32 * 2**20
    """Memory of all kept runs together."""
