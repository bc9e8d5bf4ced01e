"""Tells who has put an `SGDRunnable` itself into a graph, where its answer would be lost without a word."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from types import FrameType
from typing import Any

_BETWEEN = ("langchain_core.", "langchain_sgd.", "contextlib")
"""Modules that stand between a graph and its node where no code of the user's does."""


def tell_if_lost(value: Any, config: Any, *, called_by_graph: bool | None = None) -> None:
    """Say so if a graph calls us itself, with its state: it takes no message for an update of one.

    LangGraph reads the fields of the state off whatever a node gives, and finds none in a message.
    """
    if not isinstance(value, Mapping) or value.get("messages") is None:
        return
    if is_called_by_graph(config) if called_by_graph is None else called_by_graph:
        node = config["metadata"]["langgraph_node"]
        warnings.warn(
            f"SGDRunnable was given the state of a LangGraph graph. If it is the node {node!r} itself, its"
            " answer is lost, because a message is no update of a state: use"
            f" add_node({node!r}, sgd.as_node())",
            stacklevel=3,
        )


def is_called_by_graph(config: Any) -> bool:
    """Whether the caller's caller is a LangGraph graph whose node this is, and no function of the user's.

    A graph hands its node the config; a function that leaves it out needs no second look. In a task or a
    thread of its own a call looks the same whoever began it, and passes for the user's: who is warned of a
    loss that is none learns to overlook warnings.
    """
    if not config or "langgraph_node" not in (config.get("metadata") or {}):
        return False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - nothing else tells who calls
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(_BETWEEN):
            return module.startswith("langgraph.") and _is_whole_node(frame.f_locals.get("self"))
        frame = frame.f_back
    return False


def _is_whole_node(steps_of: Any) -> bool:
    """Whether a node is one step: LangGraph takes chains apart, and a later step may make the update."""
    steps = getattr(steps_of, "steps", ())
    return len([step for step in steps if type(step).__name__ != "ChannelWrite"]) == 1
