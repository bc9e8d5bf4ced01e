"""The LangGraph graph that hosts a run.

A run lives inside a LangGraph node: that of the caller's graph, or, at the top, the one node of the host
graph. There its journal is kept with the graph's checkpointer, and there a human is asked by `interrupt`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import EmptyInputError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Command
from langsmith import tracing_context
from typing_extensions import TypedDict

from langchain_sgd.conversation import continued, one_system_message
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.journal import Journal
from langchain_sgd.langgraph.journal import CHECKPOINTER_KEY, TASK_KEY, journal_here
from langchain_sgd.options import Options
from langchain_sgd.portal import answers, running_loop
from langchain_sgd.question import Question, read_input
from langchain_sgd.skeleton import Skeleton

T = TypeVar("T")

NODE = "answer"
"""The host graph's only node."""

Work = Callable[[Question, Journal, str | None], Coroutine[Any, Any, AIMessage]]
"""Answers a question, its answers kept in the journal, under the thread's name."""

_APPROVE = "approve"
"""Key in the journal."""


class HostState(TypedDict, total=False):
    """The host graph's channels; plain values that any checkpointer can store."""

    messages: Annotated[list[AnyMessage], continued]
    """The conversation, the answer included once it is there."""
    skeleton: dict[str, Any] | None
    """As the caller gave it."""
    approve: bool
    """Whether a human is to see the skeleton: as it was when the question was asked, so that nobody's
    edit is lost to a resume with other options."""
    options: dict[str, Any]
    """For the models that write."""


class _Call:
    """What one call of the host graph works with."""

    def __init__(self, options: Options, work: Work) -> None:
        self.options = options
        self.work = work
        # The work runs in the caller's context, where the caller's tracers are; LangGraph has its own.
        self.context = contextvars.copy_context()


