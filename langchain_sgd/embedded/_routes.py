"""The routes of one served model."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

from langchain_sgd.embedded import protocol
from langchain_sgd.embedded._bodies import (
    ChatBody,
    CompletionBody,
    GenerateBody,
    GrammarForm,
    Parameters,
    Tool,
    VertexBody,
    is_of,
    read,
)
from langchain_sgd.embedded._errors import (
    ProtocolError,
    RejectionError,
    batch_too_large,
    suffix_unsupported,
    tool_error,
)
from langchain_sgd.embedded._http import (
    Events,
    Line,
    event_stream,
    json_response,
    read_body,
    timing_headers,
)
from langchain_sgd.embedded._model import Model
from langchain_sgd.embedded._tools import (
    NO_TOOL,
    CallStream,
    free_call,
    may_be_call,
    parse_call,
    selected_tools,
    tool_schema,
)
from langchain_sgd.embedded._validation import check_stream
from langchain_sgd.embedded.engine import Token, shown
from langchain_sgd.embedded.protocol import (
    DONE,
    ChatAnswer,
    CompletionAnswer,
    GenerateAnswer,
    Output,
    event,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Answers what is asked of one model; `register` puts it under a path prefix."""

    def __init__(self, model: Model, key: str | None, keepalive_s: float) -> None:
        self._model = model
        self._authorization = None if key is None else f"bearer {key}".lower().encode()
        self._keepalive_s = keepalive_s

    def register(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Add the routes under a prefix; clients post to the prefix itself as well."""
        private: dict[str, Handler] = {
            "/": self._compat,
            "/generate": self._generate,
            "/generate_stream": self._generate_stream,
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/invocations": self._invocations,
            "/vertex": self._vertex,
            "/tokenize": self._tokenize,
        }
        public: dict[str, Handler] = {
            "/": self._health,
            "/health": self._health,
            "/ping": self._health,
            "/info": self._info,
            "/metrics": self._metrics,
            "/v1/models": self._models,
        }
        for path, handler in private.items():
            router.add_post(prefix + path, self._guarded(handler, private=True))
        for path, handler in public.items():
            router.add_get(prefix + path, self._guarded(handler, private=False))
        router.add_post(
            f"{prefix}/chat_tokenize", self._guarded(self._chat_tokenize, private=False)
        )
        if prefix:
            router.add_post(prefix, self._guarded(self._compat, private=True))
            router.add_get(prefix, self._guarded(self._health, private=False))

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

    def _events(self, request: web.Request, characters: int) -> AbstractAsyncContextManager[Events]:
        return event_stream(request, characters=characters, keepalive_s=self._keepalive_s)

    # --- generate

    async def _compat(self, request: web.Request) -> web.StreamResponse:
        body = await self._generate_request(request)
        if body.given.return_full_text is None:
            given = body.given.model_copy(update={"return_full_text": True})
            body = body.model_copy(update={"given": given})
        if body.stream:
            return await self._stream_generate(request, body)
        return await self._whole_generate(body, as_list=True)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._whole_generate(await self._generate_request(request))

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._stream_generate(request, await self._generate_request(request))

    async def _generate_request(self, request: web.Request) -> GenerateBody:
        body = read(GenerateBody, await read_body(request))
        self._model.metrics.requested()
        return body

    async def _whole_generate(
        self, body: GenerateBody, *, as_list: bool = False
    ) -> web.StreamResponse:
        started = time.monotonic()
        parameters = body.parameters
        if parameters.best_of is not None and parameters.best_of > 1:
            output, *others = await self._model.run_best_of(body.inputs, parameters)
        else:
            output, others = await self._model.run(body.inputs, parameters), []
        answer = _generate_answer(body).body(output, others)
        headers = timing_headers(started, len(body.inputs), [output])
        return json_response([answer] if as_list else answer, headers=headers)

    async def _stream_generate(
        self, request: web.Request, body: GenerateBody
    ) -> web.StreamResponse:
        answer = _generate_answer(body)
        index = 0
        line = Line()
        async with self._events(request, len(body.inputs)) as events:

            async def on_token(token: Token) -> None:
                nonlocal index
                index += 1
                await events.send(answer.token(index, token), at_once=line.take(token))

            try:
                check_stream(body.parameters)
                parameters = body.parameters.model_copy(update={"logprobs": True})
                output = await self._model.run(body.inputs, parameters, on_token)
                await events.send(answer.last(output))
            except ProtocolError as error:
                self._model.metrics.failed(error.error_type)
                await events.send(event(error.body))
        return events.response

    # --- chat

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body, tools, prompt = await self._chat_request(request)
        if body.stream:
            return await self._stream_chat(request, body, tools, prompt)

        started = time.monotonic()
        answer = self._chat_answer(body)
        output = await self._model.run(prompt, _with_grammar(body, tools))
        call = parse_call(output.text) if tools else None
        if _answered(body):
            call = free_call(output.text, body.tools or ())
        if tools and call is None:
            prompt = await self._model.prompt(body, ())
            output = await self._model.run(prompt, body.parameters)
        headers = timing_headers(started, len(prompt), [output])
        return json_response(answer.body(output, call), headers=headers)

    async def _chat_request(self, request: web.Request) -> tuple[ChatBody, tuple[Tool, ...], str]:
        body = read(ChatBody, await read_body(request))
        self._model.metrics.requested()
        if body.tools is not None and body.parameters.grammar is not None:
            msg = "Grammar and tools are mutually exclusive"
            raise tool_error(msg)
        if _answered(body):
            # The model has what it asked for. Forced to name a function again it would call the same one.
            return body, (), await self._model.prompt(body, (), known=body.tools or ())
        tools = selected_tools(body.tools, body.tool_choice)
        return body, tools, await self._model.prompt(body, tools)

    def _chat_answer(self, body: ChatBody) -> ChatAnswer:
        # TGI takes another name for an adapter and, where there is none, echoes it.
        own = body.model in (None, "tgi")
        model = self._model.engine.info.model_id if own else f"{body.model}"
        top = body.parameters.top_n_tokens or 0
        return ChatAnswer(model, logprobs=body.parameters.logprobs, top_n_tokens=top)

    async def _stream_chat(
        self, request: web.Request, body: ChatBody, tools: Sequence[Tool], prompt: str
    ) -> web.StreamResponse:
        answer = self._chat_answer(body)
        async with self._events(request, len(prompt)) as events:
            try:
                output = None
                if tools:
                    output = await self._stream_call(events, answer, body, tools, prompt)
                    if output is None:
                        prompt = await self._model.prompt(body, ())
                if output is None:
                    output = await self._stream_text(events, answer, body, prompt)
                if body.include_usage:
                    await events.send(answer.usage(output))
            except ProtocolError as error:
                self._model.metrics.failed(error.error_type)
                await events.send(event(error.chat_event))
            await events.send(DONE)
        return events.response

    async def _stream_text(
        self, events: Events, answer: ChatAnswer, body: ChatBody, prompt: str
    ) -> Output:
        line = Line()
        held: list[Token] = []
        text = ""
        holding = _answered(body)

        async def on_token(token: Token) -> None:
            nonlocal text, holding
            text += "" if token.special else token.text
            held.append(token)
            holding = holding and may_be_call(text)
            while held and not holding:
                each = held.pop(0)
                await events.send(answer.token(each), at_once=line.take(each))

        output = await self._model.run(prompt, body.parameters, on_token)
        call = free_call(output.text, body.tools or ()) if holding else None
        if call is not None:
            await events.send(answer.call(call.arguments, call.name))
            await events.send(answer.call(""))
            return output
        for token in held:
            await events.send(answer.token(token))
        await events.send(answer.last(output))
        return output

    async def _stream_call(
        self,
        events: Events,
        answer: ChatAnswer,
        body: ChatBody,
        tools: Sequence[Tool],
        prompt: str,
    ) -> Output | None:
        """Stream a function call; None where the model chose to write text instead."""
        call = CallStream()

        async def on_token(token: Token) -> None:
            named = call.name is not None
            arguments = "" if token.special else call.push(token.text)
            if call.name == NO_TOOL:
                raise _NoToolChosenError
            if arguments:
                await events.send(answer.call(arguments, None if named else call.name))

        try:
            parameters = _with_grammar(body, tools)
            output = await self._model.run(prompt, parameters, on_token)
            await on_token(output.tokens[-1])
        except _NoToolChosenError:
            return None

        if call.name is None:
            # Cut before it had a name, or not the form that the grammar gives.
            if output.finish_reason == "length":
                return output
            whole = parse_call(output.text)
            if whole is None:
                return None
            await events.send(answer.call(whole.arguments, whole.name))
        elif rest := call.finish():
            await events.send(answer.call(rest))
        if output.finish_reason != "length":
            # TGI gives no reason at the end of a call, but an empty piece of it.
            await events.send(answer.call(""))
        return output

    # --- completions

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = read(CompletionBody, await read_body(request))
        self._model.metrics.requested()
        if body.suffix is not None:
            raise suffix_unsupported()
        limit = self._model.limits.max_client_batch_size
        if len(body.prompts) > limit:
            raise batch_too_large(limit)

        if body.stream:
            return await self._stream_completions(request, body)
        started = time.monotonic()
        outputs = await self._model.run_all(body.prompts, body.parameters)
        answer = CompletionAnswer(self._model.engine.info.model_id)
        headers = timing_headers(started, sum(map(len, body.prompts)), outputs)
        # TGI adds the headers of its parts up and leaves this one out.
        del headers["x-compute-time"]
        return json_response(answer.body(outputs), headers=headers)

    async def _stream_completions(
        self, request: web.Request, body: CompletionBody
    ) -> web.StreamResponse:
        answer = CompletionAnswer(self._model.engine.info.model_id)
        async with self._events(request, sum(map(len, body.prompts))) as events:

            async def complete(index: int, prompt: str) -> None:
                async def on_token(token: Token) -> None:
                    await events.send(answer.token(index, token))

                try:
                    output = await self._model.run(prompt, body.parameters, on_token)
                    await events.send(answer.last(index, output))
                except ProtocolError as error:
                    self._model.metrics.failed(error.error_type)
                    await events.send(event(error.chat_event))

            async with asyncio.TaskGroup() as group:
                for index, prompt in enumerate(body.prompts):
                    group.create_task(complete(index, prompt))
            await events.send(DONE)
        return events.response

    # --- the rest

    async def _invocations(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request)
        forms = {"inputs": self._compat, "messages": self._chat, "prompt": self._completions}
        for name, handler in forms.items():
            if is_of(name, body):
                return await handler(request)
        raise RejectionError(
            422,
            "Failed to deserialize the JSON body into the target type: expected `inputs`, `messages` or"
            " `prompt`",
        )

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
        _, _, prompt = await self._chat_request(request)
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


def _answered(body: ChatBody) -> bool:
    """Whether the model may answer now that a function has."""
    said = bool(body.messages) and body.messages[-1]["role"] == "tool"
    return said and bool(body.tools) and body.tool_choice.mode == "auto"


class _NoToolChosenError(Exception):
    """Ends a stream in which the model chose to call no function."""


def _with_grammar(body: ChatBody, tools: Sequence[Tool]) -> Parameters:
    if not tools:
        return body.parameters
    grammar = GrammarForm("json", tool_schema(tools))
    return body.parameters.model_copy(update={"grammar": grammar})


def _generate_answer(body: GenerateBody) -> GenerateAnswer:
    parameters = body.parameters
    return GenerateAnswer(
        details=parameters.details or parameters.decoder_input_details,
        prompt=body.inputs if parameters.return_full_text else "",
        top_n_tokens=parameters.top_n_tokens or 0,
    )


def unhealthy() -> web.Response:
    """What health checks answer for an engine that fails."""
    return json_response({"error": "unhealthy", "error_type": "healthcheck"}, status=503)
