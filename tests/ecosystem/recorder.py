"""A server on loopback that speaks Anthropic's and OpenAI's protocols, and keeps every body."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.travel import REPLIES

Block = dict[str, Any]
"""Of a reply: `thinking`; `text`, perhaps with its `citations`; or a `tool_use` with `name` and `input`."""

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 50,
    "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 0},
}
"""Of Anthropic's: 160 tokens read, of which 100 were kept and 50 are kept now."""


def said(body: dict[str, Any]) -> list[Block]:
    """The reply to a prompt, by what stands in it last."""
    prompt = json.dumps(body.get("messages") or body["input"])
    return [text(next(reply for asked, reply in REPLIES.items() if asked in prompt))]


def text(reply: str, *citations: dict[str, Any]) -> Block:
    return {"type": "text", "text": reply, "citations": [*citations]}


def anthropic(reply: list[Block], service: str | None = None) -> Iterator[dict[str, Any]]:
    """A streamed message."""
    del service
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
    for index, block in enumerate(reply):
        empty, deltas = _pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    calls = any(block["type"] == "tool_use" for block in reply)
    ended = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {**USAGE, "output_tokens": 7}}
    yield {"type": "message_stop"}


def anthropic_whole(reply: list[Block], service: str | None = None) -> dict[str, Any]:
    """The same message at once."""
    del service
    whole = {
        "thinking": lambda block: {**block, "signature": "s"},
        "tool_use": lambda block: {**block, "id": "toolu_1"},
        "text": lambda block: {**block, "citations": block["citations"] or None},
    }
    calls = any(block["type"] == "tool_use" for block in reply)
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [whole[block["type"]](block) for block in reply],
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 7},
    }


def _pieces(block: Block) -> tuple[Block, list[Block]]:
    """A block of Anthropic's as it begins, and what comes to it."""
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": "s"},
        ]
    if block["type"] == "tool_use":
        begun = {"type": "tool_use", "id": "toolu_1", "name": block["name"], "input": {}}
        return begun, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    citing = [{"type": "citations_delta", "citation": each} for each in block["citations"]]
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": block["text"]}, *citing]


def completion(reply: list[Block], service: str | None = None) -> Iterator[dict[str, Any]]:
    """A streamed chat completion of OpenAI's; it counts at its end."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    head |= {"service_tier": service}
    content = "".join(block["text"] for block in reply if block["type"] == "text")
    for delta, finish in (({"role": "assistant", "content": content}, None), ({}, "stop")):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    yield {**head, "choices": [], "usage": _counted("prompt", "completion")}


def completion_whole(reply: list[Block], service: str | None = None) -> dict[str, Any]:
    """The same at once."""
    content = "".join(block["text"] for block in reply if block["type"] == "text")
    message = {"role": "assistant", "content": content}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt",
        "service_tier": service,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _counted("prompt", "completion"),
    }


def _counted(read: str, written: str) -> dict[str, Any]:
    """OpenAI's: 160 tokens read, of which 100 were kept and 30 are kept now; four of seven are thoughts."""
    return {
        f"{read}_tokens": 160,
        f"{read}_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
        f"{written}_tokens": 7,
        f"{written}_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 167,
    }


def response(reply: list[Block], service: str | None = None) -> Iterator[dict[str, Any]]:
    """A streamed response of OpenAI's newer protocol."""
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt", "tools": []}
    head |= {"parallel_tool_calls": True, "tool_choice": "auto", "error": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**head, "status": "in_progress", "output": []}}
    ]
    output = []
    for at, block in enumerate(reply):
        place = {"output_index": at, "item_id": f"item_{at}"}
        if block["type"] == "thinking":
            item = {"type": "reasoning", "id": f"item_{at}", "summary": []}
            part: dict[str, Any] = {"type": "summary_text", "text": ""}
            kind, index = "response.reasoning_summary", {"summary_index": 0}
            inner = [
                {"type": f"{kind}_part.added", "part": part},
                {"type": f"{kind}_text.delta", "delta": block["thinking"]},
            ]
            done = {**item, "summary": [{**part, "text": block["thinking"]}]}
        else:
            item = {"type": "message", "id": f"item_{at}", "role": "assistant", "content": []}
            part = {"type": "output_text", "text": "", "annotations": []}
            kind, index = "response.output_text", {"content_index": 0}
            whole = {**part, "text": block["text"], "annotations": block["citations"]}
            inner = [
                {"type": "response.content_part.added", "part": part},
                {"type": f"{kind}.delta", "delta": block["text"], "logprobs": []},
                *(
                    {"type": f"{kind}.annotation.added", "annotation": each, "annotation_index": n}
                    for n, each in enumerate(block["citations"])
                ),
                {"type": f"{kind}.done", "text": block["text"], "logprobs": []},
            ]
            done = {**item, "content": [whole]}
        events.append({"type": "response.output_item.added", "output_index": at, "item": item})
        events += [{**place, **index, **each} for each in inner]
        events.append({"type": "response.output_item.done", "output_index": at, "item": done})
        output.append(done)
    ended = {**head, "status": "completed", "output": output, "service_tier": service}
    ended["usage"] = _counted("input", "output")
    events.append({"type": "response.completed", "response": ended})
    yield from ({**event, "sequence_number": n} for n, event in enumerate(events))


def response_whole(reply: list[Block], service: str | None = None) -> dict[str, Any]:
    """The same at once."""
    *_, last = response(reply, service)
    whole: dict[str, Any] = last["response"]
    return whole


_SPOKEN: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "/messages": (anthropic, anthropic_whole),
    "/responses": (response, response_whole),
    "/completions": (completion, completion_whole),
}


class Recorder:
    """Serves while the block runs; as a stream to who asks for one, else at once.

    Args:
        replies: What is said to a body.
        service: The service tier that OpenAI's protocols name.
    """

    def __init__(
        self,
        replies: Callable[[dict[str, Any]], list[Block]] = said,
        service: str | None = None,
    ) -> None:
        self.bodies: list[dict[str, Any]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                recorder.bodies.append(body)
                streamed, whole = next(_SPOKEN[end] for end in _SPOKEN if self.path.endswith(end))
                if not body.get("stream"):
                    self._send("application/json", json.dumps(whole(replies(body), service)))
                    return
                said = ""
                for event in streamed(replies(body), service):
                    named = f"event: {event['type']}\n" if "type" in event else ""
                    said += f"{named}data: {json.dumps(event)}\n\n"
                self._send(
                    "text/event-stream",
                    said + ("data: [DONE]\n\n" if streamed is completion else ""),
                )

            def _send(self, kind: str, said: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(said.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def blocks(body: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """What a body asks, block by block: whose it is, its text, whether a beginning to be kept ends there."""
    turns = [("system", body.get("system") or [])]
    turns += [
        (message["role"], message["content"]) for message in body.get("messages") or body["input"]
    ]
    return [
        (
            role,
            block["text"],
            not block.keys().isdisjoint({"cache_control", "prompt_cache_breakpoint"}),
        )
        for role, content in turns
        for block in ([{"text": content}] if isinstance(content, str) else content)
    ]
