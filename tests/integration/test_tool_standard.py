"""langchain-tests' standard suites for the tool face, against TGI-protocol servers on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_sgd import SGDRunnable
from langchain_sgd.tgi.sync import LoopThread
from tests.tgi_server import TGITestServer


class _SGDTool:
    url: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls) -> Iterator[None]:
        """Synchronous tests block their thread: the server runs in one of its own."""
        thread = LoopThread("tgi-test-server")
        server = TGITestServer()
        thread.run(server.accept())
        cls.url = server.url
        yield
        thread.run(server.refuse())

    @property
    def tool_constructor(self) -> BaseTool:
        return SGDRunnable(small=self.url, large=self.url).as_tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "How do tides work?"}


class TestUnit(_SGDTool, ToolsUnitTests):
    pass


class TestStandard(_SGDTool, ToolsIntegrationTests):
    pass
