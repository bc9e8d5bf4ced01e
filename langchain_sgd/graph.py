"""The two graphs on LangGraph; the only module that imports it.

`build_graph` compiles the literal dynamic graph: one LangGraph node for each node of the skeleton, a state
channel `answer_<id>` for each answer, edges for dependencies. LangGraph runs it in supersteps, so a ready
node waits for its slowest sibling (21 % over the critical path on random skeletons).

`host_graph` is what `SGDRunnable` runs: `plan -> decode -> assemble`, where `decode` calls one LangGraph
*task* for each node, which waits for its own dependencies only, while the planner still writes. Tasks are
called in planner order and never when they become ready: LangGraph finds a saved result by the task's name
and the order of calls, so any other order would hand out swapped answers after a resume.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import operator
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.config import get_stream_writer
from langgraph.errors import EmptyInputError
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command, interrupt
from langsmith import tracing_context
from typing_extensions import TypedDict

from langchain_sgd.errors import (
    DependencyFailedError,
    InvalidInputError,
    NodeDecodeError,
    SkeletonError,
)
from langchain_sgd.events import PLAIN_ID
from langchain_sgd.planning.planner import Plan
from langchain_sgd.report import REPORT_KEY, Attempt, NodeReport, Source
from langchain_sgd.run import Run
from langchain_sgd.settings import Settings
from langchain_sgd.skeleton import Node, NodeId, Skeleton

T = TypeVar("T")

UNLIMITED = 1_000_000
"""LangGraph's `max_concurrency` counts waiting tasks and their parent, so a small value would hang; the
user's limit is held by the run's own slots. `None` would not override a parent's value."""

RECURSION_LIMIT = 25
"""The host graph takes four steps; a skeleton's length adds none."""


class SGDState(TypedDict, total=False):
    """The host graph's channels: messages, and plain JSON types that any checkpointer can store."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation, the answer included once it is there."""
    skeleton: dict[str, Any] | None
    """Given by the caller, approved, or what the planner wrote."""
    source: Source | None
    plan: dict[str, Any] | None
    """What planning came to."""
    records: dict[str, Any]
    """Node reports by node id."""
    approve: bool
    """Whether a human is to see the skeleton: as it was when the question was asked, so that nobody's
    edit is lost to a resume with other options."""


class HasSettings(Protocol):
    """What `build_graph` needs of an `SGDRunnable`."""

    @property
    def settings(self) -> Settings:
        """How to decode."""
        ...


# Keys that LangGraph puts into the config of a graph inside a graph; it exports no names for them.
_TASK_KEY, _CHECKPOINTER_KEY = "__pregel_task_id", "__pregel_checkpointer"

_RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("sgd_run", default=None)
_OUTER: contextvars.ContextVar[contextvars.Context | None] = contextvars.ContextVar(
    "sgd_outer", default=None
)


async def run_graph(
    graph: CompiledStateGraph[Any, Any, Any, Any], value: Any, config: RunnableConfig, run: Run
) -> dict[str, Any]:
    """Run a graph for a `Run`, out of sight of the caller's tracers.

    The graph's own steps are machinery: only the model calls belong into the caller's trace. So it runs
    in an empty context, where no tracer is found, and the model calls run in the caller's.

    Raises:
        InvalidInputError: A checkpointer or a thread is missing, or there is nothing to resume.
    """
    _check_saving(graph, value, config, approve=run.settings.approve)
    outer = contextvars.copy_context()

    async def machinery() -> dict[str, Any]:
        _RUN.set(run)
        _OUTER.set(outer)
        with tracing_context(enabled=False):
            state: dict[str, Any] = await graph.ainvoke(
                value,
                {
                    **config,
                    "callbacks": [],
                    "max_concurrency": UNLIMITED,
                    "recursion_limit": RECURSION_LIMIT,
                },
            )
            return state

    try:
        return await _in_context(contextvars.Context(), machinery())
    except EmptyInputError as error:
        thread = config["configurable"].get("thread_id")
        msg = f"There is nothing to resume on the thread {thread!r}: no run of it was saved"
        raise InvalidInputError(msg) from error
    except NotImplementedError as error:
        if not await _only_synchronous(graph.checkpointer):
            raise
        msg = (
            f"{type(graph.checkpointer).__name__} has no asynchronous methods, which SGDRunnable needs"
            " in invoke as well: use its asynchronous twin, such as AsyncSqliteSaver or"
            " AsyncPostgresSaver"
        )
        raise InvalidInputError(msg) from error
    finally:
        await run.close()


