from __future__ import annotations

import logging
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import HumanMessage
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel, SecretStr, ValidationError
from syrupy.assertion import SnapshotAssertion

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import ChatTGI, TGIClient, TGIEndpoint, chat_model
from langchain_sgd.tgi.client import generate_parameters
from langchain_sgd.tgi.endpoint import base_url, key_from_environment, proxy_for
from langchain_sgd.tgi.payloads import chat_payload, generate_payload
from langchain_sgd.tgi.retries import backoff_wait_s

KEY = "sk-very-secret"
URL = "http://gpu-1:8080"


beta = pytest.mark.filterwarnings("ignore:The function `load` is in beta")
"""langchain-core's way back from a serialized model."""


@beta
class TestStandard(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatTGI]:
        return ChatTGI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"base_url": URL}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"TGI_API_KEY": KEY}, {"base_url": URL}, {"api_key": KEY}

    @pytest.mark.xfail(
        reason="langchain-core's allowed_objects='all' is a list of LangChain's own packages; "
        "test_a_model_is_serialized_without_its_key makes the round trip"
    )
    def test_serdes(self, model: BaseChatModel, snapshot: SnapshotAssertion) -> None:
        super().test_serdes(model, snapshot)


# --- what reaches the body

MESSAGES = [HumanMessage("Hi")]


def chat_body(chat: ChatTGI, /, *, stop: list[str] | None = None, **options: Any) -> dict[str, Any]:
    return chat_payload(chat, MESSAGES, chat._stops(stop), options)


def generate_body(chat: ChatTGI, /, **options: Any) -> dict[str, Any]:
    body = generate_payload(chat, MESSAGES, chat._stops(None), options)
    assert body["inputs"] == "Hi"
    parameters: dict[str, Any] = body["parameters"]
    return parameters


COMMON = {"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.3, "seed": 7}


def test_every_field_reaches_a_chat_body() -> None:
    model = ChatTGI(base_url=URL, model="adapter", max_tokens=9, stop=["END"], **COMMON)
    assert chat_body(model) == {
        "model": "adapter",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "stop": ["END"],
        **COMMON,
    }


def test_every_field_reaches_a_generate_body() -> None:
    own = {"top_k": 5, "typical_p": 0.8, "repetition_penalty": 1.1}
    model = ChatTGI(
        base_url=URL, mode="generate", model="adapter", max_tokens=9, stop=["END"], **COMMON, **own
    )
    assert generate_body(model, truncate=100) == {
        "details": True,
        "return_full_text": False,
        "do_sample": True,
        "adapter_id": "adapter",
        "max_new_tokens": 9,
        "stop": ["END"],
        "truncate": 100,
        **COMMON,
        **own,
    }


def test_what_is_unset_is_not_sent() -> None:
    assert chat_body(ChatTGI(base_url=URL)).keys() == {"model", "messages"}
    assert generate_body(ChatTGI(base_url=URL, mode="generate")) == {
        "details": True,
        "return_full_text": False,
        "do_sample": False,
    }


def test_greedy_decoding_is_zero_in_chat_and_silence_in_generate() -> None:
    body = chat_body(ChatTGI(base_url=URL, temperature=0, top_p=0.9))
    assert body["temperature"] == 0
    assert "top_p" not in body  # TGI would sample
    parameters = generate_body(
        ChatTGI(base_url=URL, mode="generate", temperature=0, top_k=5, top_p=0.9)
    )
    assert not {"temperature", "top_k", "top_p"} & parameters.keys()
    assert parameters["do_sample"] is False


def test_the_whole_mass_is_no_restriction() -> None:
    assert "top_p" not in chat_body(ChatTGI(base_url=URL, top_p=1))


def test_a_calls_options_go_before_the_fields() -> None:
    model = ChatTGI(base_url=URL, temperature=0.5, stop=["A"], max_tokens=3)
    body = chat_body(model, stop=["B"], temperature=0, max_completion_tokens=8, model="other")
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0, ["B"], 8)
    assert body["model"] == "other"


