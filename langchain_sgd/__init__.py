"""Skeleton Graph Decoding for LangChain: long answers, decoded in parallel.

A planner model splits a question into nodes with dependencies and difficulties; independent nodes are
decoded at once, each by the small or the large model, dependents get their dependencies' answers.
"""

from langchain_sgd._version import __version__
from langchain_sgd.chat import ChatSGD
from langchain_sgd.costs import Costs, Price
from langchain_sgd.decoding.routing import Router
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
from langchain_sgd.prompts import Prompts
from langchain_sgd.report import NodeReport, Report
from langchain_sgd.runnable import SGDRunnable, SkeletonInput
from langchain_sgd.skeleton import Node, NodeId, Skeleton

__all__ = [
    "ChatSGD",
    "Costs",
    "DependencyFailedError",
    "InvalidInputError",
    "Node",
    "NodeDecodeError",
    "NodeId",
    "NodeReport",
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
