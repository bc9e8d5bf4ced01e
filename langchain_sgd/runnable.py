"""`SGDRunnable`: a question in, one message out, decoded in parallel in between."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.config import get_config_list, patch_config
from langchain_core.runnables.graph import Graph
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SkipValidation,
    ValidationInfo,
    field_validator,
    model_validator,
)

from langchain_sgd._sync import iterate_sync, run_sync
from langchain_sgd.costs import PLANNER, Price
from langchain_sgd.decoding.limits import Limit
from langchain_sgd.decoding.routing import (
    LARGE,
    SMALL,
    Router,
    ShareRouter,
    ThresholdRouter,
    Tier,
)
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.events import Event
from langchain_sgd.graph import build_graph, host_graph, new_question, run_graph, stream_writer
from langchain_sgd.inputs import SkeletonInput, read_input
from langchain_sgd.models import resolve
from langchain_sgd.planning.planner import Mode, Plan
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import AWAITING_APPROVAL, REPORT_KEY
from langchain_sgd.run import Run
from langchain_sgd.settings import Accept, Settings
from langchain_sgd.skeleton import Node, Skeleton

SGDInput = str | PromptValue | BaseMessage | Sequence[Any] | Mapping[str, Any] | Command[Any] | None
"""What `SGDRunnable` takes; see its docstring."""

_LIMIT_KEY = "__sgd_limit"
"""Where a batch keeps its common limit in `configurable`; dunder keys reach no trace."""


class SGDRunnable(RunnableSerializable[Any, AIMessage]):
    """Skeleton Graph Decoding: plan a long answer, decode its parts at once, give one message.

    Input: a `str`, a `PromptValue`, messages, or `{"question": ...}` (or `{"messages": ...}`), with a
    `"skeleton"` beside it to skip planning; system prompt and history reach every model call. With a
    checkpointer, `None` resumes a thread and a `Command` answers an approval.

    Output: an `AIMessage` whose `response_metadata["sgd"]` is the run's report
    (`Report.from_message`); streamed, chunks in document order, the first unfinished part live.

    Cost: one planner call, and one call a node. A question that does not split costs the planner's
    first token or two over plain decoding.

    Raises:
        InvalidInputError: The input cannot be used.
        SkeletonError: A given skeleton cannot be used.
        NodeDecodeError: Nothing could be answered, or a node failed and `on_node_error` is "raise".
        RunDeadlineError: The deadline passed with nothing answered.

    Example:
        >>> sgd = SGDRunnable(small="http://gpu:8081", large="http://gpu:8082")
        >>> sgd.invoke("Compare trains and planes for a family trip.").content
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    large: Any = None
    """The large model: a chat model, a Runnable from messages to message, or a name: the URL of a server
    (TGI, vLLM, SGLang, llama.cpp, Ollama; `url#model` where it serves several), or `provider:model`."""
    small: Any = None
    """The small model; without it every node goes to `large`."""
    tiers: Mapping[str, Any] | None = None
    """Instead of `small` and `large`: any number of models by name, from the smallest to the largest."""
    planner: Any = None
    """The model that writes the skeleton; the largest tier if not given."""

    router: Callable[[Node], str] | None = None
    """Chooses a node's tier by name; instead of `threshold` and `large_share`."""
    threshold: int = Field(default=3, ge=1, le=6)
    """Difficulty from which a node leaves the first tier; 1 sends all up, 6 none."""
    large_share: float | None = Field(default=None, ge=0, le=1)
    """Wanted share of nodes for the largest tier, the hardest first; instead of `threshold`."""
    limits: Mapping[str, int | SkipValidation[Limit]] = Field(default_factory=dict)
    """Most calls in flight for each tier, by name (`planner` too), in this process."""

    prices: Mapping[str, Price] | None = None
    """Per million tokens, `(input, output)` or `(input, output, cached)` by tier, `planner` too if it is a
    model of its own: the report then says what the run cost."""

    mode: Mode = "auto"
    """Split a question if the planner says so ("auto"), whenever it can ("always"), or "never"."""
    busy: int | Callable[[], bool] | None = None
    """Under load, answer undivided instead of asking the planner (with `mode="auto"` only): from this many
    calls in flight to the planner and the largest tier in this process, or when your own test says so, such
    as one that reads the server's queue. Splitting pays only while the batch has much room: take a quarter
    of the server's slots. In the simulation of 1 to 64 users (`langchain-sgd bench load --busy`; 8, 32 and
    128 slots) that waits at most 8 % longer than the best choice, the number of slots up to 38 %."""
    hedge: bool = False
    """Begin the plain answer beside the planner (with `mode="auto"` only): a question that does not split is
    then answered as soon as by plain decoding. Of one that does, the call is stopped at the planner's first
    token: it costs its prompt, mostly in the prefix cache, and a few tokens. It never waits for a slot."""
    max_nodes: int = Field(default=12, ge=2, le=99)
    """Nodes taken from the planner; the rest of its plan is left out with a warning."""
    prompts: Prompts = Field(default_factory=Prompts)
    """Every text that goes to a model beside the conversation."""
    constrain: bool = True
    """Constrain the planner's decoding by a grammar where the server is known to have them."""
    headings: bool | Literal["early"] = True
    """Put each part under its heading. "early" streams the first heading as soon as the planner has written
    it, before its part has text: with a planner that begins with its plan, the stream begins about as soon as
    that of plain decoding. From then on a fallback can no longer take over, as with any chat model that has
    begun; and should the plan break off there, the heading stays above what follows, with a warning in the
    report. Plans that are to be approved show nothing early."""
    seed: int | None = Field(default=None, ge=0)
    """Passed to the models as `seed`, a different one derived for each node."""

    retries: int = Field(default=2, ge=0)
    """Repeats of a failed call on the same tier, before the next larger one is tried."""
    stall_timeout_s: float | None = Field(default=120.0, gt=0)
    """Longest silence of a model, before the first token too; None waits for ever."""
    node_timeout_s: float | None = Field(default=None, gt=0)
    """Time of one node with all its attempts, from its first call on."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Time of the whole run; what is finished then is the answer."""
    on_node_error: Literal["partial", "raise"] = "partial"
    """A node without an answer: name the gap and go on, or raise once its siblings have ended."""
    accept: Accept | None = None
    """Your own test `(node, text) -> bool` of an answer; False tries the next larger tier."""

    approve: bool = False
    """Interrupt after planning, so that a human accepts, edits or rejects the skeleton."""
    checkpointer: Checkpointer = None
    """A LangGraph checkpointer: answers are saved as they come, and a killed run can be resumed."""
    execution: Literal["pipelined", "planned", "superstep"] = "pipelined"
    """For comparison only: "planned" plans first, "superstep" runs the literal graph level by level."""

    _method: ClassVar[Mapping[str, Any]] = {}
    """Settings that make a subclass another method."""
    _settings: Settings = PrivateAttr()
    _graph: CompiledStateGraph[Any, Any, Any, Any] = PrivateAttr()

    @field_validator("large", "small", "planner", mode="before")
    @classmethod
    def _model(cls, value: Any, info: ValidationInfo) -> Any:
        return None if value is None else resolve(value, what=str(info.field_name))

    @field_validator("tiers", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: resolve(model, what=str(name)) for name, model in value.items()}

    @field_validator("busy", mode="before")
    @classmethod
    def _busy_from(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int) and value < 1):
            msg = f"busy must be a whole number of calls from 1 on, or a function, not {value!r}"
            raise ValueError(msg)
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _shared_limits(cls, value: Any) -> Any:
        """Limits become objects once, so that configured copies share their slots."""
        if not isinstance(value, Mapping):
            return value
        for name, size in value.items():
            if (
                isinstance(size, bool)
                or not isinstance(size, int | Limit)
                or (isinstance(size, int) and size < 1)
            ):
                msg = f"limits[{name!r}] must be a whole number from 1 on, not {size!r}"
                raise ValueError(msg)
        return {n: size if isinstance(size, Limit) else Limit(size) for n, size in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> SGDRunnable:
        if self.tiers is not None and (self.small is not None or self.large is not None):
            msg = "give either tiers={name: model, ...} or small= and large=, not both"
            raise ValueError(msg)
        if self.tiers is None and self.large is None:
            msg = (
                "no model: give large= (and small=), each a chat model, a URL such as"
                " 'http://localhost:8080' or provider:model such as 'openai:gpt-5-nano',"
                " or tiers={name: model, ...}"
            )
            raise ValueError(msg)
        if self.tiers is not None and not self.tiers:
            msg = "tiers is empty; give at least one model"
            raise ValueError(msg)
        for name in ("router", "accept"):
            if inspect.iscoroutinefunction(getattr(self, name)):
                msg = (
                    f"{name} must not be async: it is asked between two pieces of work, and at once"
                )
                raise ValueError(msg)
        if self.router is not None and self.large_share is not None:
            msg = "give either router= or large_share=, not both"
            raise ValueError(msg)
        names = {*self._named_models(), "planner"}
        if unknown := set(self.limits) - names:
            msg = f"limits for {sorted(unknown)}, but the tiers are {sorted(names)}"
            raise ValueError(msg)
        self._check_prices(names)
        return self

    def _check_prices(self, names: set[str]) -> None:
        """All or none: with a price missing, a total would be a lie."""
        if self.prices is None:
            return
        if unknown := set(self.prices) - names:
            msg = f"prices for {sorted(unknown)}, but the tiers are {sorted(names)}"
            raise ValueError(msg)
        needed = names if self.planner is not None else names - {PLANNER}
        if missing := needed - set(self.prices):
            msg = f"prices are missing for {sorted(missing)}; give one for every tier"
            raise ValueError(msg)

    def _named_models(self) -> dict[str, Runnable[Any, Any]]:
        if self.tiers is not None:
            return dict(self.tiers)
        return (
            {SMALL: self.small, LARGE: self.large}
            if self.small is not None
            else {LARGE: self.large}
        )

    def model_post_init(self, context: Any, /) -> None:
        """Build the settings and the graph once."""
        super().model_post_init(context)
        limits = cast("Mapping[str, Limit]", self.limits)
        tiers = tuple(
            Tier(name, model, limits.get(name) or Limit(None))
            for name, model in self._named_models().items()
        )
        if not tiers:
            return  # the validator that follows says what is missing
        planner = Tier(
            "planner",
            tiers[-1].model if self.planner is None else self.planner,
            limits.get("planner") or (tiers[-1].limit if self.planner is None else Limit(None)),
        )
        names = [tier.name for tier in tiers]
        if self.router is not None:
            router: Router = self.router
        elif self.large_share is not None:
            router = ShareRouter(names, self.large_share)
        else:
            router = ThresholdRouter(names, self.threshold)
        self._settings = Settings(
            warnings=_known_faults([*tiers, planner]),
            tiers=tiers,
            planner=planner,
            router=router,
            prices=self._all_prices(tiers[-1].name),
            **self._method,
            **{
                name: getattr(self, name)
                for name in (
                    "prompts",
                    "mode",
                    "busy",
                    "hedge",
                    "execution",
                    "max_nodes",
                    "retries",
                    "stall_timeout_s",
                    "node_timeout_s",
                    "deadline_s",
                    "on_node_error",
                    "accept",
                    "headings",
                    "seed",
                    "approve",
                    "constrain",
                )
            },
        )
        self._graph = host_graph(self._settings, self.checkpointer)

    def _all_prices(self, largest: str) -> Mapping[str, Price] | None:
        """With the planner's, which is the largest tier's unless it is a model of its own."""
        if self.prices is None or largest not in self.prices:
            return None
        return {PLANNER: self.prices[largest], **self.prices}

    @property
    def settings(self) -> Settings:
        """The checked options, as the engine sees them."""
        return self._settings

    # -- one run

    async def ainvoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer one question. Cancelling it closes every model stream."""
        _refuse(kwargs)
        # LangChain's types leave out functions of input and config, which it takes.
        return await self._acall_with_config(self._answer, input, config)  # type: ignore[arg-type]

    def invoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """`ainvoke` on a loop of its own; works where a loop is already running."""
        config = ensure_config(config)
        return run_sync(lambda: self.ainvoke(input, config, **kwargs))

    async def _answer(self, value: Any, config: RunnableConfig) -> AIMessage:
        run = Run(self._settings, config, limit=_limit(config))
        return self._message(await self._run(run, value, config))

    async def _run(self, run: Run, value: Any, config: RunnableConfig) -> dict[str, Any]:
        return await run_graph(self._graph, self._graph_input(value), config, run)

    def _graph_input(self, value: Any) -> Any:
        if value is None or isinstance(value, Command):
            return value
        messages, skeleton = read_input(value)
        return new_question(messages, skeleton, approve=self.approve)

    def _message(self, state: Mapping[str, Any]) -> AIMessage:
        if interrupts := state.get("__interrupt__"):
            pending = {"status": AWAITING_APPROVAL, **interrupts[0].value}
            return AIMessage("", response_metadata={REPORT_KEY: pending})
        last: AIMessage = state["messages"][-1]
        return last

    # -- streams

    async def atransform(
        self,
        input: AsyncIterator[Any],
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream the answer; the whole input is read first."""
        _refuse(kwargs)
        stream = self._atransform_stream_with_config(input, self._stream, config)  # type: ignore[arg-type]
        try:
            async for chunk in stream:
                yield cast("AIMessageChunk", chunk)
        finally:
            await cast("AsyncGenerator[Any, None]", stream).aclose()

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream the answer in document order. Closing it closes every model stream."""

        async def one() -> AsyncIterator[Any]:
            yield input

        stream = self.atransform(one(), config, **kwargs)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await cast("AsyncGenerator[Any, None]", stream).aclose()

    def stream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """`astream` on a loop of its own."""
        config = ensure_config(config)
        return iterate_sync(
            lambda: cast(
                "AsyncGenerator[AIMessageChunk, None]", self.astream(input, config, **kwargs)
            )
        )

    def transform(
        self,
        input: Iterator[Any],
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """`atransform` on a loop of its own."""
        yield from self.stream(_added(list(input)), config, **kwargs)

    async def aevents(
        self,
        input: Any,
        config: RunnableConfig | None = None,
    ) -> AsyncIterator[Event | AIMessage]:
        """The run as it happens: every event in order, the answer's message last."""
        config = ensure_config(config)
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def work(value: Any, config: RunnableConfig) -> AIMessage:
            run = Run(self._settings, config, limit=_limit(config), on_event=queue.put_nowait)
            return self._message(await self._run(run, value, config))

        async with _Owned(self._acall_with_config(work, input, config), queue) as task:  # type: ignore[arg-type]
            while (event := await queue.get()) is not None:
                yield event
            yield task.result()

    async def _stream(
        self, inputs: AsyncIterator[Any], config: RunnableConfig
    ) -> AsyncIterator[AIMessageChunk]:
        value = _added([item async for item in inputs])
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        run = Run(self._settings, config, limit=_limit(config), on_text=queue.put_nowait)
        async with _Owned(self._run(run, value, config), queue) as task:
            open_ = True
            while open_:
                # Adding chunks up is LangChain's dearest step, so what has piled up goes out as one.
                texts = [await queue.get()]
                while not queue.empty():
                    texts.append(queue.get_nowait())
                open_ = None not in texts
                if text := "".join(text for text in texts if text):
                    yield AIMessageChunk(content=text)
            message = self._message(task.result())
            yield AIMessageChunk(
                content="",
                response_metadata=message.response_metadata,
                id=message.id,
                chunk_position="last",
            )

    # -- batches: one limit for all of a batch

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
        return await super().abatch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

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
            lambda: self.abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        )

    async def abatch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, AIMessage | Exception]]:
        """Answer several questions, each given with its index when it is done."""
        configs = sharing_a_limit(config, len(inputs))
        done = super().abatch_as_completed(  # type: ignore[call-overload]
            inputs, configs, return_exceptions=return_exceptions, **kwargs
        )
        async for item in done:
            yield item

    def batch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """`abatch_as_completed` on a loop of its own."""
        return iterate_sync(
            lambda: cast(
                "AsyncGenerator[tuple[int, AIMessage | Exception], None]",
                self.abatch_as_completed(
                    inputs, config, return_exceptions=return_exceptions, **kwargs
                ),
            )
        )

    # -- planning alone

    async def aplan(self, input: Any, config: RunnableConfig | None = None) -> Plan:
        """Plan without decoding: `Plan.skeleton`, or in `Plan.plain` why there is none.

        Give the skeleton back, edited or not, with `{"question": ..., "skeleton": ...}`.
        """

        async def work(value: Any, config: RunnableConfig) -> Plan:
            messages, _ = read_input(value)
            run = Run(self._settings, config, conversation=messages, limit=_limit(config))
            plan = await run.plan(run.planned, show=False, answer=False)
            plan.warnings = run.warnings
            return plan

        return cast("Plan", await self._acall_with_config(work, input, config))  # type: ignore[arg-type]

    def plan(self, input: Any, config: RunnableConfig | None = None) -> Plan:
        """`aplan` on a loop of its own."""
        config = ensure_config(config)
        return run_sync(lambda: self.aplan(input, config))

    # -- faces

    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """SGD as a tool for agents: takes `question`, gives the answer's text.

        The run's report is the `ToolMessage`'s `artifact`. Inside a LangGraph graph, the text goes piece
        by piece to `stream_mode="custom"` as `{"sgd_tool": name, "text": piece}`.

        Args:
            args_schema: The arguments that the agent sees; their names are keys of this Runnable's input.
            name: What the agent calls it.
            description: When the agent should use it.
            arg_types: Not taken; give an `args_schema`.

        Raises:
            InvalidInputError: `arg_types` is given.
        """
        if arg_types is not None:
            msg = "SGDRunnable.as_tool takes no arg_types: give args_schema, a pydantic model"
            raise InvalidInputError(msg)
        name = name or "write_long_answer"

        async def write(
            *question: str, callbacks: Callbacks, config: RunnableConfig, **arguments: Any
        ) -> tuple[str, dict[str, Any]]:
            # The config is the tool's own; the callbacks are those for what runs inside it.
            config = patch_config(config, callbacks=cast("BaseCallbackManager", callbacks))
            show = stream_writer()
            texts: list[str] = []
            metadata: dict[str, Any] = {}
            async for chunk in self.astream(question[0] if question else arguments, config):
                if chunk.text:
                    texts.append(chunk.text)
                    show({"sgd_tool": name, "text": chunk.text})
                metadata |= chunk.response_metadata
            if metadata[REPORT_KEY]["status"] == AWAITING_APPROVAL:
                msg = (
                    "This tool stopped for the approval of its skeleton, which an agent cannot give: leave"
                    " out checkpointer= here and give one to the agent's graph, which is then interrupted"
                )
                raise InvalidInputError(msg)
            return "".join(texts), metadata[REPORT_KEY]

        def write_sync(
            *question: str, callbacks: Callbacks, config: RunnableConfig, **arguments: Any
        ) -> tuple[str, dict[str, Any]]:
            return run_sync(
                lambda: write(*question, callbacks=callbacks, config=config, **arguments)
            )

        return StructuredTool.from_function(
            write_sync,
            coroutine=write,
            name=name,
            description=description
            or (
                "Writes a long, structured answer to a question quickly, several parts at the same"
                " time. Use it for reports, comparisons, guides and overviews."
            ),
            args_schema=args_schema or SkeletonInput,
            infer_schema=False,
            response_format="content_and_artifact",
        )

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


