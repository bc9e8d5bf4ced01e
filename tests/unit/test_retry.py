from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
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
from yarl import URL

from langchain_sgd.decoding.caller import StalledError
from langchain_sgd.retry import Backoff, describe, is_retryable, status_of

REQUEST = httpx.Request("POST", "http://x")


class StatusError(Exception):
    """As the OpenAI and Anthropic clients have it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"Error code: {status_code}")
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
    KeyError("429"),
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


class AskedError(Exception):
    def __init__(self, retry_after_s: object) -> None:
        self.retry_after_s = retry_after_s


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []

    async def note(delay: float) -> None:
        made.append(delay)

    monkeypatch.setattr(asyncio, "sleep", note)
    return made


class TestBackoff:
    async def test_what_the_server_asks_for_is_kept_within_bounds(self, waits: list[float]) -> None:
        for asked in (0, 1.5, 3600):
            await Backoff(most_s=8).wait(1, AskedError(asked))
        assert waits == [0.0, 1.5, 8]

    async def test_it_grows_with_jitter_up_to_a_bound(
        self, waits: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
        for attempt in (1, 2, 3, 4, 5_000):
            await Backoff(first_s=1, most_s=5).wait(attempt, ValueError())
        assert waits == [1, 2, 4, 5, 5]

    @pytest.mark.parametrize("odd", [-1, "soon", None, float("nan")])
    async def test_an_unusable_wish_is_passed_over(self, odd: object, waits: list[float]) -> None:
        await Backoff(first_s=1).wait(1, AskedError(odd))
        assert len(waits) == 1
        assert 0 <= waits[0] <= 1

    @given(st.integers(1, 50))
    def test_no_wait_is_longer_than_the_bound(self, attempt: int) -> None:
        made: list[float] = []

        async def note(delay: float) -> None:
            made.append(delay)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "sleep", note)
            asyncio.run(Backoff(first_s=0.5, most_s=3).wait(attempt, ValueError()))
        assert 0 <= made[0] <= min(3, 0.5 * 2 ** (attempt - 1))
