"""The test server is itself tested: against TGI's OpenAPI document, TGI's own client, its faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import text_generation
from text_generation.types import Grammar, GrammarType

from tests.tgi_server import Fault, FaultKind, Pace, ScriptedEngine, TGITestServer, hashed

CHAT = "/v1/chat/completions"
DOCUMENT = Path(__file__).resolve().parents[1] / "data" / "tgi" / "openapi.json"
MESSAGES = [{"role": "user", "content": "Say 7 words about 'Dalkura'."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1, "maxItems": 3},
        "note": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]},
    },
    "required": ["name", "count", "tags", "note"],
}
TOOL = {"type": "function", "function": {"name": "words", "arguments": SCHEMA}}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, str]:
    async with http.post(url, json=body) as response:
        return response.status, await response.text()


async def events(http: aiohttp.ClientSession, url: str, body: Any) -> list[Any]:
    _, text = await post(http, url, body)
    lines = text.replace("\r\n", "\n").split("\n")
    datas = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


async def until_broken(response: aiohttp.ClientResponse) -> bytes:
    got = b""
    try:
        async for chunk in response.content.iter_any():
            got += chunk
    except aiohttp.ClientPayloadError:
        return got
    pytest.fail("the connection was not broken")


# --- the OpenAPI document


def _convert(value: Any) -> Any:
    """OpenAPI 3.0 to JSON Schema: see the README beside it."""
    if isinstance(value, list):
        return [_convert(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {
        key: _convert(item)
        for key, item in value.items()
        if key not in ("discriminator", "example", "nullable", "exclusiveMinimum")
    }
    if value.get("nullable"):
        made.pop("default", None)
        return {"anyOf": [made, {"type": "null"}]}
    return made


class Document:
    """TGI's OpenAPI document as JSON schemas."""

    def __init__(self) -> None:
        self._schemas = _convert(json.loads(DOCUMENT.read_text()))["components"]["schemas"]

    def check(self, name: str, value: Any) -> None:
        root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": self._schemas}}
        jsonschema.Draft202012Validator(root).validate(value)

    def fields(self, name: str) -> set[str]:
        return set(self._schemas[name]["properties"])


@pytest.fixture(scope="module")
def document() -> Document:
    return Document()


PLAIN: dict[str, Any] = {"inputs": "Say 7 words.", "parameters": {"details": True}}


class TestOpenAPI:
    @pytest.mark.parametrize(
        ("path", "body", "name"),
        [
            ("/generate", PLAIN, "GenerateResponse"),
            (
                "/generate",
                {"inputs": "Hi", "parameters": {"best_of": 2, "do_sample": True, "details": True}},
                "GenerateResponse",
            ),
            ("/tokenize", {"inputs": "Hi you"}, "TokenizeResponse"),
            ("/chat_tokenize", {"messages": MESSAGES}, "ChatTokenizeResponse"),
            (CHAT, {"messages": MESSAGES, "logprobs": True}, "ChatCompletion"),
            ("/v1/completions", {"prompt": ["a", "b"]}, "CompletionFinal"),
            ("/generate", {"inputs": ""}, "ErrorResponse"),
            (CHAT, {"messages": MESSAGES, "top_p": 1.0}, "ErrorResponse"),
        ],
    )
    async def test_bodies(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        document: Document,
        path: str,
        body: Any,
        name: str,
    ) -> None:
        _, text = await post(http, tgi_server.url + path, body)
        document.check(name, json.loads(text))

    @pytest.mark.parametrize(
        ("path", "body", "name"),
        [
            ("/generate_stream", PLAIN, "StreamResponse"),
            ("/generate_stream", {"inputs": "Hi"}, "StreamResponse"),
            ("/generate_stream", {"inputs": ""}, "ErrorResponse"),
            (CHAT, {"messages": MESSAGES, "logprobs": True}, "ChatCompletionChunk"),
            (
                CHAT,
                {"messages": MESSAGES, "stream_options": {"include_usage": True}},
                "ChatCompletionChunk",
            ),
            (CHAT, {"messages": MESSAGES, "tools": [TOOL]}, "ChatCompletionChunk"),
            ("/v1/completions", {"prompt": "a"}, "Chunk"),
        ],
    )
    async def test_events(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        document: Document,
        path: str,
        body: Any,
        name: str,
    ) -> None:
        got = await events(http, tgi_server.url + path, {**body, "stream": True})
        assert (got[-1] == "[DONE]") == path.startswith("/v1/")
        for each in got:
            if each != "[DONE]":
                document.check(name, each)

    async def test_information(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer, document: Document
    ) -> None:
        async with http.get(f"{tgi_server.url}/info") as response:
            info = await response.json()
        document.check("Info", info)
        async with http.get(f"{tgi_server.url}/v1/models") as response:
            document.check("ModelInfo", (await response.json())["data"][0])
        # Ours beyond the document: what TGI 2 said too.
        assert set(info) - document.fields("Info") == {"model_dtype", "max_batch_size"}

    async def test_the_gaps_of_the_document_are_known(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer, document: Document
    ) -> None:
        """Where the router's code, which the server follows, says more than the document."""
        chat = {"messages": MESSAGES}
        _, text = await post(http, tgi_server.url + CHAT, chat)
        assert set(json.loads(text)) - document.fields("ChatCompletion") == {"object"}
        assert set(json.loads(text)["usage"]) - document.fields("Usage") == {
            "prompt_tokens_details"
        }

        error, _ = await events(http, tgi_server.url + CHAT, {**chat, "stream": True, "top_p": 1.0})
        with pytest.raises(jsonschema.ValidationError):
            document.check("ErrorResponse", error)

        alias = {**chat, "response_format": {"type": "json_object", "value": SCHEMA}}
        with pytest.raises(jsonschema.ValidationError):
            document.check("ChatRequest", alias)
        assert (await post(http, tgi_server.url + CHAT, alias))[0] == 200

        function = {"name": "words", "parameters": SCHEMA}
        openai = {**chat, "tools": [{"type": "function", "function": function}]}
        with pytest.raises(jsonschema.ValidationError):
            document.check("ChatRequest", openai)
        assert (await post(http, tgi_server.url + CHAT, openai))[0] == 200


