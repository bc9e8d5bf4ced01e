"""The routes of one served model."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from aiohttp import web

from langchain_sgd.embedded import protocol
from langchain_sgd.embedded._bodies import (
    ChatBody,
    CompletionBody,
    GenerateBody,
    VertexBody,
    is_of,
    read,
)
from langchain_sgd.embedded._chat import Chat
from langchain_sgd.embedded._errors import PREFIX, Kind, ProtocolError, RejectionError
from langchain_sgd.embedded._http import (
    Events,
    event_stream,
    json_response,
    read_body,
    timing_headers,
)
from langchain_sgd.embedded._model import Model
from langchain_sgd.embedded._validation import check_stream
from langchain_sgd.embedded.engine import Token, shown
from langchain_sgd.embedded.protocol import DONE, CompletionAnswer, GenerateAnswer, event

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Part = Callable[[Events], Awaitable[None]]


class Routes:
    """Answers what is asked of one model; `register` puts it under a path prefix."""

    def __init__(self, model: Model, key: str | None, keepalive_s: float) -> None:
        self._model = model
        self._authorization = None if key is None else f"bearer {key}".lower().encode()
        self._keepalive_s = keepalive_s

    def register(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Add the routes under a prefix; clients post to the prefix itself as well."""
        posts: Mapping[str, Handler] = {
            "/": self._compat,
            "/generate": self._generate,
            "/generate_stream": self._generate_stream,
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/invocations": self._invocations,
            "/vertex": self._vertex,
            "/tokenize": self._tokenize,
            "/chat_tokenize": self._chat_tokenize,
        }
        gets: Mapping[str, Handler] = {
            "/": self._health,
            "/health": self._health,
            "/ping": self._health,
            "/info": self._info,
            "/metrics": self._metrics,
            "/v1/models": self._models,
        }
        for add, handlers in ((router.add_post, posts), (router.add_get, gets)):
            for path, handler in handlers.items():
                # For `/chat_tokenize` TGI asks for no key, and so do we.
                private = handlers is posts and path != "/chat_tokenize"
                guarded = self._guarded(handler, private=private)
                for each in {path, path.rstrip("/")} if prefix else {path}:
                    add(prefix + each, guarded)

    def _guarded(self, handler: Handler, *, private: bool) -> Handler:
        """The handler behind the key, with its errors turned into TGI's bodies."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if private and not self._authorized(request):
                return web.Response(status=401)
            try:
                return await handler(request)
            except RejectionError as rejection:
                return web.Response(status=rejection.status, text=rejection.text)
            except ProtocolError as error:
                self._model.metrics.failed(error.error_type)
                return json_response(error.body, status=error.status)

        return guarded

    def _authorized(self, request: web.Request) -> bool:
        if self._authorization is None:
            return True
        given = request.headers.get("Authorization", "").lower().encode(errors="replace")
        return hmac.compare_digest(given, self._authorization)

    async def _stream(
        self, request: web.Request, characters: int, *parts: Part, as_openai: bool = True
    ) -> web.StreamResponse:
        """Stream what the parts write, all at once; an error ends its part, in the form of the route."""
        stream = event_stream(request, characters=characters, keepalive_s=self._keepalive_s)
        async with stream as events:

            async def write(part: Part) -> None:
                try:
                    await part(events)
                except ProtocolError as error:
                    self._model.metrics.failed(error.error_type)
                    await events.send(event(error.chat_event if as_openai else error.body))

            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(write(part))
            if as_openai:
                await events.send(DONE)
        return events.response

    # --- generate

    async def _compat(self, request: web.Request) -> web.StreamResponse:
        body = await self._generate_request(request)
        if body.stream:
            return await self._stream_generate(request, body, full_text=True)
        return await self._whole_generate(body, is_compat=True)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._whole_generate(await self._generate_request(request))

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._stream_generate(request, await self._generate_request(request))

    async def _generate_request(self, request: web.Request) -> GenerateBody:
        body = read(GenerateBody, await read_body(request))
        self._model.metrics.requested()
        return body

    async def _whole_generate(
        self, body: GenerateBody, *, is_compat: bool = False
    ) -> web.StreamResponse:
        started = time.monotonic()
        output, *others = await self._model.run_best_of(body.inputs, body.parameters)
        answer = _generate_answer(body, full_text=is_compat).body(output, others)
        headers = timing_headers(started, len(body.inputs), [output])
        return json_response([answer] if is_compat else answer, headers=headers)

    async def _stream_generate(
        self, request: web.Request, body: GenerateBody, *, full_text: bool = False
    ) -> web.StreamResponse:
        answer = _generate_answer(body, full_text=full_text)

        async def write(events: Events) -> None:
            index = count(1)

            async def on_token(token: Token) -> None:
                await events.send(answer.token(next(index), token), of=token)

            check_stream(body.parameters)
            parameters = body.parameters.model_copy(update={"logprobs": True})
            await events.send(answer.last(await self._model.run(body.inputs, parameters, on_token)))

        return await self._stream(request, len(body.inputs), write, as_openai=False)

    # --- chat

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chat = await self._chat_request(request)
        if chat.body.stream:
            return await self._stream(request, len(chat.prompt), chat.stream)

        started = time.monotonic()
        output, call = await chat.whole()
        headers = timing_headers(started, len(chat.prompt), [output])
        return json_response(chat.answer.body(output, call), headers=headers)

    async def _chat_request(self, request: web.Request) -> Chat:
        body = read(ChatBody, await read_body(request))
        self._model.metrics.requested()
        return await Chat.of(self._model, body)

    # --- completions

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = read(CompletionBody, await read_body(request))
        self._model.metrics.requested()
        if body.suffix is not None:
            raise ProtocolError(Kind.SUFFIX)
        limit = self._model.limits.max_client_batch_size
        if len(body.prompts) > limit:
            raise ProtocolError(Kind.BATCH, limit)

        answer = CompletionAnswer(self._model.engine.info.model_id)
        characters = sum(map(len, body.prompts))
        if body.stream:

            async def complete(index: int, prompt: str, events: Events) -> None:
                async def on_token(token: Token) -> None:
                    await events.send(answer.token(index, token))

                output = await self._model.run(prompt, body.parameters, on_token)
                await events.send(answer.last(index, output))

            parts = [partial(complete, *each) for each in enumerate(body.prompts)]
            return await self._stream(request, characters, *parts)
        started = time.monotonic()
        outputs = await self._model.run_all(body.prompts, body.parameters)
        headers = timing_headers(started, characters, outputs)
        # TGI adds the headers of its parts up and leaves this one out.
        del headers["x-compute-time"]
        return json_response(answer.body(outputs), headers=headers)

    # --- the rest

    async def _invocations(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request)
        forms = {"inputs": self._compat, "messages": self._chat, "prompt": self._completions}
        for name, handler in forms.items():
            if is_of(name, body):
                return await handler(request)
        raise RejectionError(422, f"{PREFIX}expected `inputs`, `messages` or `prompt`")

    async def _vertex(self, request: web.Request) -> web.StreamResponse:
        instances = read(VertexBody, await read_body(request)).instances
        if not instances:
            wrong = "Input validation error"
            return json_response({"error": wrong, "error_type": wrong}, status=422)
        texts = [await self._prediction(instance) for instance in instances]
        return json_response({"predictions": texts})

    async def _prediction(self, instance: Any) -> str:
        if not is_of("messages", instance):
            body = read(GenerateBody, instance)
            return (await self._model.run(body.inputs, body.parameters)).text
        chat = read(ChatBody, instance)
        return (await self._model.run(await self._model.prompt(chat, ()), chat.parameters)).text

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body = await self._generate_request(request)
        tokens = await self._model.tokenize(body.inputs)
        return json_response(protocol.simple_tokens(tokens))

    async def _chat_tokenize(self, request: web.Request) -> web.StreamResponse:
        prompt = (await self._chat_request(request)).prompt
        tokens = protocol.simple_tokens(await self._model.tokenize(prompt))
        return json_response({"tokenize_response": tokens, "templated_text": shown(prompt)})

    async def _info(self, _: web.Request) -> web.StreamResponse:
        return json_response(protocol.info_body(self._model.engine.info, self._model.limits))

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return json_response(protocol.models_body(self._model.engine.info))

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.Response() if await self._model.healthy() else unhealthy()

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        text = self._model.metrics.render(self._model.engine.info.model_id)
        return web.Response(text=text)


def _generate_answer(body: GenerateBody, *, full_text: bool) -> GenerateAnswer:
    """`full_text`: whether the prompt stands before the text where the client does not say."""
    parameters = body.parameters
    wanted = parameters.return_full_text
    return GenerateAnswer(
        details=parameters.details or parameters.decoder_input_details,
        prompt=body.inputs if (full_text if wanted is None else wanted) else "",
        top_n_tokens=parameters.top_n_tokens or 0,
    )


def unhealthy() -> web.Response:
    """What health checks answer for an engine that fails."""
    return json_response({"error": "unhealthy", "error_type": "healthcheck"}, status=503)
