"""Conversations as values: in the order that chat templates want, joined with a thread's, with text around.

Nobody's message is changed: what differs is another message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage


def one_system_message(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation with its system messages as one, at its beginning; strict chat templates want it so.

    Nobody's message is changed; where there is nothing to do, the messages are the given ones.
    """
    system = [message for message in messages if isinstance(message, SystemMessage)]
    if not system or (len(system) == 1 and messages[0] is system[0]):
        return list(messages)
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    if len(system) == 1:
        return [system[0], *others]
    if all(isinstance(message.content, str) for message in system):
        content: Any = "\n\n".join(str(message.content) for message in system)
    else:
        content = [block for message in system for block in _blocks(message.content)]
    return [system[0].model_copy(update={"content": content}), *others]


def _blocks(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def continued(before: Sequence[BaseMessage], said: Sequence[BaseMessage]) -> list[BaseMessage]:
    """A thread's conversation with what is said now.

    A caller who sends the whole history each time, as chat clients do, has said it all: what the thread
    knows is not added to it again. A question that has no answer yet is not repeated. A system message
    replaces the thread's.
    """
    system = [message for message in said if isinstance(message, SystemMessage)]
    new = [message for message in said if not isinstance(message, SystemMessage)]
    if not system:
        system = [message for message in before if isinstance(message, SystemMessage)]
    old = [message for message in before if not isinstance(message, SystemMessage)]
    if [*map(_said, new[: len(old)])] == [*map(_said, old)] and old:
        return [*system, *new]
    if old and isinstance(old[-1], HumanMessage) and [*map(_said, new)] == [_said(old[-1])]:
        return [*system, *old]
    return [*system, *old, *new]


def _said(message: BaseMessage) -> tuple[str, str]:
    return message.type, str(message.content)


def leading_systems(conversation: Sequence[BaseMessage]) -> int:
    """How many system messages stand before all others."""
    return next(
        (n for n, m in enumerate(conversation) if not isinstance(m, SystemMessage)),
        len(conversation),
    )


def extended(conversation: Sequence[BaseMessage], text: str) -> list[BaseMessage]:
    """The conversation with `text` after its last human message, or as one if another role ends it."""
    *before, last = conversation
    return [*before, *wrapped(last, "", text)]


def wrapped(last: BaseMessage, head: str, tail: str) -> list[BaseMessage]:
    """A message with text around it; what is no human's gets a message after it."""
    if not isinstance(last, HumanMessage):
        text = (head + tail).strip("\n")
        return [last, HumanMessage(text)] if text else [last]
    content: str | list[Any] = last.content
    if isinstance(content, str):
        content = head + content + tail
    else:
        blocks = [{"type": "text", "text": text} for text in (head, tail)]
        content = [
            b
            for b in (blocks[0], *content, blocks[1])
            if not isinstance(b, dict) or b != {"type": "text", "text": ""}
        ]
    return [last.model_copy(update={"content": content})]
