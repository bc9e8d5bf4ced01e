"""A TGI server for tests: real sockets, scripted answers, faults by the request, a wire log.

It is `langchain_sgd.embedded.app` over a `ScriptedEngine`; what is here only spoils its answers and
writes down what came in. By hand: `python -m tests.tgi_server --port 8081`.

    async with TGITestServer("Hello there.") as server:
        server.inject(Fault("overloaded"), times=2, path="/generate_stream")
        ...  # talk to server.url
        assert [entry.status for entry in server.log] == [200, 200, 200]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.engine import GenerateRequest
from tests.scripted_engine import CALL, Call, Pace, Reply, ScriptedEngine, Trouble

__all__ = ["Fault", "Pace", "ScriptedEngine", "TGITestServer", "WireEntry"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_PAYLOAD_LIMIT = 2_000_000

FaultKind = Literal[
    # answered instead of the application
    "unauthorized",
    "rate_limited",
    "bad_gateway",
    "unavailable",
    "gateway_timeout",
    "html",
    # inside the engine
    "overloaded",
    "fail",
    "incomplete",
    "stall",
    # on the wire
    "slow",
    "drop",
    "cut",
    "eof",
    "unknown_finish",
    "extra_fields",
    # odd framing of a stream that is otherwise right
    "no_space",
    "crlf",
    "comments",
    "split",
    "merge",
]

_TROUBLES: Mapping[str, Literal["busy", "fail", "incomplete", "stall"]] = {
    "overloaded": "busy",
    "fail": "fail",
    "incomplete": "incomplete",
    "stall": "stall",
}
_PROXY: Mapping[str, tuple[int, str]] = {
    "bad_gateway": (502, "502 Bad Gateway"),
    "unavailable": (503, "503 Service Temporarily Unavailable"),
    "gateway_timeout": (504, "504 Gateway Time-out"),
    "html": (200, "Welcome to nginx!"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request.

    Instead of an answer: `unauthorized` (401, empty), `rate_limited` (a proxy's 429 with
    Retry-After), `bad_gateway`, `unavailable`, `gateway_timeout` (a proxy's html), `html` (200 that
    is no TGI). In the engine, after so many tokens: `overloaded`, `fail`, `incomplete` (ends
    without an end), `stall` (keepalive comments go on). On the wire: `slow` (waits before it
    answers), `drop` (closes without a byte), `cut` (closes the connection after so many events, or
    inside the body), `eof` (a clean end there), `unknown_finish`, `extra_fields`. Framing:
    `no_space` (axum 0.6), `crlf`, `comments` (before every event), `split` (events in pieces of a
    few bytes), `merge` (three events in one write).
    """

    kind: FaultKind
    after: int = 0
    """Tokens or events that pass first."""
    delay_s: float = 0.0
    """For `slow`."""
    retry_after: str = "1"
    """For `rate_limited`."""


_FAULT: ContextVar[Fault | None] = ContextVar("fault", default=None)


@dataclass(slots=True)
class WireEntry:
    """One request as it came in, and how it ended."""

    method: str
    path: str
    json: Any
    """The parsed body; None where it is no JSON."""
    headers: Mapping[str, str]
    """By lower-case name; values of secret headers are hashes."""
    peer_port: int
    started: float
    """Seconds of `time.monotonic`."""
    fault: Fault | None = None
    ended: float | None = None
    status: int | None = None
    disconnected: bool = False
    """Whether the connection was gone before the answer was finished."""
    requests: list[GenerateRequest] = field(default_factory=list)
    """What the engine was asked for; two where tools were offered and none was chosen."""

    @property
    def prompts(self) -> list[str]:
        """The prompts that reached the engine."""
        return [request.prompt for request in self.requests]

    def carries(self, secret: str) -> bool:
        """Whether the secret was sent, in a secret header or anywhere else."""
        hashes = {hashed(secret), hashed(f"Bearer {secret}")}
        plain = [self.path, json.dumps(self.json), *self.headers.values()]
        return any(each in hashes or secret in each for each in plain)


def hashed(secret: str) -> str:
    """How the log keeps a secret header."""
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()[:16]}"


@dataclass(slots=True)
class _Planned:
    fault: Fault
    times: int | None
    path: str | None
    when: Callable[[WireEntry], bool] | None

    def applies(self, entry: WireEntry) -> bool:
        return (self.path is None or entry.path.endswith(self.path)) and (
            self.when is None or self.when(entry)
        )