def _thread_of(config: RunnableConfig) -> str | None:
    """The thread under which this run is saved, by our checkpointer or a parent graph's."""
    configurable = config.get("configurable", {})
    return configurable.get("thread_id") if configurable.get(_CHECKPOINTER_KEY) else None


async def _only_synchronous(checkpointer: Checkpointer) -> bool:
    if not isinstance(checkpointer, BaseCheckpointSaver):
        return False
    try:
        await checkpointer.aget_tuple({"configurable": {"thread_id": "", "checkpoint_ns": ""}})
    except NotImplementedError:
        return True
    return False


def _check_saving(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    *,
    approve: bool,
) -> None:
    """Say before anything is asked what LangGraph would say late, or in a bare `KeyError`."""
    configurable = config.get("configurable", {})
    # Inside a parent graph LangGraph takes the parent's checkpointer, whatever we have.
    nested = _TASK_KEY in configurable
    checkpointer = configurable.get(_CHECKPOINTER_KEY) if nested else graph.checkpointer
    if not checkpointer and (approve or value is None or isinstance(value, Command)):
        what = "approve=True interrupts the run, and" if approve else "Nothing was saved:"
        msg = (
            f"{what} only a saved run can be resumed; give the SGDRunnable (or the graph around it)"
            " a checkpointer"
        )
        raise InvalidInputError(msg)
    if checkpointer and "thread_id" not in configurable:
        msg = (
            "With a checkpointer each run needs a thread:"
            ' config={"configurable": {"thread_id": "..."}}'
        )
        raise InvalidInputError(msg)


async def _in_context(context: contextvars.Context | None, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in another context; cancelling the caller cancels it."""
    if context is None:
        return await work
    # Awaited at once: the awaiter owns it, and its cancellation is passed on.
    return await asyncio.get_running_loop().create_task(work, context=context.copy())


def stream_writer() -> Callable[[Any], None]:
    """What writes to the `custom` stream of the LangGraph graph around us; nothing where there is none."""
    try:
        return get_stream_writer()
    except (RuntimeError, KeyError):
        return lambda _: None


def new_question(
    messages: Sequence[BaseMessage], skeleton: Skeleton | None, *, approve: bool
) -> dict[str, Any]:
    """The host graph's input: on an old thread, nothing of the last question's run is left."""
    return {
        "messages": list(messages),
        "skeleton": skeleton.model_dump(mode="json") if skeleton else None,
        "source": "given" if skeleton else None,
        "plan": None,
        "records": {},
        "approve": approve,
    }


# -- the literal graph


def build_graph(skeleton: Skeleton | Any, sgd: HasSettings | None = None) -> StateGraph[Any]:
    """The skeleton as a LangGraph graph, uncompiled, so that you compile it with your checkpointer.

    Input: `{"question": str}` or `{"messages": [...]}`. Output: a channel `answer_<id>` for each node's
    text (None if it has none), and `records` with the node reports as JSON.

    Args:
        skeleton: A `Skeleton`, or what `Skeleton.parse` takes.
        sgd: The `SGDRunnable` whose models decode the nodes; without one the graph can be drawn, not run.

    Raises:
        SkeletonError: The nodes make no skeleton.
    """
    skeleton = Skeleton.parse(skeleton)
    channels: dict[str, Any] = {
        "question": str,
        "messages": list,
        "records": Annotated[dict[str, Any], operator.or_],
    }
    channels |= {f"answer_{node.id}": str | None for node in skeleton.nodes}
    graph: StateGraph[Any] = StateGraph(TypedDict("Answers", channels, total=False))  # type: ignore[operator]
    sinks = {node.id for node in skeleton.sinks}
    for node in skeleton.nodes:
        metadata = {"heading": node.heading, "difficulty": node.difficulty}
        graph.add_node(str(node.id), _literal_node(node, skeleton, sgd), metadata=metadata)  # type: ignore[call-overload]
        # The list form waits for all dependencies; single edges would not.
        graph.add_edge(list(node.dependencies) or START, node.id)
        if node.id in sinks:
            graph.add_edge(node.id, END)
    return graph


def _literal_node(
    node: Node, skeleton: Skeleton, sgd: HasSettings | None
) -> Callable[[dict[str, Any], RunnableConfig], Awaitable[dict[str, Any]]]:
    async def decode(state: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        if sgd is None:
            msg = "This graph can be drawn only: pass build_graph(skeleton, sgd) to run it"
            raise InvalidInputError(msg)
        if (run := _RUN.get()) is None:
            run = Run(sgd.settings, config, conversation=_conversation(state))
            for planned in skeleton.nodes:
                run.planned(planned)
        answers = {d: state.get(f"answer_{d}") for d in node.dependencies}
        work = run.decode(node, skeleton.up_to(node), answers)
        record = await _in_context(_OUTER.get(), work)
        return {
            f"answer_{node.id}": record.answer or None,
            "records": {node.id: record.model_dump(mode="json")},
        }

    return decode


def _conversation(state: Mapping[str, Any]) -> list[BaseMessage]:
    if messages := state.get("messages"):
        return list(messages)
    if question := state.get("question"):
        return [HumanMessage(question)]
    msg = "The graph was given no question: pass {'question': ...} or {'messages': [...]}"
    raise InvalidInputError(msg)


# -- the host graph


def host_graph(
    settings: Settings, checkpointer: Checkpointer = None
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph under `SGDRunnable`, compiled; its steps run barrier-free inside `decode`."""
    host = _Host(settings)
    graph: StateGraph[Any] = StateGraph(SGDState)
    graph.add_node("plan", host.plan)
    graph.add_node("decode", host.decode)
    graph.add_node("assemble", host.assemble)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "decode")
    graph.add_edge("decode", "assemble")
    graph.add_edge("assemble", END)
    compiled = graph.compile(checkpointer=checkpointer, name="SGD")
    # Without it, stream_mode="updates" alone is held back until `decode` returns.
    compiled.stream_eager = True
    return compiled


