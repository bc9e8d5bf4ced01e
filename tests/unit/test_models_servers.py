"""What a URL is taken for, by what it answers."""

from __future__ import annotations

import asyncio
import copy
import pickle
import ssl
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models.identify import (
    EndpointError,
    EndpointKeyError,
    EndpointUnreachableError,
    Server,
    version_before,
)
from langchain_sgd.models.servers import ENDPOINTS, Endpoints
from langchain_sgd.models.urls import address_of

URL = "http://gpu:8000"


def untrusted() -> ssl.SSLError:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed"
    return error


def of_tls(cause: ssl.SSLError) -> httpx.ConnectError:
    """As httpx raises it."""
    error = httpx.ConnectError("[SSL]")
    error.__cause__ = cause
    return error


class Network:
    """Answers by path; what is not there is a 404."""

    def __init__(self, paths: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.paths = dict(paths)
        self.headers = headers or {}
        self.requests: list[httpx.Request] = []
        self.gate: asyncio.Event | None = None
        self.is_asked = asyncio.Event()
        """Both first questions have come."""
        self.clock = 0.0
        self.endpoints = Endpoints(httpx.MockTransport(self.answer), clock=lambda: self.clock)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if len(self.requests) == 2:
            self.is_asked.set()
        if self.gate is not None:
            await self.gate.wait()
        found = self.paths.get(request.url.path, 404)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, int):
            return httpx.Response(found, headers=self.headers)
        return httpx.Response(200, json=found, headers=self.headers)

    async def ask(self, url: str = URL, **options: Any) -> Server:
        return await self.endpoints.ask(address_of(url), **options)


def listing(*names: str, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, **fields} for name in names]}


VLLM = {
    "/v1/models": listing("a", owned_by="vllm", max_model_len=4096),
    "/version": {"version": "0.11.2"},
}
TGI = {"/info": {"model_id": "lab/m", "max_total_tokens": 4096, "version": "3.3.7"}}


@pytest.mark.parametrize(
    ("paths", "headers", "kind", "version", "context"),
    [
        (VLLM, {}, "vllm", "0.11.2", 4096),
        ({"/v1/models": listing("a", owned_by="sglang", max_model_len=99)}, {}, "sglang", None, 99),
        (
            {
                "/v1/models": listing("a", owned_by="llamacpp"),
                "/props": {"build_info": "b69", "default_generation_settings": {"n_ctx": 2048}},
            },
            {},
            "llama.cpp",
            "b69",
            2048,
        ),
        ({"/v1/models": listing("a", owned_by="me")}, {}, "llama.cpp", None, None),
        ({"/v1/models": listing("a")}, {"server": "llama.cpp"}, "llama.cpp", None, None),
        (
            {"/v1/models": listing("a", owned_by="library"), "/api/version": {"version": "0.12"}},
            {},
            "ollama",
            "0.12",
            None,
        ),
        (
            {"/v1/models": listing("a", owned_by="me2"), "/api/version": {"version": "0.12"}},
            {},
            "ollama",
            "0.12",
            None,
        ),
        (
            {
                "/v1/models": listing("a", owned_by="openai"),
                "/health/readiness": {"litellm_version": "1.80"},
            },
            {},
            "litellm",
            "1.80",
            None,
        ),
        ({"/v1/models": listing("a", owned_by="somebody")}, {}, "other", None, None),
    ],
)
async def test_a_server_is_known_by_what_it_tells(
    paths: Mapping[str, Any],
    headers: Mapping[str, str],
    kind: str,
    version: str | None,
    context: int | None,
) -> None:
    server = await Network(paths, headers).ask()
    assert (server.kind, server.version, server.contexts.get("a")) == (kind, version, context)
    assert server.api == f"{URL}/v1"
    assert server.model(None) == "a"


