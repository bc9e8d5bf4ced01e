"""Agent models that call one tool, once, and then say a word."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field


class Caller(BaseChatModel):
    """Calls `tool` with `args`, and says `then` once a tool has answered."""

    tool: str
    args: dict[str, Any]
    then: str = "Here you are."
    asked: list[dict[str, Any]] = Field(default_factory=list)
    """The options of each call."""

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Any, **options: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[getattr(tool, "name", tool) for tool in tools], **options)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        del stop, run_manager
        self.asked.append(options)
        message = AIMessage(self.then)
        if options.get("tools") and not any(isinstance(m, ToolMessage) for m in messages):
            call = {"name": self.tool, "args": self.args, "id": "c", "type": "tool_call"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])
