"""An agent's model whose last answer is split: the large model decides, call by call.

Beside the agent's tools it is offered one more, which hands a long answer to SGD. What it says or calls
otherwise is passed on.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_sgd.decoding.loops import for_this_loop
from langchain_sgd.message_streams import as_chunk
from langchain_sgd.prompts import Prompts

WRITER = "write_final_answer"
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": WRITER,
        "description": (
            "Has the final answer written, from the whole conversation and all that the tools have found."
            " Call it, alone, when the answer is to be longer than two paragraphs and no other tool is"
            " needed for it. Say nothing beside it."
        ),
        "parameters": {"type": "object", "properties": {}},
    },
}
FOR_TOOLS = frozenset({"tools", "tool_choice", "strict", "parallel_tool_calls"})
"""Call options that only a model with tools understands."""


async def decided(
    large: Runnable[Any, Any],
    messages: Sequence[BaseMessage],
    config: RunnableConfig,
    options: Mapping[str, Any],
    write: Callable[[], AsyncIterator[AIMessageChunk]],
) -> AsyncIterator[AIMessageChunk]:
    """What the large model says or calls, or, where it calls the writer alone, what that writes.

    Args:
        large: With the agent's tools and the writer bound.
        messages: The conversation.
        config: Of the large model's call.
        options: Of the large model's call.
        write: Writes the long answer.
    """
    held: list[AIMessageChunk] = []
    wanted: set[int | str | None] = set()
    others = said = False
    stream = cast("Any", for_this_loop(large, config).astream(list(messages), config, **options))
    async with aclosing(stream):
        async for piece in stream:  # of a model that does not stream, the whole message
            chunk = piece if isinstance(piece, AIMessageChunk) else as_chunk(piece)
            for call in chunk.tool_call_chunks:
                if call["name"] == WRITER:
                    wanted.add(call["index"])
                others |= call["name"] not in {None, WRITER}
            if chunk.text and not chunk.tool_call_chunks and chunk.chunk_position is None:
                said = True
                yield chunk
            else:
                held.append(chunk)
    if not wanted or others:  # the writer beside others: those first, it can be called again
        for chunk in held:
            calls = [call for call in chunk.tool_call_chunks if call["index"] not in wanted]
            if calls or not chunk.tool_call_chunks:
                yield chunk.model_copy(update={"tool_call_chunks": calls, "chunk_position": None})
        yield AIMessageChunk(content="", chunk_position="last")
        return
    usage = functools.reduce(add_usage, (chunk.usage_metadata for chunk in held), None)
    if said or usage:  # the deciding call has been paid for
        yield AIMessageChunk(content="\n\n" if said else "", usage_metadata=usage)
    answer = cast("Any", write())
    async with aclosing(answer):
        async for chunk in answer:
            yield chunk


def with_findings(prompts: Prompts, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation without calls, and behind its last question what the tools have found.

    Models that were given no tools, and servers that know none, can be asked so.
    """
    calls: dict[str | None, str] = {}
    said: list[BaseMessage] = []
    findings: list[tuple[str, str]] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            name = calls.get(message.tool_call_id, message.name or "tool")
            findings.append((name, str(message.text)))
        elif isinstance(message, AIMessage):
            calls |= {call["id"]: _name(call) for call in message.tool_calls}
            if message.text:
                said.append(AIMessage(str(message.text)))
        else:
            said.append(message)
    if any(isinstance(message, HumanMessage) for message in said):
        while not isinstance(said[-1], HumanMessage):  # what was said between calls
            said.pop()
    return prompts.with_findings(said, findings)


def _name(call: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in call["args"].items())
    return f"{call['name']}({given})"
