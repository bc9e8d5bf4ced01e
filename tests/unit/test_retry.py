from __future__ import annotations

import asyncio
import errno
import json
import random
import socket
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from unittest.mock import Mock

import aiohttp
import httpx
import pytest
import requests
import text_generation.errors as tgi
from huggingface_hub.errors import InferenceTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from langchain_core import exceptions as langchain
from langchain_openai import ChatOpenAI
from multidict import CIMultiDict
from pydantic import SecretStr
from yarl import URL

from langchain_sgd.decoding.patience import StalledError
from langchain_sgd.failures import retry_after_of, status_of
from langchain_sgd.redaction import describe, redacted
from langchain_sgd.retry import Backoff, course_of, is_retryable
from langchain_sgd.tgi import NotTGIError

REQUEST = httpx.Request("POST", "http://x")


class StatusError(Exception):
    """As the OpenAI and Anthropic clients have it."""

    def __init__(self, status_code: int, text: str | None = None) -> None:
        super().__init__(text or f"Error code: {status_code}")
        self.status_code = status_code


class RateLimitError(StatusError):
    pass


class APIConnectionError(Exception):
    pass


class APITimeoutError(APIConnectionError):
    pass


class SaidError(Exception):
    def __init__(self, *, is_retryable: bool, status: int) -> None:
        self.is_retryable = is_retryable
        self.status = status


def of_httpx(status: int) -> Exception:
    return httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(status))


def of_aiohttp(status: int) -> Exception:
    info = aiohttp.RequestInfo(URL("http://x"), "POST", Mock(), URL("http://x"))
    return aiohttp.ClientResponseError(info, (), status=status)


def of_requests(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("x", response=response)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


KEY: Any = Mock(ssl=True, host="x", port=443)
CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed")

PASSING = [
    *(StatusError(code) for code in (408, 409, 424, 425, 429, 500, 502, 503, 504, 520, 529)),
    *(of_httpx(code) for code in (429, 503)),
    *(of_aiohttp(code) for code in (429, 500)),
    *(of_requests(code) for code in (429, 504)),
    RateLimitError(429),
    APIConnectionError("Connection error."),
    APITimeoutError("Request timed out."),
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.PoolTimeout("slow"),
    httpx.ReadError("gone"),
    httpx.RemoteProtocolError("peer closed connection"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "refused")),
    aiohttp.ClientPayloadError("not enough data"),
    aiohttp.ServerTimeoutError("slow"),
    aiohttp.ClientOSError(errno.ECONNRESET, "reset"),
    requests.ConnectionError("refused"),
    requests.ReadTimeout("slow"),
    requests.exceptions.ChunkedEncodingError("broken"),
    InferenceTimeoutError("slow"),
    TimeoutError(),
    asyncio.IncompleteReadError(b"", 5),
    ConnectionResetError(),
    ConnectionRefusedError(),
    BrokenPipeError(),
    StalledError("nothing came for 120 s"),
    tgi.OverloadedError("Model is overloaded"),
    tgi.IncompleteGenerationError("stream ended"),
    tgi.ShardTimeoutError("slow"),
    tgi.ShardNotReadyError("starting"),
    tgi.RateLimitExceededError("slow down"),
    ValueError("Request failed: Model is overloaded"),
    langchain.ModelRateLimitError(),
    langchain.ModelAPIError(),
    langchain.ModelConnectionError(),
    langchain.ModelTimeoutError(),
    SaidError(is_retryable=True, status=400),
]

