"""`ChatSGD`: the same engine where a chat model is expected.

What one model call does as well goes to the large model undivided: tool calls, and answers in a schema's
form.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Self, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import (
    BaseChatModel,
    LangSmithParams,
    LanguageModelInput,
    ModelProfile,
)
from langchain_core.language_models.chat_models import (
    agenerate_from_stream,
    generate_from_stream,
)
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableConfig,
    RunnableLambda,
    ensure_config,
)
from langchain_core.runnables.config import merge_configs
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.uuid import uuid7
from pydantic import BaseModel, Field, PrivateAttr, field_validator

from langchain_sgd.caching import CachePlace, WholeAnswers, cache_of
from langchain_sgd.deciding import FOR_TOOLS, TOOL, decided, with_findings
from langchain_sgd.decoding.context import NOSTREAM
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.portal import iterate_sync, run_sync
from langchain_sgd.report import REPORT_KEY, Report
from langchain_sgd.runnable import SGDRunnable, sharing_a_limit
from langchain_sgd.stops import StopFilter
from langchain_sgd.streams import Stream, all_of, as_completed
from langchain_sgd.telling import usage_metadata
from langchain_sgd.tiers import innermost

_log = logging.getLogger("langchain_sgd")
_TOLD = ("callbacks", "tags", "metadata")
"""What a chat model brings to each of its runs."""
_NO_PART_IN_THE_ANSWER = frozenset({"name", "limits", "prices", "checkpointer", "plan_cache"})


class ChatSGD(BaseChatModel):
    """Skeleton Graph Decoding as a chat model.

    Made of an `SGDRunnable`, or of what one is made of: `ChatSGD(small=..., large=...)`.

    The message carries the report in `response_metadata["sgd"]`. It has no `usage_metadata` unless
    `count_usage` is set, and no `model_name`: tracers add up the model calls inside, and would count them
    twice. `get_usage_metadata_callback` of LangChain adds up the calls inside, by model.

    Call options (`temperature`, `max_tokens` and so on) go to the models that write.

    With tools unless `split_with_tools` is set, or with a schema unless `fuse` is set, the answer is one
    call of the large model itself, with its own usage and under its own limits.

    Raises:
        InvalidInputError: A call option that is not for this model; bind it to the models inside.
        SkeletonGraphError: As `SGDRunnable`.

    Example:
        >>> model = ChatSGD(small="http://gpu:8081", large="http://gpu:8082")
        >>> for chunk in model.stream("Compare trains and planes for a family trip."):
        ...     print(chunk.text, end="")
    """

    sgd: SGDRunnable = Field(repr=False)
    """The engine."""
    stop: list[str] | None = None
    """The answer ends before the first of these texts, wherever in it that is; what is still being
    decoded then is cancelled, so such an answer has no report."""
    streaming: bool = False
    """Whether `invoke` streams behind the scenes."""
    count_usage: bool = False
    """Put the total of all calls into the message's `usage_metadata`. A tracer that sees both this model's
    run and those inside then counts every token twice."""
    split_with_tools: bool = False
    """With tools bound, offer the large model one more: it hands a long last answer to be split. Calls of
    tools and short answers stay its own."""

    _told: bool = PrivateAttr(default=False)
    """It was said that answers with tools are not split."""
    _large: tuple[dict[str, Any], BaseChatModel] | None = PrivateAttr(default=None)
    """The large model called as we are, and how it then differs."""
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
            name: self._identity(getattr(self.sgd, name))
            for name in type(self.sgd).model_fields
            if name not in _NO_PART_IN_THE_ANSWER
        }
        said = json.dumps([type(self.sgd).__qualname__, options, self.stop], sort_keys=True)
        return {
            "sgd_fingerprint": hashlib.sha256(said.encode()).hexdigest()[:16],
            "sgd_tiers": [tier.name for tier in self.sgd.tiers_by_size],
            "sgd_mode": self.sgd.mode,
        }

    def _identity(self, value: Any) -> Any:
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, Mapping):
            return {key: self._identity(item) for key, item in value.items()}
        if isinstance(value, BaseChatModel):
            # What LangChain itself tells this model's cached answers apart by.
            return value._get_llm_string()  # noqa: SLF001
        if isinstance(value, RunnableBinding):
            return [self._identity(value.bound), repr(sorted(value.kwargs.items()))]
        if isinstance(value, BaseModel) and not isinstance(value, Runnable):
            return value.model_dump_json()
        # Another Runnable or a function: equal to nothing but itself.
        return f"{type(value).__qualname__}@{self._token}"

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
        stream = Stream(_Generated(answer, stop or self.stop or (), counted=self.count_usage))
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
        changes = {"id": None, **_counted(message, counted=self.count_usage)}
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
            yield _as_chunk(super(ChatSGD, model).invoke(input, config, stop=stop, **kwargs))
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

        answer = _CachedStream(stream, cached, place, model._open)  # noqa: SLF001 - our own copy
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

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several questions; `max_concurrency` bounds the model calls of all of them."""
        configs = sharing_a_limit(config, len(inputs))

        def ask(index: int) -> Coroutine[Any, Any, AIMessage]:
            return self.ainvoke(inputs[index], configs[index], **kwargs)

        done = await all_of(ask, len(inputs), return_exceptions=return_exceptions)
        return cast("list[AIMessage]", done)

    def abatch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[tuple[int, AIMessage | Exception]]:
        """Answer several questions, each given with its index when it is done."""
        configs = sharing_a_limit(config, len(inputs))

        def ask(index: int) -> Coroutine[Any, Any, AIMessage]:
            return self.ainvoke(inputs[index], configs[index], **kwargs)

        return as_completed(ask, len(inputs), return_exceptions=return_exceptions)

    def batch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """`abatch_as_completed`, waited for."""
        return iterate_sync(
            lambda: self.abatch_as_completed(
                inputs, config, return_exceptions=return_exceptions, **kwargs
            ),
            on=self.sgd.loop_for_sync(config),
        )

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """`abatch` on a loop of its own."""
        return run_sync(
            lambda: self.abatch(inputs, config, return_exceptions=return_exceptions, **kwargs),
            on=self.sgd.loop_for_sync(config),
        )

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

    # -- what is not split

    def _resolve_model_profile(self) -> ModelProfile | None:
        return getattr(self.sgd.largest.model, "profile", None)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The large model with these tools: a tool call does not split.

        Answers are not split then either, unless `split_with_tools` is set. Or give the agent a model of
        its own and `SGDRunnable.as_tool()`.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        # A call that is forced, or bound to a form, leaves nothing to decide.
        free = kwargs.get("tool_choice") in {None, "auto"} and "response_format" not in kwargs
        if self.split_with_tools and tools and free:
            self._undivided(lambda model: model.bind_tools(tools, **kwargs))  # it can take them
            return cast(
                "Runnable[LanguageModelInput, AIMessage]",
                self.bind(tools=[_described(tool) for tool in tools], **kwargs),
            )
        if tools and not self._told:
            self._told = True
            _log.warning(
                "ChatSGD: with tools bound, every answer is one call of the large model;"
                " split_with_tools=True has long last answers split"
            )
        return self._undivided(lambda model: model.bind_tools(tools, **kwargs))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        fuse: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in the form of a schema.

        Args:
            schema: Whatever the large model takes.
            include_raw: Whether to give `raw`, `parsed` and `parsing_error`.
            fuse: Decode the answer in parallel first, then have the large model put it into the form; for
                forms that hold long texts. Without it the large model answers in the form at once.
            **kwargs: For the large model's own `with_structured_output`.
        """
        structured = self._undivided(
            lambda model: model.with_structured_output(schema, include_raw=include_raw, **kwargs)
        )
        if not fuse:
            return structured
        unseen = self.with_config(tags=[NOSTREAM])

        def decode(input: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages = self._convert_input(input).to_messages()
            answer = unseen.invoke(messages, config)
            return self.sgd.prompts.for_fusing(messages, answer.text)

        async def adecode(input: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages = self._convert_input(input).to_messages()
            answer = await unseen.ainvoke(messages, config)
            return self.sgd.prompts.for_fusing(messages, answer.text)

        return RunnableLambda(decode, afunc=adecode, name="decode") | structured

    def _said(self, name: str) -> Any:
        """Our callbacks, tags or metadata as the caller gave them."""
        value = getattr(self, name)
        if name != "metadata":
            return value
        return {key: item for key, item in (value or {}).items() if key != "lc_versions"}

    # -- tokens, as the large model counts them

    def get_token_ids(self, text: str) -> list[int]:
        """As the large model's.

        Raises:
            NotImplementedError: It has no tokenizer at hand.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        large = innermost(self.sgd.largest.model)
        if not _counts(large):
            msg = f"The large model, a {type(large).__name__}, has no tokenizer at hand"
            raise NotImplementedError(msg)
        ids: list[int] = large.get_token_ids(text)
        return ids

    def get_num_tokens(self, text: str) -> int:
        """As the large model counts, or about so where it has no tokenizer at hand."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        large = innermost(self.sgd.largest.model)
        if _counts(large):
            return int(large.get_num_tokens(text))
        return count_tokens_approximately([text], extra_tokens_per_message=0, count_name=False)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """As the large model counts, or about so where it has no tokenizer at hand."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        large = innermost(self.sgd.largest.model)
        try:
            if _counts(large):
                return int(large.get_num_tokens_from_messages(messages, tools))
        except NotImplementedError:  # of a model whose name its class does not know
            pass
        return count_tokens_approximately(messages)

    # -- what is called in our place

    def _undivided(
        self, made_of: Callable[[Any], Any], *, inside: bool = False
    ) -> Runnable[LanguageModelInput, Any]:
        """What is made of the large model itself, called as we are.

        It has our callbacks, tags and metadata beside its own, and our cache and rate limiter where it has
        none.

        Args:
            made_of: Makes it.
            inside: It is called in a run of ours, which has all of that.
        """
        large: Any = self.sgd.largest.model
        bound: dict[str, Any] = {}
        config = RunnableConfig()
        while isinstance(large, RunnableBinding):
            bound = {**large.kwargs, **bound}
            config = merge_configs(large.config, config)
            large = large.bound
        if not hasattr(large, "bind_tools"):
            msg = (
                f"Tools and schemas go to the largest tier, but that is a {type(large).__name__}, no chat"
                " model"
            )
            raise InvalidInputError(msg)
        ours: dict[str, Any] = {}
        if isinstance(large, BaseChatModel) and not inside:
            ours = {
                name: value
                for name in ("cache", "rate_limiter")
                if (value := getattr(self, name)) is not None and getattr(large, name) is None
            }
            told = {name: getattr(large, name) for name in _TOLD if getattr(large, name)}
            own = {name: value for name in _TOLD if (value := self._said(name))}
            ours |= (
                merge_configs(cast("RunnableConfig", told), cast("RunnableConfig", own))
                if own
                else {}
            )
            if ours and (self._large is None or self._large[0] != ours):
                # Kept: an agent binds its tools before every call, and a copy may connect for itself.
                self._large = ours, large.model_copy(update=ours)
            large = self._large[1] if ours and self._large is not None else large
        made: Runnable[LanguageModelInput, Any] = made_of(large)
        if bound:
            made = made.bind(**bound)
        return made.with_config(config) if config else made


