"""How requests reach a server: pooled, in time, repeated where that helps, faults made `TGIError`s."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import SecretStr
from yarl import URL

from langchain_sgd.tgi.due import Due, in_time
from langchain_sgd.tgi.endpoint import Verify, proxy_for, tls_for
from langchain_sgd.tgi.errors import TGIError, TGIUnavailableError
from langchain_sgd.tgi.exchange import Ending, Exchange
from langchain_sgd.tgi.faults import Faults, bare, decoded, proxy_secrets
from langchain_sgd.tgi.gate import Gate, shared_gate
from langchain_sgd.tgi.pool import LoopPool
from langchain_sgd.tgi.retries import Patience, Retries
from langchain_sgd.tgi.server import Timings, read_timings

_ASK_LIMIT_FROM: Final = 8
"""Requests in flight from which it pays to ask the server how many it takes."""
_REFUSALS_TO_PROBE: Final = 3
"""Connections that fail in a row before a health check goes ahead of further requests."""
_PROBE_TIMEOUT_S: Final = 2.0
_PROBE_COUNTS_S: Final = 1.0


class Answer(NamedTuple):
    """A whole answer of the server."""

    body: dict[str, Any]
    timings: Timings
    """What the `x-*` headers say; empty where a server sends none."""


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
        verify: Verify = True,
        proxy: SecretStr | None = None,
    ) -> None:
        self._base = url
        self._secrets = secret_headers
        self._patience = patience
        self._limit = max_concurrent_requests
        self._limit_asked = max_concurrent_requests is not None
        self._verify = verify
        self._tls: ssl.SSLContext | bool | None = None
        found = proxy.get_secret_value() if proxy is not None else proxy_for(url)
        self._proxy = SecretStr(found) if found else None
        self._faults = Faults(url, [*secret_headers.values(), *proxy_secrets(found or None)])
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._urls: dict[str, URL] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process: connections and what was made for them."""
        return {**vars(self), "_pools": {}, "_tls": None}

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def once(self, path: str, payload: Mapping[str, Any] | None = None) -> Any:
        """Ask a route for its JSON, or its text, once and in the time of a health check.

        Raises:
            TGIError: There was no success.
        """
        due = self._due(_PROBE_TIMEOUT_S, "no answer")
        body = None if payload is None else json.dumps(payload).encode()
        try:
            pool = await self._pool()
            method = "GET" if body is None else "POST"
            async with self._exchange(pool, method, path, body, due) as exchange, in_time(due):
                return decoded(await exchange.body())
        except TGIError as error:
            bare(error)
            raise

    async def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Post JSON and give the JSON answer.

        Raises:
            TGIError: The call failed, after its retries.
        """
        body = json.dumps(payload).encode()
        deadline = self._due(self._patience.timeout_s, "no complete answer")
        retries = Retries(self._patience, deadline, self._learn)
        try:
            async with in_time(deadline):
                while True:
                    try:
                        pool = await self._admissible_pool()
                        async with pool.gate, self._exchange(pool, "POST", path, body) as exchange:
                            answer = self._faults.whole_answer(await exchange.body())
                            return Answer(answer, read_timings(exchange.response.headers))
                    except TGIError as error:
                        await retries.wait_after(error)
        except TGIError as error:
            bare(error)
            raise

    async def events(
        self, path: str, payload: Mapping[str, Any], ending: Ending
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """Post JSON and yield the events of the answer, those that arrived together as one list.

        Args:
            path: The route.
            payload: The body.
            ending: Is shown every event and says whether the stream ended rightly.

        Raises:
            TGIError: The call failed: before the first event after its retries, later at once.
        """
        body = json.dumps(payload).encode()
        deadline = self._due(self._patience.timeout_s, "no complete answer")
        retries = Retries(self._patience, deadline, self._learn)
        opened = False
        try:
            while True:
                try:
                    async with in_time(deadline):
                        pool = await self._admissible_pool()
                        await pool.gate.acquire()
                    try:
                        due = min(deadline, self._headers_due())
                        exchange = self._exchange(pool, "POST", path, body, due)
                        reading = exchange.events(ending, lambda: self._next_event_due(deadline))
                        async with contextlib.aclosing(reading):
                            async for events in reading:
                                opened = True
                                yield events
                    finally:
                        pool.gate.release()
                except TGIError as error:
                    if opened:
                        raise
                    async with in_time(deadline):
                        await retries.wait_after(error)
                else:
                    return
        except TGIError as error:
            bare(error)
            raise

    def _due(self, seconds: float | None, missed: str) -> Due:
        """Say until when something must have come, and how to name that it did not."""
        seconds = math.inf if seconds is None else seconds
        return Due(asyncio.get_running_loop().time() + seconds, missed, seconds, self._base)

    def _next_event_due(self, deadline: Due) -> Due:
        return min(deadline, self._due(self._patience.stall_timeout_s, "no event"))

    def _exchange(
        self, pool: LoopPool, method: str, path: str, body: bytes | None, due: Due | None = None
    ) -> Exchange:
        headers = self._request_headers()
        return Exchange(pool, method, self._url(path), body, headers, self._faults, due)

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
            for past, kept in list(self._pools.items()):  # other threads may add theirs meanwhile
                if kept.closed:
                    self._pools.pop(past, None)
            gate = shared_gate(self._base)
            self._narrow(gate)
            if self._tls is None:
                self._tls = tls_for(self._base, self._verify)
            pool = self._pools[loop] = await LoopPool.open(
                gate,
                connect_timeout_s=self._patience.connect_timeout_s,
                proxy=None if self._proxy is None else self._proxy.get_secret_value(),
                tls=self._tls,
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
            with contextlib.suppress(TGIError):
                await self.once("/health")
            if pool.refusals:  # any HTTP answer sets it to zero
                pool.refused_until = pool.loop.time() + _PROBE_COUNTS_S
                msg = f"{pool.refusals} connections in a row failed, and /health does not answer"
                raise TGIUnavailableError(msg, endpoint=self._base)

    async def _learn(self) -> None:
        await self._learn_limit(await self._pool())

    async def _learn_limit(self, pool: LoopPool) -> None:
        """Set the gate from `/info`; a server without that route keeps an open gate."""
        async with pool.asking:
            if not self._limit_asked:
                with contextlib.suppress(TGIError):
                    self._limit = _limit_of(await self.once("/info"))
                self._limit_asked = True
        self._narrow(pool.gate)

    def _narrow(self, gate: Gate) -> None:
        if self._limit is not None:
            gate.limit = self._limit if gate.limit is None else min(gate.limit, self._limit)

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            self._urls[path] = URL(self._base + path)
        return self._urls[path]

    def _request_headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # a proxy that compresses a stream holds its tokens back
        }
        if (scale_up_s := self._patience.scale_up_timeout_s) is not None:
            headers["X-Scale-Up-Timeout"] = f"{scale_up_s:.0f}"
        return {**headers, **{name: v.get_secret_value() for name, v in self._secrets.items()}}

    def _headers_due(self) -> Due:
        """Say until when a stream must begin; a gateway may hold the request while the server starts."""
        seconds = self._patience.stall_timeout_s
        if seconds is not None:
            seconds = max(seconds, self._patience.scale_up_timeout_s or 0.0)
        return self._due(seconds, "no event")


def _limit_of(info: Any) -> int | None:
    """Take a little less than the server does: others use it too, and one too many is an error."""
    limit = info.get("max_concurrent_requests") if isinstance(info, Mapping) else None
    return max(1, limit - max(1, limit // 16)) if isinstance(limit, int) else None
