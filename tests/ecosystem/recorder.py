"""A server on loopback that speaks Anthropic's and OpenAI's protocol, and keeps every body."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.travel import REPLIES

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 0},
}
"""Of Anthropic's: 160 tokens read, of which 100 were kept and 50 are kept now."""


def said(body: dict[str, Any]) -> str:
    """The reply to a prompt, by what stands in it last."""
    prompt = json.dumps(body["messages"])
    return next(text for asked, text in REPLIES.items() if asked in prompt)


def anthropic(text: str) -> Iterator[dict[str, Any]]:
    """A streamed message."""
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude"}
    yield {
        "type": "message_start",
        "message": {
            **message,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**USAGE, "output_tokens": 1},
        },
    }
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    delta = {"type": "text_delta", "text": text}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {**USAGE, "output_tokens": 7}}
    yield {"type": "message_stop"}


def openai(text: str) -> Iterator[dict[str, Any]]:
    """A streamed completion."""
    for delta, finish in (({"role": "assistant", "content": text}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt"} | {
            "choices": [choice]
        }


class Recorder:
    """Serves while the block runs."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                recorder.bodies.append(body)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                is_anthropic = self.path.endswith("/messages")
                for event in (anthropic if is_anthropic else openai)(said(body)):
                    named = f"event: {event['type']}\n" if is_anthropic else ""
                    self.wfile.write(f"{named}data: {json.dumps(event)}\n\n".encode())
                if not is_anthropic:
                    self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def texts(self) -> list[str]:
        """Each prompt as one text."""
        return ["".join(text for _, text, _ in blocks(body)) for body in self.bodies]


def blocks(body: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """What a body asks, block by block: whose it is, its text, whether a beginning to be kept ends there."""
    turns = [("system", body.get("system") or [])]
    turns += [(message["role"], message["content"]) for message in body["messages"]]
    return [
        (role, block["text"], "cache_control" in block)
        for role, content in turns
        for block in ([{"text": content}] if isinstance(content, str) else content)
    ]
