"""SGD as a graph for LangGraph Server, and for whatever else runs graphs by name.

In a `langgraph.json`: `"graphs": {"sgd": "langchain_sgd.platform:make_graph"}`. The models come from the
environment, as for the command line: `SGD_LARGE`, `SGD_SMALL`, `SGD_PLANNER` hold URLs or
`provider:model` (the older `SGD_LARGE_URL` and so on count too); keys of URLs are in `SGD_API_KEY`, or in
`SGD_LARGE_API_KEY` and so on; `SGD_LARGE_LIMIT` and so on bound the calls that one process has in flight
at a tier.

With models of your own, give `chat_graph` your `SGDRunnable` in a factory of your own.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Literal

from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field

from langchain_sgd.chat import ChatSGD
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models import TIERS, name_from_environment, resolve
from langchain_sgd.planning.planner import Mode
from langchain_sgd.runnable import SGDRunnable

NODE = "answer"
"""The graph's only node."""


class Options(BaseModel):
    """What an assistant or a single run may choose; what is not given stays as the server has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system_prompt: str = Field(
        default="",
        description="Goes before the conversation, to the planner and to every node.",
        json_schema_extra={"langgraph_nodes": [NODE], "langgraph_type": "prompt"},
    )
    mode: Mode = Field(
        default="auto",
        description="Split a question if the planner says so, whenever it can, or never.",
    )
    threshold: int = Field(
        default=3,
        ge=1,
        le=6,
        description="Difficulty (1-5) from which the large model writes a part.",
    )
    max_nodes: int = Field(default=12, ge=2, le=99, description="Most parts of an answer.")
    headings: bool = Field(
        default=True,
        description="Put each part under its heading.",
    )
    deadline_s: float | None = Field(
        default=None, gt=0, description="Seconds after which the answer is what is finished then."
    )
    on_node_error: Literal["partial", "raise"] = Field(
        default="partial", description="Name a part that could not be written, or fail."
    )
    approve: bool = Field(
        default=False, description="Interrupt after planning, so that a human sees the skeleton."
    )


def make_graph(config: RunnableConfig | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The graph on the models that the environment names; a factory for `langgraph.json`.

    Servers call it for every run and whenever they read a schema: it opens no connection, and models and
    limits are made once in a process.

    Args:
        config: What the server passes; not used, since `Options` come with the run.

    Raises:
        InvalidInputError: `SGD_LARGE` is not set, or another setting cannot be read.
    """
    del config
    given = {f"SGD_{tier.upper()}_{what}" for tier in TIERS for what in ("API_KEY", "LIMIT")}
    settings = {name: os.environ.get(name, "") for name in (*given, "SGD_API_KEY")}
    settings |= {tier: name_from_environment(tier) or "" for tier in TIERS}
    return chat_graph(_runnable(frozenset(settings.items())))


def chat_graph(sgd: SGDRunnable, *, name: str = "sgd") -> CompiledStateGraph[Any, Any, Any, Any]:
    """A graph of one node that answers the conversation under `messages`.

    Its tokens stream in the order of the document in `stream_mode="messages"`, nothing of the planner or
    of parts whose turn has not come among them. No checkpointer is compiled in: the server, or a parent
    graph, has its own, which saves each part as it is finished.

    Args:
        sgd: The engine; `Options` of a run change a copy of it, which shares its models and limits.
        name: Of the graph, in traces and streams.
    """

    async def answer(state: MessagesState, runtime: Runtime[Options]) -> dict[str, Any]:
        options = runtime.context or Options()
        messages = state["messages"]
        if options.system_prompt:
            messages = [SystemMessage(options.system_prompt), *messages]
        model = ChatSGD(_with(sgd, options))
        return {"messages": [await model.ainvoke(messages)]}

    graph = StateGraph(MessagesState, context_schema=Options)
    graph.add_node(NODE, answer)
    graph.add_edge(START, NODE)
    graph.add_edge(NODE, END)
    return graph.compile(name=name)


def _with(sgd: SGDRunnable, options: Options) -> SGDRunnable:
    changes = options.model_dump(exclude_unset=True, exclude={"system_prompt"})
    if not changes:
        return sgd
    given = {field: getattr(sgd, field) for field in type(sgd).model_fields}
    return type(sgd)(**{**given, **changes})


@functools.lru_cache(maxsize=1)
def _runnable(settings: frozenset[tuple[str, str]]) -> SGDRunnable:
    """Kept, so that all runs of a process share connections, and limits bound what they are meant to."""
    given = dict(settings)
    if not given["large"]:
        msg = (
            "No model: set SGD_LARGE (and SGD_SMALL) to the URLs of model servers or to provider:model,"
            " or write a factory of your own with langchain_sgd.platform.chat_graph(SGDRunnable(...))"
        )
        raise InvalidInputError(msg)
    models, limits = {}, {}
    for tier in TIERS:
        prefix = f"SGD_{tier.upper()}"
        if name := given[tier]:
            models[tier] = resolve(name, what=tier)
        if limit := given[f"{prefix}_LIMIT"]:
            limits[tier] = _whole(f"{prefix}_LIMIT", limit)
    return SGDRunnable(**models, limits=limits)


def _whole(name: str, text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    msg = f"{name} must be a whole number from 1 on, not {text!r}"
    raise InvalidInputError(msg)
