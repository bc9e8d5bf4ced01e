"""The text side of a model, the same for every engine: chat template, guards, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_sgd.embedded._chat_template import ChatTemplate
from langchain_sgd.embedded._tokenizer import guarded
from langchain_sgd.embedded.engine import EngineError, EngineInputError

DEFAULT_CONTEXT: Final = 4096
"""Tokens of a request where nothing is said: room for a planner's prompt, a plan and a long answer."""


class Chats:
    """Makes prompts of chats, for one model.

    What people write in messages stays text: a control token in it, such as `<|im_end|>`, is guarded.

    Args:
        template: The model's template, None where it has none.
        bos: Text of the token that begins a text.
        eos: Text of the token that ends one.
        strip_bos: Whether tokenizing adds the first, so that a prompt must not.
        controls: Finds control tokens in a text.
    """

    def __init__(
        self,
        template: str | None,
        *,
        bos: str,
        eos: str,
        strip_bos: bool,
        controls: re.Pattern[str] | None,
    ) -> None:
        self._controls = controls
        self._template: ChatTemplate | EngineError
        if template is None:
            msg = "The model has no chat template; use text generation instead"
            self._template = EngineInputError(msg)
        else:
            # Now, because loading Jinja takes 0.1 s that the first chat should not wait for.
            try:
                self._template = ChatTemplate(template, bos=bos, eos=eos, strip_bos=strip_bos)
            except EngineError as error:
                self._template = error

    @property
    def uses_tools(self) -> bool:
        """Whether the template shows tools itself."""
        return isinstance(self._template, ChatTemplate) and self._template.uses_tools

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """The prompt for a chat.

        Raises:
            EngineInputError: The model has no template, or the template refuses these messages.
            EngineError: The template is broken, or jinja2 is not installed.
        """
        if isinstance(self._template, EngineError):
            raise type(self._template)(*self._template.args)
        return self._template.render(self._guarded(messages), self._guarded(tools))

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return guarded(value, self._controls)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(each) for key, each in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(each) for each in value]
        return value


def check_length(prompt_tokens: int, new_tokens: int, limit: int) -> None:
    """Refuse what the model cannot hold.

    Raises:
        EngineInputError: The prompt is empty, or prompt and answer exceed the context.
    """
    if not prompt_tokens:
        msg = "The prompt is empty, and the model has no token that begins a text"
        raise EngineInputError(msg)
    if prompt_tokens + new_tokens > limit:
        msg = f"{prompt_tokens} prompt tokens and {new_tokens} new ones exceed the context of {limit} tokens"
        raise EngineInputError(msg)


def check_numbers(**numbers: int | None) -> None:
    """Refuse numbers below 1; None is left to the engine.

    Raises:
        ValueError: A number is below 1.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            msg = f"{name} must be at least 1, not {value}"
            raise ValueError(msg)
