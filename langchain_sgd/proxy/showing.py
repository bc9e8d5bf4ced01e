"""What is there to be looked at: the page's files, the runs that have been, the server's state."""

from __future__ import annotations

from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.proxy.history import History, Record, with_graphs
from langchain_sgd.proxy.metrics import Metrics
from langchain_sgd.proxy.sharing import share_page
from langchain_sgd.proxy.wire import dumps, sse

PAGE: Final = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "run.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "legend.js": "text/javascript; charset=utf-8",
    "timeline.js": "text/javascript; charset=utf-8",
    "markdown.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Showing:
    """The routes of the page, of the history, and for those who watch the server."""

    def __init__(self, history: History, metrics: Metrics) -> None:
        self._history = history
        self._metrics = metrics
        folder = resources.files("langchain_sgd.proxy") / "page"
        self._files = {name: (folder / name).read_bytes() for name in PAGE}

    def routes(self) -> list[Route]:
        """As Starlette takes them."""
        return [
            Route("/", self._index),
            Route("/page/{name}", self._named),
            Route("/health", self._health),
            Route("/metrics", self._show_metrics),
            Route("/api/runs", self._runs, methods=["GET"]),
            Route("/api/runs", self._forget, methods=["DELETE"]),
            Route("/api/runs/{run_id}", self._events),
            Route("/api/runs/{run_id}/page", self._share),
        ]

    async def _index(self, _: Request) -> Response:
        return self._file("index.html")

    async def _named(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in PAGE:
            raise ProxyError(404, f"There is no {name} here.")
        headers = {"Content-Type": PAGE[name], "Cache-Control": "no-cache"}
        return Response(self._files[name], headers=headers)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _show_metrics(self, _: Request) -> Response:
        return Response(
            self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def _runs(self, _: Request) -> Response:
        return JSONResponse({"runs": [record.summary() for record in self._history]})

    async def _forget(self, _: Request) -> Response:
        self._history.clear()
        return Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        record = self._record(request.path_params["run_id"])
        asked = dumps(
            {"type": "asked", "question": record.question}
        )  # the list shows its beginning
        events = b"".join(map(sse, [asked, *with_graphs(record.events)]))
        return Response(events, media_type="text/event-stream")

    async def _share(self, request: Request) -> Response:
        ids = [request.path_params["run_id"], *request.query_params.getlist("with")]
        page = share_page([self._record(run_id) for run_id in ids[:2]])
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Disposition": f'attachment; filename="sgd-{ids[0]}.html"',
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        }
        return Response(page, headers=headers)

    def _record(self, run_id: str) -> Record:
        if (record := self._history.get(run_id)) is None:
            raise ProxyError(404, "This run is not known any more.")
        return record
