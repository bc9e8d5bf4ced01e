"""Clients that are made for a server: what they send, and what they show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.load import dumpd
from pydantic import SecretStr

from langchain_sgd.models import Server
from langchain_sgd.models.clients import make_client
from langchain_sgd.models.options import call_options
from langchain_sgd.models.urls import address_of


def test_ollamas_client_sends_what_a_url_was_given_and_shows_no_key() -> None:
    pytest.importorskip("langchain_ollama")
    given = {"timeout": 2, "frequency_penalty": 1.5, "presence_penalty": 1.0, "top_k": 4}
    url = "http://h:11434"
    server = Server(url, "ollama", f"{url}/v1", ("m",))
    key = SecretStr("sekret-key-123")
    client, _ = make_client(server, address_of(url), key, given, pooled=True)
    assert "sekret" not in repr(client)
    assert "sekret" not in json.dumps(dumpd(client))
    assert "sekret" not in repr(client.model_dump())
    made: Any = client
    headers = made._async_client._client.headers
    assert headers["Authorization"] == "Bearer sekret-key-123"
    assert made._async_client._client.timeout.read == 2
    sent = {"frequency_penalty": 1.5, "presence_penalty": 1.0, "top_k": 4}
    assert made._chat_params([])["options"] == sent
    called = call_options(client, temperature=0)
    assert made._chat_params([], **called)["options"] == {**sent, "temperature": 0}


@pytest.mark.parametrize("pooled", [True, False])
def test_a_limit_of_requests_is_one_of_connections(
    monkeypatch: pytest.MonkeyPatch, *, pooled: bool
) -> None:
    openai = pytest.importorskip("openai")
    pytest.importorskip("langchain_openai")  # its classes derive from those replaced here
    given: list[Any] = []
    name = "DefaultAsyncHttpxClient" if pooled else "DefaultHttpxClient"
    real = getattr(openai, name)

    def made(**options: Any) -> Any:
        given.append(options["limits"].max_connections)
        return real(**options)

    monkeypatch.setattr(openai, name, made)
    url = "http://h:8000"
    server = Server(url, "vllm", f"{url}/v1", ("m",))
    options = {"max_concurrent_requests": 3}
    client, _ = make_client(server, address_of(url), None, options, pooled=pooled)
    assert given == [3]
    assert "max_concurrent_requests" not in getattr(client, "model_kwargs", {})


@pytest.mark.parametrize("name", ["http_async_client", "http_client"])
def test_a_limit_of_requests_beside_an_http_client_of_ones_own_goes_to_no_server(name: str) -> None:
    openai = pytest.importorskip("openai")
    pytest.importorskip("langchain_openai")
    kind = "DefaultAsyncHttpxClient" if name == "http_async_client" else "DefaultHttpxClient"
    own = getattr(openai, kind)()
    url = "http://h:8000"
    server = Server(url, "vllm", f"{url}/v1", ("m",))
    given = {"max_concurrent_requests": 3, name: own}
    client, pool = make_client(
        server, address_of(url), None, given, pooled=name == "http_async_client"
    )
    made: Any = client
    assert pool is None
    assert getattr(made, name) is own
    assert "max_concurrent_requests" not in made._get_request_payload("Hi")
