"""Servers on loopback for the integration tests, and the time that these have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tgi_server import TGITestServer

HERE = Path(__file__).parent
LIMIT_S = 300
"""A test of processes and engines takes seconds on an idle machine; the limit is there for what hangs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A busy machine takes its time."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture
async def tgi_server() -> AsyncIterator[TGITestServer]:
    """A TGI server whose answers are made up from the prompt; script `engine.reply` as needed."""
    async with TGITestServer() as server:
        yield server