async def test_tgi_is_known_by_its_info_even_if_it_lists_models() -> None:
    server = await Network({**TGI, "/v1/models": listing("lab/m", owned_by="lab/m")}).ask()
    assert (server.kind, server.version) == ("tgi", "3.3.7")
    assert server.contexts == {"lab/m": 4096}


async def test_the_embeddings_server_is_not_taken_for_tgi() -> None:
    with pytest.raises(EndpointError, match="no model server"):
        await Network({"/info": {"model_id": "bge", "max_client_batch_size": 32}}).ask()


async def test_an_api_may_have_another_base_than_v1() -> None:
    network = Network({"/v1beta/openai/models": listing("g", owned_by="google")})
    server = await network.ask(f"{URL}/v1beta/openai")
    assert server.api == f"{URL}/v1beta/openai"


@pytest.mark.parametrize("base", ["/v1", ""])
async def test_a_server_without_a_list_is_taken_if_a_model_is_named(base: str) -> None:
    paths = {f"{base}/chat/completions": 405}
    server = await Network(paths).ask(f"{URL}#sonar")
    assert (server.kind, server.api) == ("other", f"{URL}{base}")
    assert server.model("sonar") == "sonar"
    with pytest.raises(EndpointError, match="no model server"):
        await Network(paths).ask()
    with pytest.raises(EndpointError, match="no model server"):
        await Network({}).ask(f"{URL}#sonar")
    with pytest.raises(EndpointKeyError):
        await Network({**paths, "/v1/models": 401}).ask(f"{URL}#sonar")


async def test_openai_itself_is_not_asked() -> None:
    network = Network({})
    server = await network.ask("https://api.openai.com/v1#gpt")
    assert (server.kind, server.api) == ("openai", "https://api.openai.com/v1")
    assert network.requests == []


async def test_a_server_is_asked_once_also_by_many_at_a_time() -> None:
    network = Network(VLLM)
    network.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(network.ask()) for _ in range(5)]
        await network.is_asked.wait()
        network.gate.set()
    assert len({id(task.result()) for task in tasks}) == 1
    await network.ask()
    assert len(network.requests) == 3
    network.endpoints.forget(URL)
    await network.ask()
    assert len(network.requests) == 3  # it has said so a moment ago
    network.clock = 6
    network.endpoints.forget(URL)
    await network.ask()
    assert len(network.requests) == 6


async def test_who_waits_asks_for_itself_when_the_first_is_cancelled() -> None:
    network = Network(VLLM)
    network.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(network.ask())
        await network.is_asked.wait()
        second = group.create_task(network.ask())
        await asyncio.sleep(0)
        first.cancel()
        network.gate.set()
    assert first.cancelled()
    assert second.result().kind == "vllm"


async def test_a_cancelled_waiter_leaves_the_others_alone() -> None:
    network = Network(VLLM)
    network.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(network.ask())
        await network.is_asked.wait()
        second = group.create_task(network.ask())
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        network.gate.set()
    assert second.cancelled()
    assert first.result().kind == "vllm"


async def test_a_failure_is_shared_by_who_waited_and_then_forgotten() -> None:
    network = Network(
        {"/v1/models": httpx.ConnectError("refused"), "/info": httpx.ConnectError("x")}
    )
    network.gate = asyncio.Event()
    tasks = [asyncio.ensure_future(network.ask()) for _ in range(3)]
    await network.is_asked.wait()
    network.gate.set()
    assert {type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)} == {  # noqa: TID251
        EndpointUnreachableError
    }
    assert len(network.requests) == 2
    network.paths = dict(VLLM)
    with pytest.raises(EndpointUnreachableError):
        await network.ask(again_after_s=60)
    assert (await network.ask()).kind == "vllm"


async def test_a_failure_counts_as_long_as_is_asked_for() -> None:
    network = Network({})
    with pytest.raises(EndpointError):
        await network.ask(again_after_s=60)
    asked = len(network.requests)
    network.clock = 59
    with pytest.raises(EndpointError):
        await network.ask(again_after_s=60)
    assert len(network.requests) == asked
    network.clock = 61
    network.paths = dict(VLLM)
    assert (await network.ask(again_after_s=60)).kind == "vllm"


