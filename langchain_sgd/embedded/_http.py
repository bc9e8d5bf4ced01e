"""What every route shares on the socket's side: bodies, events, headers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NoReturn

from aiohttp import web

from langchain_sgd.embedded._decoding import Output
from langchain_sgd.embedded._errors import PREFIX, RejectionError
from langchain_sgd.embedded.engine import Token
from langchain_sgd.embedded.protocol import KEEPALIVE, dumps

PAYLOAD_LIMIT: Final = 2_000_000
"""Bytes of the largest body, TGI's default."""
_BODY_TIMEOUT_S: Final = 30.0
_COMPUTE_TYPE: Final = "cpu+optimized"
_INTEGER_DIGITS: Final = 20
"""Of the longest integer; beyond, JSON's numbers are read as floating."""
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


def parse_json(raw: bytes, content_type: str | None) -> Any:
    """Parse a request's body.

    Raises:
        RejectionError: 415 for another content type, 400 for what is not JSON, 422 for a field that stands
            there twice.
    """
    kind, _, subtype = (content_type or "").partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise RejectionError(415, "Expected request with `Content-Type: application/json`")
    try:
        # What stands after the first value is not read.
        value, _ = _DECODER.raw_decode(raw.decode().lstrip(" \t\r\n"))
        if b"\\u" in raw:
            # Python lets an escaped half of a surrogate pair through; it could not be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        reason = "recursion limit exceeded"
    except ValueError as error:
        reason = str(error)
    else:
        return value
    raise RejectionError(400, f"Failed to parse the request body as JSON: {reason}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RejectionError(422, f"{PREFIX}duplicate field `{twice}`")
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"expected value, not {name}"
    raise ValueError(msg)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once,
    parse_constant=_no_constant,
    parse_int=lambda digits: int(digits) if len(digits) <= _INTEGER_DIGITS else float(digits),
)


class Events:
    """The server-sent events of one response.

    A write to a socket costs more than a token of a small model. So events that come within a moment of
    the last write are held back and leave together; a slower model's tokens leave one by one.
    """

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response
        self._held: list[bytes] = []
        self._time = asyncio.get_running_loop().time
        self._last = self._time() - _PAUSE_S
        self._holding = asyncio.Event()
        self._line_begins = True

    async def send(self, data: bytes, *, of: Token | None = None) -> None:
        """Write one event, or hold it for a moment; waits while a client takes in less than it is sent.

        Lines may be commands, such as the nodes of a skeleton: somebody waits for their last token, and for
        the first one, which says that another line follows. So does somebody for fields; a bar ends them.
        """
        self._held.append(data)
        is_awaited = False
        if of is not None:
            ends = "\n" in of.text
            is_awaited = self._line_begins or ends or "|" in of.text
            self._line_begins = ends
        if is_awaited or self._time() - self._last >= _PAUSE_S:
            await self._flush()
        else:
            self._holding.set()

    async def close(self) -> None:
        """Write what is held and the end of the body, together."""
        await self.response.write_eof(b"".join(self._held))

    async def attend(self, keepalive_s: float) -> None:
        """Write what is held, each time its moment has come, and a comment after each silence so long."""
        while True:
            silent_s = self._time() - self._last
            if self._held and silent_s >= _PAUSE_S:
                await self._flush()
            elif self._held:
                await asyncio.sleep(_PAUSE_S - silent_s)
            elif silent_s >= keepalive_s:
                self._held.append(KEEPALIVE)
                await self._flush()
            else:
                self._holding.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(keepalive_s - silent_s):
                        await self._holding.wait()

    async def _flush(self) -> None:
        data, self._held = b"".join(self._held), []
        self._last = self._time()
        await self.response.write(data)


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
            waking = group.create_task(events.attend(keepalive_s))
            try:
                yield events
            finally:
                waking.cancel()
        await events.close()
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
