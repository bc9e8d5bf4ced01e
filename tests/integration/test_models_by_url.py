"""Models by their URL, and forms and options on the wire, with the providers' own clients on loopback."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from pydantic import BaseModel, SecretStr

from langchain_sgd.models import (
    ENDPOINTS,
    ChatEndpoint,
    EndpointError,
    EndpointKeyError,
    EndpointUnreachableError,
    clients,
    resolve,
)
from langchain_sgd.models.identify import Server
from langchain_sgd.models.pools import held_pools
from langchain_sgd.models.servers import Endpoints
from langchain_sgd.planning.forms import Grammar, bound, form_of, is_refusal, refused
from langchain_sgd.planning.wrappers import is_openai_style
from tests.openai_server import OpenAIServer
from tests.support.models import settle
from tests.tgi_server import TGITestServer

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GRAMMAR = Grammar(regex="[0-9]{3}", gbnf="root ::= [0-9]", schema=SCHEMA, name="number")
AS_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "number", "schema": SCHEMA, "strict": True},
}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SGD_API_KEY", "SGD_LARGE_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "for openai alone")
    ENDPOINTS.clear()
    yield
    ENDPOINTS.clear()


async def streamed(model: Any, text: str = "hi", **options: Any) -> Any:
    whole: Any = None
    async for chunk in model.astream(text, **options):
        whole = chunk if whole is None else whole + chunk
    return whole


@asynccontextmanager
async def chat_openai(server: OpenAIServer) -> AsyncIterator[ChatOpenAI]:
    """A client whose connections are closed; its own ones live as long as the process."""
    async with DefaultAsyncHttpxClient() as http:
        yield ChatOpenAI(
            base_url=f"{server.url}/v1",
            model="lab/model",
            api_key=SecretStr("x"),
            max_retries=0,
            http_async_client=http,
        )


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp", "litellm", "other"])
async def test_a_url_answers_through_openais_client(kind: str) -> None:
    async with OpenAIServer(kind) as server:
        model = resolve(server.url)
        whole = await streamed(model)
        assert (whole.text, whole.usage_metadata["output_tokens"]) == ("some text", 2)
        assert whole.response_metadata["model_name"] == "lab/model"
        assert (await model.ainvoke("hi")).text == "some text"
        assert server.asked.count("/v1/models") == 1
        # Nobody gets a key that is not theirs.
        assert all("openai alone" not in str(headers) for headers in server.headers)


async def test_a_tgi_url_answers_through_its_own_client() -> None:
    async with TGITestServer() as server:
        model = resolve(server.url)
        assert type(await model.aclient()).__name__ == "ChatTGI"  # type: ignore[attr-defined]
        whole = await streamed(model, max_tokens=3)
        assert whole.usage_metadata["output_tokens"] == 3


@pytest.mark.parametrize("missing", ["aiohttp", "text_generation"])
async def test_without_its_own_client_a_tgi_url_answers_through_openais(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(clients, "_has", lambda *modules: missing not in modules)
    async with TGITestServer() as server:
        model = resolve(server.url)
        assert type(await model.aclient()).__name__ == "ChatOpenAI"  # type: ignore[attr-defined]
        assert is_openai_style(model)
        whole = await streamed(model, max_tokens=3)
        assert whole.usage_metadata["output_tokens"] == 3
    monkeypatch.setattr(clients, "_has", lambda *_: False)
    assert ChatEndpoint(url=server.url).client_class(Server(server.url, "tgi", "")) == "ChatTGI"


def test_synchronous_calls_and_calls_of_several_loops_work() -> None:
    async def main() -> None:
        async with OpenAIServer("vllm") as server:
            model: Any = resolve(server.url)
            for _ in range(2):
                calls = (lambda: model.invoke("hi").text, lambda: "".join(c.text for c in model.stream("hi")),
                         lambda: asyncio.run(model.ainvoke("hi")).text)  # fmt: skip
                for call in calls:
                    assert await asyncio.to_thread(call) == "some text"
            again = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
            assert (await again.ainvoke("hi")).text == "some text"
            assert (await again.agenerate_prompt([])).generations == []
            assert (await again._agenerate([HumanMessage("hi")])).generations[0].text == "some text"

    asyncio.run(main())


async def test_traces_show_the_real_class_and_model() -> None:
    collector = RunCollectorCallbackHandler()
    async with OpenAIServer("vllm") as server:
        await streamed(resolve(server.url).with_config(callbacks=[collector]))
    (run,) = collector.traced_runs
    assert run.name == "ChatOpenAI"
    assert run.extra["metadata"]["ls_model_name"] == "lab/model"


async def test_callbacks_tags_and_metadata_of_the_model_are_the_clients_too() -> None:
    collector = RunCollectorCallbackHandler()
    async with OpenAIServer("vllm") as server:
        told: dict[str, Any] = {
            "callbacks": [collector],
            "tags": ["prod"],
            "metadata": {"who": "me"},
        }
        model: Any = resolve(server.url).model_copy(update=told)  # type: ignore[attr-defined]
        await streamed(model)
        await streamed(model.bind_tools([Number]))
    assert [run.tags for run in collector.traced_runs] == [["prod"]] * 2
    assert {run.extra["metadata"]["who"] for run in collector.traced_runs} == {"me"}


async def test_several_models_want_a_choice() -> None:
    async with OpenAIServer("vllm", models=("a", "b")) as server:
        with pytest.raises(EndpointError, match=f"choose one with {server.url}#a"):
            await resolve(server.url).ainvoke("hi")
        await resolve(f"{server.url}#b").ainvoke("hi")
        assert server.bodies[-1]["model"] == "b"
        now = 0.0
        model: Any = resolve(f"{server.url}#c")
        model._endpoints = Endpoints(clock=lambda: now)
        await model.aserver()
        server.models, now = ("b", "c"), 10.0
        with pytest.raises(EndpointError, match="no model 'c'; it serves a, b"):
            await model.ainvoke("hi")
        assert (await model.ainvoke("hi")).text == "some text"  # it was asked anew


async def test_a_key_is_sent_if_it_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OpenAIServer("vllm", key="s3cret") as server:
        model = resolve(server.url)
        with pytest.raises(EndpointKeyError, match="wants a key"):
            await model.ainvoke("hi")
        monkeypatch.setenv("SGD_LARGE_API_KEY", "s3cret")
        assert (await model.ainvoke("hi")).text == "some text"
        small = resolve(server.url, what="small", api_key="wrong")
        ENDPOINTS.clear()
        with pytest.raises(EndpointKeyError, match="refuses the key"):
            await small.ainvoke("hi")


async def test_a_server_that_changed_its_model_is_asked_anew() -> None:
    def other(body: Any) -> Any:
        error = {"message": f"The model `{body['model']}` does not exist.", "code": 404}
        return None if body["model"] == "new" else (404, {"error": error})

    now = 0.0
    async with OpenAIServer("vllm", models=("old",), refuse=other) as server:
        model: Any = resolve(server.url)
        model._endpoints = Endpoints(clock=lambda: now)
        await model.aserver()
        server.models, now = ("new",), 10.0
        for way in (model, model.bind_tools([Number])):
            with pytest.raises(Exception, match="does not exist"):
                await way.ainvoke("hi")
            assert (await way.ainvoke("hi")).text == "some text"
            server.models, now = ("old",), now + 10
            model._endpoints.clear()
            await model.aserver()
            server.models, now = ("new",), now + 10


async def test_a_wrong_model_makes_no_questions_and_no_connections() -> None:
    def none(_: Any) -> Any:
        return 404, {"error": {"message": "model not found"}}

    async with OpenAIServer("other", models=("a", "b"), refuse=none) as server:
        model = ChatEndpoint(url=f"{server.url}#typo")
        now = 0.0
        model._endpoints = Endpoints(clock=lambda: now)
        before = held_pools(asyncio.get_running_loop())
        for _ in range(5):
            with pytest.raises(Exception, match="not found"):
                await model.ainvoke("hi")
        asked = len(server.asked)
        now = 60.0  # it is asked anew, and says the same
        for _ in range(5):
            with pytest.raises(Exception, match="not found"):
                await model.ainvoke("hi")
        assert len(server.asked) == 2 * asked
        assert held_pools(asyncio.get_running_loop()) == before + 1


async def test_pools_are_closed_with_their_clients() -> None:
    loop = asyncio.get_running_loop()
    async with OpenAIServer("vllm") as server:
        before = held_pools(loop)
        model = ChatEndpoint(url=server.url)
        await model.aserver()
        async with asyncio.TaskGroup() as group:  # both make one, and one of them is too late
            made = [group.create_task(model.aclient()) for _ in range(2)]
        assert made[0].result() is made[1].result()
        assert held_pools(loop) == before + 1
        pool = made[0].result().http_async_client  # type: ignore[attr-defined]
        assert (await model.ainvoke("hi")).text == "some text"
        del model, made, group
        gc.collect()
        await settle(lambda: pool.is_closed)
        assert held_pools(loop) == before


_FORKS = """
import os
from langchain_sgd.models import ChatEndpoint, Server
model = ChatEndpoint(url="http://gpu:1")
model._endpoints._servers[model.url] = Server(model.url, "vllm", model.url + "/v1", ("m",))
made = model.client()
child = os.fork()
if not child:
    other = model.client()
    pool = made.http_client
    model._clients._made.clear()
    del made
    import gc; gc.collect()
    os._exit(0 if other.http_client is not pool and not pool.is_closed else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert model.client() is made
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only systems that fork")
async def test_a_forked_process_has_connections_of_its_own() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _FORKS)
    assert await process.wait() == 0


