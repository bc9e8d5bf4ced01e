from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from text_generation import errors as stock

from langchain_sgd.tgi import (
    NotTGIError,
    TGIAuthError,
    TGIBadRequestError,
    TGIContextError,
    TGIError,
    TGIGenerationError,
    TGIOverloadedError,
    TGIStreamBrokenError,
    TGITimeoutError,
    TGIUnavailableError,
    to_error,
)
from langchain_sgd.tgi.faults import decoded

DESERIALIZE = (
    "Failed to deserialize the JSON body into the target type: missing field `inputs` at line 1"
)
HTML = "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
TOO_LONG = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` "
    "tokens and 100 `max_new_tokens`"
)


def chat_event(message: str) -> dict[str, object]:
    """What a chat stream sends, with 422 for whatever happened."""
    return {"error": {"message": message, "http_status_code": 422}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # whole answers: {"error", "error_type"}
        (
            422,
            {"error": "Input validation error: x", "error_type": "validation"},
            TGIBadRequestError,
        ),
        (422, {"error": "Template error: x", "error_type": "template_error"}, TGIBadRequestError),
        (
            422,
            {"error": "Missing template vatiable: x", "error_type": "missing_template_variable"},
            TGIBadRequestError,
        ),
        (422, {"error": "Tool error: x", "error_type": "tool_error"}, TGIBadRequestError),
        (422, {"error": TOO_LONG, "error_type": "validation"}, TGIContextError),
        (424, {"error": "Request failed", "error_type": "generation"}, TGIGenerationError),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}, TGIOverloadedError),
        (
            500,
            {"error": "Incomplete generation", "error_type": "incomplete_generation"},
            TGIStreamBrokenError,
        ),
        (503, {"error": "unhealthy", "error_type": "healthcheck"}, TGIUnavailableError),
        # whole answers: text/plain and nothing
        (422, DESERIALIZE, TGIBadRequestError),
        (400, "Failed to parse the request body as JSON: EOF", TGIBadRequestError),
        (413, "Failed to buffer the request body: length limit exceeded", TGIBadRequestError),
        (415, "Expected request with `Content-Type: application/json`", TGIBadRequestError),
        (401, "", TGIAuthError),
        (401, None, TGIAuthError),
        (403, {"error": "Forbidden"}, TGIAuthError),
        # /generate_stream and /: HTTP 200 and an event
        (200, {"error": "Model is overloaded", "error_type": "overloaded"}, TGIOverloadedError),
        (200, {"error": "CUDA OOM", "error_type": "generation"}, TGIGenerationError),
        (
            200,
            {"error": "Incomplete", "error_type": "incomplete_generation_stream"},
            TGIStreamBrokenError,
        ),
        (
            200,
            {"error": "x", "error_type": "stream_serialization_error"},
            TGIGenerationError,
        ),
        (
            200,
            {"error": "Input validation error: x", "error_type": "validation"},
            TGIBadRequestError,
        ),
        # chat streams: HTTP 200, 422 in the event, and only words
        (200, chat_event("Model is overloaded"), TGIOverloadedError),
        (200, chat_event("Input validation error: `temperature` must be"), TGIBadRequestError),
        (200, chat_event(TOO_LONG), TGIContextError),
        (200, chat_event("Template error: x"), TGIBadRequestError),
        (200, chat_event("Tool error: x"), TGIBadRequestError),
        (200, chat_event("Missing template vatiable: x"), TGIBadRequestError),
        (200, chat_event("Incomplete generation stream"), TGIStreamBrokenError),
        (200, chat_event("Request failed during generation: CUDA OOM"), TGIGenerationError),
        (200, chat_event("something new"), TGIGenerationError),
        # proxies and other services
        (429, {"error": "Too many requests"}, TGIOverloadedError),
        (502, HTML, TGIUnavailableError),
        (503, HTML, TGIUnavailableError),
        (504, HTML, TGIUnavailableError),
        (504, "", TGIUnavailableError),
        (500, HTML, TGIUnavailableError),
        (500, {"message": "boom"}, TGIGenerationError),
        (408, "", TGITimeoutError),
        (404, "404: Not Found", NotTGIError),
        (404, {"detail": "Not Found"}, NotTGIError),
        (405, "", NotTGIError),
        (302, "", NotTGIError),
        (200, "<!doctype html><title>Welcome</title>", NotTGIError),
        (200, "", NotTGIError),
        (418, "teapot", TGIBadRequestError),
    ],
)
def test_every_answer_becomes_its_error(
    status: int, body: object, expected: type[TGIError]
) -> None:
    error = to_error(status, body, endpoint="http://gpu:8080")
    assert type(error) is expected
    assert error.status == status
    assert str(error).startswith("http://gpu:8080: ")
    assert error.remedy
    assert str(error).endswith(error.remedy)


@pytest.mark.parametrize(
    ("ours", "family", "retryable"),
    [
        (TGIOverloadedError, ModelRateLimitError, True),
        (TGIUnavailableError, ModelConnectionError, True),
        (TGITimeoutError, ModelTimeoutError, True),
        (TGIStreamBrokenError, ModelConnectionError, True),
        (TGIGenerationError, ModelAPIError, True),
        (TGIBadRequestError, ModelInvalidRequestError, False),
        (TGIContextError, ContextOverflowError, False),
        (TGIAuthError, ModelAuthenticationError, False),
        (NotTGIError, ModelNotFoundError, False),
    ],
)
def test_langchain_core_knows_the_family(
    ours: type[TGIError], family: type[ModelError], *, retryable: bool
) -> None:
    assert issubclass(ours, TGIError)
    assert issubclass(ours, family)
    assert ours("x").is_retryable is retryable


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TGIOverloadedError, stock.OverloadedError),
        (TGIGenerationError, stock.GenerationError),
        (TGIStreamBrokenError, stock.IncompleteGenerationError),
        (TGIBadRequestError, stock.ValidationError),
    ],
)
def test_code_that_catches_text_generations_errors_keeps_working(
    ours: type[TGIError], theirs: type[Exception]
) -> None:
    assert issubclass(ours, theirs)


@pytest.mark.parametrize(
    "words",
    [
        "error trying to connect: Connection refused (os error 111)",
        "Server error: transport error",
        "Connection reset by peer",
        "tcp connect error: No such file or directory (os error 2)",
        "stream closed because of a broken pipe",
        "Server error: Unavailable: connection closed",
    ],
)
@pytest.mark.parametrize("in_stream", [False, True])
def test_a_model_server_that_is_gone_is_unavailable(
    words: str,
    in_stream: bool,  # noqa: FBT001
) -> None:
    text = f"Request failed during generation: {words}"
    body = chat_event(text) if in_stream else {"error": text, "error_type": "generation"}
    error = to_error(200 if in_stream else 424, body)
    assert type(error) is TGIUnavailableError
    assert "model server behind the router is down" in str(error)


def test_a_server_that_is_not_there_yet_is_not_said_to_have_a_wrong_url() -> None:
    error = to_error(503, "scaling", retry_after_s=9999)
    assert "scale_up_timeout_s" in str(error)
    assert "wait 9999 s" in str(error)


def test_the_servers_words_are_kept_and_bounded() -> None:
    error = to_error(422, {"error": "Input validation error: " + "x" * 5000})
    assert "Input validation error" in str(error)
    assert len(error.detail) < 350


def test_an_html_page_is_not_repeated() -> None:
    assert "<h1>" not in str(to_error(503, HTML))


def test_retry_after_is_kept() -> None:
    assert to_error(429, "", retry_after_s=3).retry_after_s == 3


def test_errors_survive_a_process_border() -> None:
    made = to_error(429, "", endpoint="http://gpu:1", retry_after_s=3)
    error = pickle.loads(pickle.dumps(made))  # noqa: S301
    assert type(error) is TGIOverloadedError
    assert (error.endpoint, error.status, error.retry_after_s) == ("http://gpu:1", 429, 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=6,
)


@given(
    status=st.integers(100, 599),
    body=json_values
    | st.fixed_dictionaries({"error": json_values}, optional={"error_type": json_values}),
)
def test_no_answer_is_beyond_it(status: int, body: object) -> None:
    assert isinstance(to_error(status, body), TGIError)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"text": "na\xc3\xafve", "n": 1e400}', {"text": "naïve", "n": float("inf")}),
        (rb'{"text": "\ud83e"}', {"text": "\ud83e"}),
        (b'{"text": NaN_}', '{"text": NaN_}'),
        (b"<html>\xff", "<html>\ufffd"),
        (b"", ""),
    ],
)
def test_what_is_no_json_is_text(data: bytes, expected: object) -> None:
    assert decoded(data) == expected