LASTING = [
    *(StatusError(code) for code in (400, 401, 402, 403, 404, 405, 413, 422, 501, 505)),
    *(of_httpx(code) for code in (401, 422)),
    *(of_aiohttp(code) for code in (401, 404)),
    *(of_requests(code) for code in (403, 422)),
    StatusError(int(HTTPStatus.UNPROCESSABLE_ENTITY)),
    httpx.UnsupportedProtocol("no http://"),
    caused(httpx.ConnectError("tls"), caused(OSError(), CERTIFICATE)),
    aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE),
    CERTIFICATE,
    aiohttp.InvalidURL("x"),
    socket.gaierror("unknown host"),
    tgi.ValidationError("`inputs` must have less than 4096 tokens"),
    tgi.BadRequestError("bad"),
    tgi.NotFoundError("no model"),
    tgi.GenerationError("shape mismatch"),
    langchain.ModelAuthenticationError(),
    langchain.ModelInvalidRequestError(),
    langchain.ModelNotFoundError(),
    langchain.ModelPermissionDeniedError(),
    langchain.ContextOverflowError(),
    langchain.OutputParserException("x"),
    SaidError(is_retryable=False, status=503),
    ValueError("x"),
    RuntimeError("503"),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
]


def name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__name__}-{status_of(error)}"


class TestRetryable:
    @pytest.mark.parametrize("error", PASSING, ids=name)
    def test_what_passes_by_itself(self, error: Exception) -> None:
        assert is_retryable(error)

    @pytest.mark.parametrize("error", LASTING, ids=name)
    def test_what_does_not(self, error: BaseException) -> None:
        assert not is_retryable(error)

    def test_a_method_of_that_name_says_nothing(self) -> None:
        class OddError(Exception):
            def is_retryable(self) -> bool:
                raise AssertionError

        assert not is_retryable(OddError())

    def test_a_circle_of_causes_ends(self) -> None:
        one, other = ValueError("1"), ValueError("2")
        one.__cause__, other.__cause__ = other, one
        assert not is_retryable(one)


class CarriedError(Exception):
    """An error as some client makes it."""

    def __init__(self, text: str = "", **carried: Any) -> None:
        super().__init__(text)
        vars(self).update(carried)


def of_botocore(code: str, status: int, headers: dict[str, str] | None = None) -> Exception:
    said = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": said}
    return CarriedError("An error occurred", response=response)


SPENT = {"message": "You exceeded it", "type": "insufficient_quota", "code": "insufficient_quota"}
GOOGLE = {
    "error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34.07s"}]}
}


class TestCourse:
    @pytest.mark.parametrize(
        "error",
        [
            CarriedError("quota", status_code=429, body=SPENT, code="insufficient_quota"),
            CarriedError("quota", status_code=429, body={"error": SPENT}),
            CarriedError("quota", status_code=429, body=json.dumps({"error": SPENT})),
            CarriedError("quota", is_retryable=True, body=SPENT),
            caused(CarriedError("failed"), CarriedError("quota", status_code=429, body=SPENT)),
            RateLimitError(429, "Error code: 429 - {'type': 'insufficient_quota'}"),
            RateLimitError(
                429, "You exceeded your quota, please check your plan and billing details"
            ),
            CarriedError("bad", body={"code": "400", "type": "BadRequestError"}),
            of_botocore("ValidationException", 400),
        ],
        ids=repr,
    )
    def test_what_time_does_not_mend(self, error: Exception) -> None:
        assert course_of(error) == "lasting"

    @pytest.mark.parametrize(
        "error",
        [
            CarriedError("bad", code="503", body={"code": "503", "type": "server_error"}),
            CarriedError("bad", body={"error": {"code": 502, "message": "upstream"}}),
            CarriedError("bad", body={"type": "error", "error": {"type": "overloaded_error"}}),
            CarriedError(
                "bad", body={"object": "error", "type": "InternalServerError", "code": 500}
            ),
            CarriedError("bad", body={"type": "server_error"}),
            CarriedError("bad", status=200, body={"error": {"code": "500"}}),
            CarriedError("bad", code=429, status="RESOURCE_EXHAUSTED", details=GOOGLE),
            of_botocore("ThrottlingException", 400),
            of_botocore("InternalServerException", 500),
            caused(CarriedError("failed"), StatusError(503)),
            caused(CarriedError("failed"), caused(CarriedError("again"), TimeoutError())),
        ],
        ids=repr,
    )
    def test_what_passes(self, error: Exception) -> None:
        assert course_of(error) == "passing"

    @pytest.mark.parametrize(
        "error",
        [
            json.JSONDecodeError("Expecting value", "<html>", 0),
            TypeError("'NoneType' object is not subscriptable"),
            AttributeError("'NoneType' object has no attribute 'model_dump'"),
            KeyError("choices"),
            ValueError("No generation chunks were returned"),
            NotTGIError("an HTML page came instead of an answer", status=200),
            NotTGIError("HTTP 204 with an empty body", status=204),
        ],
        ids=repr,
    )
    def test_an_answer_that_is_none_is_asked_for_once_more(self, error: Exception) -> None:
        assert course_of(error) == "once"
        assert is_retryable(error)
        assert not is_retryable(error, 2)

    def test_the_wrong_address_stays_wrong(self) -> None:
        assert course_of(NotTGIError("HTTP 404", status=404)) == "lasting"

    def test_a_body_as_large_and_as_deep_as_it_may_be_is_read_so_far(self) -> None:
        deep: dict[str, Any] = {"code": 503}
        for _ in range(10_000):
            deep = {"error": deep}
        wide = {"error": [{"code": 0, "at": at} for at in range(100_000)]}
        for body in (deep, wide, "[" * 100_000):
            assert course_of(CarriedError("x", body=body)) == "lasting"