async def test_cache_and_limiter_are_the_clients_business() -> None:
    async with OpenAIServer("vllm") as server:
        model = ChatEndpoint(url=server.url, cache=InMemoryCache(), tags=["mine"])
        for _ in range(2):
            assert (await model.ainvoke("hi")).text == "some text"
        assert len(server.bodies) == 1
        copied = model.model_copy(update={"cache": False})
        await copied.ainvoke("hi")
        assert len(server.bodies) == 2


class Number(BaseModel):
    """A number."""

    n: int


async def test_tools_and_structured_output_are_the_clients_own() -> None:
    async with OpenAIServer("vllm", says='{"n": 7}') as server:
        model: Any = resolve(server.url)
        found = await model.with_structured_output(Number).ainvoke("hi", max_tokens=5)
        assert found == Number(n=7)
        assert server.bodies[-1]["max_tokens"] == 5
        await streamed(model.bind_tools([Number], tool_choice="Number"))
        assert server.bodies[-1]["tools"][0]["function"]["name"] == "Number"
        assert server.bodies[-1]["tool_choice"]["function"]["name"] == "Number"
        both = model.bind_tools([Number])
        assert await asyncio.to_thread(lambda: [c.text for c in both.stream("hi")])
        assert (await asyncio.to_thread(both.invoke, "hi")).text == '{"n": 7}'


