"""What every route shares on the socket's side: bodies, events, headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from langchain_sgd.embedded._errors import RejectionError
from langchain_sgd.embedded._serde import Value, parse_json
from langchain_sgd.embedded.protocol import KEEPALIVE, Output, dumps

PAYLOAD_LIMIT: Final = 2_000_000
"""Bytes of the largest body, TGI's default."""
_COMPUTE_TYPE: Final = "cpu+optimized"


async def read_body(request: web.Request) -> Value:
    """Read and parse a request's body.

    Raises:
        RejectionError: 413 too large, 415 no JSON by its type, 400 no JSON by its text.
    """
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        text = "Failed to buffer the request body: length limit exceeded"
        raise RejectionError(413, text) from None
    return Value(parse_json(raw, request.headers.get("Content-Type")), end=len(raw))


class Events:
    """The server-sent events of one response."""

    __slots__ = ("_last", "_time", "response")

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        self._time = asyncio.get_running_loop().time
        self._last = self._time()

    async def send(self, data: bytes) -> None:
        """Write one event."""
        self._last = self._time()
        await self.response.write(data)

    async def keep_alive(self, interval_s: float) -> None:
        """Send a comment whenever there was nothing to send for so long."""
        while True:
            quiet_s = self._time() - self._last
            if quiet_s >= interval_s:
                await self.send(KEEPALIVE)
                quiet_s = 0.0
            await asyncio.sleep(interval_s - quiet_s)


@asynccontextmanager
async def event_stream(
    request: web.Request, *, characters: int, keepalive_s: float
) -> AsyncIterator[Events]:
    """Open a stream of events; headers leave at once, as TGI's do.

    A client that has gone away ends the block, and with it the engine's work, silently.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "x-compute-type": _COMPUTE_TYPE,
            "x-compute-characters": str(characters),
            "x-accel-buffering": "no",
        }
    )
    await response.prepare(request)
    events = Events(response)
    try:
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(events.keep_alive(keepalive_s))
            try:
                yield events
            finally:
                beat.cancel()
    except* ConnectionResetError:
        pass


def timing_headers(started: float, characters: int, outputs: Sequence[Output]) -> dict[str, str]:
    """The headers of an answer that is not streamed; times in ms but for `x-compute-time` (s).

    Engines do not report when a request left their queue: all the time counts as inference.
    """
    seconds = time.monotonic() - started
    milliseconds = int(seconds * 1000)
    generated = sum(len(output.tokens) for output in outputs)
    return {
        "x-compute-type": _COMPUTE_TYPE,
        "x-compute-time": str(seconds),
        "x-compute-characters": str(characters),
        "x-total-time": str(milliseconds),
        "x-validation-time": "0",
        "x-queue-time": "0",
        "x-inference-time": str(milliseconds),
        "x-time-per-token": str(milliseconds // max(1, generated)),
        "x-prompt-tokens": str(sum(output.prompt_tokens for output in outputs)),
        "x-generated-tokens": str(generated),
    }


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer, written as TGI writes it."""
    return web.Response(
        status=status, body=dumps(value), content_type="application/json", headers=headers
    )
