"""What a caller may ask with: from text, messages or a mapping to a conversation and a skeleton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel, Field

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.skeleton import Skeleton


class SkeletonInput(BaseModel):
    """The arguments that an agent gives to SGD used as a tool."""

    question: str = Field(description="The whole question, with everything needed to answer it.")


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
            raise InvalidInputError(msg)
        if value.get("skeleton") is not None:
            skeleton = Skeleton.parse(value["skeleton"])
        if (value.get("question") is None) == (value.get("messages") is None):
            msg = 'The input needs either "question" (a str) or "messages"'
            raise InvalidInputError(msg)
        value = value["messages"] if value.get("question") is None else value["question"]
    messages = _as_messages(value)
    if not messages or (
        not str(messages[-1].text).strip() and not isinstance(messages[-1].content, list)
    ):
        msg = "The question is empty"
        raise InvalidInputError(msg)
    return messages, skeleton


def _as_messages(value: Any) -> list[BaseMessage]:
    if isinstance(value, str):
        return [HumanMessage(value)]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        try:
            return convert_to_messages(value)
        except (ValueError, NotImplementedError) as error:
            msg = f"The input is a list, but not of messages: {error}"
            raise InvalidInputError(msg) from error
    msg = (
        f"Cannot answer a {type(value).__name__}: give a str, a PromptValue, messages, or"
        ' {"question": ...}'
    )
    raise InvalidInputError(msg)