class _Owned:
    """A task that lives no longer than the block; `None` in the queue tells that it has ended."""

    def __init__(self, work: Any, queue: asyncio.Queue[Any]) -> None:
        self._work, self._queue = work, queue

    async def __aenter__(self) -> asyncio.Task[Any]:
        # A TaskGroup may not be held over a yield: the consumer could close it from another task.
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(lambda _: self._queue.put_nowait(None))
        return self._task

    async def __aexit__(self, *_: object) -> None:
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # seen here, so that asyncio does not log it as lost


def _added(items: list[Any]) -> Any:
    """What a chain streamed into us, as one input."""
    if not items:
        return ""
    total = items[0]
    for item in items[1:]:
        total = total + item
    return total


def _known_faults(tiers: Sequence[Tier]) -> tuple[str, ...]:
    """What is known to go wrong with these models, for the report."""
    models = {id(tier.model): tier for tier in reversed(tiers)}
    named = [tier for tier in models.values() if type(tier.model).__name__ == "ChatHuggingFace"]
    if not named:
        return ()
    # Loads the HTTP client, which `import langchain_sgd` must not.
    from langchain_sgd.tgi import huggingface_faults  # noqa: PLC0415

    return tuple(f"{t.name}: {fault}" for t in named for fault in huggingface_faults(t.model))


def _limit(config: RunnableConfig) -> Limit:
    shared = config.get("configurable", {}).get(_LIMIT_KEY)
    return shared if isinstance(shared, Limit) else _limit_of(config)


def _limit_of(config: RunnableConfig) -> Limit:
    size = config.get("max_concurrency")
    if size is not None and size < 1:
        msg = f"max_concurrency must be at least 1, not {size}"
        raise InvalidInputError(msg)
    return Limit(size)


def sharing_a_limit(config: Any, count: int) -> list[RunnableConfig]:
    """A config for each input of a batch, so that `max_concurrency` bounds the model calls of all."""
    configs = get_config_list(config, count)
    limit = _limit_of(configs[0]) if configs else Limit(None)
    return [
        {**c, "configurable": {**c.get("configurable", {}), _LIMIT_KEY: limit}} for c in configs
    ]


def _refuse(options: Mapping[str, Any]) -> None:
    if options:
        msg = (
            f"SGDRunnable takes no call options, but was given {sorted(options)};"
            " bind model options to the models"
        )
        raise InvalidInputError(msg)
