"""`ChatTGI`: a LangChain chat model on a text-generation-inference server."""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Final, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.schema_argument import check_schema
from langchain_sgd.tgi import answers, endpoint, wire
from langchain_sgd.tgi.errors import TGIError
from langchain_sgd.tgi.messages import StreamReader, message_of
from langchain_sgd.tgi.options import TGIOptions
from langchain_sgd.tgi.payloads import (
    BASE_MODEL,
    GENERATE_SAMPLING,
    LOGPROBS,
    SAMPLING,
    chat_payload,
    generate_payload,
)
from langchain_sgd.tgi.structured import structured
from langchain_sgd.tgi.sync import tgi_thread

_log: Final = logging.getLogger("langchain_sgd")

StructuredOutputMethod = Literal["json_schema", "json_mode", "function_calling"]

_BYTES_PER_TOKEN: Final = 4


class ChatTGI(TGIOptions):
    """A chat model served by text-generation-inference (TGI).

    Example:
        >>> model = ChatTGI(base_url="http://gpu-1:8080", temperature=0, max_tokens=400)
        >>> model.invoke("Name a prime number.").content  # doctest: +SKIP
        '7'

    Connections are pooled per event loop and closed with it. A request that the server did not begin is
    repeated (`max_retries`), a stream only until its first token. Errors are `TGIError`s, which are
    langchain-core `ModelError`s. Closing a stream frees the request's place in the server.
    """

    _served_model: str | None = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "chat-tgi"

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable that stands for the key in a serialized model."""
        return {"api_key": "TGI_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Serialize as constructor and arguments, the key left out."""
        return True

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("base_url", "model", "mode", *SAMPLING, *GENERATE_SAMPLING, "stop")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = "tgi"
        if params.get("ls_model_name") == BASE_MODEL and self._served_model:
            params["ls_model_name"] = self._served_model
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - belongs to this thread
        **kwargs: Any,
    ) -> ChatResult:
        return tgi_thread.run(self._agenerate(messages, stop, None, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(tgi_thread.iterate(self._chunks(messages, stop, kwargs))) as chunks:
            for chunk in chunks:
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to report
        **kwargs: Any,
    ) -> ChatResult:
        stops = self._stops(stop)
        if self.mode == "chat":
            answer = await self.client.chat(chat_payload(self, messages, stops, kwargs))
            delta = answers.chat_delta(answer.body)
        else:
            answer = await self.client.generate_raw(generate_payload(self, messages, stops, kwargs))
            delta = answers.generated(answer.body, answer.timings)
        if not self._asks_logprobs(kwargs):
            delta = delta._replace(logprobs=())
        message = message_of(delta, answer.timings, stops)
        self._remember(delta.model)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._chunks(messages, stop, kwargs)) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> AsyncGenerator[ChatGenerationChunk]:
        stops = self._stops(stop)
        if self.mode == "chat":
            payload = chat_payload(self, messages, stops, options)
            payload["stream_options"] = {"include_usage": True}
            batches = self.client.chat_batches(payload)
            read: Callable[[Mapping[str, Any]], answers.Delta] = answers.chat_delta
        else:
            batches = self.client.generate_batches(generate_payload(self, messages, stops, options))
            read = answers.generate_delta
        reader = StreamReader(stops, logprobs=self._asks_logprobs(options))
        began = time.perf_counter()
        timings: dict[str, float | int | str] = {}
        async with aclosing(batches):
            async for events in batches:
                for message in reader.feed(map(read, events)):
                    if not timings:
                        timings["ttft_s"] = round(time.perf_counter() - began, 6)
                    yield ChatGenerationChunk(message=message)
        timings["total_s"] = round(time.perf_counter() - began, 6)
        self._remember(reader.model)
        yield ChatGenerationChunk(message=reader.last(timings))

    def _stops(self, stop: Sequence[str] | str | None) -> list[str]:
        if stop is None:
            stop = self.stop
        return [each for each in ([stop] if isinstance(stop, str) else stop) if each]

    def _asks_logprobs(self, options: Mapping[str, Any]) -> bool:
        asked = (options.get(name, getattr(self, name)) for name in LOGPROBS)
        return any(value is not None and value is not False for value in asked)

    def get_token_ids(self, text: str) -> list[int]:
        """Ask the server for the ids of a text's own tokens, without those around every prompt.

        Raises:
            TGIError: The server could not be asked.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        tokens = tgi_thread.run(self.client.tokenize(text))
        return [token["id"] for token in tokens if token.get("start") != token.get("stop")]

    def get_num_tokens(self, text: str) -> int:
        """Ask the server how many tokens a text has; where it cannot be asked, estimate them."""
        try:
            return len(self.get_token_ids(text))
        except TGIError as error:
            self._log_estimate(error)
            return math.ceil(len(text.encode(errors="replace")) / _BYTES_PER_TOKEN)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Ask the server how many tokens its template makes of messages and tools.

        Where it cannot be asked, they are estimated as langchain-core does.
        """
        if self.mode == "generate" or self.custom_get_token_ids is not None:
            return self.get_num_tokens(wire.prompt_text(messages))
        payload: dict[str, Any] = {"model": self.model, "messages": wire.chat_messages(messages)}
        openai_tools: list[BaseTool | dict[str, Any]] = [
            convert_to_openai_tool(tool) for tool in tools or ()
        ]
        if openai_tools:
            payload["tools"] = openai_tools
        try:
            return len(tgi_thread.run(self.client.chat_tokenize(payload)))
        except TGIError as error:
            self._log_estimate(error)
            return count_tokens_approximately(messages, tools=openai_tools or None)

    def _log_estimate(self, error: TGIError) -> None:
        _log.warning("Tokens are estimated, for the server could not be asked: %s", error)

    async def aserved_model(self) -> str:
        """The model's name, as the server tells it.

        Raises:
            TGIError: The server could not be asked.
        """
        return (await self.client.info()).model_id

    def _remember(self, served: str | None) -> None:
        """Keep the true name of the server's own model, which it tells with its first answer."""
        if served is not None and self.model == BASE_MODEL:
            self._served_model = served

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools.

        TGI makes one call at a time. With `auto` it asks the model twice when no tool is chosen.

        Args:
            tools: Anything that LangChain takes for a tool.
            tool_choice: `auto`, `none`, a tool's name, or `any`, `required` or True for any of them.
            **kwargs: Further options of the call.
        """
        choice = tool_choice
        if choice is True or choice == "any":
            choice = "required"
        elif isinstance(choice, str) and choice not in {"auto", "none", "required"}:
            choice = {"type": "function", "function": {"name": choice}}
        if choice:
            kwargs["tool_choice"] = choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None,
        *,
        include_raw: bool = False,
        method: StructuredOutputMethod = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in the form of a schema.

        Args:
            schema: A pydantic class, a `TypedDict`, or a JSON schema.
            include_raw: Whether to give `raw`, `parsed` and `parsing_error`, and not to raise when
                parsing fails.
            method: `json_schema` and `json_mode` constrain decoding by TGI's grammar (the model does
                not see the schema: describe it in the prompt); `function_calling` goes through a tool.
            **kwargs: `strict` is taken and changes nothing.

        Lengths, counts and bounds of numbers are not sent, since they would keep the server from
        answering anybody for minutes: the answer is checked against them. What does not fit, and what
        `max_tokens` cut, is an `OutputParserException`. A schema that is no object, or whose own grammar
        is above `max_grammar_states`, is told to the model instead, whose output is held to JSON.

        Raises:
            ValueError: An unknown method or argument, or what is no schema, such as `list[Item]`.
            TGIGrammarError: A schema that TGI cannot take, such as one that refers to itself or leaves the
                type of a part open.
        """
        kwargs.pop("strict", None)
        if method not in {"json_schema", "json_mode", "function_calling"} or kwargs:
            msg = (
                f"with_structured_output has no method {method!r}"
                if not kwargs
                else f"with_structured_output has no argument {', '.join(sorted(kwargs))}"
            )
            raise ValueError(msg)
        if schema is None:
            msg = "TGI's JSON needs a schema: pass a pydantic class, a TypedDict or a JSON schema."
            raise InvalidInputError(msg)
        check_schema(schema)
        return structured(
            self, schema, include_raw=include_raw, tool=method == "function_calling", method=method
        )


# langchain-core asks for this signature at every call; making it anew takes 30 of a call's 600 us.
ChatTGI._agenerate.__signature__ = inspect.signature(ChatTGI._agenerate)  # type: ignore[attr-defined]  # noqa: SLF001


def chat_model(value: str | endpoint.TGIEndpoint, **options: Any) -> ChatTGI:
    """Make the chat model of a URL or an endpoint; nothing is sent.

    Args:
        value: `http://host:port`, or an endpoint with its key and options.
        **options: Fields of `ChatTGI`; those of the endpoint go before them.

    Raises:
        InvalidInputError: It is neither, or no http or https URL.
    """
    if isinstance(value, str):
        return ChatTGI(base_url=endpoint.base_url(value), **options)
    if isinstance(value, endpoint.TGIEndpoint):
        settings = {**options, "verify": value.verify, "proxy": value.proxy, **value.options}
        settings["headers"] = {**value.headers, **settings.get("headers", {})}
        return ChatTGI(base_url=value.url, api_key=value.api_key, **settings)
    msg = (
        f"A model must be a LangChain chat model, a TGIEndpoint or a URL; {type(value).__name__} was "
        "given."
    )
    raise InvalidInputError(msg)