EVENT = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "a", "role": "assistant"}}],
}
DATES = {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}


def refusal(status: int, headers: dict[str, str] | None = None, **error: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": "x", **error}}, headers=headers)


def stream(*events: Any) -> httpx.Response:
    lines = (e if isinstance(e, str) else json.dumps(e) for e in events)
    text = "".join(f"data: {line}\n\n" for line in lines)
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


@pytest.mark.parametrize(
    ("answer", "course", "wait"),
    [
        (refusal(429, {"Retry-After": "3"}), "passing", 3),
        (refusal(429, {"Retry-After-Ms": "1500", "Retry-After": "2"}), "passing", 1.5),
        (refusal(503, DATES), "passing", 30),
        (refusal(429, message="Please try again in 1m30.5s."), "passing", 90.5),
        (refusal(429, type="insufficient_quota", code="insufficient_quota"), "lasting", None),
        (refusal(401), "lasting", None),
        (httpx.Response(500, text="Internal"), "passing", None),
        (httpx.Response(200, html="<p>Starting</p>"), "once", None),
        (httpx.Response(200, json={"error": {"message": "x"}}), "once", None),
        (httpx.Response(204), "once", None),
        (stream("[DONE]"), "once", None),
        (stream(EVENT, "null", "[DONE]"), "once", None),
        (stream(EVENT, '{"id": '), "once", None),
        (stream(EVENT, {"error": {"message": "x", "type": "t", "code": "503"}}), "passing", None),
        (stream(EVENT, {"error": {"message": "x", "type": "t", "code": 500}}), "passing", None),
        (stream(EVENT, {"error": {"message": "x", "type": "t", "code": 400}}), "lasting", None),
        (stream(EVENT, {"error": {"message": "x", "type": "server_error"}}), "passing", None),
    ],
)
async def test_what_the_openai_client_makes_of_an_answer(
    answer: httpx.Response, course: str, wait: float | None
) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as client:
        model = ChatOpenAI(
            base_url="http://x/v1",
            model="m",
            api_key=SecretStr("sk-SECRET1234"),
            max_retries=0,
            http_async_client=client,
        )
        with pytest.raises(Exception) as raised:  # noqa: PT011 - of many kinds
            async for _ in model.astream("Why?"):
                pass
    assert course_of(raised.value) == course
    assert retry_after_of(raised.value) == wait
    assert "SECRET" not in describe(raised.value)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (CarriedError(retry_after_s=2), 2),
            (CarriedError(retry_after="7"), 7),
            (CarriedError(retry_after=0), 0),
            (CarriedError(retry_delay=timedelta(seconds=9)), 9),
            (CarriedError(headers={"RETRY-AFTER": "4"}), 4),
            (CarriedError(raw_response=CarriedError(headers={"retry-after": "5"})), 5),
            (of_botocore("ThrottlingException", 429, {"retry-after": "6"}), 6),
            (CarriedError(details=GOOGLE), 34.07),
            (CarriedError(body={"retry_after_ms": 250}), 0.25),
            (CarriedError("Rate limit. Please try again in 20s."), 20),
            (CarriedError("Rate limit. Please try again in 858ms."), 0.858),
            (CarriedError("Please retry after 26 seconds."), 26),
            (CarriedError("try again in 1h2m3s"), 3723),
            (CarriedError("Retry in 2 minutes 5 seconds"), 125),
            (caused(CarriedError("x"), CarriedError(retry_after_s=3)), 3),
            (CarriedError(headers={"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}), 20),
            (CarriedError(headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}), 0),
            (CarriedError(retry_after="soon", headers={"Retry-After": "8"}), 8),
            (CarriedError(retry_after=-1), None),
            (CarriedError(retry_after=True), None),
            (CarriedError(retry_after=float("inf")), None),
            (CarriedError(headers={"Retry-After": "31 Foo 2026"}), None),
            (CarriedError("try again in a moment"), None),
            (CarriedError("I tried 3 s"), None),
            (ValueError(), None),
        ],
        ids=repr,
    )
    def test_wherever_a_server_says_it(self, error: Exception, seconds: float | None) -> None:
        found = retry_after_of(error, now=100.0)
        assert found == (seconds if seconds is None else pytest.approx(seconds))

    @pytest.mark.parametrize("make", [of_httpx, of_requests])
    def test_headers_of_every_client(self, make: Callable[[int], Any]) -> None:
        error = make(429)
        error.response.headers["Retry-After"] = "3"
        assert retry_after_of(error) == 3

    def test_headers_of_aiohttp(self) -> None:
        error: Any = of_aiohttp(429)
        error.headers = CIMultiDict({"Retry-After": "3"})
        assert retry_after_of(error) == 3

    @given(st.text() | st.floats() | st.integers() | st.none() | st.lists(st.text()))
    def test_anything_may_stand_there(self, odd: object) -> None:
        found = retry_after_of(CarriedError("x", retry_after=odd, headers={"retry-after": odd}))
        assert found is None or 0 <= found < float("inf")

    def test_no_response_is_read_for_it(self) -> None:
        unread = httpx.Response(429, stream=httpx.ByteStream(b'{"retry_after": 3}'))
        error = httpx.HTTPStatusError("x", request=REQUEST, response=unread)
        assert retry_after_of(error) is None
        assert not unread.is_stream_consumed


class TestStatus:
    @pytest.mark.parametrize("code", [100, 429, 599])
    def test_wherever_it_is_kept(self, code: int) -> None:
        for make in (StatusError, of_httpx, of_aiohttp, of_requests):
            assert status_of(make(code)) == code

    def test_what_is_no_status(self) -> None:
        odd = ValueError()
        odd.code = "insufficient_quota"  # type: ignore[attr-defined]
        odd.status = 7  # type: ignore[attr-defined]
        assert status_of(odd) is None
        assert status_of(ValueError()) is None


class TestDescribe:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (ValueError("short"), "ValueError: short"),
            (ValueError("\n  first\nsecond"), "ValueError: first"),
            (TimeoutError(), "TimeoutError"),
            (ValueError("x" * 1_000), "ValueError: " + "x" * 300),
        ],
    )
    def test_class_and_first_line(self, error: Exception, text: str) -> None:
        assert describe(error) == text

    def test_it_is_one_line(self) -> None:
        assert describe(ValueError("a\tb  c\r\nd")) == "ValueError: a b c"

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("for http://user:PW@host/v1", "for http://***@host/v1"),
            ("for http://PW@host/v1", "for http://***@host/v1"),
            ("Authorization: Basic dXNlcjpQVw==, x", "Authorization: *** ***, x"),
            ("{'Authorization': 'Bearer PW123456'}", "{'Authorization': '*** ***'}"),
            ("[(b'authorization', b'PW')]", "[(b'authorization', b'***')]"),
            ('{"x-api-key": "PW"}', '{"x-api-key": "***"}'),
            ('{\\"api_key\\": \\"PW\\"}', '{\\"api_key\\": \\"***\\"}'),
            ("api_key=PW, model=m", "api_key=***, model=m"),
            ("api_key=SecretStr('PW')", "api_key=***')"),
            ("got Bearer PW123456", "got Bearer ***"),
            ("got basic dXNlcjpQVw==", "got basic ***"),
            ("GET /v1?key=PW&x=1", "GET /v1?key=***&x=1"),
            ("Incorrect API key provided: sk-proj-PW123456.", "Incorrect API key provided: ***."),
            ("hf_PWabcdefgh AKIAPWABCDEFGHIJKL", "*** ***"),
            ("password: PW", "password: ***"),
            ("eyJhbGciOiJIUzI1NiJ9.PWPWPW.sig", "***"),
            ("got own-secret-PW", "got ***"),
        ],
    )
    def test_secrets_are_blanked(self, said: str, shown: str) -> None:
        text = describe(ValueError(said), ["own-secret-PW"])
        assert text == f"ValueError: {shown}"

    @pytest.mark.parametrize(
        "text",
        [
            "a token limit or a fault cut the answer",
            "max_tokens: 512, total tokens=1024",
            "mail me@host, see http://host/a@b",
            "model hf-internal-testing/tiny is not found",
            "the key 'choices' is missing",
            "http://host:8080/v1",
        ],
    )
    def test_what_is_no_secret_stays(self, text: str) -> None:
        assert redacted(text) == text

    def test_a_long_line_is_cut_before_it_is_searched(self) -> None:
        began = time.process_time()
        assert len(describe(ValueError("http://" + "a" * 5_000_000))) < 400
        assert time.process_time() - began < 2.0