class _Host:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fingerprint = _fingerprint(settings)

    async def plan(self, state: SGDState) -> dict[str, Any] | None:
        """Works only where the plan must be complete before decoding begins."""
        approve = state.get("approve", self.settings.approve)
        whole_first = approve or self.settings.execution != "pipelined"
        if state.get("skeleton") is not None or not whole_first or self.settings.mode == "never":
            return None
        planning = self._planner_task(self._run(state), lambda _: None, show=not approve)
        planned = await _planned(planning)
        if planned["plain"] is not None:
            return {"plan": planned}
        proposed = Skeleton.parse(planned["nodes"])
        skeleton = _approval(proposed) if approve else proposed
        source: Source = "approved" if approve else "planner"
        if skeleton is None:
            return {"plan": {**planned, "plain": "the skeleton was rejected"}}
        return {"plan": planned, "skeleton": skeleton.model_dump(mode="json"), "source": source}

    async def decode(self, state: SGDState, config: RunnableConfig) -> dict[str, Any]:
        """Plan and decode, each node as soon as its dependencies have answers."""
        run = self._run(state)
        plan = state.get("plan")
        decoding = _Decoding(run, self._question(run))
        if (given := state.get("skeleton")) is not None:
            skeleton = Skeleton.parse(given)
            if self.settings.execution == "superstep":
                return await self._supersteps(run, state, skeleton, config)
            cut = bool(plan and plan["cut"])
            return {"records": _answered(run, skeleton, await decoding.all(skeleton, cut=cut))}
        if plan is None:
            plan = await self._pipelined(run, decoding)
        if plan["plain"] is not None:
            record = await self._plain_task(run, plan["plain"])
            return {"plan": plan, "records": {PLAIN_ID: record}}
        # Nodes restored from a checkpoint did not come by the queue: they are started here.
        skeleton = Skeleton.parse(plan["nodes"])
        return {
            "plan": plan,
            "skeleton": skeleton.model_dump(mode="json"),
            "source": "planner",
            "records": _answered(run, skeleton, await decoding.all(skeleton, cut=plan["cut"])),
        }

    async def assemble(self, state: SGDState, config: RunnableConfig) -> dict[str, Any]:
        """Join the answers; the message carries the report."""
        run = self._run(state)
        plan, given = state.get("plan"), state.get("skeleton")
        cut = bool(plan and plan["cut"])
        skeleton = Skeleton.parse(given) if given else None
        records = [NodeReport.model_validate(record) for record in state["records"].values()]
        run.absorb(skeleton, records, cut=cut)
        text = await _in_context(_OUTER.get(), run.assemble(skeleton, cut=cut))
        report = run.report(
            skeleton,
            source=state.get("source") or "planner",
            reason=plan["plain"] if plan else None,
            cut=cut,
            thread_id=_thread_of(config),
        )
        return {"messages": [AIMessage(text, response_metadata={REPORT_KEY: report.to_json()})]}

    def _run(self, state: SGDState) -> Run:
        run = _RUN.get()
        if run is None:
            msg = "This graph is the inside of an SGDRunnable: call the SGDRunnable instead"
            raise InvalidInputError(msg)
        if not state.get("messages"):
            # On an empty thread LangGraph runs a graph for a `Command`, on nothing.
            raise EmptyInputError
        run.conversation = list(state["messages"])
        if plan := state.get("plan"):
            _note_plan(run, plan)
        return run

    async def _pipelined(self, run: Run, decoding: _Decoding) -> dict[str, Any]:
        """Start nodes while the planner writes; the plan once it is complete."""
        queue: asyncio.Queue[Node | None] = asyncio.Queue()
        planning = self._planner_task(run, queue.put_nowait)
        planning.add_done_callback(lambda _: queue.put_nowait(None))
        while (node := await queue.get()) is not None:
            decoding.start(node)
        plan = await _planned(planning)
        _note_plan(run, plan)
        return plan

    def _planner_task(
        self, run: Run, on_node: Callable[[Node], None], *, show: bool = True
    ) -> asyncio.Future[dict[str, Any]]:
        """Planning as a LangGraph task: its result is saved, a resume does not plan again."""

        async def planner() -> dict[str, Any]:
            plan = await _in_context(_OUTER.get(), run.plan(on_node, show=show))
            if plan.failed:
                raise _NothingToSave(_plan_to_json(plan, run))
            return _plan_to_json(plan, run)

        planner.__name__ = f"planner-{_digest(self._question(run))}"
        future: asyncio.Future[dict[str, Any]] = task(planner)()  # type: ignore[assignment]
        return future

    def _plain_task(self, run: Run, reason: str) -> asyncio.Future[dict[str, Any]]:
        async def plain() -> dict[str, Any]:
            record = await _in_context(_OUTER.get(), run.answer_plainly(reason))
            return record.model_dump(mode="json")

        plain.__name__ = f"plain-{_digest(self._question(run))}"
        return task(plain)()  # type: ignore[return-value]

    def _question(self, run: Run) -> str:
        said = [(message.type, message.content) for message in run.conversation]
        return json.dumps([self.fingerprint, said], default=str)

    async def _supersteps(
        self, run: Run, state: SGDState, skeleton: Skeleton, config: RunnableConfig
    ) -> dict[str, Any]:
        """The literal graph in place of the tasks; what the benchmark compares with."""
        for node in skeleton.nodes:
            run.planned(node)
        run.plan_ended()
        graph = build_graph(skeleton, self).compile(name="supersteps")
        limits: RunnableConfig = {
            "max_concurrency": UNLIMITED,
            "recursion_limit": len(skeleton) + 2,
        }
        result = await graph.ainvoke({"messages": state["messages"]}, {**config, **limits})
        return {"records": _answered(run, skeleton, result["records"])}


