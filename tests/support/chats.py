"""A `ChatSGD` on scripted models, and every way that LangChain has to ask it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
)
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable

from langchain_sgd import ChatSGD
from tests.support.models import PLANNER, Say, Stage, others, planning
from tests.support.skeletons import skeleton

NOWHERE = "http://127.0.0.1:9"


def stage(**lines: Say) -> Stage:
    """Two nodes, the second after the first."""
    spent = {
        PLANNER: planning(skeleton("1", "2 <- 1"), usage=(100, 10)),
        "1": Say(["one ", "and ", "only"], usage=(20, 3)),
        "2": Say(["two ", "words"], usage=(30, 2)),
    }
    return Stage({**spent, **lines})


def chat(on: Stage | None = None, **options: Any) -> ChatSGD:
    models: dict[str, Any] = {**(on or stage()).pair()}
    return ChatSGD(**models, **options)


ANSWER = "## Heading 1\n\none and only\n\n## Heading 2\n\ntwo words"


async def by_ainvoke(
    model: Runnable[Any, AIMessage], config: Any = None, **options: Any
) -> AIMessage:
    return await model.ainvoke("Why?", config, **options)


async def by_astream(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    chunks = [chunk async for chunk in model.astream("Why?", config, **options)]
    return added(chunks)


async def by_invoke(
    model: Runnable[Any, AIMessage], config: Any = None, **options: Any
) -> AIMessage:
    return model.invoke("Why?", config, **options)


async def by_stream(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    return added(list(model.stream("Why?", config, **options)))


async def by_events(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    stream = await cast("ChatSGD", model).astream_events("Why?", config, version="v3", **options)
    message = cast("AIMessage", await stream.output)
    if unfinished := others():  # LangChain ends the run after it gave the message
        await asyncio.wait(unfinished, timeout=10)
    return message


async def by_events_sync(
    model: Runnable[Any, Any], config: Any = None, **options: Any
) -> AIMessage:
    stream = cast("ChatSGD", model).stream_events("Why?", config, version="v3", **options)
    return cast("AIMessage", stream.output)


async def by_generate(model: Runnable[Any, Any], config: Any = None, **options: Any) -> AIMessage:
    callbacks = (config or {}).get("callbacks")
    result = await cast("ChatSGD", model).agenerate(
        [[HumanMessage("Why?")]], callbacks=callbacks, **options
    )
    return cast("AIMessage", result.generations[0][0].message)  # type: ignore[union-attr]


def added(chunks: list[Any]) -> AIMessage:
    return cast("AIMessage", chunks[0] + chunks[1:])


WAYS = [by_ainvoke, by_astream, by_invoke, by_stream]
ALL_WAYS = [*WAYS, by_events, by_events_sync, by_generate]
every_way = pytest.mark.parametrize("ask", ALL_WAYS)
main_ways = pytest.mark.parametrize("ask", WAYS)


class Counter(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        del blocking
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)
