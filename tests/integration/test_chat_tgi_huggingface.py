"""`ChatHuggingFace` on a TGI URL: what we say of it is what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import ChatTGI, from_huggingface, huggingface_faults
from langchain_sgd.tgi.sync import LoopThread
from tests.tgi_server import TGITestServer


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def server() -> Iterator[TGITestServer]:
    thread = LoopThread("tgi-test-server")
    running = TGITestServer("Hello. END")
    thread.run(running.accept())
    yield running
    thread.run(running.refuse())


def made(url: str, llm: dict[str, Any] | None = None, **chat: Any) -> ChatHuggingFace:
    endpoint: Any = HuggingFaceEndpoint
    return ChatHuggingFace(llm=endpoint(endpoint_url=url, **(llm or {})), **chat)


def said(model: Any) -> str:
    return " ".join(huggingface_faults(model))


def sent(server: TGITestServer) -> dict[str, Any]:
    body: dict[str, Any] = server.log[-1].json
    return body


@pytest.mark.parametrize("place", ["chat", "llm"])
def test_lost_settings_are_named(server: TGITestServer, place: str) -> None:
    lost = {"seed": 7, "top_p": 0.5}
    model = made(server.url, lost if place == "llm" else None, **(lost if place == "chat" else {}))
    model.invoke("Hi")
    for name, value in lost.items():
        assert name not in sent(server)
        assert f"{name}={value}" in said(model)


def test_defaults_are_not_reported_as_lost(server: TGITestServer) -> None:
    assert "does not send" not in said(made(server.url))


def test_a_temperature_of_zero_is_lost(server: TGITestServer) -> None:
    model = made(server.url, temperature=0)
    model.invoke("Hi")
    assert sent(server)["temperature"] == 0.8
    assert "temperature=0.8 is sent" in said(model)

    model = made(server.url, {"temperature": 0})
    model.invoke("Hi")
    assert sent(server).get("temperature") is None
    assert "temperature=0 is not sent" in said(model)

    model = made(server.url, {"temperature": 0.3})
    model.invoke("Hi")
    assert sent(server)["temperature"] == 0.3
    assert "temperature" not in said(model)


def test_stop_texts(server: TGITestServer) -> None:
    model = made(server.url, stop_sequences=["END"])
    assert str(model.invoke("Hi").content).endswith("END")
    assert "stop text stays" in said(model)
    assert "refuses" in said(made(server.url, stop_sequences="END"))


def test_an_environments_token_is_reported(
    server: TGITestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = made(server.url)
    model.invoke("Hi")
    assert server.log[-1].carries("hf_secret") == ("HF_TOKEN" in said(model))
    assert "hf_secret" not in said(model)


def test_other_models_have_nothing_to_report(server: TGITestServer) -> None:
    assert huggingface_faults(ChatTGI(base_url=server.url)) == []
    assert huggingface_faults(object()) == []


def test_its_chat_tgi_sends_everything(server: TGITestServer) -> None:
    hugging_face = made(
        server.url,
        {"temperature": 0.3, "max_new_tokens": 9},
        seed=7,
        top_p=0.5,
        stop_sequences=["END"],
    )
    model = from_huggingface(hugging_face)
    assert model.invoke("Hi").content == "Hello. "
    body = sent(server)
    assert (body["temperature"], body["seed"], body["top_p"]) == (0.3, 7, 0.5)
    assert (body["max_tokens"], body["stop"]) == (9, ["END"])
    assert from_huggingface(made(server.url), temperature=0).temperature == 0


def test_what_is_no_chat_hugging_face_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="ChatTGI"):
        from_huggingface(ChatTGI(base_url="http://x"))
