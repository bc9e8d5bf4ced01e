"""Local models at URLs: the TGI-protocol app over engines, in a thread of its own.

    with EmbeddedServer() as server:
        print(server.runnable().invoke("...").content)

The thread runs its own event loop, so scripts, notebooks and asyncio programs use it alike.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp.web import Application
from anyio.from_thread import start_blocking_portal
from pydantic import SecretStr

from langchain_sgd.embedded._connections import is_loopback
from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.engine import Engine, EngineError
from langchain_sgd.embedded.load import EngineName, load
from langchain_sgd.errors import InvalidInputError

if TYPE_CHECKING:
    from langchain_sgd.runnable import SGDRunnable

__all__ = ["EmbeddedServer", "bundled_models"]

BUNDLED: Final = ("small", "large")
_THREAD: Final = "langchain-sgd-server"
ModelSource = str | os.PathLike[str] | Engine


def bundled_models() -> dict[str, Path]:
    """The GGUF files in this package: `small` and `large`.

    Raises:
        EngineError: A file is missing, as in a checkout where the models were not yet trained.
    """
    folder = Path(str(resources.files("langchain_sgd.embedded"))) / "models"
    models = {name: folder / f"{name}.gguf" for name in BUNDLED}
    for name, path in models.items():
        if not path.is_file():
            msg = (
                f"The bundled {name} model is missing at {path}; reinstall langchain-sgd, or name"
                f" GGUF files of your own: EmbeddedServer({{{name!r}: '/path/to/model.gguf'}})"
            )
            raise EngineError(msg)
    return models


class EmbeddedServer:
    """Serves local models on loopback, each at a URL of its own, with TGI's protocol.

    A context manager, sync and async; or `start` and `close`; or `serve_forever` in the foreground.
    The bundled models are ready in a second or two. It can be started once.

    Args:
        models: GGUF files, folders in OpenVINO's format or engines by name; the bundled `small` and `large`
            by default. One alone, without a name, is served as `large`. Engines that are passed in stay
            the caller's and are not closed.
        host: Address to listen on. Anything but loopback opens the models to the network and needs a key.
        port: 0 takes a free one.
        api_key: Where set, clients must send it as a bearer token.
        slots: Requests that a model decodes together.
        context: Most tokens of a request, prompt and answer together; 4096 by default, and no more than
            the model was trained for.
        threads: Threads per model; None chooses.
        engine: What runs the files: OpenVINO where it can, else llama.cpp; see `load.load`.
        max_concurrent_requests: Requests in flight per model; one more is refused as overloaded.
        progress: Told what takes long while models load, and which engine was chosen why.

    Raises:
        EngineError: The bundled models are missing.
        InvalidInputError: The models would be open to the network without a key.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSource] | ModelSource | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: SecretStr | str | None = None,
        slots: int = 8,
        context: int | None = None,
        threads: int | None = None,
        engine: EngineName = "auto",
        max_concurrent_requests: int = 128,
        progress: Callable[[str], object] | None = None,
    ) -> None:
        if not is_loopback(host) and api_key is None:
            msg = (
                f"Listening on {host} opens the models to the network: give an api_key"
                " (serve: put a key into an environment variable and name it with --api-key-env)"
            )
            raise InvalidInputError(msg)
        if models is not None and not isinstance(models, Mapping):
            models = {"large": models}
        self._models = dict(bundled_models() if models is None else models)
        self._key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        self._steps: dict[str, str] = {}
        self._progress = progress
        self._load = partial(load, engine=engine, slots=slots, context=context, threads=threads)
        self._app = partial(
            make_app, api_key=self._key, max_concurrent_requests=max_concurrent_requests
        )
        self._address = {"host": host, "port": port}
        self._bundled = models is None
        self._engines: dict[str, Engine] = {}
        self._url: str | None = None
        self._stop: Callable[[], object] | None = None

    @property
    def url(self) -> str:
        """Where the server listens; a model is at `url/name`.

        Raises:
            RuntimeError: It is not running.
        """
        if self._url is None:
            msg = "The server is not running; use it in a with statement, or call start()"
            raise RuntimeError(msg)
        return self._url

    @property
    def urls(self) -> Mapping[str, str]:
        """The URL of every model, by name.

        Raises:
            RuntimeError: The server is not running.
        """
        return MappingProxyType({name: f"{self.url}/{name}" for name in self._models})

    def runnable(self, *, temperature: float = 0.7, **options: Any) -> SGDRunnable:
        """An `SGDRunnable` on the `small` and the `large` model, and a `planner` if there is one.

        The bundled models know no prompts but their own, so with them `prompts` is set. The planner
        decodes greedily: a skeleton is to be right, not new.

        Args:
            temperature: How freely the parts are written; TGI samples at 1.0 if nothing is said.
            **options: Further options of `SGDRunnable`.

        Raises:
            RuntimeError: The server is not running.
        """
        # The core must not load for those who serve only.
        from langchain_sgd.bundled import BUNDLED_OPTIONS  # noqa: PLC0415
        from langchain_sgd.runnable import SGDRunnable  # noqa: PLC0415
        from langchain_sgd.tgi import TGIEndpoint  # noqa: PLC0415

        def endpoint(name: str, heat: float) -> TGIEndpoint:
            options = {"temperature": heat}
            return TGIEndpoint(self.urls[name], api_key=self._key, options=options)

        models = {tier: endpoint(tier, temperature) for tier in self.urls if tier in BUNDLED}
        if planner := next((name for name in ("planner", "large") if name in self.urls), None):
            models["planner"] = endpoint(planner, 0.0)
        own = BUNDLED_OPTIONS if self._bundled else {}
        return SGDRunnable(**{**models, **own, **options})

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The engines of a running server, by name; for their statistics."""
        return MappingProxyType(self._engines)

    @property
    def steps(self) -> Mapping[str, str]:
        """What is being done for each model that is not ready, as `progress` was told."""
        return MappingProxyType(self._steps)

    def start(self) -> Self:
        """Load the models and listen; returns when clients may connect.

        Raises:
            EngineError: A model cannot be loaded.
            OSError: The address cannot be bound.
            RuntimeError: The server was started before.
        """
        if self._stop is not None:
            msg = "This server was started before; make another one"
            raise RuntimeError(msg)
        stack = ExitStack()
        # Runs also at the end of the process, and only once. Nothing here may hold this object: a server that
        # is forgotten is stopped.
        self._stop = weakref.finalize(self, _close, stack)
        running = _serving(
            self._models,
            self._engines,
            self._steps,
            self._progress,
            self._load,
            self._app,
            self._address,
        )
        try:
            portal = stack.enter_context(start_blocking_portal(name=_THREAD))
            self._url = stack.enter_context(portal.wrap_async_context_manager(running))
        except BaseException:
            self._stop()
            raise
        return self

    def close(self) -> None:
        """Stop listening, end requests in flight within about a second, free the models."""
        self._url = None
        if self._stop is not None:
            self._stop()

    def serve_forever(self, on_ready: Callable[[EmbeddedServer], None] | None = None) -> None:
        """Serve in this thread, which must be the main one, until SIGINT or SIGTERM.

        Args:
            on_ready: Called once clients may connect, for instance to print the URLs.

        Raises:
            EngineError: A model cannot be loaded.
            OSError: The address cannot be bound.
        """
        stopped = threading.Event()
        previous = {
            number: signal.signal(number, lambda *_: stopped.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            with self:
                if on_ready is not None:
                    on_ready(self)
                stopped.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)


@asynccontextmanager
async def _serving(
    models: Mapping[str, ModelSource],
    engines: dict[str, Engine],
    steps: dict[str, str],
    progress: Callable[[str], object] | None,
    load_file: Callable[..., Engine],
    app: Callable[[Mapping[str, Engine]], Application],
    address: Mapping[str, Any],
) -> AsyncIterator[str]:
    """Serve models while the block runs; yields the URL, fills `engines`, notes the `steps` of loading."""
    async with AsyncExitStack() as stack:

        async def loaded(name: str, model: ModelSource) -> None:
            if not isinstance(model, str | os.PathLike):
                engines[name] = model
                return

            def tell(step: str) -> None:
                steps[name] = step
                if progress is not None:
                    progress(step)

            steps[name] = "reading its file"
            try:
                engines[name] = await asyncio.to_thread(load_file, model, progress=tell)
            finally:
                steps.pop(name, None)
            stack.push_async_callback(engines[name].aclose)

        try:
            async with asyncio.TaskGroup() as group:
                for name, model in models.items():
                    group.create_task(loaded(name, model))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        yield await stack.enter_async_context(serving(app(engines), **address))


def _close(stack: ExitStack) -> None:
    if threading.current_thread().name == _THREAD:
        # Collected as garbage in a server's own thread, which cannot wait for itself.
        threading.Thread(target=stack.close).start()
    else:
        stack.close()
