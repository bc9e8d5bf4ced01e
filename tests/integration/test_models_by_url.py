"""Models by their URL, and forms and options on the wire, with the providers' own clients on loopback."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from pydantic import BaseModel, SecretStr

from langchain_sgd.models import (
    ENDPOINTS,
    ChatEndpoint,
    EndpointError,
    EndpointKeyError,
    endpoint,
    resolve,
)
from langchain_sgd.models.identify import Server
from langchain_sgd.planning.forms import Grammar, bound, form_of, is_refusal, refused
from langchain_sgd.planning.wrappers import is_openai_style
from tests.openai_server import OpenAIServer
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
    monkeypatch.setattr(endpoint, "_has", lambda *modules: missing not in modules)
    async with TGITestServer() as server:
        model = resolve(server.url)
        assert type(await model.aclient()).__name__ == "ChatOpenAI"  # type: ignore[attr-defined]
        assert is_openai_style(model)
        whole = await streamed(model, max_tokens=3)
        assert whole.usage_metadata["output_tokens"] == 3
    monkeypatch.setattr(endpoint, "_has", lambda *_: False)
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
        with pytest.raises(EndpointError, match="no model 'c'; it serves a, b"):
            await resolve(f"{server.url}#c").ainvoke("hi")


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

    async with OpenAIServer("vllm", models=("old",), refuse=other) as server:
        model = resolve(server.url)
        with pytest.raises(Exception, match="does not exist"):
            await model.ainvoke("hi")
        server.models = ("new",)
        assert (await model.ainvoke("hi")).text == "some text"


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
        assert server.bodies[-1]["max_completion_tokens"] == 5
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
        options = {"max_completion_tokens": 5, "temperature": 0.0, "seed": 3, "stop": ["x"]}
        assert sent(server) == {**options, **form}
        await made.ainvoke("hi")
        assert sent(server) == {**options, **form}


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