class AskedError(Exception):
    def __init__(self, retry_after_s: object) -> None:
        self.retry_after_s = retry_after_s


class TestBackoff:
    @pytest.mark.parametrize("asked", [0, 1.5, 60])
    def test_what_the_server_asks_for_is_kept(self, asked: float) -> None:
        assert Backoff(most_s=8, most_asked_s=60).delay(1, AskedError(asked)) == asked

    def test_it_grows_with_jitter_up_to_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
        backoff = Backoff(first_s=1, most_s=5)
        waits = [backoff.delay(attempt, ValueError()) for attempt in (1, 2, 3, 4, 5_000)]
        assert waits == [1, 2, 4, 5, 5]

    @pytest.mark.parametrize("odd", [-1, "soon", None, float("nan")])
    def test_an_unusable_wish_is_passed_over(self, odd: object) -> None:
        delay = Backoff(first_s=1).delay(1, AskedError(odd))
        assert delay is not None
        assert 0 <= delay <= 1

    def test_who_asks_for_too_much_is_not_asked_again(self) -> None:
        assert Backoff(most_asked_s=60).delay(1, AskedError(60)) == 60
        assert Backoff(most_asked_s=60).delay(1, AskedError(61)) is None

    @given(st.integers(1, 50))
    def test_no_wait_is_longer_than_the_bound(self, attempt: int) -> None:
        delay = Backoff(first_s=0.5, most_s=3).delay(attempt, ValueError())
        assert delay is not None
        assert 0 <= delay <= min(3, 0.5 * 2 ** (attempt - 1))
