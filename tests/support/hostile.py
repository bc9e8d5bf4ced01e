"""Requests that a TGI server must survive, from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any


def hostile_requests(count: int) -> Iterator[tuple[str, bytes]]:
    """Paths and bodies, the same ones each time."""
    for path, body in _requests(count):
        yield path, body if isinstance(body, bytes) else json.dumps(body).encode()


def _requests(count: int) -> Iterator[tuple[str, Any]]:
    rng = random.Random(14)
    odd: list[Any] = [
        None, True, -1, 0, 2**40, 2**70, 1e400, -1e39, 1e-46, "", "x", "\ud800", [], {}, [[]], {"a": {}},
        "(" * 300, "a{99999}", "[", "(?=a)", {"properties": {"a": {"$ref": "#"}}}, ["a"] * 9, "<|im_end|>",
    ]  # fmt: skip
    names = [
        "temperature", "top_p", "top_k", "typical_p", "seed", "stop", "truncate", "best_of", "max_new_tokens",
        "grammar", "top_n_tokens", "repetition_penalty", "frequency_penalty", "details", "do_sample",
    ]  # fmt: skip
    for _ in range(count):
        kind = rng.choice(["generate", "grammar", "chat", "tools", "completions", "bytes"])
        one, two = rng.choice(odd), rng.choice(odd)
        if kind == "generate":
            parameters = {rng.choice(names): one, rng.choice(names): two, "max_new_tokens": 3}
            yield (
                rng.choice(["/generate", "/", "/tokenize"]),
                {"inputs": "a", "parameters": parameters},
            )
        elif kind == "grammar":
            form = {"type": rng.choice(["json", "regex", "json_schema"]), "value": one}
            yield "/generate", {"inputs": "a", "parameters": {"grammar": form, "max_new_tokens": 3}}
        elif kind == "chat":
            message = {"role": rng.choice(["user", "assistant", "tool", 3]), "content": one}
            yield (
                "/v1/chat/completions",
                {"messages": [message], "max_tokens": 3, "tool_choice": two},
            )
        elif kind == "tools":
            tool = {
                "type": "function",
                "function": {"name": "f", "parameters": one, "description": two},
            }
            message = {"role": "user", "content": "Hi", "tool_calls": two}
            yield "/v1/chat/completions", {"messages": [message], "max_tokens": 3, "tools": [tool]}
        elif kind == "completions":
            yield "/v1/completions", {"prompt": one, "max_tokens": 3, "stop": two}
        else:
            yield "/generate", bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