# --- TGI's own client


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
class TestTextGeneration:
    async def test_generate_and_stream_agree(self, tgi_server: TGITestServer) -> None:
        client = text_generation.AsyncClient(tgi_server.url)
        whole = await client.generate("Hi", max_new_tokens=50, seed=3, do_sample=True)
        stream = [
            event
            async for event in client.generate_stream(
                "Hi", max_new_tokens=50, seed=3, do_sample=True
            )
        ]
        assert stream[-1].generated_text == whole.generated_text
        assert whole.details is not None
        assert stream[-1].details is not None
        assert stream[-1].details.seed == whole.details.seed == 3
        assert [each.token.id for each in stream] == [token.id for token in whole.details.tokens]
        other = await client.generate("Hi", max_new_tokens=50, seed=4, do_sample=True)
        assert other.generated_text != whole.generated_text

    async def test_grammars(self, tgi_server: TGITestServer) -> None:
        client = text_generation.AsyncClient(tgi_server.url)
        question = "Say 7 words about 'Dalkura'."
        grammar = Grammar(type=GrammarType.Json, value=SCHEMA)
        whole = await client.generate(question, max_new_tokens=200, grammar=grammar)
        assert json.loads(whole.generated_text) == {
            "name": "Dalkura",
            "count": 7,
            "tags": ["x", "x"],
            "note": "wor",
        }
        assert list(json.loads(whole.generated_text)) == list(SCHEMA["properties"])

        grammar = Grammar(type=GrammarType.Regex, value=r"(\d{2}\. [A-Z][a-z]+\n){2}")
        stream = client.generate_stream(question, max_new_tokens=200, grammar=grammar)
        texts = [event.token.text async for event in stream if not event.token.special]
        assert "".join(texts).count("\n") == 2

    async def test_errors(self, tgi_server: TGITestServer) -> None:
        client = text_generation.AsyncClient(tgi_server.url)
        for fault, error in (
            ("overloaded", text_generation.errors.OverloadedError),
            ("fail", text_generation.errors.GenerationError),
            ("incomplete", text_generation.errors.IncompleteGenerationError),
        ):
            tgi_server.inject(Fault(fault))  # type: ignore[arg-type]
            with pytest.raises(error):
                await client.generate("Hi")
        tgi_server.inject("overloaded")
        with pytest.raises(text_generation.errors.OverloadedError):
            [event async for event in client.generate_stream("Hi")]

    def test_the_client_without_asyncio(self) -> None:
        """Its calls block, so the server runs in a loop of another thread."""
        ready: list[str] = []

        async def serve(stop: asyncio.Event) -> None:
            async with TGITestServer("Hi there.") as server:
                ready.append(server.url)
                await stop.wait()

        async def main() -> str:
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(serve(stop))
                while not ready:  # noqa: ASYNC110 - the thread below cannot await
                    await asyncio.sleep(0)
                client = text_generation.Client(ready[0])
                whole = await asyncio.to_thread(client.generate, "Hi")
                stop.set()
            return str(whole.generated_text)

        assert asyncio.run(main()) == "Hi there."


