"""What all tests share: how long hypothesis searches, how long slow tests may take, and equal luck for all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Started in the background of a script, this process has SIGINT ignored, and so would have the servers that tests
# start and interrupt: they would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("dev", max_examples=40, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("ci", max_examples=40, derandomize=True, database=None, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("long", max_examples=500, **_COMMON)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))

SLOW = [Path(__file__).parent / folder for folder in ("integration", "ecosystem")]
"""Tests of processes and engines, which take seconds on an idle machine, and minutes on a busy one."""
LIMIT_S = 300
"""For what hangs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests the time that a busy machine needs."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in SLOW):
            item.add_marker(pytest.mark.timeout(LIMIT_S))
