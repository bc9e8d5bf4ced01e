"""The text side of a model, the same for every engine: chat template, guards, limits."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from langchain_sgd.embedded._tokenizer import guarded
from langchain_sgd.embedded.engine import EngineError, EngineInfo, EngineInputError

DEFAULT_CONTEXT: Final = 4096
"""Tokens of a request where nothing is said: room for a planner's prompt, a plan and a long answer."""


class Chats:
    """Makes prompts of chats by a model's Jinja template, in a sandbox: model files come from anywhere.

    What people write in messages stays text: a control token in it, such as `<|im_end|>`, is guarded. A
    template that is missing or broken hurts chats only.

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
        self.uses_tools = False
        """Whether the template shows tools itself."""
        self._controls = controls
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._prefix = bos if strip_bos else ""
        # Now, because loading Jinja takes 0.1 s that the first chat should not wait for.
        try:
            self._template = self._compiled(template)
        except EngineError as error:
            self._template = error

    def _compiled(self, source: str | None) -> Any:
        if source is None:
            msg = "The model has no chat template; use text generation instead"
            raise EngineInputError(msg)
        try:
            from jinja2 import TemplateSyntaxError, meta  # noqa: PLC0415 - only local models need it
            from jinja2.ext import loopcontrols  # noqa: PLC0415
            from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
        except ImportError as error:
            msg = 'Chat with a local model needs jinja2: pip install "langchain-sgd[embedded]"'
            raise EngineError(msg) from error
        jinja = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        jinja.filters["tojson"] = _to_json
        jinja.globals |= {"raise_exception": _refuse, "strftime_now": datetime.now(UTC).strftime}
        try:
            self.uses_tools = "tools" in meta.find_undeclared_variables(jinja.parse(source))
            return jinja.from_string(source)
        except TemplateSyntaxError as error:
            msg = f"The model's chat template is not valid: {error} (line {error.lineno})"
            raise EngineError(msg) from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """The prompt that asks for the next message of the assistant.

        It does not begin with the beginning-of-sequence text where tokenizing adds that.

        Raises:
            EngineInputError: The model has no template, or the template refuses these messages.
            EngineError: The template is broken, or jinja2 is not installed.
        """
        if isinstance(self._template, EngineError):
            raise type(self._template)(*self._template.args)
        from jinja2 import TemplateError  # noqa: PLC0415 - loaded by the constructor

        try:
            prompt: str = self._template.render(
                messages=self._guarded(messages),
                tools=self._guarded(tools or ()) or None,
                add_generation_prompt=True,
                **self._tokens,
            )
        except _RefusedError as error:
            msg = f"The model's chat template refuses these messages: {error}"
            raise EngineInputError(msg) from error
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            msg = f"The model's chat template cannot render these messages: {error}"
            raise EngineInputError(msg) from error
        return prompt.removeprefix(self._prefix)

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return guarded(value, self._controls)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(each) for key, each in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(each) for each in value]
        return value


class _RefusedError(Exception):
    """A template called `raise_exception`."""


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


class TextEngine:
    """What both engines do alike; each sets these."""

    _info: EngineInfo
    _chats: Chats
    _close: Callable[[], object]

    @property
    def info(self) -> EngineInfo:
        """What the model is and what it can hold."""
        return self._info

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """Apply the model's chat template; see `engine.Engine`."""
        return self._chats.render(messages, tools)

    async def aclose(self) -> None:
        """Free the model; requests in flight end with an `EngineError`. May be called again."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As `aclose`, for code without an event loop; waits for the step in progress."""
        self._close()

    def _check_length(self, prompt_tokens: int, new_tokens: int) -> None:
        limit = self._info.max_total_tokens
        if not prompt_tokens:
            msg = "The prompt is empty, and the model has no token that begins a text"
            raise EngineInputError(msg)
        if prompt_tokens + new_tokens > limit:
            msg = (
                f"{prompt_tokens} prompt tokens and {new_tokens} new ones exceed the context of"
                f" {limit} tokens"
            )
            raise EngineInputError(msg)