class TGITestServer:
    """Serves scripted engines on 127.0.0.1 while its block runs.

    Attributes:
        url: Where it listens; several engines answer under `url_of(name)`.
        engine: The only, or the first, engine; its `reply` and `pace` may be changed any time.
        log: Every request in the order of arrival.
        healthy: Set to False to make `/health` answer 503.
    """

    def __init__(
        self,
        engines: Reply | ScriptedEngine | Mapping[str, ScriptedEngine] | None = None,
        *,
        api_key: str | None = None,
        max_concurrent_requests: int = 128,
        keepalive_s: float = 15.0,
        port: int = 0,
    ) -> None:
        """`engines`: one engine, engines by name, or the reply of one made for the test."""
        self.engines = _named(engines)
        self.engine = next(iter(self.engines.values()))
        self.healthy = True
        self.log: list[WireEntry] = []
        self.url = ""
        self._options: dict[str, Any] = {
            "api_key": api_key,
            "max_concurrent_requests": max_concurrent_requests,
            "keepalive_s": keepalive_s,
        }
        self._port = port
        self._planned: list[_Planned] = []
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listen, on the same port as before."""
        app = make_app(self.engines, **self._options)
        app.middlewares.insert(0, self._wire)
        app.on_response_prepare.append(self._shape)
        self.url = await self._stack.enter_async_context(
            serving(app, port=self._port, shutdown_s=0.05)
        )
        self._port = int(self.url.rpartition(":")[2])

    async def refuse(self) -> None:
        """Close every connection and refuse new ones, until `accept`."""
        await self._stack.aclose()

    def url_of(self, name: str) -> str:
        """Where the model of this name answers."""
        return f"{self.url}/{name}"

    def inject(
        self,
        fault: Fault | FaultKind,
        *,
        times: int | None = 1,
        path: str | None = None,
        when: Callable[[WireEntry], bool] | None = None,
    ) -> None:
        """Spoil the next requests that match; the first fault that was injected goes first.

        Args:
            fault: What goes wrong.
            times: How often; None for ever.
            path: Only requests whose path ends like this.
            when: Only requests that this accepts.
        """
        made = fault if isinstance(fault, Fault) else Fault(fault)
        self._planned.append(_Planned(made, times, path, when))

    def heal(self) -> None:
        """Forget all faults."""
        self._planned.clear()

    # --- what came in

    def requests(self, path: str = "") -> list[WireEntry]:
        """Requests whose path ends like this."""
        return [entry for entry in self.log if entry.path.endswith(path)]

    @property
    def prompts(self) -> list[str]:
        """Every prompt that reached an engine, in order of arrival."""
        return [prompt for entry in self.log for prompt in entry.prompts]

    @property
    def shared_prefix(self) -> str:
        """What all prompts begin with."""
        prompts = self.prompts or [""]
        shortest, longest = min(prompts), max(prompts)
        pairs = enumerate(zip(shortest, longest, strict=False))
        end = next((at for at, (one, other) in pairs if one != other), len(shortest))
        return shortest[:end]

    @property
    def connections(self) -> int:
        """TCP connections that carried requests."""
        return len({entry.peer_port for entry in self.log})

    async def idle(self, timeout_s: float = 5.0) -> None:
        """Wait until no request is in flight: disconnects have then been seen."""
        async with asyncio.timeout(timeout_s):
            await self._idle.wait()

    # --- around the application

    @web.middleware
    async def _wire(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        entry = await _entry(request)
        entry.fault = self._take(entry)
        self.log.append(entry)
        reset_fault = _FAULT.set(entry.fault)
        trouble = _TROUBLES.get(entry.fault.kind) if entry.fault is not None else None
        after = entry.fault.after if entry.fault is not None else 0
        call = Call(None if trouble is None else Trouble(trouble, after), entry.requests)
        reset = CALL.set(call)
        self._running += 1
        self._idle.clear()
        try:
            response = await self._answer(request, handler, entry.fault)
        except asyncio.CancelledError:
            entry.disconnected = True
            raise
        else:
            entry.status = response.status
            return response
        finally:
            CALL.reset(reset)
            _FAULT.reset(reset_fault)
            entry.ended = time.monotonic()
            transport = request.transport
            entry.disconnected |= transport is None or transport.is_closing()
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    def _take(self, entry: WireEntry) -> Fault | None:
        for planned in self._planned:
            if planned.applies(entry):
                if planned.times is not None:
                    planned.times -= 1
                    if planned.times == 0:
                        self._planned.remove(planned)
                return planned.fault
        return None

    async def _answer(
        self, request: web.Request, handler: _Handler, fault: Fault | None
    ) -> web.StreamResponse:
        if not self.healthy and request.path.endswith(("/health", "/ping")):
            return web.json_response(
                {"error": "unhealthy", "error_type": "healthcheck"}, status=503
            )
        if fault is None:
            return await handler(request)

        match fault.kind:
            case "unauthorized":
                return web.Response(status=401)
            case "rate_limited":
                headers = {"Retry-After": fault.retry_after}
                return web.json_response(
                    {"error": "Too many requests"}, status=429, headers=headers
                )
            case "slow":
                await asyncio.sleep(fault.delay_s)
            case "drop":
                _close(request)
                return web.Response()
            case kind if kind in _PROXY:
                status, text = _PROXY[kind]
                html = f"<html><head><title>{text}</title></head><body>{text}</body></html>"
                return web.Response(status=status, text=html, content_type="text/html")
        response = await handler(request)
        if isinstance(response, web.Response):
            return await _spoil(request, response, fault)
        return response

    async def _shape(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put the fault between the application and the socket of a stream."""
        fault = _FAULT.get()
        if fault is not None and response.content_type == "text/event-stream":
            shaper = _Shaper(request, response, fault)
            response.write = shaper.write  # type: ignore[method-assign]
            response.write_eof = shaper.write_eof  # type: ignore[method-assign]