# -- forms and options, as they arrive


def sent(server: OpenAIServer) -> dict[str, Any]:
    return {
        name: value
        for name, value in server.bodies[-1].items()
        if name not in {"messages", "model", "stream", "stream_options", "usage"}
    }


@pytest.mark.parametrize("by", ["url", "client"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("vllm", {"structured_outputs": {"regex": "[0-9]{3}"}}),
        ("sglang", {"regex": "[0-9]{3}"}),
        ("llama.cpp", {"grammar": "root ::= [0-9]"}),
        ("other", {}),
    ],
)
async def test_the_form_reaches_the_server(kind: str, form: Any, by: str) -> None:
    async with OpenAIServer(kind) as server, chat_openai(server) as client:
        model: Any = resolve(server.url) if by == "url" else client
        found = await form_of(model)
        made = bound(model, found, GRAMMAR, max_tokens=5, temperature=0.0, seed=3, stop=["x"])
        await streamed(made)
        limit = "max_tokens" if by == "url" else "max_completion_tokens"
        options = {limit: 5, "temperature": 0.0, "seed": 3, "stop": ["x"]}
        assert sent(server) == {**options, **form}
        await made.ainvoke("hi")
        assert sent(server) == {**options, **form}


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp", "litellm", "other"])
async def test_the_limit_is_said_by_the_name_that_all_servers_know(kind: str) -> None:
    def strict(body: Any) -> Any:  # as Mistral's is
        return (422, {"detail": "extra_forbidden"}) if "max_completion_tokens" in body else None

    async with OpenAIServer(kind, refuse=strict) as server:
        model: Any = resolve(server.url, max_tokens=9)
        await model.ainvoke("hi")
        assert sent(server) == {"max_tokens": 9}
        await streamed(model, max_tokens=7)
        assert sent(server) == {"max_tokens": 7}
        assert await asyncio.to_thread(model.invoke, "hi", max_tokens=5)
        assert sent(server) == {"max_tokens": 5}
        client = await model.aclient()
        assert (type(client).__name__, client.lc_id()[-1]) == ("ChatOpenAI", "ChatOpenAI")
        assert client.get_lc_namespace() == ChatOpenAI.get_lc_namespace()
        assert pickle.loads(pickle.dumps(type(client))) is type(client)  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("model", "options"),
    [("lab/model", {"max_completion_tokens": 9}), ("openai/o3", {"max_tokens": 9})],
)
async def test_the_new_name_is_said_where_it_is_meant(model: str, options: Any) -> None:
    async with OpenAIServer("other", models=(model,)) as server:
        await resolve(server.url, **options).ainvoke("hi")
        assert sent(server) == {"max_completion_tokens": 9}
    async with OpenAIServer("other") as server:
        await resolve(server.url).ainvoke("hi", max_completion_tokens=9)
        assert sent(server) == {"max_completion_tokens": 9}


