"""Servers on loopback for the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.tgi_server import TGITestServer


@pytest.fixture
async def tgi_server() -> AsyncIterator[TGITestServer]:
    """A TGI server whose answers are made up from the prompt; script `engine.reply` as needed."""
    async with TGITestServer() as server:
        yield server
