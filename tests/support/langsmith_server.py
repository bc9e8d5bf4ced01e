"""A stand-in for LangSmith's ingest endpoint, on loopback: it keeps what the real client POSTs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast

import zstandard

_INFO = {
    "version": "0.15.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 1,
        "scale_down_nempty_trigger": 4,
    },
    "instance_flags": {"zstd_compression_enabled": True},
}


class LangSmithServer:
    """Serves `/info` and `/runs/multipart` while its block runs.

    Attributes:
        url: What `LANGSMITH_ENDPOINT` is set to.
        bodies: Every body that came in, uncompressed: all that left this process.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._runs: dict[str, dict[str, Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="langsmith-server")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, content_type: str, body: bytes) -> None:
        """Keep what a request said of its runs."""
        self.bodies.append(body)
        for name, value in _parts(content_type, body):
            _, run_id, *field = name.split(".")
            changes = {field[0]: value} if field else value
            known = self._runs.setdefault(run_id, {})
            known.update({key: each for key, each in changes.items() if each is not None})

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Every run, with all that was said of it, in the order of their starts."""
        # `dotted_order` is how LangSmith itself sorts: the times and ids from the root down.
        return sorted(self._runs.values(), key=lambda run: str(run["dotted_order"]))

    @property
    def roots(self) -> list[dict[str, Any]]:
        """The runs without a parent."""
        return [run for run in self.runs if not run.get("parent_run_id")]

    def children(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The runs right below a run."""
        return [each for each in self.runs if each.get("parent_run_id") == run["id"]]

    def tree(self, run: dict[str, Any]) -> Any:
        """A run's name, or its name and what is below it; siblings in alphabetical order."""
        below = sorted((self.tree(child) for child in self.children(run)), key=str)
        return (run["name"], below) if below else run["name"]

    def named(self, name: str) -> dict[str, Any]:
        """The only run of this name."""
        (found,) = (run for run in self.runs if run["name"] == name)
        return found


def _parts(content_type: str, body: bytes) -> Iterator[tuple[str, Any]]:
    whole = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for part in cast("list[Message]", whole.get_payload()):
        name = part.get_param("name", header="content-disposition")
        payload = cast("bytes", part.get_payload(decode=True))
        yield str(name), json.loads(payload)


def _handler(server: LangSmithServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/info" else 404, _INFO)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "zstd":
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
            known = self.path == "/runs/multipart"
            if known:
                server.take(self.headers["content-type"], body)
            self._answer(202 if known else 404, {})

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    return Handler
