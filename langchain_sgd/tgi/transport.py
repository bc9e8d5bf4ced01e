"""How requests reach a server: pooled, in time, repeated where that helps, faults made `TGIError`s."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
from pydantic import SecretStr
from yarl import URL

from langchain_sgd.tgi.endpoint import proxy_for
from langchain_sgd.tgi.errors import (
    NotTGIError,
    TGIError,
    TGIGenerationError,
    TGIOverloadedError,
    TGIStreamBrokenError,
    TGITimeoutError,
    TGIUnavailableError,
    to_error,
)
from langchain_sgd.tgi.gate import Gate, shared_gate
from langchain_sgd.tgi.pool import LoopPool
from langchain_sgd.tgi.server import Timings, read_timings
from langchain_sgd.tgi.sse import EventParser

_OK: Final = 200
_DONE: Final = b"[DONE]"
_LONGEST_BACKOFF_S: Final = 8.0
_LONGEST_RETRY_AFTER_S: Final = 30.0
_ASK_LIMIT_FROM: Final = 8
"""Requests in flight from which it pays to ask the server how many it takes."""
_REFUSALS_TO_PROBE: Final = 3
"""Connections that fail in a row before a health check goes ahead of further requests."""
_PROBE_TIMEOUT_S: Final = 2.0
_PROBE_COUNTS_S: Final = 1.0
_DRAIN_TIMEOUT_S: Final = 0.5


class Answer(NamedTuple):
    """A whole answer of the server."""

    body: dict[str, Any]
    timings: Timings
    """What the `x-*` headers say; empty where a server sends none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait and how often to try again."""

    connect_timeout_s: float = 5.0
    """For a TCP connection."""
    timeout_s: float | None = 600.0
    """For a whole call: waiting for its turn, retries and, in streams, the last token."""
    stall_timeout_s: float | None = 60.0
    """That a stream may go without an event; keepalives are none."""
    max_retries: int = 2
    """How often a request that was not begun is repeated."""
    backoff_s: float = 0.25
    """Longest wait before the first repetition; it doubles with each."""


class Transport:
    """Sends requests to one server, from any task, event loop or thread.

    A request that was not begun (overload, a refused or lost connection, a proxy's 502/503/504) is
    repeated with exponential backoff and full jitter, a stream only until its first event. A generation
    that failed in the model server is repeated once. What the server refuses is not repeated.
    """

    def __init__(
        self,
        url: str,
        *,
        secret_headers: Mapping[str, SecretStr],
        patience: Patience,
        max_concurrent_requests: int | None,
    ) -> None:
        self._base = url
        self._secrets = secret_headers
        self._patience = patience
        self._limit = max_concurrent_requests
        self._limit_asked = max_concurrent_requests is not None
        self._proxy = proxy_for(url)
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._urls: dict[str, URL] = {}

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def get(self, path: str) -> Any:
        """Get a route's JSON, or its text, once and in the time of a health check.

        Raises:
            TGIError: There was no success.
        """
        pool = await self._pool()
        due = _after(_PROBE_TIMEOUT_S)
        async with (
            self._response(pool, "GET", path, None, due=due) as response,
            _in_time(due, self._too_slow),
        ):
            return _decoded(await response.read())

    async def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Post JSON and give the JSON answer.

        Raises:
            TGIError: The call failed, after its retries.
        """
        body = json.dumps(payload).encode()
        async with _in_time(_after(self._patience.timeout_s), self._too_slow):
            for attempt in itertools.count():
                try:
                    pool = await self._admissible_pool()
                    async with pool.gate, self._response(pool, "POST", path, body) as response:
                        return Answer(
                            self._json_object(await response.read()), read_timings(response.headers)
                        )
                except TGIError as error:
                    await self._before_retry(error, attempt)
        raise AssertionError  # pragma: no cover - the loop has no end of its own

    async def events(
        self,
        path: str,
        payload: Mapping[str, Any],
        *,
        is_end: Callable[[Mapping[str, Any]], bool],
    ) -> AsyncGenerator[dict[str, Any]]:
        """Post JSON and yield the events of the answer, errors raised.

        Args:
            path: The route.
            payload: The body.
            is_end: Whether an event ends the stream rightly; a stream without one is broken.

        Raises:
            TGIError: The call failed: before the first event after its retries, later at once.
        """
        body = json.dumps(payload).encode()
        deadline = _after(self._patience.timeout_s)
        for attempt in itertools.count():
            opened = False
            try:
                async with _in_time(deadline, self._too_slow):
                    pool = await self._admissible_pool()
                    await pool.gate.acquire()
                try:
                    reading = self._read_events(pool, path, body, deadline, is_end)
                    async with contextlib.aclosing(reading):
                        async for event in reading:
                            opened = True
                            yield event
                finally:
                    pool.gate.release()
            except TGIError as error:
                if opened:
                    raise
                async with _in_time(deadline, self._too_slow):
                    await self._before_retry(error, attempt)
            else:
                return

    async def _read_events(
        self,
        pool: LoopPool,
        path: str,
        body: bytes,
        deadline: float | None,
        is_end: Callable[[Mapping[str, Any]], bool],
    ) -> AsyncGenerator[dict[str, Any]]:
        """Open one stream and read it; a stall is counted from event to event, not from byte to byte."""
        due = self._next_event_due(deadline)
        ended = done = False
        async with self._response(pool, "POST", path, body, due=due) as response:
            if response.content_type != "text/event-stream":
                await self._refuse_body(response, due)
            parser = EventParser()
            while not done and (chunk := await self._chunk(response, due)):
                for data in parser.feed(chunk):
                    if data == _DONE:
                        done = True
                        break
                    event = self._json_object(data)
                    if event.get("error") is not None:
                        await _drain(response)
                        raise self._error(_OK, event)
                    ended = ended or is_end(event)
                    yield event
                    due = self._next_event_due(deadline)
            if done:
                await _drain(response)
        if not ended:
            msg = "the stream ended without its end event"
            raise TGIStreamBrokenError(msg, endpoint=self._base, status=_OK)

    async def _chunk(self, response: aiohttp.ClientResponse, due: float | None) -> bytes:
        async with _in_time(due, self._stalled):
            return await response.content.readany()

    def _next_event_due(self, deadline: float | None) -> float | None:
        return _earlier(deadline, _after(self._patience.stall_timeout_s))

    @contextlib.asynccontextmanager
    async def _response(
        self,
        pool: LoopPool,
        method: str,
        path: str,
        body: bytes | None,
        *,
        due: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer that is a success; leaving early closes its connection.

        Every fault of the connection, also while the answer is read, leaves as a `TGIError` and without
        the cause: aiohttp's errors hold the request's headers, and so the key.
        """
        answered = False
        try:
            async with _in_time(due, self._stalled):
                response = await pool.session.request(
                    method,
                    self._url(path),
                    data=body,
                    headers=self._request_headers(),
                    allow_redirects=False,
                )
            answered = True
            pool.refusals = 0
            try:
                if response.status != _OK:
                    raise await self._refusal(response)
                yield response
            finally:
                response.close()  # a response read to its end has given its connection back already
        except aiohttp.ClientError as error:
            raise self._lost(pool, error, answered=answered) from None

    async def _admissible_pool(self) -> LoopPool:
        """Give the loop's pool, after what the server's state asks for: a health check, its limit."""
        pool = await self._pool()
        if pool.refusals >= _REFUSALS_TO_PROBE:
            await self._probe(pool)
        if pool.gate.limit is None and pool.gate.inside >= _ASK_LIMIT_FROM:
            await self._learn_limit(pool)
        return pool

    async def _pool(self) -> LoopPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.closed:
            self._pools = {key: kept for key, kept in self._pools.items() if not kept.closed}
            gate = shared_gate(self._base)
            self._narrow(gate)
            pool = self._pools[loop] = await LoopPool.open(
                gate, connect_timeout_s=self._patience.connect_timeout_s, proxy=self._proxy
            )
        return pool

    async def _probe(self, pool: LoopPool) -> None:
        """Let one health check stand for the requests of everyone while the server refuses connections."""
        async with pool.asking:
            if pool.refusals < _REFUSALS_TO_PROBE:
                return
            if pool.loop.time() < pool.refused_until:
                msg = f"{pool.refusals} connections in a row failed"
                raise TGIUnavailableError(msg, endpoint=self._base)
            try:
                await self.get("/health")
            except TGIError:
                if pool.refusals:  # any HTTP answer sets it to zero: then the server is back
                    pool.refused_until = pool.loop.time() + _PROBE_COUNTS_S
                    raise

    async def _learn_limit(self, pool: LoopPool) -> None:
        """Set the gate from `/info`; a server without that route keeps an open gate."""
        if self._limit_asked:
            return
        async with pool.asking:
            if self._limit_asked:
                return
            with contextlib.suppress(TGIError):
                info = await self.get("/info")
                limit = info.get("max_concurrent_requests") if isinstance(info, Mapping) else None
                if isinstance(limit, int):
                    # Others use the server too, and one request more than it takes is an error.
                    self._limit = max(1, limit - max(1, limit // 16))
                    self._narrow(pool.gate)
            self._limit_asked = True

    def _narrow(self, gate: Gate) -> None:
        if self._limit is not None:
            gate.limit = self._limit if gate.limit is None else min(gate.limit, self._limit)

    async def _before_retry(self, error: TGIError, attempt: int) -> None:
        """Wait before the next attempt, or raise the error if there shall be none."""
        allowed = self._patience.max_retries
        if isinstance(error, TGIGenerationError):
            allowed = min(1, allowed)
        elif not isinstance(error, (TGIOverloadedError, TGIUnavailableError, TGIStreamBrokenError)):
            allowed = 0
        if attempt >= allowed:
            raise error
        if isinstance(error, TGIOverloadedError):
            await self._learn_limit(await self._pool())
        await asyncio.sleep(
            backoff_wait_s(attempt, self._patience.backoff_s, error.retry_after_s, random.random())  # noqa: S311
        )

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            self._urls[path] = URL(self._base + path)
        return self._urls[path]

    def _request_headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # a proxy that compresses a stream holds its tokens back
            **{name: value.get_secret_value() for name, value in self._secrets.items()},
        }

    async def _refusal(self, response: aiohttp.ClientResponse) -> TGIError:
        text = await response.text(errors="replace")
        error = self._error(response.status, _decoded(text), response)
        location = response.headers.get("Location")
        if location is not None and isinstance(error, NotTGIError):
            target = URL(location)
            where = f"{target.origin()}{target.path}" if target.absolute else target.path
            error.remedy = f"It redirects to {where}: give that server's base URL."
        return error

    async def _refuse_body(self, response: aiohttp.ClientResponse, due: float | None) -> None:
        """Raise for a success that is no stream: an error body, or another service."""
        async with _in_time(due, self._stalled):
            body = _decoded(await response.text(errors="replace"))
        if isinstance(body, Mapping) and "error" in body:
            raise self._error(response.status, body, response)
        msg = f"a stream was asked for and {response.content_type!r} came"
        raise NotTGIError(msg, endpoint=self._base, status=_OK)

    def _error(
        self, status: int, body: Any, response: aiohttp.ClientResponse | None = None
    ) -> TGIError:
        wait = response.headers.get("Retry-After", "") if response is not None else ""
        return to_error(
            status,
            self._without_secrets(body),
            endpoint=self._base,
            retry_after_s=float(wait) if wait.isdecimal() else None,
        )

    def _without_secrets(self, body: Any) -> Any:
        """Blank our secrets in what the server said: gateways echo headers."""
        text = body if isinstance(body, str) else json.dumps(body)
        found = False
        for value in self._secrets.values():
            secret = value.get_secret_value().removeprefix("Bearer ")
            if secret and secret in text:
                text, found = text.replace(secret, "***"), True
        if not found:
            return body
        return text if isinstance(body, str) else json.loads(text)

    def _json_object(self, data: bytes) -> dict[str, Any]:
        body = _decoded(data)
        if isinstance(body, dict):
            return body
        if isinstance(body, str):
            error = to_error(_OK, self._without_secrets(body), endpoint=self._base)
            if isinstance(error, NotTGIError):
                raise error
        msg = "the answer is no JSON object"
        raise NotTGIError(msg, endpoint=self._base, status=_OK)

    def _too_slow(self) -> TGIError:
        msg = f"no complete answer in {self._patience.timeout_s or 0:g} s"
        return TGITimeoutError(msg, endpoint=self._base)

    def _stalled(self) -> TGIError:
        msg = f"no event for {self._patience.stall_timeout_s or 0:g} s"
        return TGITimeoutError(msg, endpoint=self._base)

    def _lost(self, pool: LoopPool, error: aiohttp.ClientError, *, answered: bool) -> TGIError:
        """Say what became of the connection."""
        if isinstance(error, aiohttp.ClientSSLError):
            return NotTGIError(
                f"TLS failed ({_reason(error)})",
                endpoint=self._base,
                remedy="Check the certificate, and whether the server speaks https or http.",
            )
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            pool.refusals += 1
            return TGIUnavailableError(f"cannot connect ({_reason(error)})", endpoint=self._base)
        if isinstance(error, aiohttp.ClientResponseError):
            return NotTGIError(f"no HTTP answer ({error.message[:80]!r})", endpoint=self._base)
        if answered:
            msg = "the connection broke in the middle of the answer"
            return TGIStreamBrokenError(msg, endpoint=self._base)
        msg = f"the connection was closed without an answer ({_reason(error)})"
        return TGIUnavailableError(msg, endpoint=self._base)


def backoff_wait_s(
    attempt: int, base_s: float, retry_after_s: float | None, chance: float
) -> float:
    """Seconds to wait after the failed attempt with this number, counted from 0.

    Full jitter: a share `chance` (0 to 1) of a bound that doubles with each attempt, so that clients
    which failed together do not come back together. What the server asked for goes first, capped.
    """
    if retry_after_s is not None:
        return min(_LONGEST_RETRY_AFTER_S, retry_after_s)
    return min(_LONGEST_BACKOFF_S, base_s * 2.0**attempt) * chance


def _decoded(data: bytes | str) -> Any:
    """Read JSON; what is none comes back as text."""
    try:
        return json.loads(data)
    except ValueError:
        return data if isinstance(data, str) else data.decode(errors="replace")


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((time for time in (one, other) if time is not None), default=None)


@contextlib.asynccontextmanager
async def _in_time(due: float | None, late: Callable[[], TGIError]) -> AsyncIterator[None]:
    """Bound what is awaited inside to a time of the loop; never put around a `yield` to callers."""
    try:
        async with asyncio.timeout_at(due):
            yield
    except TimeoutError:
        raise late() from None


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what follows `[DONE]` or an error: the end of the body, which frees the connection."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            await response.content.read()


def _reason(error: Exception) -> str:
    """Name a connection's fault without what aiohttp's own texts may hold."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(getattr(cause, "strerror", None) or type(cause).__name__)
