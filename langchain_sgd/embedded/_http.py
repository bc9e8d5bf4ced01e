"""What every route shares on the socket's side: bodies, events, headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiohttp import web

from langchain_sgd.embedded._decoding import Output
from langchain_sgd.embedded._errors import RejectionError
from langchain_sgd.embedded._json import parse_json
from langchain_sgd.embedded.engine import Token
from langchain_sgd.embedded.protocol import KEEPALIVE, dumps

PAYLOAD_LIMIT: Final = 2_000_000
"""Bytes of the largest body, TGI's default."""
_BODY_TIMEOUT_S: Final = 30.0
_COMPUTE_TYPE: Final = "cpu+optimized"
_PAUSE_S: Final = 0.01
"""Between two writes of a stream; short enough that text still flows."""


async def read_body(request: web.Request) -> Any:
    """Read and parse a request's body.

    Raises:
        RejectionError: 408 too late, 413 too large, 415 no JSON by its type, 400 no JSON by its text.
    """
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            raw = await request.read()
    except TimeoutError:
        raise RejectionError(408, "The request body did not arrive in time") from None
    except web.HTTPRequestEntityTooLarge:
        text = "Failed to buffer the request body: length limit exceeded"
        raise RejectionError(413, text) from None
    return parse_json(raw, request.headers.get("Content-Type"))


class Line:
    """The line that a text has come to, and which of its tokens someone waits for.

    Lines may be commands, such as the nodes of a skeleton: their last token is, and the first one, since it
    says that another line follows. So may their fields be, which end with a bar; the cells of a table are
    sent one by one for it.
    """

    def __init__(self) -> None:
        self._begun = False

    def take(self, token: Token) -> bool:
        """Go on by a token; whether it must not wait."""
        was_begun, self._begun = self._begun, "\n" not in token.text
        return not (was_begun and self._begun) or "|" in token.text


class Events:
    """The server-sent events of one response.

    A write to a socket costs more than a token of a small model. So events that come within a moment of
    the last write are held back and leave together; a slower model's tokens leave one by one.
    """

    __slots__ = ("_held", "_holding", "_last", "_time", "_timer", "_writing", "response")

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        self._held: list[bytes] = []
        self._holding = asyncio.Event()
        self._writing = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._last = self._time() - _PAUSE_S

    async def send(self, data: bytes, *, at_once: bool = False) -> None:
        """Write one event, at once or in a moment, with what follows it until then.

        Waits while a client takes in less than it is sent.
        """
        self._held.append(data)
        if at_once or self._writing.locked():
            await self._flush()
        else:
            self._holding.set()

    async def close(self) -> None:
        """Write what is held and the end of the body, together."""
        async with self._writing:
            await self.response.write_eof(self._taken())

    async def attend(self, keepalive_s: float) -> None:
        """Write what is held, each time its moment has come, and a comment after each silence so long."""
        self._keep_alive(keepalive_s)
        try:
            while True:
                await self._holding.wait()
                if (pause_s := self._last + _PAUSE_S - self._time()) > 0:
                    await asyncio.sleep(pause_s)
                await self._flush()
        finally:
            self._timer.cancel()

    def _keep_alive(self, keepalive_s: float) -> None:
        silent_s = self._time() - self._last
        if silent_s >= keepalive_s:
            self._held.append(KEEPALIVE)
            self._holding.set()
            silent_s = 0.0
        # A timer for each silence, not for each event.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(keepalive_s - silent_s, self._keep_alive, keepalive_s)

    async def _flush(self) -> None:
        self._last = self._time()
        async with self._writing:
            if self._held:
                await self.response.write(self._taken())

    def _taken(self) -> bytes:
        data = b"".join(self._held)
        self._held.clear()
        self._holding.clear()
        return data


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
    with suppress(ConnectionResetError):
        # Of a client that is gone already; the first write then ends the block.
        await response.prepare(request)
    events = Events(response)
    try:
        async with asyncio.TaskGroup() as group:
            attending = group.create_task(events.attend(keepalive_s))
            try:
                yield events
                await events.close()
            finally:
                attending.cancel()
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


@web.middleware
async def plain_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what is not there without a body, and every question for options, as TGI does.

    Unlike TGI's, the answers allow no web page of another origin to use the models.
    """
    if request.method == "OPTIONS":
        return web.Response()
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        allowed = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return web.Response(status=error.status, headers=allowed)


def json_response(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer, written as TGI writes it."""
    return web.Response(
        status=status, body=dumps(value), content_type="application/json", headers=headers
    )
