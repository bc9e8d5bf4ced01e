"""Tells who has put an `SGDRunnable` itself into a graph, where its answer would be lost without a word."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from langchain_sgd.planning.wrappers import leaves_of

_BETWEEN = ("langchain_core.", "langchain_sgd.", "contextlib")
"""Modules that stand between a graph and its node where no code of the user's does."""


def tell_if_lost(value: Any, config: Any, *, called_by_graph: bool | None = None) -> None:
    """Say so if a graph calls us itself, with its state: it takes no message for an update of one.

    LangGraph reads the fields of the state off whatever a node gives, and finds none in a message.
    """
    if not _is_state(value):
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

    A graph hands its node the config; a function that leaves it out needs no second look. In doubt a call
    passes for the user's: who is warned of a loss that is none learns to overlook warnings.
    """
    caller = _caller() if _is_in_node(config) else None
    return caller is not None and _module(caller).startswith("langgraph.") and _is_node(caller)


def is_awaited_by_graph(runnable: Any, value: Any, config: Any) -> bool:
    """The same for a coroutine, which LangGraph runs as a task.

    Nothing in a task tells who began it. But a graph that awaits its node stands still in this one step: this
    Runnable, perhaps wrapped, with this very input. Where a function of the user's has begun the task, that
    function is the step.
    """
    if not _is_state(value) or not _is_in_node(config):
        return False
    caller = _caller()
    if caller is not None and not _module(caller).startswith("asyncio."):
        return False
    return any(
        _module(frame).startswith("langgraph.")
        and frame.f_locals.get("input") is value
        and any(leaf is runnable for leaf in leaves_of(frame.f_locals.get("step")))
        and _is_node(frame)
        for frame in _awaiting()
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("messages") is not None


def _is_in_node(config: Any) -> bool:
    return bool(config) and "langgraph_node" in (config.get("metadata") or {})


def _caller() -> FrameType | None:
    """Who has called into LangChain and us; None where nobody is known, as in a thread."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - nothing else tells who calls
    while frame is not None and _module(frame).startswith(_BETWEEN):
        frame = frame.f_back
    return frame


def _awaiting() -> Iterator[FrameType]:
    """Where each task of this loop stands."""
    for task in asyncio.all_tasks():
        frame, awaited = None, _stands(task.get_coro())
        while awaited is not None:
            frame, inner = awaited
            awaited = _stands(inner)
        if frame is not None:
            yield frame


def _stands(awaited: Any) -> tuple[FrameType | None, Any] | None:
    """Where a coroutine or an asynchronous generator stands, and what it awaits; None of a future."""
    if inspect.iscoroutine(awaited):
        return awaited.cr_frame, awaited.cr_await
    if inspect.isasyncgen(awaited):
        return awaited.ag_frame, awaited.ag_await
    # A step of a generator names nobody, but holds its generator.
    held = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)
    return None if held is None else _stands(held)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_node(frame: FrameType) -> bool:
    """Whether a node of one step runs there: a chain is taken apart, and a later step may make the update."""
    steps = getattr(frame.f_locals.get("self"), "steps", ())
    return len([step for step in steps if type(step).__name__ != "ChannelWrite"]) == 1
