"""What an `SGDRunnable` is made into: a tool, a node of a graph, a subagent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from langchain_sgd.errors import InvalidInputError

if TYPE_CHECKING:
    from langchain_sgd.nodes import Subagent
    from langchain_sgd.runnable import SGDRunnable


class Faces:
    """The methods of an `SGDRunnable` that make something else of it."""

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
        from langchain_sgd.tool import tool_of  # noqa: PLC0415 - made of this class

        return tool_of(cast("SGDRunnable", self), args_schema, name=name, description=description)

    def as_node(
        self,
        *,
        read: Callable[[Any], Any] | None = None,
        write: Callable[[AIMessage], Mapping[str, Any]] | None = None,
    ) -> Runnable[Any, dict[str, Any]]:
        """SGD as a node of a LangGraph graph: `graph.add_node("write", sgd.as_node())`.

        It answers the conversation under `messages` and adds the answer to it. The answer streams in
        `stream_mode="messages"`; finished parts are saved with the graph's checkpointer. (An `SGDRunnable`
        itself gives a message, which is no update of a state: as a node, its answer would be lost.)

        Args:
            read: From the state to the question, a str or messages.
            write: From the answer to the update, such as `lambda answer: {"report": answer.text}`.
        """
        from langchain_sgd.nodes import node_of  # noqa: PLC0415 - made of this class

        return node_of(cast("SGDRunnable", self), read, write)

    def as_subagent(self, name: str = "writer", description: str | None = None) -> Subagent:
        """SGD as a subagent of deepagents: `create_deep_agent(subagents=[sgd.as_subagent()])`.

        Args:
            name: What the agent calls it.
            description: When the agent should use it.
        """
        from langchain_sgd.nodes import subagent_of  # noqa: PLC0415 - made of this class
        from langchain_sgd.tool import DESCRIPTION  # noqa: PLC0415

        return subagent_of(cast("SGDRunnable", self), name, description or DESCRIPTION)