# --- faults


class TestFaults:
    BODY: dict[str, Any] = {"inputs": "Hi", "stream": True}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("kind", "status", "text"),
        [
            ("unauthorized", 401, ""),
            ("rate_limited", 429, '{"error": "Too many requests"}'),
            ("bad_gateway", 502, "<html>"),
            ("unavailable", 503, "<html>"),
            ("gateway_timeout", 504, "<html>"),
            ("html", 200, "<html>"),
        ],
    )
    async def test_answers_of_others(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        kind: FaultKind,
        status: int,
        text: str,
    ) -> None:
        tgi_server.inject(Fault(kind, retry_after="3"))
        async with http.post(f"{tgi_server.url}/generate_stream", json=self.BODY) as response:
            assert response.status == status
            assert (await response.text()).startswith(text)
            assert response.headers.get("retry-after") == ("3" if status == 429 else None)
        assert (await post(http, f"{tgi_server.url}/generate", self.BODY))[0] == 200

    async def test_faults_come_in_order_and_only_where_they_belong(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.inject("unavailable", times=2, path="/generate")
        tgi_server.inject("bad_gateway", when=lambda entry: "ho" in entry.json["inputs"])
        url = f"{tgi_server.url}/generate"
        statuses = [
            (await post(http, url, {"inputs": text}))[0] for text in ("ho", "hi", "hi", "ho", "ho")
        ]
        assert statuses == [503, 503, 200, 502, 200]
        assert [entry.status for entry in tgi_server.log] == statuses
        tgi_server.inject("unavailable", times=None)
        assert [(await post(http, url, {"inputs": "hi"}))[0] for _ in range(3)] == [503] * 3
        tgi_server.heal()
        assert (await post(http, url, {"inputs": "hi"}))[0] == 200

    @pytest.mark.parametrize(
        ("kind", "error_type"),
        [
            ("overloaded", "overloaded"),
            ("fail", "generation"),
            ("incomplete", "incomplete_generation_stream"),
        ],
    )
    async def test_failures_inside_a_stream(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        kind: FaultKind,
        error_type: str,
    ) -> None:
        tgi_server.inject(Fault(kind, after=2))
        *before, error = await events(http, f"{tgi_server.url}/generate_stream", self.BODY)
        assert error["error_type"] == error_type
        assert len(before) == (0 if kind == "overloaded" else 2)

    async def test_broken_connections(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        stream, whole = f"{tgi_server.url}/generate_stream", f"{tgi_server.url}/generate"
        tgi_server.inject("drop")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(http, whole, self.BODY)
        for url in (stream, whole):
            tgi_server.inject(Fault("cut", after=2))
            async with http.post(url, json=self.BODY) as response:
                assert response.status == 200
                got = await until_broken(response)
            assert got.count(b"data: ") == (2 if url == stream else 0)
            assert got
        await tgi_server.idle()
        assert tgi_server.engine.active == 0

    async def test_an_end_without_an_end(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.inject(Fault("eof", after=3), times=2)
        got = await events(http, f"{tgi_server.url}/generate_stream", self.BODY)
        assert [each["generated_text"] for each in got] == [None] * 3
        status, text = await post(http, f"{tgi_server.url}/generate", self.BODY)
        assert status == 200
        with pytest.raises(ValueError, match="Unterminated string"):
            json.loads(text)

    async def test_a_stall_goes_on_until_the_client_leaves(
        self, http: aiohttp.ClientSession
    ) -> None:
        async with TGITestServer("one two three", keepalive_s=0.01) as server:
            server.inject(Fault("stall", after=1))
            async with http.post(f"{server.url}/generate_stream", json=self.BODY) as response:
                got = b""
                while got.count(b":\n\n") < 2:
                    got += await response.content.readany()
                assert got.count(b"data: ") == 1
                response.close()
            await server.idle()
            assert server.log[0].disconnected
            assert server.engine.closed_early == 1

    async def test_a_slow_answer(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.inject(Fault("slow", delay_s=0.05))
        started = time.monotonic()
        assert (await post(http, f"{tgi_server.url}/generate", self.BODY))[0] == 200
        assert time.monotonic() - started >= 0.05

    @pytest.mark.parametrize("kind", ["no_space", "crlf", "comments", "split", "merge"])
    @pytest.mark.parametrize("path", ["/generate_stream", CHAT])
    async def test_framing_changes_bytes_and_not_events(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer, kind: FaultKind, path: str
    ) -> None:
        tgi_server.engine.reply = "Größe 你好 done"
        url = tgi_server.url + path
        body = {"inputs": "Hi", "messages": MESSAGES, "stream": True}
        _, plain = await post(http, url, body)
        tgi_server.inject(kind)
        _, odd = await post(http, url, body)
        assert (odd == plain) == (kind in ("split", "merge"))
        assert len(await events(http, url, body)) == plain.count("data: ")
        tgi_server.inject(kind)
        assert len(await events(http, url, body)) == plain.count("data: ")

    async def test_pieces_and_batches_of_events(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        """The borders of HTTP chunks, as a client reads them."""

        async def chunks() -> list[bytes]:
            async with http.post(f"{tgi_server.url}/generate_stream", json=self.BODY) as response:
                found, current = [], b""
                async for data, is_end in response.content.iter_chunks():
                    current += data
                    if is_end and current:
                        found.append(current)
                        current = b""
                return found

        tgi_server.engine.reply = "one two three four five six"
        assert sum(chunk.count(b"data: ") for chunk in await chunks()) == 7
        tgi_server.inject("merge")
        assert [chunk.count(b"data: ") for chunk in await chunks()] == [3, 3, 1]
        tgi_server.inject("split")
        assert max(map(len, await chunks())) == 5

    async def test_what_nobody_knows(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        for path in (CHAT, "/generate", "/generate_stream"):
            body = {"inputs": "Hi", "messages": MESSAGES, "parameters": {"details": True}}
            tgi_server.inject("unknown_finish")
            _, text = await post(http, tgi_server.url + path, body)
            assert '"finish_reason":"speculative_abort"' in text
            tgi_server.inject("extra_fields")
            _, text = await post(http, tgi_server.url + path, body)
            first = json.loads(text.removeprefix("data: ").partition("\n\n")[0])
            assert first["x_unknown"] == {"deep": [1, None]}

    async def test_a_refused_connection(self, http: aiohttp.ClientSession) -> None:
        async with TGITestServer("Hi.") as server:
            url = f"{server.url}/generate"
            assert (await post(http, url, self.BODY))[0] == 200
            await server.refuse()
            with pytest.raises(aiohttp.ClientOSError):
                await post(http, url, self.BODY)
            await server.accept()
            assert (await post(http, url, self.BODY))[0] == 200

    async def test_health_can_be_switched_off(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.healthy = False
        async with http.get(f"{tgi_server.url}/health") as response:
            assert response.status == 503
            assert (await response.json())["error_type"] == "healthcheck"


# --- the wire log


class TestLog:
    async def test_shows_bodies_and_hides_secrets(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        headers = {"Authorization": "Bearer hf_secret", "X-Trace": "abc"}
        url = f"{tgi_server.url}/generate"
        async with http.post(url, json={"inputs": "Hi"}, headers=headers):
            pass
        (entry,) = tgi_server.requests("/generate")
        assert (entry.method, entry.path, entry.json) == ("POST", "/generate", {"inputs": "Hi"})
        assert entry.headers["x-trace"] == "abc"
        assert entry.headers["authorization"] == hashed("Bearer hf_secret")
        assert "hf_secret" not in repr(entry)
        assert entry.carries("hf_secret")
        assert not entry.carries("hf_other")
        assert entry.prompts == ["Hi"]
        assert entry.ended is not None
        assert entry.ended >= entry.started
        assert not entry.disconnected

    async def test_shows_secrets_in_the_wrong_place(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        await post(http, f"{tgi_server.url}/generate", {"inputs": "my key is hf_secret"})
        assert tgi_server.log[0].carries("hf_secret")

    async def test_shared_prefixes_and_pooled_connections(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        assert tgi_server.shared_prefix == ""
        for text in ("Question? One", "Question? Only", "Question? Or"):
            await post(http, f"{tgi_server.url}/generate", {"inputs": text})
        assert tgi_server.shared_prefix == "Question? O"
        assert tgi_server.connections == 1
        async with aiohttp.ClientSession() as other:
            await post(other, f"{tgi_server.url}/generate", {"inputs": "x"})
        assert tgi_server.connections == 2

    async def test_bodies_that_are_no_json(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        async with http.post(f"{tgi_server.url}/generate", data=b"\xff{") as response:
            assert response.status == 415
        assert tgi_server.log[0].json is None


# --- the scripted engine


class TestEngine:
    async def ask(self, http: aiohttp.ClientSession, server: TGITestServer, text: str) -> Any:
        _, answer = await post(
            http,
            f"{server.url}/generate",
            {"inputs": text, "parameters": {"details": True}},
        )
        return json.loads(answer)["generated_text"]

    async def test_greedy_answers_depend_on_the_prompt_alone(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        url = tgi_server.url + CHAT

        async def chat(**more: Any) -> str:
            _, text = await post(http, url, {"messages": MESSAGES, **more})
            return str(json.loads(text)["choices"][0]["message"]["content"])

        assert await chat(temperature=0) == await chat(temperature=0, seed=9)
        assert await chat(seed=1) == await chat(seed=1, temperature=0.5)
        assert await chat(seed=1) != await chat(seed=2)

    @pytest.mark.parametrize(
        ("reply", "answer"),
        [
            ("fixed", "fixed"),
            ({"tea": "leaves", "coffee": "beans"}, "beans"),
            (str.upper, "COFFEE?"),
        ],
    )
    async def test_replies(
        self,
        http: aiohttp.ClientSession,
        reply: str | dict[str, str] | Callable[[str], str],
        answer: str,
    ) -> None:
        async with TGITestServer(reply) as server:
            assert await self.ask(http, server, "coffee?") == answer

    async def test_replies_that_fit_a_grammar_are_kept(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        grammar = {"type": "regex", "value": "[a-z]+: [0-9]+"}
        body = {"inputs": "Hi", "parameters": {"grammar": grammar}}
        url = f"{tgi_server.url}/generate"
        for reply, answer in (("plan: 42", "plan: 42"), ("no plan", "a: 0")):
            tgi_server.engine.reply = reply
            assert json.loads((await post(http, url, body))[1]) == {"generated_text": answer}
        tgi_server.engine.grammars = "ignore"
        assert json.loads((await post(http, url, body))[1]) == {"generated_text": "no plan"}

    async def test_chinese_words_and_numbers_come_from_the_prompt(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tool = {
            "name": "create_customer",
            "arguments": {"properties": {"name": {"type": "string"}}},
        }
        message = {"role": "user", "content": "Create customer '你好啊集团' - pass the name as is"}
        body = {
            "messages": [message],
            "tools": [{"type": "function", "function": tool}],
            "tool_choice": "required",
        }
        _, text = await post(http, tgi_server.url + CHAT, body)
        function = json.loads(text)["choices"][0]["message"]["tool_calls"][0]["function"]
        assert json.loads(function["arguments"]) == {"name": "你好啊集团"}

    async def test_long_grammar_answers_begin_anew_after_1024_tokens(
        self, http: aiohttp.ClientSession
    ) -> None:
        items = {"type": "array", "items": {"type": "integer"}, "minItems": 600, "maxItems": 600}
        grammar = {"type": "json", "value": {"properties": {"numbers": items}}}
        body = {"inputs": "Hi", "parameters": {"grammar": grammar}}
        engine = ScriptedEngine(grammars="restart")
        async with TGITestServer(engine) as server:
            _, text = await post(http, f"{server.url}/generate", body)
            broken = json.loads(text)["generated_text"]
            assert broken.count('{"numbers"') == 2
            engine.grammars = "enforce"
            _, text = await post(http, f"{server.url}/generate", body)
            assert len(json.loads(json.loads(text)["generated_text"])["numbers"]) == 600

    async def test_tokens_may_end_inside_characters(self, http: aiohttp.ClientSession) -> None:
        async with TGITestServer(ScriptedEngine("é你!", pieces="bytes")) as server:
            got = await events(http, f"{server.url}/generate_stream", {"inputs": "Hi"})
            assert [each["token"]["text"] for each in got] == ["", "é", "", "", "你", "!", "</s>"]

    async def test_pace_queue_and_slowdown(self, http: aiohttp.ClientSession) -> None:
        engine = ScriptedEngine("one two three", slots=2, pace=Pace(token_s=0.01))
        async with TGITestServer(engine) as server:

            async def seconds(calls: int) -> float:
                started = time.monotonic()
                async with asyncio.TaskGroup() as group:
                    for _ in range(calls):
                        group.create_task(self.ask(http, server, "Hi"))
                return time.monotonic() - started

            alone = await seconds(1)
            assert alone >= 0.04
            assert await seconds(4) >= 0.08  # two after two
            assert engine.peak == 2
            engine.pace = Pace(token_s=0.01, slowdown=2.0)
            assert await seconds(2) >= 0.08
