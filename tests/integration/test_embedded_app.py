"""The TGI application on real sockets: limits, keys, streams, disconnects."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from langchain_sgd.embedded import _model, _validation
from langchain_sgd.embedded.app import make_app, serving
from langchain_sgd.embedded.engine import Grammar
from tests.tgi_server import Pace, ScriptedEngine, TGITestServer

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "What is the weather in Paris at 7?"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "hour": {"type": "integer"}},
            "required": ["city", "hour"],
        },
    },
}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http: aiohttp.ClientSession, url: str, body: Any, **more: Any) -> tuple[int, Any]:
    async with http.post(url, json=body, **more) as response:
        text = await response.text()
        is_json = response.content_type == "application/json"
        return response.status, json.loads(text) if is_json else text


async def events(http: aiohttp.ClientSession, url: str, body: Any) -> list[Any]:
    async with http.post(url, json=body) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        blocks = (await response.text()).split("\n\n")
    datas = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def content(chunks: list[Any]) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


class TestModels:
    async def test_each_under_its_prefix(self, http: aiohttp.ClientSession) -> None:
        engines = {"small": ScriptedEngine("I am small."), "large": ScriptedEngine("I am large.")}
        async with TGITestServer(engines) as server:
            for name, text in (("small", "I am small."), ("large", "I am large.")):
                url = server.url_of(name)
                _, whole = await post(http, f"{url}/generate", {"inputs": "Hi"})
                assert whole == {"generated_text": text}
                _, (compat,) = await post(http, url, {"inputs": "Hi"})
                assert compat == {"generated_text": f"Hi{text}"}
                _, chat = await post(http, url + CHAT, {"messages": [USER]})
                assert chat["choices"][0]["message"]["content"] == text
            assert (await post(http, f"{server.url}/generate", {"inputs": "Hi"}))[0] == 404
            async with http.get(f"{server.url}/health") as response:
                assert response.status == 200

    async def test_an_only_model_is_also_at_the_root(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        for url in (tgi_server.url, f"{tgi_server.url}/", tgi_server.url_of("model")):
            assert (await post(http, url, {"inputs": "Hi"}))[0] == 200

    @pytest.mark.parametrize("name", ["", "a/b", "größe", "-x", "a b"])
    def test_names_must_be_path_segments(self, name: str) -> None:
        with pytest.raises(ValueError, match="cannot be a path segment"):
            make_app({name: ScriptedEngine()})

    def test_keys_may_not_be_empty(self) -> None:
        with pytest.raises(ValueError, match="api_key is empty"):
            make_app({"m": ScriptedEngine()}, api_key=" ")

    def test_there_must_be_an_engine(self) -> None:
        with pytest.raises(ValueError, match="at least one engine"):
            make_app({})


class TestKey:
    async def test_is_needed_where_tgi_needs_it(self, http: aiohttp.ClientSession) -> None:
        app = make_app({"m": ScriptedEngine("Hi.")}, api_key=SecretStr("Sesame"))
        async with serving(app) as url:
            body = {"inputs": "Hi", "messages": [USER], "prompt": "Hi"}
            for path in (
                "/",
                "/generate",
                "/generate_stream",
                CHAT,
                "/v1/completions",
                "/tokenize",
            ):
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"api-key": "Sesame"}):
                    assert await post(http, url + path, body, headers=headers) == (401, "")
                headers = {"Authorization": "bearer SESAME"}
                assert (await post(http, url + path, body, headers=headers))[0] == 200
            assert (await post(http, f"{url}/chat_tokenize", body))[0] == 200
            for path in ("/", "/info", "/health", "/ping", "/metrics", "/v1/models"):
                async with http.get(url + path) as response:
                    assert response.status == 200


class TestRejections:
    async def test_bodies_that_do_not_fit(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        url = f"{tgi_server.url}/generate"
        async with http.post(url, json={"prompt": "Hi"}) as response:
            assert (response.status, response.content_type) == (422, "text/plain")
            assert "inputs: Field required" in await response.text()
        async with http.post(url, data=b"{", headers={"Content-Type": "application/json"}) as other:
            assert (other.status, other.content_type) == (400, "text/plain")
        async with http.post(url, data=b"{}", headers={"Content-Type": "text/plain"}) as other:
            assert other.status == 415

    async def test_two_megabytes_are_the_most(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        url = f"{tgi_server.url}/tokenize"
        headers = {"Content-Type": "application/json"}
        for size, status in ((2_000_000, 413), (1_900_000, 200)):
            body = io.BytesIO(json.dumps({"inputs": "x" * size}).encode())
            async with http.post(url, data=body, headers=headers) as response:
                assert response.status == status
                text = await response.text()
            limit = "Failed to buffer the request body: length limit exceeded"
            assert (text == limit) == (status == 413)

    async def test_errors_before_and_inside_streams(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        text = "Input validation error: `temperature` must be strictly positive"
        error = {"error": text, "error_type": "validation"}
        body = {"inputs": "Hi", "parameters": {"temperature": 0}}
        assert await post(http, f"{tgi_server.url}/generate", body) == (422, error)
        assert await events(http, f"{tgi_server.url}/generate_stream", body) == [error]
        assert await events(http, tgi_server.url, {**body, "stream": True}) == [error]

        chat = {"messages": [USER], "temperature": -1}
        assert await post(http, tgi_server.url + CHAT, chat) == (422, error)
        assert await events(http, tgi_server.url + CHAT, {**chat, "stream": True}) == [
            {"error": {"message": text, "http_status_code": 422}},
            "[DONE]",
        ]

    async def test_template_and_tool_errors_come_before_the_stream(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.engine.refused_role = "robot"
        body: dict[str, Any] = {"messages": [{"role": "robot", "content": "x"}], "stream": True}
        status, error = await post(http, tgi_server.url + CHAT, body)
        assert (status, error["error_type"]) == (422, "template_error")
        assert error["error"] == "Template error: the template knows no role 'robot'"

        grammar = {"type": "json", "value": {"properties": {}}}
        body = {"messages": [USER], "stream": True, "tools": [], "response_format": grammar}
        assert await post(http, tgi_server.url + CHAT, body) == (
            422,
            {
                "error": "Tool error: Grammar and tools are mutually exclusive",
                "error_type": "tool_error",
            },
        )
        choice = {"type": "function", "function": {"name": "fly"}}
        body = {"messages": [USER], "tools": [WEATHER], "tool_choice": choice}
        status, error = await post(http, tgi_server.url + CHAT, body)
        assert error["error"] == "Tool error: Tool with name fly not found"

    async def test_the_token_budget_is_counted(self, http: aiohttp.ClientSession) -> None:
        async with TGITestServer(ScriptedEngine("a b c", max_total_tokens=10)) as server:
            inputs = "one two three four five six"
            body: dict[str, Any] = {"inputs": inputs, "parameters": {"max_new_tokens": 5}}
            status, error = await post(http, f"{server.url}/generate", body)
            assert status == 200
            assert server.log[-1].requests[0].max_new_tokens == 4
            body["inputs"] = inputs * 2
            status, error = await post(http, f"{server.url}/generate", body)
            assert status == 422
            assert "must have less than 9 tokens" in error["error"]
            body["inputs"] = inputs
            body["parameters"] = {"details": True}
            assert (await post(http, f"{server.url}/generate", body))[0] == 200
            body["parameters"] = {"max_new_tokens": 8, "truncate": 2}
            assert (await post(http, f"{server.url}/generate", body))[0] == 200
            assert server.log[-1].requests[0].truncate == 2
            assert server.log[-2].requests[0].max_new_tokens == 4


class TestOverload:
    async def test_one_too_many_is_refused_at_once(self, http: aiohttp.ClientSession) -> None:
        engine = ScriptedEngine("Hi.", pace=Pace(first_token_s=30))
        async with TGITestServer(engine, max_concurrent_requests=2) as server:
            url, body = server.url, {"inputs": "Hi"}
            error = {"error": "Model is overloaded", "error_type": "overloaded"}
            # Headers leave before the work, so these two hold their places now.
            first = await http.post(f"{url}/generate_stream", json=body)
            second = await http.post(f"{url}/generate_stream", json=body)
            assert (first.status, second.status) == (200, 200)
            await engine.until_active(2)

            assert await post(http, f"{url}/generate", body) == (429, error)
            assert await events(http, f"{url}/generate_stream", body) == [error]
            chat = {"messages": [USER], "stream": True}
            assert await events(http, url + CHAT, chat) == [
                {"error": {"message": "Model is overloaded", "http_status_code": 422}},
                "[DONE]",
            ]
            # Overload is looked for before anything else.
            wrong = {"inputs": "Hi", "parameters": {"temperature": 0}}
            assert (await post(http, f"{url}/generate", wrong))[0] == 429

            engine.pace = Pace()
            first.close()
            second.close()
            await server.idle()
            assert (await post(http, f"{url}/generate", body))[0] == 200


class TestDisconnect:
    @pytest.mark.parametrize("path", ["/generate_stream", "/generate", CHAT, "/v1/completions"])
    async def test_a_client_that_leaves_stops_the_engine(
        self, http: aiohttp.ClientSession, path: str
    ) -> None:
        engine = ScriptedEngine("word " * 50, pace=Pace(first_token_s=30))
        async with TGITestServer(engine) as server:
            body = {"inputs": "Hi", "messages": [USER], "prompt": ["a", "b"], "stream": True}
            async with asyncio.TaskGroup() as group:
                call = group.create_task(post(http, server.url + path, body))
                await engine.until_active(2 if path == "/v1/completions" else 1)
                call.cancel()
            await server.idle()
            assert engine.active == 0
            assert engine.closed_early >= 1
            assert server.log[0].disconnected

    @pytest.mark.parametrize(("after", "pace"), [("index", Pace(0.001)), (":", Pace(1, 30))])
    async def test_without_cancellation_of_handlers(self, after: str, pace: Pace) -> None:
        """Where the runner does not cancel handlers, the next write ends the stream."""
        engine = ScriptedEngine("word " * 2000, pace=pace)
        app = make_app({"m": engine}, keepalive_s=0.01)
        runner = aiohttp.web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({"inputs": "Hi"}).encode()
            writer.write(
                b"POST /generate_stream HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
            )
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(after.encode())
            writer.close()
            await engine.until_active(0)
            assert engine.closed_early == 1
        finally:
            await runner.cleanup()


class TestStreams:
    async def test_generate(self, http: aiohttp.ClientSession, tgi_server: TGITestServer) -> None:
        tgi_server.engine.reply = "Hé 你好."
        body = {"inputs": "Hi", "parameters": {"details": True, "max_new_tokens": 20}}
        got = await events(http, f"{tgi_server.url}/generate_stream", body)
        assert [each["index"] for each in got] == list(range(1, len(got) + 1))
        assert "".join(each["token"]["text"] for each in got) == "Hé 你好.</s>"
        assert [each["generated_text"] for each in got[:-1]] == [None] * (len(got) - 1)
        assert got[-1]["generated_text"] == "Hé 你好."
        assert got[-1]["token"]["special"]
        assert got[-1]["details"] == {
            "finish_reason": "eos_token",
            "generated_tokens": len(got),
            "seed": None,
            "input_length": 1,
        }

    @pytest.mark.parametrize(
        ("parameters", "text", "generate_reason", "chat_reason"),
        [
            ({}, "One two. Three.", "eos_token", "stop"),
            ({"stop": ["."]}, "One two.", "stop_sequence", "stop_sequence"),
            ({"max_new_tokens": 2, "max_tokens": 2}, "One two", "length", "length"),
        ],
    )
    async def test_finish_reasons_per_route(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        parameters: dict[str, Any],
        text: str,
        generate_reason: str,
        chat_reason: str,
    ) -> None:
        tgi_server.engine.reply = "One two. Three."
        url = tgi_server.url
        body = {"inputs": "Hi", "parameters": {**parameters, "details": True}}
        _, whole = await post(http, f"{url}/generate", body)
        assert whole["generated_text"] == text
        assert whole["details"]["finish_reason"] == generate_reason
        last = (await events(http, f"{url}/generate_stream", body))[-1]
        assert last["generated_text"] == text
        assert last["details"]["finish_reason"] == generate_reason

        chat = {"messages": [USER], **parameters}
        _, answer = await post(http, url + CHAT, chat)
        assert answer["choices"][0]["finish_reason"] == chat_reason
        *chunks, done = await events(http, url + CHAT, {**chat, "stream": True})
        assert done == "[DONE]"
        assert content(chunks) == text == answer["choices"][0]["message"]["content"]
        assert chunks[-1]["choices"][0]["finish_reason"] == chat_reason

        completion = {"prompt": "Hi", **parameters}
        _, answer = await post(http, f"{url}/v1/completions", completion)
        assert answer["choices"][0]["finish_reason"] == chat_reason
        *chunks, done = await events(http, f"{url}/v1/completions", {**completion, "stream": True})
        assert chunks[-1]["choices"][0]["finish_reason"] == generate_reason

    async def test_usage_counts_what_a_cached_prefix_saved(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        body = {
            "messages": [{"role": "user", "content": "one two three"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        *_, first, _ = await events(http, tgi_server.url + CHAT, body)
        *_, second, done = await events(http, tgi_server.url + CHAT, body)
        assert done == "[DONE]"
        assert second["choices"] == []
        usage = second["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        assert usage["prompt_tokens_details"] == {"cached_tokens": usage["prompt_tokens"]}
        async with http.get(f"{tgi_server.url}/metrics") as response:
            line = f'langchain_sgd_cached_prompt_tokens{{model="scripted/model"}} {usage["prompt_tokens"]}'
            assert line in (await response.text()).splitlines()

    async def test_silence_is_filled_with_comments(self, http: aiohttp.ClientSession) -> None:
        async with TGITestServer("Hi.", keepalive_s=0.01) as server:
            server.engine.pace = Pace(first_token_s=0.06)
            async with http.post(
                server.url + CHAT, json={"messages": [USER], "stream": True}
            ) as got:
                text = await got.text()
            comments, _, rest = text.partition("data: ")
            assert comments == ":\n\n" * (len(comments) // 3)
            assert len(comments) // 3 >= 2  # how many depends on what else the machine does
            assert rest.endswith("data: [DONE]\n\n")

    async def test_several_prompts_share_one_stream(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        tgi_server.engine.reply = {"first": "One.", "second": "Two words."}
        tgi_server.engine.pace = Pace(token_s=0.001)
        body = {"prompt": ["the first", "the second"], "stream": True}
        *chunks, done = await events(http, f"{tgi_server.url}/v1/completions", body)
        assert done == "[DONE]"
        texts = {0: "", 1: ""}
        for chunk in chunks:
            (choice,) = chunk["choices"]
            texts[choice["index"]] += choice["text"]
        assert texts == {0: "One.</s>", 1: "Two words.</s>"}
        assert tgi_server.engine.peak == 2
        assert sum("usage" in chunk for chunk in chunks) == 2


class TestWholeAnswers:
    async def test_headers(self, http: aiohttp.ClientSession, tgi_server: TGITestServer) -> None:
        tgi_server.engine.reply = "One two."
        async with http.post(f"{tgi_server.url}/generate", json={"inputs": "Hi you"}) as response:
            whole = {name.lower(): value for name, value in response.headers.items()}
        assert {name for name in whole if name.startswith("x-")} == {
            "x-compute-type",
            "x-compute-time",
            "x-compute-characters",
            "x-total-time",
            "x-validation-time",
            "x-queue-time",
            "x-inference-time",
            "x-time-per-token",
            "x-prompt-tokens",
            "x-generated-tokens",
        }
        assert (whole["x-prompt-tokens"], whole["x-generated-tokens"]) == ("2", "4")
        assert whole["x-compute-characters"] == "6"
        assert 0 < float(whole["x-compute-time"]) < 5

        url = f"{tgi_server.url}/generate_stream"
        async with http.post(url, json={"inputs": "Hi you"}) as response:
            streamed = {name.lower() for name in response.headers if name.lower().startswith("x-")}
        assert streamed == {"x-compute-type", "x-compute-characters", "x-accel-buffering"}

    async def test_best_of(self, http: aiohttp.ClientSession, tgi_server: TGITestServer) -> None:
        parameters = {"best_of": 2, "do_sample": True, "details": True}
        body = {"inputs": "Hi", "parameters": parameters}
        _, answer = await post(http, f"{tgi_server.url}/generate", body)
        (other,) = answer["details"]["best_of_sequences"]
        assert answer["generated_text"] != other["generated_text"]
        assert answer["details"]["seed"] != other["seed"]
        means = [
            sum(token["logprob"] for token in each["tokens"]) / len(each["tokens"])
            for each in (answer["details"], other)
        ]
        assert means[0] >= means[1]

        parameters["best_of"] = 3
        status, error = await post(http, f"{tgi_server.url}/generate", body)
        assert (status, error["error_type"]) == (422, "validation")

    async def test_prefill_details(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        parameters = {"decoder_input_details": True}
        body = {"inputs": "Hi you", "parameters": parameters}
        _, answer = await post(http, f"{tgi_server.url}/generate", body)
        # TGI 3 sends none, either.
        assert answer["details"]["prefill"] == []

    async def test_failures_of_the_engine(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        url = f"{tgi_server.url}/generate"
        tgi_server.inject("fail")
        assert await post(http, url, {"inputs": "Hi"}) == (
            424,
            {
                "error": "Request failed during generation: out of memory",
                "error_type": "generation",
            },
        )
        tgi_server.inject("incomplete")
        assert await post(http, url, {"inputs": "Hi"}) == (
            500,
            {"error": "Incomplete generation", "error_type": "incomplete_generation"},
        )
        tgi_server.inject("fail", times=None)
        status, error = await post(http, f"{tgi_server.url}/v1/completions", {"prompt": ["a", "b"]})
        assert (status, error["error_type"]) == (424, "generation")

    async def test_an_engine_that_is_closed(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        await tgi_server.engine.aclose()
        message = "Request failed during generation: the engine is closed"
        error = {"error": message, "error_type": "generation"}
        body = {"inputs": "Hi", "messages": [USER]}
        for path in ("/generate", "/tokenize", "/chat_tokenize", CHAT):
            assert await post(http, tgi_server.url + path, body) == (424, error)
        assert await events(http, f"{tgi_server.url}/generate_stream", body) == [error]
        async with http.get(f"{tgi_server.url}/health") as response:
            assert response.status == 503

    async def test_completions(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        url = f"{tgi_server.url}/v1/completions"
        status, error = await post(http, url, {"prompt": "a", "suffix": "z"})
        assert (status, error["error_type"]) == (422, "suffix not supported")
        status, error = await post(http, url, {"prompt": ["a"] * 5})
        assert (status, error["error_type"]) == (422, "batch size exceeded")
        async with http.post(url, json={"prompt": ["a", "b c"], "temperature": 0}) as response:
            answer = await response.json()
            assert "x-compute-time" not in response.headers
            assert response.headers["x-prompt-tokens"] == "3"
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        assert answer["usage"]["prompt_tokens"] == 3


class TestTools:
    async def test_a_call(self, http: aiohttp.ClientSession, tgi_server: TGITestServer) -> None:
        body = {"messages": [USER], "tools": [WEATHER]}
        _, answer = await post(http, tgi_server.url + CHAT, body)
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris", "hour": 7}
        assert "content" not in answer["choices"][0]["message"]
        assert "get_weather" in tgi_server.prompts[0]

    @pytest.mark.parametrize("pieces", ["words", "characters"])
    async def test_a_streamed_call(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer, pieces: Any
    ) -> None:
        tgi_server.engine.pieces = pieces
        body = {
            "messages": [USER],
            "tools": [WEATHER],
            "tool_choice": "required",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        *chunks, usage, done = await events(http, tgi_server.url + CHAT, body)
        calls = [chunk["choices"][0]["delta"]["tool_calls"][0]["function"] for chunk in chunks]
        assert [call["name"] for call in calls] == ["get_weather"] + [None] * (len(calls) - 1)
        assert calls[0]["arguments"] == "{"
        arguments = json.loads("".join(call["arguments"] for call in calls))
        assert arguments == {"city": "Paris", "hour": 7}
        assert calls[-1]["arguments"] == ""
        assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}
        assert usage["usage"]["completion_tokens"] > len(calls)
        assert done == "[DONE]"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_model_that_calls_nothing_is_asked_again(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        stream: bool,  # noqa: FBT001
    ) -> None:
        tgi_server.engine.reply = "Hello."
        message = {"role": "user", "content": "Hi!"}
        body = {"messages": [message], "tools": [WEATHER], "stream": stream}
        if stream:
            *chunks, _ = await events(http, tgi_server.url + CHAT, body)
            assert content(chunks) == "Hello."
        else:
            _, answer = await post(http, tgi_server.url + CHAT, body)
            assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello."}
        with_tools, without = tgi_server.log[0].requests
        assert with_tools.grammar is not None
        assert without.grammar is None
        assert "get_weather" not in without.prompt

    async def test_a_grammar_is_read_beside_the_loop(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        found: list[threading.Thread] = []
        real = _validation.compile_grammar

        def noted(form: Grammar) -> Grammar | None:
            found.append(threading.current_thread())
            return real(form)

        monkeypatch.setattr(_model, "compile_grammar", noted)
        parameters = {"grammar": {"type": "regex", "value": "[a-z]+"}, "max_new_tokens": 3}
        await post(http, tgi_server.url + "/generate", {"inputs": "x", "parameters": parameters})
        assert len(found) == 1
        assert found[0] is not threading.main_thread()

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_model_without_grammars_is_found_out(
        self,
        http: aiohttp.ClientSession,
        tgi_server: TGITestServer,
        stream: bool,  # noqa: FBT001
    ) -> None:
        tgi_server.engine.grammars = "ignore"
        tgi_server.engine.reply = "no JSON at all"
        body = {"messages": [USER], "tools": [WEATHER], "stream": stream}
        if stream:
            error, _ = await events(http, tgi_server.url + CHAT, body)
            message = error["error"]["message"]
        else:
            status, error = await post(http, tgi_server.url + CHAT, body)
            assert (status, error["error_type"]) == (422, "tool_error")
            message = error["error"]
        assert message.startswith("Tool error: Failed to parse generated text")

    async def test_templates_that_know_tools_are_given_them(
        self, http: aiohttp.ClientSession
    ) -> None:
        async with TGITestServer(ScriptedEngine(template_uses_tools=True)) as server:
            await post(http, server.url + CHAT, {"messages": [USER], "tools": [WEATHER]})
            assert server.prompts[0].startswith("<|tools|>\n")
            assert server.prompts[0].count("get_weather") == 1


class TestPrompts:
    async def test_a_last_message_of_the_assistant_is_continued(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        messages = [USER, {"role": "assistant", "content": "The weather"}]
        await post(http, tgi_server.url + CHAT, {"messages": messages})
        assert tgi_server.prompts[0].endswith("<|assistant|>\nThe weather")

    async def test_tokenize(self, http: aiohttp.ClientSession, tgi_server: TGITestServer) -> None:
        _, tokens = await post(http, f"{tgi_server.url}/tokenize", {"inputs": "Hi you"})
        assert [(each["text"], each["start"], each["stop"]) for each in tokens] == [
            ("Hi", 0, 2),
            (" you", 2, 6),
        ]
        _, answer = await post(http, f"{tgi_server.url}/chat_tokenize", {"messages": [USER]})
        assert answer["templated_text"] == f"<|user|>\n{USER['content']}</s>\n<|assistant|>\n"
        joined = "".join(each["text"] for each in answer["tokenize_response"])
        assert joined == answer["templated_text"]

    async def test_other_names_of_the_model_are_echoed(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        for given, shown in ((None, "scripted/model"), ("tgi", "scripted/model"), ("x", "x")):
            body = {"messages": [USER], "model": given}
            _, answer = await post(http, tgi_server.url + CHAT, body)
            assert answer["model"] == shown


class TestHealth:
    async def test_asks_an_engine_that_failed(
        self, http: aiohttp.ClientSession, tgi_server: TGITestServer
    ) -> None:
        async def health() -> int:
            async with http.get(f"{tgi_server.url}/health") as response:
                return response.status

        assert await health() == 200
        assert len(tgi_server.log[0].requests) == 1
        assert await health() == 200
        assert tgi_server.log[1].requests == []

        tgi_server.inject("fail", times=2)
        assert (await post(http, f"{tgi_server.url}/generate", {"inputs": "Hi"}))[0] == 424
        assert await health() == 503
        assert await health() == 200
