"""What writes to the streams of the LangGraph graph around us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.config import get_stream_writer


def stream_writer() -> Callable[[Any], None] | None:
    """What writes to the `custom` stream of the LangGraph graph around us; None where there is none."""
    try:
        return get_stream_writer()
    except (RuntimeError, KeyError):
        return None


def tool_writer() -> Callable[[Any], None]:
    """What streams a running tool's output (`tool_calls` in v3 events); it does nothing elsewhere."""
    # Loads the agents' tools, which only a tool needs.
    from langgraph.prebuilt import ToolRuntime  # noqa: PLC0415

    runtime: ToolRuntime[Any, Any] = ToolRuntime(None, None, {}, lambda _: None, None, None)
    # It belongs to no call: LangGraph finds the call that is running by itself.
    return runtime.emit_output_delta
