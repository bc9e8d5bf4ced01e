"""The application: its routes, and the way of one question through it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar, cast

from langchain_core.messages import BaseMessage
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Send

from langchain_sgd._version import __version__
from langchain_sgd.drawing.colors import tier_colors
from langchain_sgd.proxy.chat import Chat
from langchain_sgd.proxy.engine import PLAIN, Engine, Finished, Piece, Text
from langchain_sgd.proxy.errors import ProxyError, as_proxy_error
from langchain_sgd.proxy.guard import Guard, origin_of, security_headers
from langchain_sgd.proxy.history import Drawing, History, Record
from langchain_sgd.proxy.limits import Limits
from langchain_sgd.proxy.metrics import Metrics
from langchain_sgd.proxy.replying import Noted, Reply
from langchain_sgd.proxy.responses import Responding, ResponseRequest
from langchain_sgd.proxy.showing import PAGE, Showing
from langchain_sgd.proxy.streaming import (
    EventStream,
    Failed,
    Feed,
    Sending,
    feeding,
    while_connected,
)
from langchain_sgd.proxy.undivided import answer_undivided
from langchain_sgd.proxy.wire import (
    ChatRequest,
    Progress,
    model_json,
    read_request,
    sse,
)
from langchain_sgd.report import Usage
from langchain_sgd.runnable import SGDRunnable

T = TypeVar("T", ChatRequest, ResponseRequest)
_RACE: Final = re.compile(r"[0-9a-f]{1,32}")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(
    sgd: SGDRunnable,
    *,
    key: SecretStr | str | None = None,
    hosts: Collection[str] | None = None,
    cors_origins: Sequence[str] = (),
    limits: Limits | None = None,
    progress: Progress = "off",
    samples: Sequence[str] = (),
) -> ASGIApp:
    """An ASGI application: OpenAI's chat completions and responses under `/v1`, the live page at `/`.

    Args:
        sgd: What answers.
        key: What clients must send as a bearer token; without one, listen on loopback only.
        hosts: Host names the server answers to, checked on loopback; None checks none.
        cors_origins: Origins of other web pages that may use the server.
        limits: What clients may use up.
        progress: Where the plan and the parts' progress go if a request does not say.
        samples: Questions that the page offers.

    Raises:
        InvalidInputError: The runnable waits for approvals or saves its runs; or as `Guard`.
    """
    secret = SecretStr(key) if isinstance(key, str) else key
    limits = limits or Limits()
    cors_origins = [*map(origin_of, cors_origins)]
    proxy = _Proxy(Engine(sgd), limits, progress, samples, needs_key=secret is not None)
    app: ASGIApp = Starlette(
        routes=proxy.routes(),
        exception_handlers={
            HTTPException: proxy.refuse,
            ProxyError: proxy.refuse,
            Exception: proxy.refuse,
        },
    )
    app = Guard(
        app,
        key=secret,
        hosts=hosts,
        origins=cors_origins,
        open_paths=lambda path: path in proxy.open_paths,
        body_bytes=limits.body_bytes,
        on_refusal=proxy.metrics.failed,
    )
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-SGD-Run", "X-SGD-Undivided", "Retry-After"],
        )
        return security_headers(app, {**_HEADERS, "Cross-Origin-Resource-Policy": "cross-origin"})
    return security_headers(app, _HEADERS)


class _Proxy:
    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        progress: Progress,
        samples: Sequence[str],
        *,
        needs_key: bool,
    ) -> None:
        self.engine = engine
        self.limits = limits
        self._progress = progress
        self.history = History(limits)
        self.metrics = Metrics()
        self._showing = Showing(self.history, self.metrics)
        self._created = int(time.time())
        self._active = 0
        self.open_paths = {"/", "/health", "/api/config", *(f"/page/{name}" for name in PAGE)}
        self._config = {
            "version": __version__,
            "needs_key": needs_key,
            "models": list(engine.runnables),
            "tiers": {
                name: color
                for name, color in tier_colors(engine.tiers).items()
                if name in {"planner", *engine.tiers}
            },
            "samples": list(samples),
        }

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{name}", self.model),
            Route("/v1/chat/completions", Sending(self.complete), methods=["POST"]),
            Route("/v1/responses", Sending(self.respond), methods=["POST"]),
            Route("/api/config", self.config),
            Route("/api/runs", Sending(self.run), methods=["POST"]),
            *self._showing.routes(),
        ]

    # -- small answers

    async def config(self, _: Request) -> Response:
        return JSONResponse(self._config)

    async def models(self, _: Request) -> Response:
        data = [model_json(name, self._created) for name in self.engine.runnables]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        return JSONResponse(model_json(self._known(request.path_params["name"]), self._created))

    def _known(self, model: str) -> str:
        if model not in self.engine.runnables:
            known = ", ".join(self.engine.runnables)
            raise ProxyError(
                404,
                f"There is no model {model!r}; there are {known}.",
                param="model",
                code="model_not_found",
            )
        return model

    # -- errors

    async def refuse(self, _: Request, error: Exception) -> Response:
        """An error before an answer has begun."""
        if isinstance(error, HTTPException):
            error = ProxyError(error.status_code, f"{error.detail}.", headers=error.headers)
        refusal = as_proxy_error(error)
        self.metrics.failed(refusal.status)
        return refusal.response()

    # -- questions

    async def complete(self, request: Request, send: Send) -> None:
        """OpenAI's chat completions."""
        asked = await self._read(request, ChatRequest)
        progress = asked.sgd_progress or self._progress
        await self._reply(
            request, send, asked, lambda record, why: Chat(asked, record, why, progress)
        )

    async def respond(self, request: Request, send: Send) -> None:
        """OpenAI's responses."""
        given = await self._read(request, ResponseRequest)
        asked = given.as_chat()
        await self._reply(
            request, send, asked, lambda record, why: Responding(given, asked, record, why)
        )

    async def _reply(
        self,
        request: Request,
        send: Send,
        asked: ChatRequest,
        made: Callable[[Record, str | None], Reply],
    ) -> None:
        messages = asked.conversation()
        undivided = asked.why_undivided(messages)
        with self._place():
            record = self._begun(asked, messages, "api")
            reply = made(record, undivided)
            answer = reply.stream if asked.stream else reply.whole
            async with self._answering(record, self._pieces(asked, messages, undivided)) as feed:
                work = answer(feed, request.receive, send)
                if error := await while_connected(request.receive, work):
                    record.failed(error.body())
                    self.metrics.failed(error.status)

    async def run(self, request: Request, send: Send) -> None:
        """A run for the page: the same request, answered by all that happens."""
        asked = await self._read(request, ChatRequest)
        messages = asked.conversation()
        if why := asked.why_undivided(messages):
            raise ProxyError(400, f"The page shows answers in text only, not with {why}.")
        race = request.query_params.get("race")
        if race is not None and not _RACE.fullmatch(race):
            raise ProxyError(400, "A race is named by 1 to 32 hexadecimal digits.", param="race")
        with self._place():
            record = self._begun(asked, messages, "page", race)
            async with self._answering(record, self._pieces(asked, messages, None)) as feed:
                stream = EventStream(send, {"X-SGD-Run": record.id})
                await while_connected(request.receive, self._show(record, feed, stream))

    async def _show(self, record: Record, feed: Feed[Noted], stream: EventStream) -> None:
        """Send what happens, as it happens."""
        await stream.begin()
        drawing = Drawing()
        while True:
            if (item := await stream.next_of(feed)) is None:
                break
            if isinstance(item, Failed):
                error = as_proxy_error(item.error)
                self.metrics.failed(error.status)
                await stream.send(sse(record.failed(error.body())))
                break
            await stream.send(sse(item[1]), *map(sse, drawing.after(item[1])))
        await stream.end()

    async def _read(self, request: Request, form: type[T]) -> T:
        """The request, whole and checked.

        Only JSON: a web page elsewhere can send a form without asking, but not this.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ProxyError(415, f"The content type must be application/json, not {kind!r}.")
        try:
            async with asyncio.timeout(self.limits.body_s):
                body = await request.body()
        except TimeoutError:
            raise ProxyError(408, "The request did not arrive in time.") from None
        asked = read_request(body, form)
        self._known(asked.model)
        return asked

    @contextmanager
    def _place(self) -> Any:
        if self._active >= self.limits.concurrent:
            raise ProxyError(
                429,
                f"{self._active} questions are being answered; this server takes no more at once.",
                code="too_many_requests",
                headers={"Retry-After": "1"},
            )
        self._active += 1
        try:
            with self.metrics.in_flight.track_inprogress():
                yield
        finally:
            self._active -= 1

    def _begun(
        self,
        asked: ChatRequest,
        messages: Sequence[BaseMessage],
        source: str,
        race: str | None = None,
    ) -> Record:
        record = Record(asked.model, str(messages[-1].text), source, race)
        if asked.store is not False and self.limits.history:
            self.history.add(record)
        return record

    @asynccontextmanager
    async def _answering(
        self, record: Record, source: AsyncIterator[Piece]
    ) -> AsyncIterator[Feed[Noted]]:
        """The pieces of an answer, noted in its record; at the end of the block the run ends."""
        usage: Usage | None = None
        began = time.monotonic()

        async def noted() -> AsyncIterator[Noted]:
            nonlocal usage
            seen = False
            async with aclosing(cast("Any", source)):
                async for piece in source:
                    if isinstance(piece, Text) and not seen:
                        seen = True
                        self.metrics.first_text(record.model, time.monotonic() - began)
                    if isinstance(piece, Finished):
                        usage = piece.usage
                    yield piece, record.note(piece)

        try:
            async with feeding(noted(), timeout_s=self.limits.answer_s) as feed:
                yield feed
        finally:
            if record.status == "running":
                record.end("cancelled")
            self.metrics.ended(record, usage)
            self.history.trim()

    def _pieces(
        self, asked: ChatRequest, messages: Sequence[BaseMessage], undivided: str | None
    ) -> AsyncIterator[Piece]:
        if undivided is None:
            return self.engine.answer(asked.model, messages, asked.options)
        sgd = self.engine.runnables[PLAIN]
        return answer_undivided(sgd, messages, asked.options, asked.bound)
