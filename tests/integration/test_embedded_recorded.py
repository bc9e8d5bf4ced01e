"""Requests that a real TGI was asked, and the forms of its answers: the app answers them alike.

`tests/data/tgi/recorded.jsonl.xz` holds 398 of them. Compared are the status, the content type, the keys and
kinds of JSON values, the kinds and order of events, finish reasons and error types; not the words, which
are a small model's. The exceptions are below, each with its reason.
"""

from __future__ import annotations

import asyncio
import base64
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from langchain_sgd.embedded.app import make_app, serving
from tests.scripted_engine import ScriptedEngine

FILE = Path(__file__).parents[1] / "data" / "tgi" / "recorded.jsonl.xz"
RECORDED = [json.loads(line) for line in lzma.decompress(FILE.read_bytes()).decode().splitlines()]

OURS_BEYOND_TGI = {"prompt_tokens_details", "model_dtype", "max_batch_size"}
"""Fields that TGI does not have: cached tokens, and what /info said in TGI 2."""

EXCEPTIONS = {
    "GET /docs": "there is no page of documentation",
    "GET /docs/": "there is no page of documentation",
    "GET /info": "`sha` is null: no commit of TGI is running",
    "GET /info with Origin": "as GET /info",
    "accept-encoding gzip": "as GET /info",
    "long url": "as GET /info",
    "lower-case method": "the HTTP parser refuses it before the router sees it",
    "garbage request": "the HTTP parser says what is wrong, where the real server says nothing",
    "/generate odd host": "on loopback only loopback's names are answered: web pages could ask as well",
    "/generate body list2": "a list in the place of an object is more likely a mistake than a wish",
    "chat temperature=1e-38": "numbers overflow, and the real server answers with the token of a NaN",
    "completions list stream": "which prompt's tokens come first is the engine's affair",
    "tokenize empty": "the scripted engine begins texts with no token",
}


def shape(value: Any) -> Any:
    """Keys and kinds; equal neighbors in lists count once."""
    if isinstance(value, Mapping):
        return {key: shape(each) for key, each in value.items() if key not in OURS_BEYOND_TGI}
    if isinstance(value, list):
        shapes = [shape(each) for each in value]
        return [each for n, each in enumerate(shapes) if n == 0 or each != shapes[n - 1]]
    kinds = {bool: "bool", int: "number", float: "number", str: "string"}
    return kinds.get(type(value), "null")


def told(value: Any) -> Any:
    """What must be equal, not only alike."""
    if not isinstance(value, Mapping):
        return None
    reasons = [choice.get("finish_reason") for choice in value.get("choices", [])]
    return value.get("error_type"), reasons, (value.get("details") or {}).get("finish_reason")


def events(text: str) -> list[Any]:
    """The kinds of events in their order; equal neighbors count once."""
    found: list[Any] = []
    for block in filter(None, text.split("\n\n")):
        data = block.removeprefix("data:").strip()
        value = "[DONE]" if data == "[DONE]" else json.loads(data)
        each = value if value == "[DONE]" else (json.dumps(shape(value)), told(value))
        if not found or found[-1] != each:
            found.append(each)
    return found


def form(status: int, kind: str, body: str) -> Any:
    """All that is compared of one answer."""
    if "event-stream" in kind:
        return status, kind, events(body)
    if "json" in kind and body:
        value = json.loads(body)
        return status, kind, shape(value), told(value)
    return status, kind


def written(answer: Mapping[str, Any]) -> tuple[str, bool]:
    """What the real model wrote, as far as the answer shows it, and whether it was cut."""
    body = answer["body"] if isinstance(answer["body"], str) else json.dumps(answer["body"])
    if "event-stream" in answer["headers"].get("content-type", ""):
        values = [block.removeprefix("data:").strip() for block in body.split("\n\n") if block]
        chunks = [json.loads(value) for value in values if value != "[DONE]"]
    else:
        try:
            value = json.loads(body)
        except ValueError:
            return "hello", True
        chunks = value if isinstance(value, list) else [value]
    text, name, arguments, reason = "", None, "", None
    for chunk in filter(lambda chunk: isinstance(chunk, dict), chunks):
        text = chunk.get("generated_text") or text
        reason = (chunk.get("details") or {}).get("finish_reason") or reason
        for choice in chunk.get("choices", []):
            message = choice.get("message") or choice.get("delta") or choice
            text += message.get("content") or message.get("text") or ""
            reason = choice.get("finish_reason") or reason
            for call in message.get("tool_calls") or []:
                name = call["function"].get("name") or name
                arguments += call["function"]["arguments"]
    if name is not None:
        rest = arguments.strip()[1:]
        comma = "" if rest.strip() == "}" else ", "
        return f'{{"function": {{"_name": "{name}"{comma}{rest}}}', False
    return text or "hello", reason in (None, "length")


async def ask(url: str, request: Mapping[str, Any]) -> Any:
    if "raw" in request:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request["raw"].replace("Host: x", "Host: localhost").encode())
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        lines = head.decode().splitlines()
        kinds = [
            line.partition(": ")[2] for line in lines if line.lower().startswith("content-type")
        ]
        return form(int(lines[0].split()[1]), "".join(kinds), body.decode())
    headers = {"Content-Type": "application/json", **(request.get("headers") or {})}
    data = request.get("text")
    if "json" in request:
        data = json.dumps(request["json"])
    if "base64" in request:
        data = base64.b64decode(request["base64"])
    if data is None or headers["Content-Type"] is None:
        del headers["Content-Type"]
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
        session.request(
            request["method"],
            URL(url + request["path"], encoded=True),
            headers=headers,
            data=data.encode() if isinstance(data, str) else data,
            allow_redirects=False,
        ) as response,
    ):
        return form(
            response.status, response.headers.get("Content-Type", ""), await response.text()
        )


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record["name"])
async def test_a_recorded_request_is_answered_as_by_the_real_server(record: dict[str, Any]) -> None:
    answer = record["answer"]
    text, cut = written(answer)
    engine = ScriptedEngine(
        text + " and so on" * 3000 * cut, model_id="model", max_total_tokens=2048, grammars="ignore"
    )
    async with serving(make_app({"model": engine})) as url:
        got = await ask(url, record["request"])
    body = answer["body"] if isinstance(answer["body"], str) else json.dumps(answer["body"])
    kind = answer["headers"].get("content-type", "")
    expected = form(answer["status"], kind, body)
    if record["name"] in EXCEPTIONS:
        assert got != expected, "no exception any more"
    else:
        assert got == expected


def test_every_exception_was_recorded() -> None:
    assert {record["name"] for record in RECORDED} >= EXCEPTIONS.keys()
