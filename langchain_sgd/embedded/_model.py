"""One served model: what stands between a valid-looking request and its engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from langchain_sgd.embedded._bodies import ChatBody, Parameters, Tool
from langchain_sgd.embedded._decoding import Decoding, Output
from langchain_sgd.embedded._errors import Kind, ProtocolError
from langchain_sgd.embedded._metrics import Metrics
from langchain_sgd.embedded._tools import with_tools
from langchain_sgd.embedded._validation import (
    Limits,
    check_best_of,
    check_parameters,
    compile_grammar,
    new_tokens,
    sampling,
)
from langchain_sgd.embedded.engine import (
    Counters,
    Engine,
    EngineError,
    EngineInputError,
    GenerateRequest,
    Sampling,
    Token,
)

OnToken = Callable[[Token], Awaitable[None]]


class Model:
    """An engine with its limits, its counters and its health."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.metrics = Metrics()
        # As in TGI, the first health check asks the engine for a token.
        self._healthy = False

    @contextmanager
    def _translated(self, refused: Kind = Kind.VALIDATION) -> Iterator[None]:
        """Turn the engine's errors into the protocol's; `refused` is what that of its input becomes."""
        try:
            yield
        except EngineInputError as error:
            raise ProtocolError(refused, error) from error
        except EngineError as error:
            self._healthy = False
            raise ProtocolError(Kind.GENERATION, error) from error

    async def prompt(
        self, chat: ChatBody, tools: Sequence[Tool], *, known: Sequence[Tool] = ()
    ) -> str:
        """The prompt of a chat; a last message of the assistant is continued, not answered.

        Args:
            chat: The messages.
            tools: Functions of which one is to be called.
            known: Functions that are only shown, where the template does so.

        Raises:
            ProtocolError: The chat template refuses the messages, or the engine failed.
        """
        in_template = self.engine.info.template_uses_tools
        messages: Sequence[Mapping[str, Any]] = [
            _with_calls(message, in_template=in_template) for message in chat.messages
        ]
        if tools:
            messages = with_tools(
                messages, tools, chat.tool_prompt, template_uses_tools=in_template
            )
        begun = ""
        if messages and messages[-1]["role"] == "assistant":
            *messages, last = messages
            begun = last["content"]
        named = (tools or known) if in_template else ()
        shown = [tool.as_json() for tool in named] or None
        with self._translated(Kind.TEMPLATE):
            return await self.engine.render_chat(messages, shown) + begun

    async def tokenize(self, text: str) -> Sequence[Token]:
        """Split text into tokens.

        Raises:
            ProtocolError: The engine failed.
        """
        with self._translated():
            return await self.engine.tokenize(text)

    async def run(
        self, inputs: str, parameters: Parameters, on_token: OnToken | None = None
    ) -> Output:
        """Answer one request: take a place, apply TGI's rules in its order, decode.

        Every token but the last goes to `on_token` as it is made. The last one is known only when the engine
        is done, and travels in the output. Cancelling, or an error of `on_token`, closes the engine's stream.

        Raises:
            ProtocolError: No place is free, a rule is broken, or the engine refused, failed or ended early.
        """
        if self.metrics.in_flight >= self.limits.max_concurrent_requests:
            raise ProtocolError(Kind.OVERLOADED)
        self.metrics.in_flight += 1
        try:
            return await self._run(inputs, parameters, on_token)
        finally:
            self.metrics.in_flight -= 1

    async def run_all(self, prompts: Sequence[str], parameters: Parameters) -> list[Output]:
        """Answer several prompts at once.

        Raises:
            ProtocolError: As in `run`, of the first that failed; the others were cancelled.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.run(prompt, parameters)) for prompt in prompts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def run_best_of(self, inputs: str, parameters: Parameters) -> list[Output]:
        """Answer one request several times; the most probable text comes first.

        Raises:
            ProtocolError: As in `run_all`.
        """
        count = parameters.best_of or 1
        check_best_of(count, self.limits)
        outputs = await self.run_all([inputs] * count, parameters)
        return sorted(outputs, key=lambda output: output.mean_logprob, reverse=True)

    async def _run(self, inputs: str, parameters: Parameters, on_token: OnToken | None) -> Output:
        check_parameters(parameters, inputs, self.limits)
        tokens = await self.tokenize(inputs)
        length = min(len(tokens), parameters.truncate or len(tokens))
        allowed, drawn = new_tokens(parameters, length, self.limits), sampling(parameters)
        grammar = parameters.grammar
        if grammar is not None:
            # A large one takes a second to read, during which others are to be answered.
            grammar = await asyncio.to_thread(compile_grammar, grammar)
        request = GenerateRequest(
            inputs,
            allowed,
            drawn,
            grammar,
            truncate=parameters.truncate,
            logprobs=parameters.logprobs,
        )
        started = time.monotonic()
        counters = Counters()
        decoding = Decoding(request.max_new_tokens, parameters.stop)
        reason = None
        with self._translated():
            async with aclosing(self.engine.generate(request, counters)) as stream:
                async for token in stream:
                    reason = decoding.push(token)
                    if reason is not None:
                        break
                    if on_token is not None:
                        await on_token(token)
                if reason in ("length", "eos_token"):
                    # The engine's stream ends here by itself, and only then its counters are full.
                    await anext(stream, None)
        if reason is None:
            raise ProtocolError(Kind.INCOMPLETE if on_token is None else Kind.INCOMPLETE_STREAM)

        self._healthy = True
        output = Output(
            text=decoding.text,
            tokens=decoding.tokens,
            finish_reason=reason,
            prompt_tokens=counters.prompt_tokens or length,
            cached_tokens=counters.cached_tokens,
            seed=request.sampling.seed,
        )
        self.metrics.finished(output, time.monotonic() - started)
        return output

    async def healthy(self) -> bool:
        """Whether the engine answers; it is asked only when the last request failed."""
        if not self._healthy:
            probe = GenerateRequest("liveness", 1, Sampling())
            try:
                async with aclosing(self.engine.generate(probe, Counters())) as stream:
                    async for _ in stream:
                        self._healthy = True
                        break
            except EngineError:
                return False
        return self._healthy


def _with_calls(message: Mapping[str, Any], *, in_template: bool) -> Mapping[str, Any]:
    """A message that holds function calls, in the one form in which its model is shown them.

    Templates that know tools take calls with arguments as maps; others take text, and get what the grammar
    has the model write.
    """
    if "tool_calls" not in message:
        return message
    calls = [_call(call) for call in message["tool_calls"]]
    if in_template:
        return {**message, "content": "", "tool_calls": calls}
    shown = [
        {"function": {"_name": call["function"]["name"], **call["function"]["arguments"]}}
        for call in calls
    ]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(json.dumps(call, ensure_ascii=False) for call in shown)}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = {"arguments": arguments}
    if not isinstance(arguments, Mapping):
        arguments = {"arguments": arguments}
    return {**call, "function": {"name": function["name"], "arguments": arguments}}