def host_graph(checkpointer: Checkpointer = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph under an `SGDRunnable` that nobody has put into another graph."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(HostState, context_schema=_Call)
    graph.add_node(NODE, _host_node)  # type: ignore[call-overload]
    graph.add_edge(START, NODE)
    graph.add_edge(NODE, END)
    return graph.compile(checkpointer=checkpointer, name="SGD")


async def _host_node(
    state: HostState, runtime: Runtime[Any], config: RunnableConfig
) -> dict[str, Any]:
    call = runtime.context
    if not isinstance(call, _Call):
        msg = "This graph is the inside of an SGDRunnable: call the SGDRunnable instead"
        raise InvalidInputError(msg)
    if not state.get("messages"):
        # On an empty thread LangGraph runs a graph for a `Command`, on nothing.
        raise EmptyInputError
    given = state.get("skeleton")
    question = Question(
        tuple(one_system_message(state["messages"])),
        Skeleton.parse(given) if given else None,
        bool(state.get("approve")),
        state.get("options") or {},
    )
    journal, thread = await journal_here(config, question, call.options)
    work = call.work(question, journal, thread)
    # Awaited at once: this node owns it, and its own cancellation is passed on.
    task = asyncio.get_running_loop().create_task(work, context=call.context)
    return {"messages": [await task]}


async def run_in_graph(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    options: Options,
    work: Work,
    call_options: Mapping[str, Any],
) -> AIMessage | Mapping[str, Any]:
    """Do the work for what a caller gave, inside the caller's graph or the host graph.

    Returns:
        The answer, or, of a run that waits for a human, what is pending.

    Raises:
        InvalidInputError: A checkpointer or a thread is missing, or there is nothing to resume.
    """
    configurable = config.get("configurable") or {}
    if _is_inside(configurable, graph):
        _check_saving(value, configurable.get(CHECKPOINTER_KEY), configurable, options)
        if value is None or isinstance(value, Command):
            msg = (
                "Inside a LangGraph graph an SGDRunnable is resumed with that graph; give it its question"
                " again, as the graph's node does by itself"
            )
            raise InvalidInputError(msg)
        messages, skeleton = read_input(value)
        question = Question(tuple(messages), skeleton, options.approve, call_options)
        journal, thread = await journal_here(config, question, options)
        # Whether a human is to see it belongs to the question, whatever the options of a resume say.
        if question.approve and _APPROVE not in journal.kept:
            await journal.keep(_APPROVE, value=True)
        approve = question.approve or _APPROVE in journal.kept
        with _alone_in(configurable[TASK_KEY]) if approve else nullcontext():
            return await work(replace(question, approve=approve), journal, thread)
    _check_saving(value, graph.checkpointer, configurable, options)
    return await _in_host(graph, value, config, options, work, call_options)


_APPROVING: set[str] = set()
"""Tasks of LangGraph in which a question is being answered that a human is to approve."""


@contextmanager
def _alone_in(task: str) -> Iterator[None]:
    """Let one question at a time be approved in a node.

    LangGraph tells what a human says to several interrupts of a node apart by their order alone, which is
    another one with each resume when questions run side by side.

    Raises:
        InvalidInputError: Another question of the node is being answered.
    """
    if task in _APPROVING:
        msg = (
            "Two questions that a human is to approve were asked at the same time in one node of a graph,"
            " and LangGraph could not tell the human's answers apart: give each question a node of its own,"
            " such as by Send, or ask one after the other"
        )
        raise InvalidInputError(msg)
    _APPROVING.add(task)
    try:
        yield
    finally:
        _APPROVING.discard(task)


async def _in_host(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    options: Options,
    work: Work,
    call_options: Mapping[str, Any],
) -> AIMessage | Mapping[str, Any]:
    configurable = {
        key: item
        for key, item in (config.get("configurable") or {}).items()
        if not key.startswith("__") and key not in {"checkpoint_ns", "checkpoint_map"}
    }
    thread = configurable.get("thread_id")
    if thread is not None:
        configurable["thread_id"] = str(thread)
    machinery: RunnableConfig = {
        "configurable": configurable,
        # The graph's own steps are no runs of the caller's: no handler sees them, and those that some
        # tracers add to every manager find their place under the caller's run.
        "callbacks": _silent(config),
        "recursion_limit": 25,
    }
    call = _Call(options, work)
    started = value
    if value is not None and not isinstance(value, Command):
        messages, skeleton = read_input(value)
        started = {
            # Copies: LangGraph writes ids into messages, and nobody's message is changed.
            "messages": [message.model_copy() for message in messages],
            "skeleton": skeleton.model_dump(mode="json") if skeleton else None,
            "approve": options.approve,
            "options": dict(call_options),
        }
    try:
        with tracing_context(enabled=False):
            state = await contextvars.Context().run(
                _started, graph, started, machinery, call, saved=bool(graph.checkpointer)
            )
    except EmptyInputError as error:
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
    if interrupts := state.get("__interrupt__"):
        pending: Mapping[str, Any] = interrupts[0].value
        return pending
    answer: AIMessage = state["messages"][-1]
    return answer


def _started(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    call: _Call,
    *,
    saved: bool,
) -> asyncio.Task[dict[str, Any]]:
    """The graph's run, in the current context: its machinery is out of sight of the caller's tracers."""

    async def go() -> dict[str, Any]:
        with tracing_context(enabled=False):
            state: dict[str, Any] = await graph.ainvoke(
                value,
                config,
                context=call,
                # The question is saved before anything is asked: a kill loses nothing that was finished.
                durability="sync" if saved else None,
            )
            return state

    return asyncio.get_running_loop().create_task(go())


def _silent(config: RunnableConfig) -> AsyncCallbackManager:
    parent = getattr(config.get("callbacks"), "parent_run_id", None)
    return AsyncCallbackManager([], parent_run_id=parent)


def _is_inside(
    configurable: Mapping[str, Any], graph: CompiledStateGraph[Any, Any, Any, Any]
) -> bool:
    """Whether we are called in a node of a graph that is to host us.

    One that saves nothing does not host an `SGDRunnable` that has a checkpointer and a thread of its own.
    """
    if TASK_KEY not in configurable:
        return False
    if configurable.get(CHECKPOINTER_KEY):
        return True
    return not (graph.checkpointer and "thread_id" in configurable)


async def _only_synchronous(checkpointer: Checkpointer) -> bool:
    if not isinstance(checkpointer, BaseCheckpointSaver):
        return False
    try:
        await checkpointer.aget_tuple({"configurable": {"thread_id": "", "checkpoint_ns": ""}})
    except NotImplementedError:
        return True
    return False


def loop_for_sync(
    graph: CompiledStateGraph[Any, Any, Any, Any], config: RunnableConfig
) -> asyncio.AbstractEventLoop | None:
    """Where a synchronous call has to run: on the checkpointer's loop, if that names one that runs.

    Raises:
        InvalidInputError: That loop is blocked, by the caller itself or by one who waits for it.
    """
    configurable = config.get("configurable") or {}
    saver = configurable.get(CHECKPOINTER_KEY) or graph.checkpointer
    loop = getattr(saver, "loop", None)
    if not isinstance(loop, asyncio.AbstractEventLoop) or not loop.is_running():
        return None
    if loop is running_loop() or not answers(loop):
        msg = (
            "A synchronous call would block the event loop on which the asynchronous checkpointer"
            " lives, for ever: use ainvoke, astream or abatch here"
        )
        raise InvalidInputError(msg)
    return loop


def _check_saving(
    value: Any, checkpointer: Any, configurable: Mapping[str, Any], options: Options
) -> None:
    """Say before anything is asked what LangGraph would say late, or in a bare `KeyError`."""
    approve = options.approve
    if isinstance(value, Command) and value.resume is None and not (value.update or value.goto):
        msg = (
            "Command(resume=None) says nothing: resume an approval with True, False or an edited"
            " skeleton, and a broken-off run with None in place of the Command"
        )
        raise InvalidInputError(msg)
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