class _Shaper:
    """Spoils the events of one stream; raises what a lost connection raises to end it."""

    def __init__(self, request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
        self._request = request
        self._write = response.write
        self._write_eof = response.write_eof
        self._fault = fault
        self._events = 0
        self._held = b""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        # The application may write several events at once.
        for event in re.findall(rb".*?\n\n", bytes(data), re.DOTALL):
            for piece in await self._pieces(event):
                await self._write(piece)
                # Let the socket take this piece before the next is made.
                await asyncio.sleep(0)

    async def write_eof(self, data: bytes = b"") -> None:
        await self.write(data)
        if self._held:
            await self._write(self._held)
            self._held = b""
        await self._write_eof()

    async def _pieces(self, data: bytes) -> list[bytes]:
        if data.startswith(b":"):
            return [data]
        if self._fault.kind in ("cut", "eof") and self._events == self._fault.after:
            if self._fault.kind == "cut":
                _close(self._request)
            else:
                await self._write_eof()
            raise ConnectionResetError
        self._events += 1
        match self._fault.kind:
            case "no_space":
                return [data.replace(b"data: ", b"data:", 1)]
            case "crlf":
                return [data.replace(b"\n\n", b"\r\n\r\n")]
            case "comments":
                return [b":\n\n" + data]
            case "split":
                return [data[at : at + 5] for at in range(0, len(data), 5)]
            case "merge":
                self._held += data
                if self._events % 3:
                    return []
                held, self._held = self._held, b""
                return [held]
            case _:
                return [_rewritten(data, self._fault)]


def _rewritten(data: bytes, fault: Fault) -> bytes:
    """An event or a body with a finish reason, or with fields, that nobody knows."""
    if fault.kind == "unknown_finish":
        return re.sub(rb'"finish_reason":"\w+"', b'"finish_reason":"speculative_abort"', data)
    if fault.kind == "extra_fields":
        return re.sub(rb"\{", b'{"x_unknown":{"deep":[1,null]},', data, count=1)
    return data


async def _spoil(request: web.Request, response: web.Response, fault: Fault) -> web.StreamResponse:
    """Apply a wire fault to an answer that is not streamed."""
    body = response.body
    if not isinstance(body, bytes):
        return response
    match fault.kind:
        case "cut":
            partial = web.StreamResponse(status=response.status, headers=response.headers)
            partial.content_length = len(body)
            await partial.prepare(request)
            await partial.write(body[: len(body) // 2])
            _close(request)
            return partial
        case "eof":
            response.body = body[: len(body) // 2]
        case _:
            response.body = _rewritten(body, fault)
    return response


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _entry(request: web.Request) -> WireEntry:
    body = None
    if request.can_read_body and (request.content_length or 0) <= _PAYLOAD_LIMIT:
        try:
            body = json.loads(await request.read())
        except (ValueError, web.HTTPRequestEntityTooLarge):
            body = None
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return WireEntry(
        request.method,
        request.path,
        body,
        dict(_headers(request)),
        peer[1] if peer else 0,
        time.monotonic(),
    )


def _headers(request: web.Request) -> Iterator[tuple[str, str]]:
    for name, value in request.headers.items():
        lower = name.lower()
        yield lower, hashed(value) if lower in _SECRET_HEADERS else value


def _named(
    engines: Reply | ScriptedEngine | Mapping[str, ScriptedEngine] | None,
) -> dict[str, ScriptedEngine]:
    if isinstance(engines, ScriptedEngine):
        return {"model": engines}
    if isinstance(engines, Mapping):
        named = {name: each for name, each in engines.items() if isinstance(each, ScriptedEngine)}
        if named:
            return named
        replies = {part: each for part, each in engines.items() if isinstance(each, str)}
        return {"model": ScriptedEngine(replies)}
    return {"model": ScriptedEngine(engines)}


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted server that speaks TGI's protocol.")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--reply", help="fixed text; made up from the prompt where not given")
    parser.add_argument("--token-ms", type=float, default=20.0)
    parser.add_argument("--api-key")
    arguments = parser.parse_args()
    engine = ScriptedEngine(arguments.reply, pace=Pace(token_s=arguments.token_ms / 1000))
    server = TGITestServer(engine, api_key=arguments.api_key, port=arguments.port)
    async with server:
        print(f"TGI test server on {server.url}; Ctrl-C ends it", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        print("ended")  # noqa: T201
