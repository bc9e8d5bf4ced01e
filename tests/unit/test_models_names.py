from __future__ import annotations

import asyncio
import copy
import pickle
import sys
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.runnables import RunnableLambda

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models import ChatEndpoint, Endpoints, Server, openai_style, resolve
from langchain_sgd.models.clients import make_client
from langchain_sgd.models.openai_style import ChatOpenAI
from langchain_sgd.models.urls import Address
from langchain_sgd.tgi import ChatTGI, TGIEndpoint, TGIGrammarError


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SGD_API_KEY", "SGD_LARGE_API_KEY", "OPENAI_API_KEY", "TGI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "model", [GenericFakeChatModel(messages=iter([])), RunnableLambda(lambda _: "text")]
)
def test_a_model_stays_as_it_is(model: Any) -> None:
    assert resolve(model) is model


def test_a_url_becomes_a_chat_model_and_nothing_is_sent() -> None:
    model = resolve("http://gpu:8000/v1#a", what="small", api_key="s3cret", temperature=0.5)
    assert isinstance(model, ChatEndpoint)
    assert isinstance(model, BaseChatModel)
    assert (model.url, model.what, model.options) == (
        "http://gpu:8000#a",
        "small",
        {"temperature": 0.5},
    )
    assert model.known is None
    assert "s3cret" not in repr(model)


def test_a_tgi_endpoint_becomes_its_chat_model() -> None:
    model = resolve(TGIEndpoint("http://gpu:8080", options={"seed": 3}))
    assert isinstance(model, ChatTGI)
    assert (model.max_retries, model.seed) == (0, 3)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "large: a model is .* not int"),
        (None, "not NoneType"),
        ("", "'' names no model"),
        ("gpt-6-luna", "names no model.*openai:gpt-6-luna"),
        ("localhost:8000", "give a URL such as http://localhost:8000"),
        ("gpu-1:8000/v1", "give a URL such as http://gpu-1:8000/v1"),
        ("gpu-1:8000#qwen", "give a URL such as http://gpu-1:8000#qwen"),
        ("http:/gpu-1:8000", "is no URL of a model server: give http://host:port"),
        ("ftp://x", "no URL of a model server"),
        ("http://user:s3cret@x", "holds a user name or a password"),
        ("nobody:model", "large: LangChain makes no model of 'nobody:model'"),
        ("cohere:command", "langchain-cohere"),
    ],
)
def test_what_names_no_model_is_told_with_the_next_step(value: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        resolve(value)
    assert "s3cret" not in str(caught.value)


def test_a_provider_without_langchain_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(InvalidInputError, match=r'pip install "langchain-sgd\[providers\]"'):
        resolve("openai:gpt-5-nano")


def test_a_provider_without_a_key_is_told() -> None:
    with pytest.raises(InvalidInputError, match=r"openai:gpt-5-nano.*OPENAI_API_KEY"):
        resolve("openai:gpt-5-nano")


def test_a_providers_model_counts_tokens_in_streams_and_leaves_repeating_to_the_run() -> None:
    model: Any = resolve("openai:gpt-5-nano", api_key="s3cret", seed=3)
    assert type(model).__name__ == "ChatOpenAI"
    assert (model.model_name, model.stream_usage, model.max_retries, model.seed) == (
        "gpt-5-nano",
        True,
        0,
        3,
    )
    assert "s3cret" not in repr(model)
    kept: Any = resolve("openai:gpt-5-nano", api_key="k", max_retries=5)
    assert kept.max_retries == 5


# -- the endpoint's settings


@pytest.mark.parametrize(
    "made",
    [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],  # noqa: S301
)
def test_an_endpoint_is_copied_and_pickled_without_its_connections(made: Any) -> None:
    model = ChatEndpoint(url="http://gpu:8000", api_key="k")
    again = made(model)
    assert (again.url, again.key.get_secret_value()) == ("http://gpu:8000", "k")


def test_a_changed_copy_connects_for_itself() -> None:
    model = ChatEndpoint(url="http://gpu:8000")
    other = model.model_copy(update={"url": "http://gpu:9000"})
    assert other.address.url == "http://gpu:9000"
    assert other._clients is not model._clients


def test_unknown_settings_are_refused_without_repeating_a_key() -> None:
    with pytest.raises(ValueError, match="temprature") as caught:
        ChatEndpoint(url="http://gpu:8000", temprature="s3cret")  # type: ignore[call-arg]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("tgi", "langchain_sgd.tgi", "tgi"), ("vllm", "langchain_openai", "openai")],
)
async def test_a_missing_client_is_named_with_its_extra(
    kind: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "langchain_sgd.models.openai_style", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    endpoints = Endpoints()
    endpoints._servers["http://gpu:8000"] = Server(
        "http://gpu:8000", kind, "http://gpu:8000/v1", ("a",)
    )
    model = ChatEndpoint(url="http://gpu:8000")
    model._endpoints = endpoints
    with pytest.raises(
        InvalidInputError, match=rf'http://gpu:8000 .*{kind}.*"langchain-sgd\[{extra}\]"'
    ):
        await model.ainvoke("hi")


def test_clients_of_ended_loops_are_let_go() -> None:
    endpoints = Endpoints()
    endpoints._servers["http://gpu:8000"] = Server(
        "http://gpu:8000", "vllm", "http://gpu:8000/v1", ("a",)
    )
    model = ChatEndpoint(url="http://gpu:8000")
    model._endpoints = endpoints
    clients = [asyncio.run(model.aclient()) for _ in range(3)]
    assert len({id(client) for client in clients}) == 3
    assert len(model._clients._made) == 1


@pytest.mark.parametrize("has_tgi", [True, False])
@pytest.mark.parametrize("where", ["option", "extra_body"])
def test_openais_client_of_a_tgi_server_refuses_what_would_harm_it(
    monkeypatch: pytest.MonkeyPatch, where: str, *, has_tgi: bool
) -> None:
    if not has_tgi:
        monkeypatch.setattr(openai_style, "is_installed", lambda _: False)
    address = Address("http://gpu:80")
    for kind in ("tgi", "vllm"):
        server = Server("http://gpu:80", kind, "http://gpu:80/v1", ("m",))
        # A client of one's own is OpenAI's.
        with httpx.Client() as own:
            model: Any
            model, _ = make_client(server, address, None, {"http_client": own}, pooled=False)
            for value, harms in (("^ab$", True), ("a+", False)):
                form = {"response_format": {"type": "regex", "value": value}}
                options: Any = form if where == "option" else {"extra_body": form}
                if harms and kind == "tgi":
                    with pytest.raises(InvalidInputError, match="anchor"):
                        model._get_request_payload("x", **options)
                else:
                    assert model._get_request_payload("x", **options)
    recursive = {"type": "json", "value": {"properties": {"a": {"$ref": "#"}}}}
    tgi: Any = ChatOpenAI(is_tgi=True, base_url="http://gpu:80/v1", api_key="k", model="m")
    if has_tgi:
        with pytest.raises(TGIGrammarError):
            tgi._get_request_payload("x", response_format=recursive)
