"""Skeleton Graph Decoding for LangChain: long answers, decoded in parallel.

A planner model splits a question into nodes with dependencies and difficulties; independent nodes are
decoded at once, each by the small or the large model, dependents get their dependencies' answers.

The names are loaded when they are first used, so that `langchain-sgd --help` need not wait for LangGraph.
"""

import importlib
from typing import TYPE_CHECKING, Any

from langchain_sgd._version import __version__

if TYPE_CHECKING:
    from langchain_sgd.chat import ChatSGD
    from langchain_sgd.costs import Costs, Price
    from langchain_sgd.errors import (
        DependencyFailedError,
        InvalidInputError,
        NodeDecodeError,
        PlannerError,
        RunDeadlineError,
        SkeletonError,
        SkeletonGraphError,
    )
    from langchain_sgd.graph import build_graph
    from langchain_sgd.planning.planner import Plan
    from langchain_sgd.prompt_pieces import PartExample
    from langchain_sgd.prompts import Prompts
    from langchain_sgd.question import SkeletonInput
    from langchain_sgd.report import NodeReport, Report
    from langchain_sgd.routing import Router
    from langchain_sgd.runnable import SGDRunnable
    from langchain_sgd.skeleton import Node, NodeId, Skeleton

_HOMES = {
    "ChatSGD": "chat",
    "Costs": "costs",
    "DependencyFailedError": "errors",
    "InvalidInputError": "errors",
    "Node": "skeleton",
    "NodeDecodeError": "errors",
    "NodeId": "skeleton",
    "NodeReport": "report",
    "Plan": "planning.planner",
    "PlannerError": "errors",
    "Price": "costs",
    "PartExample": "prompt_pieces",
    "Prompts": "prompts",
    "Report": "report",
    "Router": "routing",
    "RunDeadlineError": "errors",
    "SGDRunnable": "runnable",
    "Skeleton": "skeleton",
    "SkeletonError": "errors",
    "SkeletonGraphError": "errors",
    "SkeletonInput": "question",
    "build_graph": "graph",
}

__all__ = [
    "ChatSGD",
    "Costs",
    "DependencyFailedError",
    "InvalidInputError",
    "Node",
    "NodeDecodeError",
    "NodeId",
    "NodeReport",
    "PartExample",
    "Plan",
    "PlannerError",
    "Price",
    "Prompts",
    "Report",
    "Router",
    "RunDeadlineError",
    "SGDRunnable",
    "Skeleton",
    "SkeletonError",
    "SkeletonGraphError",
    "SkeletonInput",
    "__version__",
    "build_graph",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"langchain_sgd.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
