"""`ChatSGD`: the same engine where a chat model is expected."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Self, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.utils.uuid import uuid7
from pydantic import PrivateAttr, field_validator

from langchain_sgd.batches import Batches
from langchain_sgd.caching import CachePlace, WholeAnswers, cache_of, identity
from langchain_sgd.deciding import FOR_TOOLS, TOOL, decided, with_findings
from langchain_sgd.decoding.context import NOSTREAM
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.message_streams import CachedStream, Generated, as_chunk, counted_as
from langchain_sgd.portal import iterate_sync
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.streams import Stream
from langchain_sgd.undivided import Undivided

_NO_PART_IN_THE_ANSWER = frozenset(
    {"name", "limits", "prices", "cache_hints", "checkpointer", "plan_cache"}
)


class ChatSGD(Batches, Undivided):
    """Skeleton Graph Decoding as a chat model.

    Made of an `SGDRunnable`, or of what one is made of: `ChatSGD(small=..., large=...)`.

    The message carries the report in `response_metadata["sgd"]`. It has no `usage_metadata` unless
    `count_usage` is set, and no `model_name`: tracers add up the model calls inside, and would count them
    twice. `get_usage_metadata_callback` of LangChain adds up the calls inside, by model.

    Call options (`temperature`, `max_tokens` and so on) go to the models that write. A temperature of 0 goes
    to the planner as well, if it is one of them.

    With tools unless `split_with_tools` is set, or with a schema unless `fuse` is set, the answer is one
    call of the large model itself, with its own usage and under its own limits.

    Raises:
        InvalidInputError: A call option that is not for this model; bind it to the models inside.
        SkeletonGraphError: As `SGDRunnable`.

    Example:
        >>> from langchain_sgd import ChatSGD
        >>> model = ChatSGD(small="http://gpu-1:8000", large="http://gpu-2:8000")
        >>> for chunk in model.stream("Compare trains, planes and cars for a family trip to Rome."):
        ...     print(chunk.text, end="", flush=True)
    """

    stop: list[str] | None = None
    """The answer ends before the first of these texts, wherever in it that is; what is still being
    decoded then is cancelled, so such an answer has no report."""
    streaming: bool = False
    """Whether `invoke` streams behind the scenes."""
    count_usage: bool = False
    """Put the total of all calls into the message's `usage_metadata`. A tracer that sees both this model's
    run and those inside then counts every token twice."""

    _inside: RunnableConfig | None = PrivateAttr(default=None)
    """In a copy made for one call: the config of what happens inside that call."""
    _open: list[Stream[Any]] = PrivateAttr(default_factory=list)
    """In such a copy: what is being streamed."""
    _token: str = PrivateAttr(default_factory=lambda: uuid4().hex)
    """Stands in cache keys for what cannot be told apart otherwise."""

    def __init__(self, sgd: SGDRunnable | None = None, **options: Any) -> None:
        own = {name: options.pop(name) for name in [*options] if name in type(self).model_fields}
        if sgd is None:
            sgd = SGDRunnable(**options)
        elif options:
            msg = f"ChatSGD was given an SGDRunnable and {sorted(options)}: set them on that one"
            raise InvalidInputError(msg)
        super().__init__(sgd=sgd, **own)

    def loop_for_sync(self, config: Any) -> asyncio.AbstractEventLoop | None:
        """As of the engine."""
        return self.sgd.loop_for_sync(config)

    @field_validator("stop", mode="before")
    @classmethod
    def _list_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    # -- what LangChain asks of a chat model

    @property
    def _llm_type(self) -> str:
        return "chat-sgd"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Equal only where equal answers may be expected; it is part of every cache key."""
        options = {
            name: identity(getattr(self.sgd, name), self._token)
            for name in type(self.sgd).model_fields
            if name not in _NO_PART_IN_THE_ANSWER
        }
        said = json.dumps([type(self.sgd).__qualname__, options, self.stop], sort_keys=True)
        return {
            "sgd_fingerprint": hashlib.sha256(said.encode()).hexdigest()[:16],
            "sgd_tiers": [tier.name for tier in self.sgd.tiers_by_size],
            "sgd_mode": self.sgd.mode,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params.setdefault("ls_model_name", "sgd")
        # Of a model's run without token counts LangSmith makes an estimate; the runs inside have theirs.
        nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        return cast("LangSmithParams", {**params, "usage_metadata": nothing})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if stop or self.stop or "tools" in kwargs:
            return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))
        config = self._config_inside(run_manager)
        return self._result(self.sgd.invoke(messages, config, **_options(kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if stop or self.stop or "tools" in kwargs:
            chunks = self._astream(messages, stop, run_manager, **kwargs)
            return await agenerate_from_stream(chunks)
        config = self._config_inside(run_manager)
        return self._result(await self.sgd.ainvoke(messages, config, **_options(kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        config = self._config_inside(run_manager)
        return iterate_sync(
            lambda: self._chunks(messages, stop, config, kwargs), on=self.sgd.loop_for_sync(config)
        )

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        return self._chunks(messages, stop, self._config_inside(run_manager), kwargs)

    def _chunks(
        self,
        messages: list[BaseMessage],
        stop: Sequence[str] | None,
        config: RunnableConfig,
        options: Mapping[str, Any],
    ) -> Stream[ChatGenerationChunk]:
        answer: Any
        if "tools" in options:
            answer = self._decided(messages, config, _options(options))
        else:
            answer = self.sgd.astream(messages, config, **_options(options))
        stream = Stream(Generated(answer, stop or self.stop or (), counted=self.count_usage))
        self._open.append(stream)
        return stream

    def _decided(
        self, messages: list[BaseMessage], config: RunnableConfig, options: Mapping[str, Any]
    ) -> AsyncIterator[AIMessageChunk]:
        """The large model with an agent's tools, or its last answer split; see `deciding`."""
        for_tools = {name: options[name] for name in options if name in FOR_TOOLS - {"tools"}}
        given = {name: value for name, value in options.items() if name not in FOR_TOOLS}
        large = self._undivided(
            lambda model: model.bind_tools([*options["tools"], TOOL], **for_tools), inside=True
        )

        def write() -> AsyncIterator[AIMessageChunk]:
            said = with_findings(self.sgd.prompts, messages)
            return self.sgd.astream(said, config, **given)

        unseen = RunnableConfig(**config)
        unseen["tags"] = [*(config.get("tags") or []), NOSTREAM]
        return decided(large, messages, unseen, given, write)

    def _result(self, message: AIMessage) -> ChatResult:
        # Without its id: LangChain names it after this model's run, as it names the chunks of a stream.
        changes = {"id": None, **counted_as(message, counted=self.count_usage)}
        return ChatResult(generations=[ChatGeneration(message=message.model_copy(update=changes))])

    # -- the caller's ways in

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer the last message."""
        model, config = self._for_call(config)
        return super(ChatSGD, model).invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer the last message."""
        model, config = self._for_call(config)
        return await super(ChatSGD, model).ainvoke(input, config, stop=stop, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream the answer in document order; in one piece if it is cached."""
        model, config = self._for_call(config)
        place = model._place(input, stop, kwargs)  # noqa: SLF001 - our own copy
        if place is not None and place.look():
            yield as_chunk(super(ChatSGD, model).invoke(input, config, stop=stop, **kwargs))
            return
        chunks: list[AIMessageChunk] = []
        for chunk in super(ChatSGD, model).stream(input, config, stop=stop, **kwargs):
            if place is not None:
                chunks.append(chunk)
            yield chunk
        if place is not None:
            place.keep(chunks)

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[AIMessageChunk]:
        """Stream the answer in document order; in one piece if it is cached."""
        model, config = self._for_call(config)
        place = model._place(input, stop, kwargs)  # noqa: SLF001 - our own copy
        stream = super(ChatSGD, model).astream(input, config, stop=stop, **kwargs)

        async def cached() -> AIMessage | None:
            if place is None or not await place.alook():
                return None
            return await super(ChatSGD, model).ainvoke(input, config, stop=stop, **kwargs)

        answer = CachedStream(stream, cached, place, model._open)  # noqa: SLF001 - our own copy
        return cast("AsyncGenerator[AIMessageChunk]", Stream(answer))

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `BaseChatModel.stream_events`."""
        model, config = self._for_call(config)
        return super(ChatSGD, model).stream_events(input, config, **kwargs)

    def astream_events(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """As `BaseChatModel.astream_events`."""
        model, config = self._for_call(config)
        return super(ChatSGD, model).astream_events(input, config, **kwargs)

    def _for_call(self, config: RunnableConfig | None) -> tuple[Self, RunnableConfig]:
        """A copy of the model for one call, which knows the config of what happens inside that call.

        LangChain hands `_stream` no run manager, so the runs inside would be orphans in every trace; and
        `max_concurrency` and `configurable` reach no chat model at all.
        """
        config = ensure_config(config)
        callbacks = AsyncCallbackManager.configure(config.get("callbacks"))
        run_id = config.get("run_id") or uuid7()
        inside = RunnableConfig(**config)
        inside["callbacks"] = _children(run_id, callbacks)
        inside.pop("run_name", None)
        inside.pop("run_id", None)
        model = self.model_copy()
        model._open = []  # noqa: SLF001 - our own copy
        if (cache := cache_of(self)) is not None:
            model.cache = WholeAnswers(cache)
        model._inside = inside  # noqa: SLF001 - our own copy
        return model, {**config, "callbacks": callbacks, "run_id": run_id}

    def _config_inside(
        self, run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None
    ) -> RunnableConfig:
        if self._inside is not None:
            return self._inside
        # `generate` and `agenerate`, which nobody calls but LangChain's oldest users.
        return {"callbacks": _children(run_manager.run_id, run_manager)} if run_manager else {}

    def _place(
        self, input: LanguageModelInput, stop: list[str] | None, options: Mapping[str, Any]
    ) -> CachePlace | None:
        """Where LangChain keeps this call's answer; it looks there in `invoke`, and not in `stream`."""
        if (cache := cache_of(self)) is None:
            return None
        messages = self._convert_input(input).to_messages()
        return CachePlace.of(cache, messages, self._get_llm_string(stop=stop, **options))


def _children(
    run_id: UUID,
    parent: AsyncCallbackManager | CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun,
) -> AsyncCallbackManager:
    """Callbacks for runs inside the run `run_id`; a model's own run manager has no `get_child`."""
    handlers = parent.inheritable_handlers
    children = AsyncCallbackManager([*handlers], [*handlers], parent_run_id=run_id)
    children.add_tags(parent.inheritable_tags)
    children.add_metadata(parent.inheritable_metadata)
    return children


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """A call's options for the models that write; `stream` is LangChain's own."""
    return {name: value for name, value in given.items() if value is not None and name != "stream"}
