"""A server on loopback that looks like one of those that speak OpenAI's or Ollama's protocol.

It answers what it is asked for its identity as the real one does, says a fixed text, and keeps every body.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self

from aiohttp import web

LISTED: Mapping[str, Mapping[str, Any]] = {
    "vllm": {"owned_by": "vllm", "max_model_len": 4096, "root": "lab/model", "parent": None},
    "sglang": {"owned_by": "sglang", "max_model_len": 8192, "root": "lab/model"},
    "llama.cpp": {"owned_by": "llamacpp", "meta": {"n_ctx_train": 32768, "n_params": 494032768}},
    "ollama": {"owned_by": "library"},
    "litellm": {"owned_by": "openai"},
    "other": {"owned_by": "organization_owner"},
    "tgi": {"owned_by": "lab/model"},
}
"""What `/v1/models` says of a model, beside its name."""

TELLS: Mapping[str, Mapping[str, Any]] = {
    "vllm": {"/version": {"version": "0.11.2"}},
    "sglang": {},
    "llama.cpp": {
        "/props": {
            "default_generation_settings": {"n_ctx": 2048},
            "total_slots": 4,
            "build_info": "b6900-c22473b5",
        }
    },
    "ollama": {"/api/version": {"version": "0.12.6"}},
    "litellm": {"/health/readiness": {"status": "healthy", "litellm_version": "1.80.0"}},
    "other": {},
    "tgi": {
        "/info": {
            "model_id": "lab/model",
            "max_concurrent_requests": 128,
            "max_total_tokens": 4096,
            "version": "3.3.7",
        }
    },
}
"""What else a kind of server tells of itself."""

Refuse = Callable[[Mapping[str, Any]], tuple[int, Any] | None]
"""Looks at a chat body; a status and a body of its own, or None to answer."""


class OpenAIServer:
    """One of the kinds of `LISTED`, on a free port.

    Args:
        kind: Whom it looks like.
        models: The models that it lists.
        key: Asks for this key, if given.
        says: What the model says.
        refuse: May refuse a chat request.
        tells: Instead of what `TELLS` has for the kind.
        tls: Encrypts, as `localhost`.
        gateway: A header that every request must carry, beside the key.
    """

    def __init__(
        self,
        kind: str,
        *,
        models: tuple[str, ...] = ("lab/model",),
        key: str | None = None,
        says: str = "some text",
        refuse: Refuse | None = None,
        tells: Mapping[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
        gateway: tuple[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.models = models
        self.key = key
        self.says = says
        self.refuse = refuse
        self.tells = TELLS[kind] if tells is None else tells
        self.tls = tls
        self.gateway = gateway
        self.asked: list[str] = []
        """Paths of GET requests."""
        self.bodies: list[dict[str, Any]] = []
        """Bodies of chat requests."""
        self.headers: list[Mapping[str, str]] = []
        """Headers of all requests."""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/api/chat", self._ollama)
        app.router.add_post("/{path:.*}", self._noted)
        app.router.add_get("/{path:.*}", self._other)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        place = "http://127.0.0.1" if self.tls is None else "https://localhost"
        self.url = f"{place}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def _seen(self, request: web.Request) -> web.Response | None:
        self.headers.append(dict(request.headers))
        if request.method == "GET":
            self.asked.append(request.path)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "Unauthorized"}}, status=401)
        if self.gateway and request.headers.get(self.gateway[0]) != self.gateway[1]:
            return web.json_response({"error": "who are you?"}, status=401)
        return None

    async def _models(self, request: web.Request) -> web.Response:
        if (refused := self._seen(request)) is not None:
            return refused
        data = [{"id": name, "object": "model", **LISTED[self.kind]} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _other(self, request: web.Request) -> web.Response:
        if (refused := self._seen(request)) is not None:
            return refused
        if (told := self.tells.get(request.path)) is not None:
            return web.json_response(told)
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _noted(self, request: web.Request) -> web.Response:
        """Another protocol's call: its body is kept, and it is refused."""
        self._seen(request)
        self.bodies.append(await request.json())
        return web.json_response({"error": {"message": "not here"}}, status=400)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._seen(request)) is not None:
            return refused
        body = await request.json()
        self.bodies.append(body)
        if self.refuse is not None and (answer := self.refuse(body)) is not None:
            status, what = answer
            return web.json_response(what, status=status)
        base = {"id": "x", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        if not body.get("stream"):
            message = {"role": "assistant", "content": self.says}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(whole)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)

        async def send(**event: Any) -> None:
            line = json.dumps({**base, "object": "chat.completion.chunk", **event})
            await response.write(f"data: {line}\n\n".encode())

        for piece in self.says.splitlines(keepends=True):
            delta = {"role": "assistant", "content": piece}
            await send(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        await send(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (body.get("stream_options") or {}).get("include_usage"):
            await send(choices=[], usage=usage)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _ollama(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._seen(request)) is not None:
            return refused
        body = await request.json()
        self.bodies.append(body)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        common = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        text = {"role": "assistant", "content": self.says}
        end = {"done_reason": "stop", "prompt_eval_count": 7, "eval_count": 2}
        for event in (
            {"message": text, "done": False},
            {"message": {**text, "content": ""}, "done": True, **end},
        ):
            await response.write(json.dumps({**common, **event}).encode() + b"\n")
        return response
