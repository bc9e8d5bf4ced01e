"""langchain-tests' standard suite against a TGI-protocol server on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_sgd.tgi import ChatTGI
from langchain_sgd.tgi.sync import LoopThread
from tests.tgi_server import TGITestServer


class TestStandard(ChatModelIntegrationTests):
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
    def chat_model_class(self) -> type[ChatTGI]:
        return ChatTGI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"base_url": self.url}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "some-adapter"

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}
