"""The text side of a GGUF model, which every engine on such a file needs: tokens, chat template, limits."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._chat_template import ChatTemplate
from langchain_sgd.embedded._context import Model
from langchain_sgd.embedded._grammar import Compiler, Matcher
from langchain_sgd.embedded.engine import (
    EngineError,
    EngineInfo,
    EngineInputError,
    GenerateRequest,
    Grammar,
    Token,
)


class Text:
    """Turns requests into tokens and chats into prompts. Thread-safe."""

    def __init__(
        self,
        model: Model,
        *,
        slots: int,
        context: int,
        model_id: str | None,
        json_separators: tuple[str, str],
    ) -> None:
        """Read what the model's file says; for the parameters see `XLlamaCppEngine`."""
        self._lib = model.lib
        self.vocabulary: Final = model.vocabulary
        self._separators = json_separators
        self._compiler: Compiler | None = None
        self._lock = threading.Lock()
        # Now, because loading Jinja takes 0.1 s that the first chat should not wait for.
        template = self._template = self._compile_template(model.chat_template)
        trained = model.trained_context
        self.info: Final = EngineInfo(
            model_id=model_id or model.name or model.path.stem,
            max_total_tokens=min(context, trained) if trained > 0 else context,
            slots=slots,
            dtype=model.dtype,
            eos_token=self.vocabulary.eos_text,
            template_uses_tools=isinstance(template, ChatTemplate) and template.uses_tools,
        )

    def prompt(self, request: GenerateRequest) -> npt.NDArray[np.int32]:
        """The ids of a request's prompt.

        Raises:
            EngineInputError: There are none, or prompt and answer exceed the context.
            EngineError: The engine was closed.
        """
        ids = self.vocabulary.tokenize(_utf8(request.prompt))
        if not len(ids):
            msg = "The prompt is empty, and the model has no token that begins a text"
            raise EngineInputError(msg)
        limit = self.info.max_total_tokens
        if len(ids) + request.max_new_tokens > limit:
            msg = (
                f"{len(ids)} prompt tokens and {request.max_new_tokens} new ones exceed"
                f" the context of {limit} tokens"
            )
            raise EngineInputError(msg)
        return ids

    def tokenize(self, text: str) -> list[Token]:
        """A text's tokens, the one that begins a text included.

        Raises:
            EngineError: The engine was closed.
        """
        vocabulary = self.vocabulary
        return [
            Token(token, vocabulary.piece(token).decode(errors="replace"))
            if vocabulary.piece(token)
            else Token(token, vocabulary.special_text(token), special=True)
            for token in vocabulary.tokenize(_utf8(text)).tolist()
        ]

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """The prompt for a chat.

        Raises:
            EngineInputError: The model has no template, or the template refuses these messages.
            EngineError: The template is broken, or jinja2 is not installed.
        """
        if isinstance(self._template, EngineError):
            raise self._template
        return self._template.render(messages, tools)

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher for a grammar; may take long, so not for an event loop's thread.

        Raises:
            EngineInputError: The grammar cannot be compiled.
        """
        with self._lock:
            if self._compiler is None:
                self._compiler = Compiler(self._lib, self.vocabulary, self._separators)
        return self._compiler.compile(grammar)

    def _compile_template(self, source: str | None) -> ChatTemplate | EngineError:
        """The chat template, or why there is none: text generation works without."""
        if source is None:
            return EngineInputError("The model has no chat template; use text generation instead")
        vocabulary = self.vocabulary
        try:
            return ChatTemplate(
                source,
                bos=vocabulary.bos_text,
                eos=vocabulary.eos_text,
                strip_bos=vocabulary.adds_bos,
            )
        except EngineError as error:
            return error


def check_numbers(**numbers: int | None) -> None:
    """Refuse numbers below 1; None is left to the engine.

    Raises:
        ValueError: A number is below 1.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            msg = f"{name} must be at least 1, not {value}"
            raise ValueError(msg)


def _utf8(text: str) -> bytes:
    """Text as bytes; half of a surrogate pair, which JSON can carry, becomes a question mark."""
    return text.encode(errors="replace")
