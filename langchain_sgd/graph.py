"""The literal dynamic graph: a skeleton compiled to LangGraph.

One LangGraph node for each node of the skeleton, a state channel `answer_<id>` for each answer, edges for
dependencies. LangGraph runs it in supersteps, so a ready node waits for its slowest sibling (21 % over the
critical path on random skeletons); an `SGDRunnable` decodes the same nodes by the same function without
that wait.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from langchain_sgd.decoding.context import RunContext, for_models
from langchain_sgd.decoding.part import Outline, Written
from langchain_sgd.decoding.writer import failure, raise_for_missing, write_node
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.limits import Limit
from langchain_sgd.options import Options
from langchain_sgd.question import Question, read_input
from langchain_sgd.skeleton import Node, NodeId, Skeleton


def build_graph(skeleton: Skeleton | Any, sgd: Options | None = None) -> StateGraph[Any]:
    """The skeleton as a LangGraph graph, uncompiled, so that you compile it with your checkpointer.

    Input: `{"question": str}` or `{"messages": [...]}`. Output: a channel `answer_<id>` for each node's
    text (None if it has none), and `records` with the node reports as JSON.

    Args:
        skeleton: A `Skeleton`, or what `Skeleton.parse` takes.
        sgd: The `SGDRunnable` whose models decode the nodes; without one the graph can be drawn, not run.

    Raises:
        SkeletonError: The nodes make no skeleton.
    """
    return _graph(Skeleton.parse(skeleton), sgd)


def _graph(
    skeleton: Skeleton, sgd: Options | None, kept: dict[NodeId, Written] | None = None
) -> StateGraph[Any]:
    """The graph; what becomes of its nodes is kept for a caller who sees to what is missing."""
    channels: dict[str, Any] = {
        "question": str,
        "messages": list,
        "records": Annotated[dict[str, Any], operator.or_],
    }
    channels |= {f"answer_{node.id}": str | None for node in skeleton.nodes}
    state = TypedDict("Answers", channels, total=False)  # type: ignore[misc]
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state, context_schema=RunContext)
    sinks = {node.id for node in skeleton.sinks}
    for node in skeleton.nodes:
        metadata = {"heading": node.heading, "difficulty": node.difficulty}
        graph.add_node(str(node.id), _literal_node(node, skeleton, sgd, kept), metadata=metadata)  # type: ignore[call-overload]
        # The list form waits for all dependencies; single edges would not.
        graph.add_edge(list(node.dependencies) or START, node.id)
        if node.id in sinks:
            graph.add_edge(node.id, END)
    return graph


def _literal_node(
    node: Node, skeleton: Skeleton, sgd: Options | None, kept: dict[NodeId, Written] | None
) -> Callable[[dict[str, Any], RunnableConfig, Runtime[Any]], Awaitable[dict[str, Any]]]:
    async def decode(
        state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]
    ) -> dict[str, Any]:
        run = runtime.context
        if not isinstance(run, RunContext):
            if sgd is None:
                msg = "This graph can be drawn only: pass build_graph(skeleton, sgd) to run it"
                raise InvalidInputError(msg)
            given = {k: state[k] for k in ("question", "messages") if state.get(k)}
            question = Question(tuple(read_input(given)[0]), skeleton)
            run = RunContext(question, sgd, for_models(config), Limit(None), lambda _: None)
        answers = {d: state.get(f"answer_{d}") for d in node.dependencies}
        written = await write_node(run, node, Outline(skeleton.nodes), answers)
        run.emit(written.ended())
        if kept is not None:
            kept[node.id] = written
        elif not written.has_come_to_its_end and run.options.on_node_error == "raise":
            raise failure(run, node, written)
        return {
            f"answer_{node.id}": written.report.answer or None,
            "records": {node.id: written.report.model_dump(mode="json")},
        }

    return decode


async def in_supersteps(run: RunContext, skeleton: Skeleton) -> None:
    """Decode a skeleton by the literal graph, level by level; what the benchmark compares with.

    Raises:
        SkeletonGraphError: As the schedule raises it.
    """
    kept: dict[NodeId, Written] = {}
    graph: Any = _graph(skeleton, run.options, kept).compile(name="supersteps")
    config: RunnableConfig = {**run.config, "recursion_limit": len(skeleton) + 2}
    await graph.ainvoke({"messages": list(run.question.messages)}, config, context=run)
    raise_for_missing(run, skeleton.nodes, [kept[node.id] for node in skeleton.nodes])
