"""An ASGI client without sockets: streams as they come, and a client that can go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from starlette.types import ASGIApp


class Asked:
    """One request under way: `async with Asked(app, "/v1/models") as asked: ...`."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        arrives: bool = True,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._app = app
        path, _, query = path.partition("?")
        given = {"host": "127.0.0.1:8400", **(headers or {})}
        if body is not None:
            given.setdefault("content-type", "application/json")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method or ("GET" if body is None else "POST"),
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(n.lower().encode(), v.encode()) for n, v in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8400),
        }
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if arrives:
            sent = (
                body
                if isinstance(body, bytes)
                else b""
                if body is None
                else json.dumps(body).encode()
            )
            self._incoming.put_nowait({"type": "http.request", "body": sent, "more_body": False})
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            self._app(self._scope, self._incoming.get, self._send)  # type: ignore[arg-type]
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.leave()
        if kind is not None:
            self._task.cancel()
        await asyncio.wait([self._task])
        if kind is None:
            self._task.result()

    def leave(self) -> None:
        """The client goes away."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def done(self) -> Self:
        """The whole answer has come."""
        await asyncio.shield(self._task)
        return self

    async def seen(self, text: str) -> None:
        """This text has come."""
        while text.encode() not in self.body:
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {n.decode().lower(): v.decode() for n, v in message["headers"]}
        else:
            self.body += message.get("body", b"")
        self._changed.set()

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of the stream so far; `[DONE]` as text."""
        found = [
            e.removeprefix("data: ") for e in self.body.decode().split("\n\n") if e[:5] == "data:"
        ]
        return [e if e == "[DONE]" else json.loads(e) for e in found]


async def ask(app: ASGIApp, path: str, body: Any = None, **how: Any) -> Asked:
    """Ask and wait for the whole answer."""
    async with Asked(app, path, body, **how) as asked:
        await asked.done()
    return asked
