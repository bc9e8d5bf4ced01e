"""What a caller may ask with: from text, messages or a mapping to a question.

A question is a value: what was said, the skeleton if one is given, whether a human is to see it, and the
options of this one call. Its key tells it apart from every other one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel, Field

from langchain_sgd.conversation import one_system_message
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.message_dicts import messages_of
from langchain_sgd.skeleton import Skeleton
from langchain_sgd.surrogates import repaired


class SkeletonInput(BaseModel):
    """The arguments that an agent gives to SGD used as a tool."""

    question: str = Field(description="The whole question, with everything needed to answer it.")


@dataclass(frozen=True)
class Question:
    """One question on its way; see the module."""

    messages: tuple[BaseMessage, ...]
    """System prompt, history and question; at most one system message, which comes first."""
    skeleton: Skeleton | None = None
    """Given by the caller; None to plan."""
    approve: bool = False
    """Whether a human is to see the skeleton."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the models that write: `temperature`, `max_tokens` and the like."""

    @cached_property
    def key(self) -> str:
        """Equal for equal questions; ids of messages do not count."""
        said = [(m.type, m.content, getattr(m, "tool_calls", None)) for m in self.messages]
        given = self.skeleton.model_dump(mode="json") if self.skeleton else None
        return digest([said, given, dict(self.options)])


def digest(value: Any) -> str:
    """A short name for JSON-like content."""
    said = json.dumps(value, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def read_input(value: Any) -> tuple[list[BaseMessage], Skeleton | None]:
    """The conversation and the given skeleton in an input.

    Raises:
        InvalidInputError: There is no question in it.
        SkeletonError: Its skeleton cannot be used.
    """
    skeleton: Skeleton | None = None
    if isinstance(value, Mapping):
        known = {"question", "messages", "skeleton"}
        if unknown := set(value) - known:
            msg = f"The input has {sorted(map(str, unknown))}; it may have {sorted(known)}"
            if "messages" in value:
                msg += ". In a graph use as_node(), as a subagent as_subagent(): they take a whole state"
            raise InvalidInputError(msg)
        if value.get("skeleton") is not None:
            skeleton = Skeleton.parse(value["skeleton"])
        if (value.get("question") is None) == (value.get("messages") is None):
            msg = 'The input needs either "question" (a str) or "messages"'
            raise InvalidInputError(msg)
        value = value["messages"] if value.get("question") is None else value["question"]
    messages = _as_messages(value)
    if not messages or _is_empty(messages[-1]):
        msg = "The question is empty"
        raise InvalidInputError(msg)
    return one_system_message([*map(_repaired, messages)]), skeleton


def _is_empty(message: BaseMessage) -> bool:
    """Whether nothing is said: no text, and no block of another kind."""
    others = isinstance(message.content, list) and any(
        isinstance(block, dict) and block.get("type") != "text" for block in message.content
    )
    return not others and not str(message.text).strip()


def checked_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call's options for the models that write, those checked that we read ourselves.

    Raises:
        InvalidInputError: One has a value that no model takes.
    """
    tokens, temperature = options.get("max_tokens"), options.get("temperature")
    if tokens is not None and (type(tokens) is not int or tokens < 1):
        msg = f"max_tokens must be a whole number, 1 or more; it was given {tokens!r}"
        raise InvalidInputError(msg)
    if temperature is not None and (
        isinstance(temperature, bool) or not isinstance(temperature, int | float)
    ):
        msg = f"temperature must be a number; it was given {temperature!r}"
        raise InvalidInputError(msg)
    return options


def _repaired(message: BaseMessage) -> BaseMessage:
    """The message with its half characters joined or replaced: no client can send them."""
    content: Any = _encodable(message.content)
    if content == message.content:
        return message
    return message.model_copy(update={"content": content})


def _encodable(value: Any) -> Any:
    """Texts in it that can be encoded."""
    if isinstance(value, str):
        return repaired(value)
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {name: _encodable(each) for name, each in value.items()}
    return value


def _as_messages(value: Any) -> list[BaseMessage]:
    if isinstance(value, str):
        return [HumanMessage(value)]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        try:
            return messages_of(value)
        except ValueError as error:
            msg = f"The input is a list, but not of messages: {error}"
            raise InvalidInputError(msg) from error
    msg = (
        f"Cannot answer a {type(value).__name__}: give a str, a PromptValue, messages, or"
        ' {"question": ...}'
    )
    raise InvalidInputError(msg)
