"""SGD as a tool for agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.langgraph.writers import stream_writer, tool_writer
from langchain_sgd.portal import run_sync
from langchain_sgd.question import SkeletonInput
from langchain_sgd.report import REPORT_KEY, awaits_approval

if TYPE_CHECKING:
    from langchain_sgd.runnable import SGDRunnable

NAME = "write_long_answer"
DESCRIPTION = (
    "Writes a long, structured answer to a question quickly, several parts at the same time. Use it for"
    " reports, comparisons, guides and overviews."
)


def tool_of(
    sgd: SGDRunnable,
    args_schema: type[BaseModel] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
) -> BaseTool:
    """The tool; see `SGDRunnable.as_tool`."""
    name = name or NAME

    async def write(
        *question: str, callbacks: Callbacks, config: RunnableConfig, **arguments: Any
    ) -> tuple[str, dict[str, Any]]:
        # The config is the tool's own; the callbacks are those for what runs inside it.
        config = patch_config(config, callbacks=cast("BaseCallbackManager", callbacks))
        show, emit = stream_writer(), tool_writer()
        texts: list[str] = []
        metadata: dict[str, Any] = {}
        async for chunk in sgd.astream(question[0] if question else arguments, config):
            if chunk.text:
                texts.append(str(chunk.text))
                emit(str(chunk.text))
                if show is not None:
                    show({"sgd_tool": name, "text": str(chunk.text)})
            metadata |= chunk.response_metadata
        if awaits_approval(metadata):
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
            lambda: write(*question, callbacks=callbacks, config=config, **arguments),
            on=sgd.loop_for_sync(config),
        )

    return StructuredTool.from_function(
        write_sync,
        coroutine=write,
        name=name,
        description=description or DESCRIPTION,
        args_schema=args_schema or SkeletonInput,
        infer_schema=False,
        response_format="content_and_artifact",
    )