def test_an_openai_schema_is_translated() -> None:
    schema = {"type": "object", "properties": {}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = chat_body(ChatTGI(base_url=URL), response_format=form)
    assert body["response_format"] == {"type": "json", "value": schema}
    parameters = generate_body(ChatTGI(base_url=URL, mode="generate"), response_format=form)
    assert parameters["grammar"] == {"type": "json", "value": schema}


def test_no_tools_are_no_tools() -> None:
    body = chat_body(ChatTGI(base_url=URL), tools=[], tool_choice="auto")
    assert "tools" not in body
    assert "tool_choice" not in body


@pytest.mark.parametrize("option", ["presence_penalty", "top_k", "temprature"])
def test_an_option_that_chat_does_not_have_is_refused(option: str) -> None:
    with pytest.raises(InvalidInputError, match=option):
        chat_body(ChatTGI(base_url=URL), **{option: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temprature": 0.1},
        {"top_k": 4},
        {"temperature": -1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"seed": -1},
        {"mode": "completion"},
        {"base_url": "gpu-1:8080"},
        {"base_url": "ftp://gpu-1"},
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatTGI(**{"base_url": URL, **wrong})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("any", "required"),
        (True, "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        (None, None),
    ],
)
def test_tool_choices(choice: Any, expected: Any) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    bound: Any = ChatTGI(base_url=URL).bind_tools([tool], tool_choice=choice)
    assert bound.kwargs["tools"] == [tool]
    assert bound.kwargs.get("tool_choice") == expected


def test_a_schema_is_bound_in_tgis_form() -> None:
    class Point(BaseModel):
        x: int

    structured: Any = ChatTGI(base_url=URL).with_structured_output(Point)
    form = structured.first.kwargs["response_format"]
    assert form["type"] == "json"
    assert form["value"]["properties"] == {"x": {"title": "X", "type": "integer"}} or (
        form["value"]["properties"]["x"]["type"] == "integer"
    )


def test_unknown_arguments_of_structured_output_are_refused() -> None:
    with pytest.raises(ValueError, match="tools"):
        ChatTGI(base_url=URL).with_structured_output({"title": "x"}, tools=[])


# --- the URL


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://gpu-1:8080", "http://gpu-1:8080"),
        (" http://gpu-1:8080/ ", "http://gpu-1:8080"),
        ("http://gpu-1:8080/v1/", "http://gpu-1:8080"),
        ("https://host/models/llama/v1", "https://host/models/llama"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_urls_are_cleaned(given: str, expected: str) -> None:
    assert base_url(given) == expected
    assert ChatTGI(base_url=given).base_url == expected
    assert TGIClient(given).base_url == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pass@host",
        "http://host/?key=pass",
        "http://host/#pass",
        "user:pass@host",
        "http://user:pass/x@host",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        base_url(url)
    with pytest.raises(ValidationError) as validation:
        ChatTGI(base_url=url)
    for error in (caught.value, validation.value):
        assert "pass" not in str(error).replace("a password", "").replace("pass api_key", "")


@pytest.mark.parametrize("url", ["http://host:99999", "http://host:x", "http://[::1"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        base_url(url)


@pytest.mark.parametrize("value", ["gpu-1", "llama-3-70b", "", "ftp://x", "http://"])
def test_a_string_that_is_no_url_is_named(value: str) -> None:
    with pytest.raises(InvalidInputError, match="no URL of a TGI server"):
        chat_model(value)


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(InvalidInputError, match="int"):
        chat_model(3)  # type: ignore[arg-type]


def test_an_endpoint_becomes_a_model() -> None:
    model = chat_model(
        TGIEndpoint("http://gpu-1/v1", api_key=SecretStr(KEY), options={"seed": 3}),
        seed=1,
        max_tokens=5,
    )
    assert (model.base_url, model.seed, model.max_tokens) == ("http://gpu-1", 3, 5)
    assert model.api_key == SecretStr(KEY)


def test_proxies_are_never_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", "inside")
    assert proxy_for("http://gpu-1:80") == "http://proxy:1"
    assert proxy_for("http://127.0.0.1:80") is None
    assert proxy_for("http://inside") is None


# --- secrets


def test_hf_tokens_go_to_hugging_face_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TGI_API_KEY", raising=False)
    monkeypatch.setenv("HF_TOKEN", KEY)
    for url in ("http://gpu-1", "https://huggingface.co.evil.com", "https://evilhf.space",
                "http://x.endpoints.huggingface.cloud"):  # fmt: skip
        assert key_from_environment(url) is None
        assert ChatTGI(base_url=url).api_key is None
    for url in ("https://x.endpoints.huggingface.cloud", "https://huggingface.co/m"):
        assert key_from_environment(url) == SecretStr(KEY)


def test_secrets_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = TGIEndpoint(URL, api_key=SecretStr(KEY))
    header = {"X-Gateway": SecretStr(f"{KEY}-2")}
    model = ChatTGI(base_url=URL, api_key=SecretStr(KEY), headers=header)
    shown = [
        *(repr(each) for each in (endpoint, model, model.client, vars(model.client), model.bind())),
        str(model),
        dumps(model),
        str(model.asdict()),
        str(model._get_ls_params()),
        str(model._get_llm_string()),
        model.model_dump_json(),
        caplog.text,
    ]
    assert all(KEY not in text for text in shown)


def test_a_wrong_value_is_not_repeated_for_it_may_be_a_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        ChatTGI(base_url=URL, api_key=[KEY])
    assert KEY not in str(caught.value)


@beta
def test_a_model_is_serialized_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGI_API_KEY", KEY)
    model = ChatTGI(base_url=URL, api_key=SecretStr(KEY), temperature=0.5, stop=["x"])
    loaded = load(
        dumpd(model),
        valid_namespaces=["langchain_sgd"],
        allowed_objects=[ChatTGI],
        secrets_from_env=True,
    )
    assert loaded.asdict() == model.asdict()
    assert loaded.api_key == SecretStr(KEY)


# --- details


def test_two_settings_never_share_a_cache_entry() -> None:
    models = [
        ChatTGI(base_url=URL, **fields)
        for fields in ({}, {"seed": 1}, {"temperature": 0}, {"mode": "generate"}, {"stop": ["x"]})
    ]
    assert len({model._get_llm_string() for model in models}) == len(models)


def test_parameters_of_generate_are_checked_by_name() -> None:
    assert generate_parameters({"stop_sequences": ["x"], "seed": None, "max_new_tokens": 3}) == {
        "details": True,
        "stop": ["x"],
        "max_new_tokens": 3,
    }
    with pytest.raises(TypeError, match="max_tokens"):
        generate_parameters({"max_tokens": 3})


def test_backoff_doubles_with_full_jitter_and_heeds_the_server() -> None:
    assert [backoff_wait_s(n, 0.25, None, 1.0) for n in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert backoff_wait_s(2, 0.25, None, 0.5) == 0.5
    assert backoff_wait_s(30, 0.25, None, 1.0) == 8.0
    assert backoff_wait_s(5000, 0.25, None, 1.0) == 8.0
    assert backoff_wait_s(0, 0.25, 3.0, 0.5) == 3.0
    assert backoff_wait_s(2, 0.25, 0.0, 0.5) == 0.5
    assert backoff_wait_s(0, 0.25, 3600.0, 0.5) == 3600.0
