"""The proxy on loopback, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from langchain_sgd.proxy import make_app
from langchain_sgd.proxy.serve import listening, url_of
from langchain_sgd.runnable import SGDRunnable


@contextmanager
def serving(sgd: SGDRunnable, **options: Any) -> Iterator[str]:
    """`make_app` of these, at the URL that is given."""
    options.setdefault("hosts", {"127.0.0.1"})
    with serving_app(make_app(sgd, **options)) as url:
        yield url


@contextmanager
def serving_app(app: ASGIApp, *, lifespan: Any = "off") -> Iterator[str]:
    """Any application, at the URL that is given."""
    config = uvicorn.Config(
        app, lifespan=lifespan, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as place:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            yield url_of(place)
        finally:
            server.should_exit = True
            thread.join()
