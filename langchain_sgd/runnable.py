"""`SGDRunnable`: a question in, one message out, decoded in parallel in between."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.graph import Graph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from langchain_sgd.batches import Batches, limit_of
from langchain_sgd.bundled import fitted
from langchain_sgd.decoding.context import Clock, RunContext, for_models
from langchain_sgd.decoding.nesting import place_in
from langchain_sgd.engine import plan_only
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.events import Event, progress_of
from langchain_sgd.faces import Faces
from langchain_sgd.graph import build_graph
from langchain_sgd.journal import Forgetful
from langchain_sgd.langgraph.host import host_graph, loop_for_sync, run_in_graph
from langchain_sgd.langgraph.misplaced import (
    is_awaited_by_graph,
    is_called_by_graph,
    tell_if_lost,
)
from langchain_sgd.langgraph.writers import stream_writer
from langchain_sgd.message_streams import AnswerChunks, added
from langchain_sgd.option_help import readable, with_meanings
from langchain_sgd.options import Options
from langchain_sgd.planning.planner import Plan
from langchain_sgd.portal import iterate_sync, run_sync
from langchain_sgd.question import Question, SkeletonInput, checked_options, read_input
from langchain_sgd.report import AWAITING_APPROVAL, REPORT_KEY
from langchain_sgd.skeleton import Skeleton
from langchain_sgd.streams import Stream, Working
from langchain_sgd.telling import Telling

T = TypeVar("T")


class SGDRunnable(Batches, Faces, Options, RunnableSerializable[Any, AIMessage]):
    """Skeleton Graph Decoding: plan a long answer, write its parts at the same time, give one message.

    Example:
        >>> from langchain_sgd import SGDRunnable
        >>> sgd = SGDRunnable(small="http://gpu-1:8000", large="http://gpu-2:8000")
        >>> for chunk in sgd.stream("Compare trains, planes and cars for a family trip to Rome."):
        ...     print(chunk.text, end="", flush=True)

    Input: a `str`, messages, a `PromptValue`, or `{"question": ...}`, with a `"skeleton"` beside it to skip
    planning. System prompt and history reach every model call. Call options such as `temperature` go to the
    models that write: so `stop` ends a part there, and with `ChatSGD` the whole answer. With a
    checkpointer, `None` resumes a thread, and a `Command` answers an approval.

    Output: an `AIMessage`, or its chunks in reading order. `Report.from_message` tells from it who wrote
    what, when, and with how many tokens. Inside a LangGraph graph, `stream_mode="custom"` gives progress.

    Cost: one planner call, one call a part, and the first sentence of a plain answer. A question that stays
    whole costs the planner's first token or two more than plain decoding.

    Options, by what they decide:

    - which models: `large`, `small`, `planner`, or `tiers`; each a URL, "provider:model" or a chat model
    - who writes what: `threshold`, `large_share`, `router`, `least_share`, `accept`
    - whether to split: `mode`, `plain_above`, `busy`
    - the plan: `max_nodes`, `expand`, `expand_depth`, `approve`, `plan_cache`, `constrain`
    - the text: `opening`, `length`, `headings`, `cut_repeats`, `prompts`, `continue_message`, `seed`
    - time and load: `deadline_s`, `node_timeout_s`, `stall_timeout_s`, `limits`, `execution`
    - money: `prices`, `max_cost`, `cache_hints`, `count_usage`
    - faults: `retries`, `on_node_error`, `checkpointer`

    Raises:
        InvalidInputError: The input cannot be used.
        SkeletonError: A given skeleton cannot be used.
        NodeDecodeError: Nothing could be answered, or a node failed and `on_node_error` is "raise".
        RunDeadlineError: The deadline passed with nothing answered.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    checkpointer: Checkpointer = Field(
        default=None,
        description="A LangGraph checkpointer: answers are saved as they come, and a killed run can be"
        " resumed. Inside a LangGraph graph that has one, that one is used.",
    )

    _graph: CompiledStateGraph[Any, Any, Any, Any] = PrivateAttr()

    if not TYPE_CHECKING:  # type checkers know the options from the fields

        def __init__(self, *args: Any, **options: Any) -> None:
            if args:
                msg = (
                    f"{type(self).__name__} takes its options by name, such as large=..., small=...; it was"
                    f" given {len(args)} without one"
                )
                raise InvalidInputError(msg)
            super().__init__(**options)

    def model_post_init(self, context: Any, /) -> None:
        """What follows from the options, and the graph, once."""
        super().model_post_init(context)
        self._graph = host_graph(self.checkpointer)

    # -- one run

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AIMessage:
        """Answer one question. Cancelling it closes every model stream."""
        tell_if_lost(input, config, called_by_graph=is_awaited_by_graph(self, input, config))

        async def work(value: Any, config: RunnableConfig) -> AIMessage:
            return await self._answer(value, config, options, Telling(self))

        # LangChain's types leave out functions of input and config, which it takes.
        return await self._acall_with_config(work, input, config)  # type: ignore[arg-type]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AIMessage:
        """`ainvoke`, waited for; works from any thread, and where a loop is already running."""
        tell_if_lost(input, config)
        config = ensure_config(config)
        return self._sync(lambda: self.ainvoke(input, config, **options), config)

    async def _answer(
        self, value: Any, config: RunnableConfig, options: Mapping[str, Any], telling: Telling
    ) -> AIMessage:
        """One run; everything that comes of it is told to `telling`."""
        show, within, options = stream_writer(), place_in(config), checked_options(options)
        clock = Clock() if within is None else within.run.clock
        sgd = await fitted(self)
        place = "" if within is None else within.place

        def emit(event: Event) -> None:
            telling.feed(event)
            if show is not None and (progress := progress_of(event, place)) is not None:
                show({"sgd_progress": progress})

        def context(question: Question) -> RunContext:
            models, limit = for_models(config), limit_of(config)
            return RunContext(question, sgd, models, limit, emit, clock, within, telling.is_watched)

        if within is not None:
            question = Question(tuple(read_input(value)[0]), options=options)
            return await telling.working(context)(question, within.journal, None)
        result = await run_in_graph(
            self._graph, value, config, self, telling.working(context), options
        )
        if isinstance(result, AIMessage):
            return telling.restored(result)
        pending = {"status": AWAITING_APPROVAL, **result}
        return AIMessage("", response_metadata={REPORT_KEY: pending})

    # -- streams

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncGenerator[AIMessageChunk]:
        """Stream the answer in document order. Closing it closes every model stream."""

        async def one() -> AsyncIterator[Any]:
            yield input

        return self.atransform(one(), config, **options)

    def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **options: Any
    ) -> AsyncGenerator[AIMessageChunk]:
        """Stream the answer; the whole input is read first."""
        called_by_graph = is_called_by_graph(config)

        def chunks(
            inputs: AsyncIterator[Any], config: RunnableConfig
        ) -> AsyncIterator[AIMessageChunk]:
            async def work(give: Callable[[str | AIMessage], None]) -> None:
                value = added([item async for item in inputs])
                tell_if_lost(value, config, called_by_graph=called_by_graph)
                within = place_in(config)
                watched = within is None or within.run.watched
                telling = Telling(
                    self,
                    on_text=give if watched else None,
                    depth=0 if within is None else within.depth,
                )
                message = await self._answer(value, config, options, telling)
                if not watched:  # nothing was given yet
                    give(str(message.text))
                give(message)

            return Stream(AnswerChunks(Working(work)))

        inner = self._atransform_stream_with_config(input, chunks, config)  # type: ignore[arg-type]
        return cast("AsyncGenerator[AIMessageChunk]", Stream(inner))

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[AIMessageChunk]:
        """`astream`, waited for."""
        config = ensure_config(config)
        return iterate_sync(
            lambda: self.astream(input, config, **options), on=self.loop_for_sync(config)
        )

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[AIMessageChunk]:
        """`atransform`, waited for."""
        value = added(list(input))
        tell_if_lost(value, config)
        yield from self.stream(value, config, **options)

    def aevents(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncGenerator[Event | AIMessage]:
        """The run as it happens: every event in order, the answer's message last."""
        config = ensure_config(config)

        async def work(give: Callable[[Event | AIMessage], None]) -> None:
            telling = Telling(self, on_event=give)

            async def one(value: Any, config: RunnableConfig) -> AIMessage:
                return await self._answer(value, config, options, telling)

            give(await self._acall_with_config(one, input, config))  # type: ignore[arg-type]

        return cast("AsyncGenerator[Event | AIMessage]", Stream(Working(work)))

    # -- planning alone

    async def aplan(self, input: Any, config: RunnableConfig | None = None) -> Plan:
        """Plan without decoding: `Plan.skeleton`, or in `Plan.plain` why there is none.

        Give the skeleton back, edited or not, with `{"question": ..., "skeleton": ...}`.
        """

        async def work(value: Any, config: RunnableConfig) -> Plan:
            messages, _ = read_input(value)
            telling = Telling(self)
            question, sgd = Question(tuple(messages)), await fitted(self)
            run = RunContext(question, sgd, for_models(config), limit_of(config), telling.feed)
            plan = await plan_only(run, Forgetful())
            plan.warnings = [*telling.warnings, *plan.warnings]
            return plan

        return cast("Plan", await self._acall_with_config(work, input, config))  # type: ignore[arg-type]

    def plan(self, input: Any, config: RunnableConfig | None = None) -> Plan:
        """`aplan`, waited for."""
        config = ensure_config(config)
        return self._sync(lambda: self.aplan(input, config), config)

    # -- synchronous calls

    def _sync(self, make: Callable[[], Coroutine[Any, Any, T]], config: Any) -> T:
        return run_sync(make, on=self.loop_for_sync(config))

    def loop_for_sync(self, config: Any) -> asyncio.AbstractEventLoop | None:
        """Where a synchronous call has to run: on the loop of an asynchronous checkpointer, if there is one.

        Raises:
            InvalidInputError: That loop is blocked, by the caller itself or by one who waits for it.
        """
        one = ensure_config(cast("RunnableConfig", config) if isinstance(config, dict) else None)
        return loop_for_sync(self._graph, one)

    # -- as others see it

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The simplest input: `{"question": ...}`."""
        del config
        return SkeletonInput

    def get_graph(
        self, config: RunnableConfig | None = None, *, skeleton: Skeleton | Any = None
    ) -> Graph:
        """The host graph, or, for a skeleton, the literal graph of its nodes."""
        if skeleton is not None:
            return build_graph(skeleton, self).compile().get_graph(config)
        return self._graph.get_graph(config)


SGDRunnable.__signature__ = readable(inspect.signature(SGDRunnable))
SGDRunnable.__doc__ = with_meanings(SGDRunnable)