async def test_the_key_and_headers_are_sent_and_nothing_else_is() -> None:
    network = Network(VLLM)
    await network.ask(key=SecretStr("s3cret"), headers={"X-Team": "a"})
    for request in network.requests:
        assert request.headers["authorization"] == "Bearer s3cret"
        assert request.headers["x-team"] == "a"
    network = Network(VLLM)
    await network.ask()
    assert all("authorization" not in request.headers for request in network.requests)


@pytest.mark.parametrize(
    ("paths", "headers", "error", "says"),
    [
        (
            {
                "/v1/models": httpx.ConnectError("All attempts failed"),
                "/info": httpx.ConnectError(""),
            },
            {},
            EndpointUnreachableError,
            "Nothing answers at http://gpu:8000 .*Start the server",
        ),
        (
            {"/v1/models": httpx.ReadTimeout(""), "/info": httpx.ReadTimeout("")},
            {},
            EndpointUnreachableError,
            r"Nothing answers at http://gpu:8000 \(ReadTimeout\)",
        ),
        ({"/v1/models": 401, "/info": 404}, {}, EndpointKeyError, "wants a key .*SGD_API_KEY"),
        ({"/v1/models": 403}, {}, EndpointKeyError, "403"),
        ({"/v1/models": 503}, {}, EndpointUnreachableError, "loading its model"),
        ({}, {"server": "nginx"}, EndpointError, r"\(nginx\) is no model server"),
        ({"/v1/models": {"html": 1}}, {}, EndpointError, "no model server"),
        (
            {"/v1/models": 301},
            {"location": "https://gpu/v1/models?token=s3cret"},
            EndpointError,
            "to https://gpu: give that URL",
        ),
        (
            {"/v1/models": 308},
            {"location": "/v1/models/"},
            EndpointError,
            "to http://gpu:8000/v1/models/: it does not speak",
        ),
        (
            {"/v1/models": 302},
            {"location": "https://me:s3cret@sso.example/login?next=x"},
            EndpointError,
            "to https://sso.example/login. Give the base URL",
        ),
        ({"/v1/models": 302}, {"location": "http://[::1"}, EndpointError, "a place that is no URL"),
        (
            {"/v1/models": of_tls(untrusted()), "/info": of_tls(untrusted())},
            {},
            EndpointUnreachableError,
            r"certificate is not trusted here \(self-signed\).*SSL_CERT_FILE",
        ),
        (
            {"/v1/models": of_tls(ssl.SSLError()), "/info": of_tls(ssl.SSLError())},
            {},
            EndpointUnreachableError,
            "not over TLS.*http://",
        ),
        (
            {
                "/v1/models": httpx.ConnectError("Bearer s3cret-token"),
                "/info": httpx.ConnectError(""),
            },
            {},
            EndpointUnreachableError,
            r"Bearer \*\*\*",
        ),
    ],
)
async def test_what_is_no_server_is_told_with_the_next_step(
    paths: Mapping[str, Any], headers: Mapping[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        await Network(paths, headers).ask()
    assert "s3cret" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


async def test_a_redirects_advice_can_be_followed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "http":
            there = f"https://{request.url.host}{request.url.path}"
            return httpx.Response(301, headers={"location": there})
        if request.url.path == "/team/v1/models":
            return httpx.Response(200, json=listing("m"))
        return httpx.Response(404)

    endpoints = Endpoints(httpx.MockTransport(answer))
    with pytest.raises(EndpointError) as caught:
        await endpoints.ask(address_of("http://llm.example/team"))
    advised = str(caught.value).partition("), to ")[2].partition(": give")[0]
    assert (await endpoints.ask(address_of(advised))).models == ("m",)


async def test_a_header_stands_for_the_key_and_one_that_cannot_be_sent_is_named() -> None:
    network = Network(VLLM)
    await network.ask(key=SecretStr("s3cret"), headers={"authorization": "Basic abc"})
    for request in network.requests:
        assert request.headers.get_list("authorization") == ["Basic abc"]
    with pytest.raises(InvalidInputError, match="header X-Team") as caught:
        await Network(VLLM).ask(headers={"X-Team": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


class OtherError(Exception):
    """Of another library."""


@pytest.mark.parametrize("client", [httpx.AsyncClient, httpx.Client])
async def test_somebodys_own_client_asks_with_what_it_knows(client: Any) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = VLLM.get(request.url.path)
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    http = client(transport=httpx.MockTransport(answer), headers={"X-Gateway-Key": "k"})
    server = await Network({}).ask(http=http, key=SecretStr("s3cret"))
    assert (server.kind, server.version) == ("vllm", "0.11.2")
    assert {each.headers["x-gateway-key"] for each in asked} == {"k"}
    assert {each.headers["authorization"] for each in asked} == {"Bearer s3cret"}

    def fail(_: httpx.Request) -> httpx.Response:
        raise OtherError("no route")

    broken = client(transport=httpx.MockTransport(fail))
    with pytest.raises(EndpointUnreachableError, match="no route"):
        await Network({}).ask(http=broken)


async def test_a_wrong_key_is_not_shown() -> None:
    with pytest.raises(EndpointKeyError, match="refuses the key") as caught:
        await Network({"/v1/models": 401}).ask(key=SecretStr("s3cret"))
    assert "s3cret" not in repr(caught.value)


# -- models of a server


def server(kind: Any, *models: str) -> Server:
    return Server(URL, kind, f"{URL}/v1", models)


@pytest.mark.parametrize(
    ("made", "wanted", "name"),
    [
        (server("vllm", "a"), None, "a"),
        (server("vllm", "a", "b"), "b", "b"),
        (server("ollama", "qwen:latest", "x"), "qwen", "qwen:latest"),
        (server("litellm", "a"), "unlisted", "unlisted"),
        (server("openai"), "gpt", "gpt"),
        (server("other"), "any", "any"),
    ],
)
def test_a_model_is_found(made: Server, wanted: str | None, name: str) -> None:
    assert made.model(wanted) == name


@pytest.mark.parametrize(
    ("made", "wanted", "says"),
    [
        (server("vllm", "a", "b"), None, "serves a, b: choose one with http://gpu:8000#a"),
        (server("ollama", *"abcdefgh"), None, "a, b, c, d, e, f and 2 more"),
        (server("openai"), None, "lists no models: choose one with http://gpu:8000#MODEL"),
        (server("vllm", "a"), "z", "has no model 'z'; it serves a"),
    ],
)
def test_a_model_that_must_be_chosen_is_told(made: Server, wanted: str | None, says: str) -> None:
    with pytest.raises(EndpointError, match=says):
        made.model(wanted)


@pytest.mark.parametrize(
    ("version", "older"),
    [
        ("0.10.2", True),
        ("0.11.0", False),
        ("0.9", True),
        ("1", False),
        (None, False),
        ("dev", False),
    ],
)
def test_versions_are_compared(version: str | None, older: bool) -> None:  # noqa: FBT001
    assert version_before(version, (0, 11)) is older


def test_what_a_process_knows_is_not_copied() -> None:
    own = Endpoints()
    assert copy.deepcopy(own) is own
    assert pickle.loads(pickle.dumps(own)) is ENDPOINTS  # noqa: S301


def test_refusals_are_kept_until_all_is_forgotten() -> None:
    own = Endpoints()
    own.refuse("vllm x", "400")
    assert own.refused("vllm x") == "400"
    assert own.refused("vllm y") is None
    own.clear()
    assert own.refused("vllm x") is None