def _counts(model: Any) -> bool:
    """Whether a model has a way of its own to count tokens; LangChain's loads a library and a tokenizer."""
    if not isinstance(model, BaseChatModel):
        return False
    own = ("get_token_ids", "get_num_tokens", "get_num_tokens_from_messages")
    return model.custom_get_token_ids is not None or any(
        getattr(type(model), name) is not getattr(BaseChatModel, name) for name in own
    )


def _described(tool: Any) -> dict[str, Any]:
    """A tool as every chat model takes it; a provider's own stays as it is."""
    return tool if isinstance(tool, dict) else convert_to_openai_tool(tool)


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


def _counted(message: AIMessage, *, counted: bool) -> dict[str, Any]:
    """The tokens that a message is to claim: none, or the total of the run that it reports."""
    if not counted:
        return {"usage_metadata": None}
    if REPORT_KEY not in message.response_metadata:
        return {}
    return {"usage_metadata": usage_metadata(Report.from_message(message).total_usage)}


class _Generated:
    """An answer's chunks as LangChain wants them of a chat model, up to the first of the stop texts."""

    def __init__(
        self, answer: AsyncGenerator[AIMessageChunk], stops: Sequence[str], *, counted: bool
    ) -> None:
        self._answer = answer
        self._stops = StopFilter(stops)
        self._counted = counted
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatGenerationChunk:
        while not self._over:
            chunk = await self._answer.__anext__()
            last = chunk.chunk_position == "last"
            if chunk.tool_call_chunks or not isinstance(chunk.content, str):
                changes = {"id": None, **_counted(chunk, counted=self._counted)}
                return ChatGenerationChunk(message=chunk.model_copy(update=changes))
            text = self._stops.feed(str(chunk.text), last=last)
            if self._stops.found is not None:
                said = {"finish_reason": "stop", "stop_sequence": self._stops.found}
                await self.aclose()
                return ChatGenerationChunk(
                    message=AIMessageChunk(
                        content=text, response_metadata=said, chunk_position="last"
                    )
                )
            if text or last or chunk.response_metadata:
                changes = {"content": text, "id": None}
                changes |= _counted(chunk, counted=self._counted)
                return ChatGenerationChunk(message=chunk.model_copy(update=changes))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._over = True
        await self._answer.aclose()


