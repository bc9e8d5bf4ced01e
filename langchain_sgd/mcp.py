"""SGD as a tool of the Model Context Protocol: `write_long_answer(question)`, with progress."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from typing import Any, Final, cast

from langchain_core.messages import AIMessage
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import SecretStr
from starlette.types import ASGIApp

from langchain_sgd._version import __version__
from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.events import Ended, Event, PlanEnded, Planned, Voided
from langchain_sgd.proxy.guard import Guard
from langchain_sgd.runnable import SGDRunnable

_DESCRIPTION: Final = """\
Write a long, structured answer, several parts at the same time.

Use it for reports, comparisons, guides and overviews. Put everything needed to answer into the question: \
nothing else of the conversation is known."""


def make_server(sgd: SGDRunnable) -> MCPServer[Any]:
    """An MCP server with one tool, for any transport of the official SDK."""
    server: MCPServer[Any] = MCPServer("langchain-sgd", version=__version__, log_level="WARNING")

    @server.tool(title="Write a long answer", description=_DESCRIPTION, structured_output=False)
    async def write_long_answer(question: str, context: Context[Any, Any]) -> str:
        steps = _Steps()
        try:
            async with aclosing(cast("Any", sgd.aevents(question))) as events:
                async for event in events:
                    if isinstance(event, AIMessage):
                        return str(event.text)
                    if message := steps.feed(event):
                        await context.report_progress(steps.done, steps.total, message)
        except SkeletonGraphError as error:
            raise ToolError(str(error)) from error
        msg = "the run ended without an answer"
        raise ToolError(msg)

    return server


class _Steps:
    """Progress in steps: a part is planned, a part is written."""

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        """Known when the plan has ended."""
        self._headings: dict[str, str] = {}
        self._voided = 0
        """Steps of a plan that counts no longer: what was told cannot be taken back."""

    def feed(self, event: Event) -> str:
        """What to tell of an event; empty for most."""
        match event:
            case Planned(node):
                self._headings[node.id] = node.heading
                self.done += 1
                return f"planned: {node.heading}"
            case Voided():
                self._headings.clear()
                self._voided = self.done
            case PlanEnded():
                self.total = self._voided + 2 * len(self._headings)
            case Ended(node_id, status) if node_id in self._headings:
                self.done += 1
                return f"{'written' if status == 'complete' else status}: {self._headings[node_id]}"
            case _:
                pass
        return ""


def http_app(
    server: MCPServer[Any], *, key: SecretStr | None = None, hosts: Collection[str] | None = None
) -> ASGIApp:
    """The server over streamable HTTP at `/mcp`.

    Args:
        server: From `make_server`.
        key: What clients must send as a bearer token; without one, listen on loopback only.
        hosts: Host names the server answers to, checked on loopback; None checks none.
    """
    # The guard checks hosts and origins, and the key too.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=security)
    return Guard(app, key=key, hosts=hosts)