class _NothingToSave(Exception):  # noqa: N818 - not an error: what is raised is not saved, so a resume tries again
    """Carries what a task came to, when it came to nothing, past the checkpointer."""

    def __init__(self, outcome: dict[str, Any]) -> None:
        super().__init__("nothing to save")
        self.outcome = outcome


async def _planned(planning: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await planning
    except _NothingToSave as failed:
        return failed.outcome


def _answered(run: Run, skeleton: Skeleton, records: dict[str, Any]) -> dict[str, Any]:
    """The records, if there is an answer among them.

    Raises:
        NodeDecodeError, RunDeadlineError: There is none.
    """
    if not any(record["answer"] for record in records.values()):
        first = next(record for record in records.values() if record["status"] == "failed")
        raise run.failure(skeleton[first["id"]], first["tier"], first["error"])
    return records


class _Decoding:
    """The tasks of one skeleton."""

    def __init__(self, run: Run, seed: str) -> None:
        self._run = run
        self._digest = seed
        self._planned: list[Node] = []
        self._futures: dict[NodeId, asyncio.Future[dict[str, Any]]] = {}

    def start(self, node: Node) -> None:
        """Call the node's task, in planner order; a second call for a node does nothing."""
        if node.id in self._futures:
            return
        self._run.planned(node)
        self._planned.append(node)
        planned = tuple(self._planned)
        # Whatever the answer depends on is in the name, so that another plan, prompt or model never
        # picks up an answer that was saved for this one: the question, the models, and the skeleton
        # up to this node, its dependencies among it.
        self._digest = _digest(self._digest, node.model_dump_json())
        dependencies = {d: self._futures[d] for d in node.dependencies}
        run = self._run

        async def decode() -> dict[str, Any]:
            answers = {d: await _answer(future) for d, future in dependencies.items()}
            record = await _in_context(_OUTER.get(), run.decode(node, planned, answers))
            if not record.answer:
                raise _NothingToSave(record.model_dump(mode="json"))
            return record.model_dump(mode="json")

        decode.__name__ = f"node-{node.id}-{self._digest}"
        future: asyncio.Future[dict[str, Any]] = task(decode)()  # type: ignore[assignment]
        future.add_done_callback(self._note_restored)
        self._futures[node.id] = future

    def _note_restored(self, future: asyncio.Future[dict[str, Any]]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._run.restored(NodeReport.model_validate(future.result()))

    async def all(self, skeleton: Skeleton, *, cut: bool) -> dict[str, Any]:
        """All reports, once every node has ended; then the first error, if there is one.

        Siblings of a failed node end and are saved first, so a resume calls only what is missing.
        """
        for node in skeleton.nodes:
            self.start(node)
        self._run.plan_ended(cut=cut)
        await asyncio.wait(self._futures.values())
        records: dict[str, Any] = {}
        errors: list[BaseException] = []
        for node_id, future in self._futures.items():
            if (error := future.exception()) is None:
                records[node_id] = future.result()
            elif isinstance(error, _NothingToSave):
                records[node_id] = error.outcome
            else:
                errors.append(error)
        errors.sort(key=lambda e: isinstance(e, DependencyFailedError))
        if errors:
            raise errors[0]
        return records


async def _answer(future: asyncio.Future[dict[str, Any]]) -> str | None:
    """A dependency's text; None if it has none.

    Shielded, since others wait for the same future and must not lose it to one cancelled waiter.
    """
    try:
        record = await asyncio.shield(future)
    except (_NothingToSave, NodeDecodeError, DependencyFailedError):
        return None
    return record["answer"] or None


def _approval(planned: Skeleton) -> Skeleton | None:
    """What a human makes of the skeleton; None answers undivided.

    An answer that cannot be used is asked for again, with the reason under `error`: LangGraph has saved it
    already, and an exception here would come again with every resume.
    """
    pending: dict[str, Any] = {"skeleton": planned.model_dump(mode="json")}
    while True:
        answer = interrupt(pending)
        try:
            return _approved(planned, answer)
        except (InvalidInputError, SkeletonError) as error:
            pending = {**pending, "error": str(error)}


def _approved(planned: Skeleton, answer: Any) -> Skeleton | None:
    """What a human's answer to the approval makes of the skeleton; None answers undivided."""
    kind = answer.get("type") if isinstance(answer, Mapping) else answer
    if kind is True or kind == "accept":
        return planned
    if kind is False or kind == "reject":
        return None
    if isinstance(answer, Mapping) and "skeleton" in answer:
        answer = answer["skeleton"]
    if isinstance(answer, list) or (isinstance(answer, Mapping) and "nodes" in answer):
        return Skeleton.parse(answer)
    msg = (
        "An approval is resumed with True (accept), False (reject: answer undivided) or an edited"
        f" skeleton, {{'nodes': [...]}}; it was given {type(answer).__name__}"
    )
    raise InvalidInputError(msg)


def _plan_to_json(plan: Plan, run: Run) -> dict[str, Any]:
    return {
        "nodes": [node.model_dump(mode="json") for node in plan.nodes],
        "plain": plan.plain,
        "cut": plan.cut,
        "warnings": list(run.warnings),
        "attempts": [attempt.model_dump(mode="json") for attempt in run.planner_attempts],
    }


def _note_plan(run: Run, plan: Mapping[str, Any]) -> None:
    """Give a plan that came from a checkpoint its place in the report."""
    if not run.planner_attempts and plan["attempts"]:
        run.warnings = list(dict.fromkeys([*plan["warnings"], *run.warnings]))
        run.planner_attempts = [Attempt.model_validate(attempt) for attempt in plan["attempts"]]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]


def _fingerprint(settings: Settings) -> str:
    """What decides an answer beside the question: models, prompts, options."""
    models = [(tier.name, _model_name(tier.model)) for tier in settings.tiers]
    return _digest(
        json.dumps([models, _model_name(settings.planner.model), settings.prompts.model_dump()]),
        json.dumps([settings.max_nodes, settings.mode, settings.seed]),
    )


def _model_name(model: Any) -> Any:
    """What a chat model says of itself to tracers: no address of an object, no secret.

    But for its name: a model may learn that from its server, and must not be another one then.
    """
    params = getattr(model, "_get_ls_params", None)
    named = dict(params()) if callable(params) else {}
    if (name := getattr(model, "model", None) or getattr(model, "model_name", None)) is not None:
        named["ls_model_name"] = name
    return [type(model).__qualname__, sorted((k, str(v)) for k, v in named.items())]
