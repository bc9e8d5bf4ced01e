"""SGD as a node of a LangGraph graph, and as a subagent: a state in, an update of the state out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict

from langchain_sgd.chat import ChatSGD
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.report import awaits_approval
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.tool import DESCRIPTION

Read = Callable[[Any], Any]
"""From a graph's state to the question: a str, or messages."""
Write = Callable[[AIMessage], Mapping[str, Any]]
"""From the answer to what changes in the state."""


class Subagent(TypedDict):
    """A subagent as deepagents takes it (its `CompiledSubAgent`)."""

    name: str
    description: str
    runnable: Runnable[Any, Any]
    mode: NotRequired[Literal["isolated", "fork"]]
    """Not set; type checkers ask for every key of a typed dictionary."""


def node_of(
    sgd: SGDRunnable, read: Read | None = None, write: Write | None = None
) -> Runnable[Any, dict[str, Any]]:
    """The node; see `SGDRunnable.as_node`."""
    model = ChatSGD(sgd)  # a chat model: its tokens are what `stream_mode="messages"` shows
    read, write = read or _conversation, write or _added

    def updated(answer: AIMessage) -> dict[str, Any]:
        if awaits_approval(answer.response_metadata):
            msg = (
                "This node stopped for the approval of its skeleton, but the graph around it has no"
                " checkpointer and would go on without an answer: give the checkpointer to the graph,"
                " which is then interrupted, and none to the SGDRunnable"
            )
            raise InvalidInputError(msg)
        return dict(write(answer))

    def answer(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return updated(model.invoke(read(state), config))

    async def aanswer(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return updated(await model.ainvoke(read(state), config))

    return RunnableLambda(answer, afunc=aanswer, name="sgd")


def subagent_of(sgd: SGDRunnable, name: str, description: str = DESCRIPTION) -> Subagent:
    """The subagent; see `SGDRunnable.as_subagent`."""
    graph = StateGraph(MessagesState)
    graph.add_node("answer", node_of(sgd))
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    # Without a checkpointer of its own it is saved with that of the agent around it.
    return Subagent(name=name, description=description, runnable=graph.compile(name=name))


def _conversation(state: Any) -> Any:
    messages = (
        state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    )
    if not messages:
        msg = (
            "The graph's state has no messages, where the question is looked for: give"
            " as_node(read=...), a function from the state to the question"
        )
        raise InvalidInputError(msg)
    return messages


def _added(answer: AIMessage) -> dict[str, Any]:
    return {"messages": [answer]}