class _CachedStream:
    """A model's stream, or in one piece what the cache holds; what is streamed to its end is kept there."""

    def __init__(
        self,
        stream: AsyncIterator[AIMessageChunk],
        cached: Callable[[], Coroutine[Any, Any, AIMessage | None]],
        place: CachePlace | None,
        inside: Sequence[Stream[Any]],
    ) -> None:
        self._stream = stream
        self._cached = cached
        self._place = place
        self._inside = inside
        self._chunks: list[AIMessageChunk] = []
        self._begun = self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AIMessageChunk:
        if self._over:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            if (message := await self._cached()) is not None:
                self._over = True
                return _as_chunk(message)
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self._over = True
            if self._place is not None:
                await self._place.akeep(self._chunks)
            raise
        if self._place is not None:
            self._chunks.append(chunk)
        return chunk

    async def aclose(self) -> None:
        self._over = True
        if (close := getattr(self._stream, "aclose", None)) is not None:
            await close()
        for stream in self._inside:  # LangChain's generator leaves them to the garbage collector
            await stream.aclose()


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """A call's options for the models that write; `stream` is LangChain's own."""
    return {name: value for name, value in given.items() if value is not None and name != "stream"}


def _as_chunk(message: AIMessage) -> AIMessageChunk:
    return AIMessageChunk(
        content=message.content,
        id=message.id,
        response_metadata=message.response_metadata,
        # Of a cached answer LangChain says only that it cost nothing.
        usage_metadata=message.usage_metadata
        if "total_tokens" in (message.usage_metadata or {})
        else None,
        chunk_position="last",
    )
