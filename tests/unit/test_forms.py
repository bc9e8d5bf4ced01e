"""Which form a model gets, and under which names its class takes options; known by class names alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.runnables import ConfigurableField, RunnableBinding, RunnableLambda

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models import EndpointError, Endpoints, EndpointUnreachableError, Server
from langchain_sgd.models.options import call_options
from langchain_sgd.planning.forms import (
    EXAMPLES,
    Form,
    Grammar,
    bound,
    form_of,
    is_refusal,
    refused,
    with_options,
)
from langchain_sgd.planning.kinds import continues
from langchain_sgd.planning.wrappers import inner_model, leaves_of

URL = "http://gpu:8000"
SCHEMA = {"type": "object"}
GRAMMAR = Grammar(regex="[0-9]{3}", gbnf="root ::= [0-9]", schema=SCHEMA, name="number")
JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "number", "schema": SCHEMA, "strict": True},
}


class Fake(GenericFakeChatModel):
    messages: Any = iter([])


class ChatTGI(Fake):
    """Known by its name, as the real ones are."""

    base_url: str = URL
    model: str = "tgi"


class BaseChatOpenAI(Fake):
    openai_api_base: str | None = None
    model_name: str = "a"
    extra_body: dict[str, Any] | None = None
    use_responses_api: bool | None = None


class ChatOpenAI(BaseChatOpenAI):
    temperature: float | None = None


class AzureChatOpenAI(BaseChatOpenAI):
    azure_endpoint: str = "https://x.openai.azure.com"


class ChatDeepSeek(BaseChatOpenAI):
    pass


class ChatOllama(Fake):
    base_url: str | None = None
    model: str = "q"
    top_k: int | None = None
    num_predict: int | None = None
    stop: list[str] | None = None


class ChatAnthropic(Fake):
    max_tokens: int = 1024


class _BaseGoogleGenerativeAI(Fake):
    max_output_tokens: int | None = None


class ChatGoogleGenerativeAI(_BaseGoogleGenerativeAI):
    pass


class ChatHuggingFace(Fake):
    llm: Any = None


class ChatNovel(Fake):
    max_completion_tokens: int | None = None


@pytest.fixture(autouse=True)
def _openai_is_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def known(kind: Any, version: str | None = None) -> Endpoints:
    endpoints = Endpoints(httpx.MockTransport(lambda _: httpx.Response(404)))
    endpoints._servers[URL] = Server(URL, kind, f"{URL}/v1", ("a",), version)
    return endpoints


def behind(**fields: Any) -> ChatOpenAI:
    return ChatOpenAI(openai_api_base=f"{URL}/v1", **fields)


async def options(model: Any, endpoints: Endpoints | None = None, **wanted: Any) -> Any:
    endpoints = endpoints or Endpoints()
    form = await form_of(model, endpoints=endpoints)
    found = bound(model, form, GRAMMAR, endpoints=endpoints, **wanted)
    return found.kwargs if isinstance(found, RunnableBinding) else {}


@pytest.mark.parametrize(
    ("kind", "version", "body"),
    [
        ("vllm", "0.11.2", {"structured_outputs": {"regex": "[0-9]{3}"}}),
        ("vllm", None, {"structured_outputs": {"regex": "[0-9]{3}"}}),
        ("vllm", "0.10.1", {"guided_regex": "[0-9]{3}"}),
        ("sglang", None, {"regex": "[0-9]{3}"}),
        ("llama.cpp", None, {"grammar": "root ::= [0-9]"}),
        ("tgi", None, {"response_format": {"type": "regex", "value": "[0-9]{3}"}}),
        ("ollama", None, {"response_format": JSON_SCHEMA}),
        ("openai", None, {"response_format": JSON_SCHEMA}),
        ("litellm", None, None),
        ("other", None, None),
    ],
)
async def test_an_openai_style_client_gets_the_form_of_its_server(
    kind: str, version: str | None, body: Any
) -> None:
    expected = {} if body is None else {"extra_body": body}
    assert await options(behind(), known(kind, version)) == expected


async def test_classes_of_their_own_protocol_get_its_form() -> None:
    regex = {"type": "regex", "value": "[0-9]{3}"}
    assert await options(ChatTGI()) == {"response_format": regex}
    assert await options(ChatOllama()) == {"format": SCHEMA}
    local = ChatHuggingFace(llm=SimpleNamespace(endpoint_url=URL))
    assert await options(local) == {"response_format": regex}


@pytest.mark.parametrize("model", [ChatOpenAI(), AzureChatOpenAI()])
async def test_openai_itself_takes_the_schema(model: Any) -> None:
    assert await options(model) == {"extra_body": {"response_format": JSON_SCHEMA}}


async def test_the_responses_api_gets_the_schema_through_its_client() -> None:
    assert await options(ChatOpenAI(use_responses_api=True)) == {"response_format": JSON_SCHEMA}


@pytest.mark.parametrize(
    "model",
    [
        ChatAnthropic(),
        ChatGoogleGenerativeAI(),
        ChatDeepSeek(),
        ChatHuggingFace(llm=SimpleNamespace(endpoint_url=None)),
        Fake(),
        RunnableLambda(lambda _: "text"),
        RunnableLambda(lambda _: "text") | Fake(),
    ],
)
async def test_others_follow_examples_and_stay_as_they_are(model: Any) -> None:
    assert await form_of(model) == EXAMPLES
    assert bound(model, EXAMPLES, GRAMMAR) is model


@pytest.mark.parametrize(
    ("kind", "writes"),
    [("vllm", "lines"), ("openai", "json"), ("ollama", "json"), ("other", "lines")],
)
async def test_a_form_tells_what_the_prompt_should_ask_for(kind: str, writes: str) -> None:
    assert (await form_of(behind(), endpoints=known(kind))).writes == writes


# -- what stands around a model

BODY = {"structured_outputs": {"regex": "[0-9]{3}"}}


@pytest.mark.parametrize(
    "model",
    [
        behind().with_config(tags=["mine"]),
        behind().with_retry(),
        behind().with_retry().bind(top_p=0.5).with_listeners(),
        behind().configurable_fields(temperature=ConfigurableField(id="t")),
    ],
)
async def test_a_wrapped_model_gets_the_form_of_the_one_inside(model: Any) -> None:
    assert (await options(model, known("vllm")))["extra_body"] == BODY


async def test_what_the_user_bound_stays() -> None:
    model = behind(extra_body={"a": 1}).bind(extra_body={"b": 2}, top_p=0.5, max_tokens=9)
    found = await options(model.with_retry().bind(top_p=0.6), known("vllm"), max_tokens=5)
    # A call's body replaces the model's own, hence it is joined; of a bound one, the bound wins.
    assert found["extra_body"] == {"b": 2, "a": 1, **BODY}
    assert (found["top_p"], found["max_tokens"]) == (0.6, 5)


async def test_every_fallback_gets_its_own_form() -> None:
    second = ChatTGI()
    model: Any = behind().with_fallbacks([second, ChatAnthropic()]).bind(top_p=0.5, max_tokens=9)
    endpoints = known("vllm")
    form = await form_of(model, endpoints=endpoints)
    found: Any = bound(model, form, GRAMMAR, max_tokens=5, seed=1, endpoints=endpoints)
    inside = found.bound
    assert inside.runnable.kwargs == {"top_p": 0.5, "max_tokens": 5, "seed": 1, "extra_body": BODY}
    assert [each.kwargs for each in inside.fallbacks] == [
        {
            "top_p": 0.5,
            "max_tokens": 5,
            "seed": 1,
            "response_format": {"type": "regex", "value": "[0-9]{3}"},
        },
        {"top_p": 0.5, "max_tokens": 5},
    ]
    assert found.kwargs == {}


async def test_a_fallback_that_would_write_json_gets_no_form_beside_lines() -> None:
    model: Any = behind().with_fallbacks([ChatOpenAI()])
    endpoints = known("vllm")
    form = await form_of(model, endpoints=endpoints)
    found: Any = bound(model, form, GRAMMAR, endpoints=endpoints)
    assert found.runnable.kwargs == {"extra_body": BODY}
    assert isinstance(found.fallbacks[0], ChatOpenAI)


async def test_alternatives_get_their_own_forms() -> None:
    which = ConfigurableField(id="which")
    model: Any = behind().configurable_alternatives(which, other=ChatTGI(), made=ChatTGI)
    endpoints = known("vllm")
    form = await form_of(model, endpoints=endpoints)
    found: Any = bound(model, form, GRAMMAR, endpoints=endpoints)
    assert found.default.kwargs == {"extra_body": BODY}
    assert found.alternatives["other"].kwargs["response_format"]["type"] == "regex"
    assert callable(found.alternatives["made"])


async def test_init_chat_models_configurable_model_is_seen_through() -> None:
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - not for the other tests

    endpoints = known("vllm")
    model = init_chat_model(
        "openai:a", base_url=f"{URL}/v1", api_key="x", configurable_fields=("temperature",)
    )
    assert await options(model, endpoints, max_tokens=5) == {"max_tokens": 5, "extra_body": BODY}
    assert (
        await form_of(init_chat_model(configurable_fields=("model",)), endpoints=endpoints)
        == EXAMPLES
    )


# -- what cannot be asked, and what was refused


async def test_a_server_that_cannot_be_asked_is_asked_later_again() -> None:
    answers: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        answers.append(404)
        return httpx.Response(404)

    now = [0.0]
    endpoints = Endpoints(httpx.MockTransport(answer), clock=lambda: now[0])
    assert await form_of(behind(), endpoints=endpoints) == EXAMPLES
    asked = len(answers)
    assert await form_of(behind(), endpoints=endpoints) == EXAMPLES
    assert len(answers) == asked
    now[0] = 100.0
    await form_of(behind(), endpoints=endpoints)
    assert len(answers) == 2 * asked


async def test_a_url_that_may_not_be_asked_is_no_reason_to_fail() -> None:
    odd = ChatOpenAI(openai_api_base="http://user:pass@gpu/v1")
    assert await form_of(odd) == EXAMPLES


async def test_openais_other_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{URL}/v1")
    assert (await form_of(ChatOpenAI(), endpoints=known("sglang"))).kind == "sglang"


async def test_a_refused_form_is_not_tried_again_on_that_server_and_model() -> None:
    endpoints = known("vllm")
    form = await form_of(behind(), endpoints=endpoints)
    refused(form, "HTTP 400", endpoints=endpoints)
    again = await form_of(behind().with_retry(), endpoints=endpoints)
    assert (again.kind, again.why) == ("examples", "HTTP 400")
    assert bound(model := behind(), again, GRAMMAR, endpoints=endpoints) is model
    assert (await form_of(behind(model_name="b"), endpoints=endpoints)).kind == "vllm"
    refused(EXAMPLES, "nothing", endpoints=endpoints)


def failure(status: int, words: str = "refused") -> Exception:
    error = RuntimeError(words)
    error.status_code = status  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        *((failure(status), True) for status in (400, 404, 422, 500, 501)),
        *((failure(status), False) for status in (401, 403, 408, 429, 502, 503)),
        (TypeError("unexpected keyword argument 'extra_body'"), True),
        (InvalidInputError("TGI cannot take this expression"), True),
        (ContextOverflowError("too long"), False),
        (failure(400, "the request (1200 tokens) exceeds the available context size"), False),
        (failure(400, "This model's maximum context length is 4096 tokens"), False),
        (EndpointError("no such model"), False),
        (EndpointUnreachableError("nothing answers"), False),
        (TimeoutError(), False),
    ],
)
def test_what_refuses_a_form(error: Exception, is_one: bool) -> None:  # noqa: FBT001
    assert is_refusal(error) is is_one


# -- options of a call


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (ChatOpenAI(), "max_tokens"),
        (ChatTGI(), "max_tokens"),
        (ChatAnthropic(), "max_tokens"),
        (ChatGoogleGenerativeAI(), "max_output_tokens"),
        (ChatNovel(), "max_completion_tokens"),
        (ChatOpenAI().with_retry().with_config(tags=["x"]), "max_tokens"),
        (ChatGoogleGenerativeAI().with_fallbacks([ChatOpenAI()]), "max_output_tokens"),
    ],
)
def test_the_bound_in_tokens_has_the_name_of_the_class(model: Any, name: str) -> None:
    leaf = leaves_of(model)[0]
    assert call_options(inner_model(leaf), max_tokens=7) == {name: 7}


def test_other_options_of_a_call_go_where_the_class_wants_them() -> None:
    asked = {"top_p": 0.5, "stop": ["END"]}
    _, options = with_options(ChatOllama(), asked, max_tokens=7)
    assert options["options"] == {"num_predict": 7, "top_p": 0.5, "stop": ["END"]}
    assert with_options(ChatOpenAI(), asked, max_tokens=7)[1] == {**asked, "max_tokens": 7}
    assert with_options(RunnableLambda(str), asked)[1] == asked


def test_they_do_so_inside_retries_and_fallbacks_too() -> None:
    asked = {"top_p": 0.5}
    chain = ChatOllama().with_retry().with_fallbacks([ChatOpenAI()])
    model: Any
    for tokens in (None, 7):
        model, options = with_options(chain, asked, max_tokens=tokens)
        assert options == {}
        assert model.runnable.kwargs["options"]["top_p"] == 0.5
        assert "top_p" not in model.runnable.kwargs
        assert model.fallbacks[0].kwargs["top_p"] == 0.5


def test_a_runnable_that_is_no_chat_model_gets_no_options() -> None:
    model, options = with_options(RunnableLambda(lambda _: ""), max_tokens=7)
    assert isinstance(model, RunnableLambda)
    assert options == {}


def test_ollamas_options_keep_those_of_the_model() -> None:
    model = ChatOllama(top_k=4, num_predict=100, stop=["a"])
    assert call_options(model, max_tokens=7, temperature=0.0, seed=3, stop=["b"]) == {
        "options": {"top_k": 4, "num_predict": 7, "temperature": 0.0, "seed": 3, "stop": ["b"]}
    }
    before = {"options": {"top_p": 0.5}, "keep_alive": 5}
    assert call_options(model, before, seed=3) == {
        "options": {"top_p": 0.5, "seed": 3},
        "keep_alive": 5,
    }


def test_an_option_that_a_model_does_not_have_is_left_out() -> None:
    assert call_options(ChatAnthropic(), max_tokens=7, seed=3, temperature=0.0) == {
        "max_tokens": 7,
        "temperature": 0.0,
    }


def test_a_bound_limit_of_another_name_gives_way() -> None:
    assert call_options(ChatOpenAI(), {"max_completion_tokens": 9}, max_tokens=7) == {
        "max_tokens": 7
    }
    assert call_options(ChatOpenAI(), {"max_completion_tokens": 9}, seed=1) == {
        "max_completion_tokens": 9,
        "seed": 1,
    }


async def test_ollamas_openai_route_gets_the_limit_by_the_name_that_it_knows() -> None:
    found = await options(behind(), known("ollama"), max_tokens=7)
    assert found["extra_body"] == {"max_tokens": 7, "response_format": JSON_SCHEMA}


def test_nothing_wanted_is_nothing_bound() -> None:
    model = behind().bind(top_p=0.5)
    assert bound(model) is model
    assert Form("vllm", "k").constrains


def test_ollamas_own_options_go_where_it_reads_them() -> None:
    model = ChatOllama(top_k=4)
    bound = {"top_p": 0.5, "presence_penalty": 1.0, "frequency_penalty": 0.1, "tools": []}
    assert call_options(model, bound) == {
        "tools": [],
        "options": {
            "top_k": 4,
            "top_p": 0.5,
            "presence_penalty": 1.0,
            "frequency_penalty": 0.1,
        },
    }
    assert call_options(model, {"tools": []}) == {"tools": []}


# -- servers that go on with a last message of the model's own

CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize(
    ("kind", "version", "body"),
    [
        ("vllm", "0.11.2", CONTINUED),
        ("vllm", "0.10.1", CONTINUED),
        ("sglang", None, {"continue_final_message": True}),
        ("llama.cpp", None, None),
        ("tgi", None, None),
        ("ollama", None, None),
    ],
)
async def test_a_server_that_goes_on_is_told_to(kind: str, version: str | None, body: Any) -> None:
    endpoints = known(kind, version)
    expected = {} if body is None else {"extra_body": body}
    assert await continues(behind(), endpoints=endpoints)
    model, told = with_options(behind(), {}, continuing=True, endpoints=endpoints)
    assert (type(model), told) == (ChatOpenAI, expected)
    wrapped, told = with_options(behind().with_retry(), {}, continuing=True, endpoints=endpoints)
    inner = wrapped.kwargs if isinstance(wrapped, RunnableBinding) else {}
    assert (inner, told) == (expected, {})


async def test_what_else_stands_in_the_body_stays() -> None:
    model = behind(extra_body={"top_k": 5})
    _, told = with_options(model, {}, continuing=True, endpoints=known("vllm"))
    assert told == {"extra_body": {"top_k": 5, **CONTINUED}}
    _, told = with_options(
        behind(), {"extra_body": {"min_p": 0.1}}, continuing=True, endpoints=known("vllm")
    )
    assert told == {"extra_body": {"min_p": 0.1, **CONTINUED}}


async def test_nothing_is_told_where_nothing_is_begun() -> None:
    assert with_options(behind(), {}, endpoints=known("vllm"))[1] == {}


@pytest.mark.parametrize(
    "model", [ChatTGI(), ChatOllama(), ChatHuggingFace(llm=SimpleNamespace(endpoint_url=URL))]
)
async def test_classes_of_servers_that_go_on(model: Any) -> None:
    assert await continues(model)


@pytest.mark.parametrize(
    "model",
    [
        ChatOpenAI(),
        AzureChatOpenAI(),
        ChatAnthropic(),
        ChatDeepSeek(),
        Fake(),
        RunnableLambda(lambda _: "text"),
        ChatTGI().with_fallbacks([ChatAnthropic()]),
        ChatTGI().bind(tools=[{}]),
        ChatTGI().bind(response_format={}).with_config(tags=["x"]).with_retry(),
    ],
)
async def test_nobody_else_is_expected_to_go_on(model: Any) -> None:
    assert not await continues(model)


async def test_what_gateways_do_is_not_known() -> None:
    assert not await continues(behind(), endpoints=known("litellm"))
    assert not await continues(behind(), endpoints=known("other"))


async def test_a_refused_grammar_does_not_end_the_going_on() -> None:
    endpoints = known("vllm")
    refused(await form_of(behind(), endpoints=endpoints), "no", endpoints=endpoints)
    assert await continues(behind(), endpoints=endpoints)