# -- gateways, certificates


@pytest.mark.parametrize("kind", ["vllm", "tgi", "ollama"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_gateways_header_is_sent_with_every_request(kind: str) -> None:
    async with OpenAIServer(kind, gateway=("X-Gateway-Key", "k")) as server:
        with pytest.raises(EndpointKeyError):
            await resolve(server.url).ainvoke("hi")
        model: Any = resolve(server.url, default_headers={"X-Gateway-Key": "k"})
        assert (await model.ainvoke("hi")).text == "some text"
        assert (await asyncio.to_thread(model.invoke, "hi")).text == "some text"
    gc.collect()


async def test_a_gateways_header_is_shown_nowhere() -> None:
    model: Any = resolve("http://gpu:1", default_headers={"X-Gateway-Key": "s3cret"})
    model._endpoints = Endpoints()
    model._endpoints._servers[model.url] = Server(model.url, "vllm", f"{model.url}/v1", ("m",))
    client = await model.aclient()
    for shown in (repr(model), repr(client), dumps(model), dumps(client)):
        assert "s3cret" not in shown


@pytest.mark.parametrize("kind", ["other", "ollama"])
async def test_a_client_of_ones_own_is_taken(kind: str) -> None:
    async with (
        OpenAIServer(kind, gateway=("X-Gateway-Key", "k")) as server,
        DefaultAsyncHttpxClient(headers={"X-Gateway-Key": "k"}) as http,
    ):
        model: Any = resolve(server.url, http_async_client=http)
        assert (await model.ainvoke("hi")).text == "some text"
        assert (await model.aclient()).http_async_client is http
        with DefaultHttpxClient(headers={"X-Gateway-Key": "k"}) as sync:
            ENDPOINTS.clear()
            model = resolve(server.url, http_client=sync)
            assert (await asyncio.to_thread(model.invoke, "hi")).text == "some text"
        # A client that the user made himself is asked by, too.
        ENDPOINTS.clear()
        client = ChatOpenAI(
            base_url=f"{server.url}/v1",
            model="lab/model",
            api_key=SecretStr("x"),
            http_async_client=http,
        )
        await form_of(client)
        assert ENDPOINTS.get(server.url) is not None


async def test_a_proxy_of_openais_client_is_the_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PROXY", "http://127.0.0.1:9")
    async with OpenAIServer("vllm") as server:
        assert (await resolve(server.url).ainvoke("hi")).text == "some text"
        with pytest.raises(Exception, match="Connection error"):
            await resolve(server.url, openai_proxy="http://127.0.0.1:9").ainvoke("hi")


def test_what_the_url_names_is_no_option() -> None:
    for name in ("model", "base_url", "openai_api_key"):
        with pytest.raises(ValueError, match=f"{name} is no option"):
            resolve("http://gpu:1", **{name: "x"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, with its key, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - skipped above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


@pytest.mark.parametrize("kind", ["vllm", "ollama"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_loopback_has_no_proxy_but_certificates_of_its_own(
    kind: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with OpenAIServer(kind, tls=tls) as server:
        with pytest.raises(EndpointUnreachableError, match=r"not trusted here .*SSL_CERT_FILE"):
            await resolve(server.url).ainvoke("hi")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        model = resolve(server.url)
        assert (await model.ainvoke("hi")).text == "some text"
        assert (await asyncio.to_thread(model.invoke, "hi")).text == "some text"
    gc.collect()


async def test_older_vllm_gets_its_older_form() -> None:
    async with OpenAIServer("vllm", tells={"/version": {"version": "0.10.1"}}) as server:
        model = resolve(server.url)
        await streamed(bound(model, await form_of(model), GRAMMAR))
        assert sent(server) == {"guided_regex": "[0-9]{3}"}


async def test_a_plan_that_a_limit_cuts_is_no_error_of_the_client() -> None:
    """OpenAI's client raises `LengthFinishReasonError` for a `response_format` that it knows of."""
    async with OpenAIServer("ollama", says='{"n": 1') as server, chat_openai(server) as model:
        whole = await streamed(bound(model, await form_of(model), GRAMMAR, max_tokens=5))
        assert whole.text == '{"n": 1'
        assert sent(server)["response_format"] == AS_SCHEMA
        assert sent(server)["max_tokens"] == 5


async def test_a_refused_form_is_remembered_for_the_process() -> None:
    def no_grammar(body: Any) -> Any:
        return (500, {"error": {"message": "boom"}}) if "structured_outputs" in body else None

    async with OpenAIServer("vllm", refuse=no_grammar) as server, chat_openai(server) as model:
        form = await form_of(model)
        with pytest.raises(Exception, match="boom") as caught:
            await streamed(bound(model, form, GRAMMAR))
        assert is_refusal(caught.value)
        refused(form, "HTTP 500")
        again = await form_of(model.with_retry())
        assert (again.kind, again.why) == ("examples", "HTTP 500")
        assert (await streamed(bound(model, again, GRAMMAR))).text == "some text"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_ollamas_own_client_gets_format_and_options() -> None:
    ollama = pytest.importorskip("langchain_ollama")
    async with OpenAIServer("ollama") as server:
        for model in (
            ollama.ChatOllama(base_url=server.url, model="q", top_k=4),
            resolve(server.url, top_k=4),
        ):
            whole = await streamed(
                bound(
                    model,
                    await form_of(model),
                    GRAMMAR,
                    max_tokens=5,
                    temperature=0.0,
                    seed=3,
                    stop=["x"],
                )
            )
            assert whole.text == "some text"
            body = server.bodies[-1]
            assert body["format"] == SCHEMA
            assert body["options"] == {
                "top_k": 4, "num_predict": 5, "temperature": 0.0, "seed": 3, "stop": ["x"],
            }  # fmt: skip
    del model
    gc.collect()  # its client leaves its connections to the garbage collector


async def test_hugging_faces_client_on_a_tgi_url_gets_the_expression() -> None:
    from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint  # noqa: PLC0415 - slow

    async with TGITestServer() as server:
        llm = HuggingFaceEndpoint(  # type: ignore[call-arg]
            endpoint_url=server.url, huggingfacehub_api_token="x"
        )
        model = ChatHuggingFace(llm=llm, model_id="m")
        await streamed(bound(model, await form_of(model), GRAMMAR, max_tokens=5, seed=3))
        body = server.log[-1].json
        assert body["response_format"] == {"type": "regex", "value": "[0-9]{3}"}
        assert (body["max_tokens"], body["seed"]) == (5, 3)
