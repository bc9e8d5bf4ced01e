"""TGI's router protocol on sockets: one aiohttp application over any number of engines.

Every model answers under its own path prefix (`/small/generate`, `/large/v1/chat/completions`); an
only model also answers without one. The protocol itself is in `langchain_sgd.embedded.protocol`,
which knows nothing of sockets. The tests' server is this application over a scripted engine.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import SecretStr

from langchain_sgd.embedded._connections import Connections, is_loopback, only_loopback_names
from langchain_sgd.embedded._http import PAYLOAD_LIMIT, plain_refusals
from langchain_sgd.embedded._model import Model
from langchain_sgd.embedded._routes import Handler, Routes, unhealthy
from langchain_sgd.embedded._validation import Limits
from langchain_sgd.embedded.engine import Engine

__all__ = ["make_app", "serving"]

_LONGEST_LINE: Final = 65_536
_PATIENCE_S: Final = 20.0
"""For a client to send the headers of a request in, the first one or the next."""
_LOGGER: Final = logging.getLogger("langchain_sgd.embedded.server")
# Requests that are no HTTP are their client's fault; a thousand of them would write megabytes.
_LOGGER.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def make_app(
    engines: Mapping[str, Engine],
    *,
    api_key: SecretStr | str | None = None,
    max_concurrent_requests: int = 128,
    keepalive_s: float = 15.0,
) -> web.Application:
    """Build the application that serves `engines`, each under the path prefix `/<name>`.

    The engines stay the caller's: close them after the application. Run it with `serving`, or with
    an `AppRunner(..., handler_cancellation=True)`: without that, a client that goes away stops the
    engine only when the next token is written, and not at all in calls that are not streamed.

    Args:
        engines: The models by name; a single one also answers at the root.
        api_key: Where set, every POST but `/chat_tokenize` needs it as a bearer token.
        max_concurrent_requests: Requests in flight per model; one more is answered "overloaded"
            at once.
        keepalive_s: Seconds without an event after which a stream sends a comment.

    Raises:
        ValueError: No engine, a name that cannot be a path segment, or an empty key.
    """
    if not engines:
        msg = "make_app needs at least one engine, such as {'small': engine}"
        raise ValueError(msg)
    for name in engines:
        if _NAME.fullmatch(name) is None:
            msg = (
                f"Model name {name!r} cannot be a path segment; use letters, digits, '.', '_', '-'"
            )
            raise ValueError(msg)

    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is not None and not key.strip():
        msg = "api_key is empty; pass None to serve without a key"
        raise ValueError(msg)

    app = web.Application(client_max_size=PAYLOAD_LIMIT, middlewares=[plain_refusals])
    models = {
        name: Model(
            engine,
            Limits(
                max_total_tokens=engine.info.max_total_tokens,
                max_concurrent_requests=max_concurrent_requests,
            ),
        )
        for name, engine in engines.items()
    }
    for name, model in models.items():
        Routes(model, key, keepalive_s).register(app.router, f"/{name}")
    if len(models) == 1:
        (model,) = models.values()
        Routes(model, key, keepalive_s).register(app.router, "")
    else:
        app.router.add_get("/health", _health_of(list(models.values())))
    return app


@asynccontextmanager
async def serving(
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    shutdown_s: float = 1.0,
) -> AsyncIterator[str]:
    """Serve an application while the block runs; yields its URL.

    Connections without a request are closed after 20 s, or sooner where there are too many of them. On
    loopback, requests by another host name are refused: they come from web pages that were led here.

    Args:
        app: What `make_app` built.
        host: Address to listen on; loopback unless told otherwise.
        port: 0 takes a free one.
        shutdown_s: How long requests in flight may go on at the end before they are cancelled.

    Raises:
        OSError: The address cannot be bound.
    """
    connections = Connections()
    app.middlewares.insert(0, connections.watch)
    if is_loopback(host):
        app.middlewares.insert(1, only_loopback_names)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=shutdown_s,
        # A compressed body is refused: a small one could hold gigabytes.
        auto_decompress=False,
        logger=_LOGGER,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        keepalive_timeout=_PATIENCE_S,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        accepting = connections.accepting(cast("web.Server", runner.server))
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(accepting, host, port, reuse_address=True)
        stack.callback(listener.close)
        bound = listener.sockets[0].getsockname()[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"


def _health_of(models: Sequence[Model]) -> Handler:
    async def health(_: web.Request) -> web.StreamResponse:
        for model in models:
            if not await model.healthy():
                return unhealthy()
        return web.Response()

    return health
