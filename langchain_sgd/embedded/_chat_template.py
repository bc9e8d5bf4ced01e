"""The chat template that a model carries: messages to prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from langchain_sgd.embedded.engine import EngineError, EngineInputError


class ChatTemplate:
    """A Jinja template, run in a sandbox: model files come from anywhere.

    Raises:
        EngineError: The template is not valid Jinja, or Jinja is not installed.
    """

    def __init__(self, source: str, *, bos: str, eos: str, strip_bos: bool) -> None:
        try:
            from jinja2 import TemplateSyntaxError, meta  # noqa: PLC0415 - only local models need it
            from jinja2.ext import loopcontrols  # noqa: PLC0415
            from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
        except ImportError as error:
            msg = 'Chat with a local model needs jinja2: pip install "langchain-sgd[embedded]"'
            raise EngineError(msg) from error
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
            self.uses_tools = "tools" in meta.find_undeclared_variables(environment.parse(source))
        except TemplateSyntaxError as error:
            msg = f"The model's chat template is not valid: {error} (line {error.lineno})"
            raise EngineError(msg) from error
        self._bos = bos
        self._eos = eos
        self._prefix = bos if strip_bos else ""

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """The prompt that asks for the next message of the assistant.

        It does not begin with the beginning-of-sequence text where tokenizing adds that.

        Raises:
            EngineInputError: The template refuses these messages.
        """
        from jinja2 import TemplateError  # noqa: PLC0415 - loaded by the constructor

        try:
            prompt = self._template.render(
                messages=messages,
                tools=tools or None,
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
            )
        except _RefusedError as error:
            msg = f"The model's chat template refuses these messages: {error}"
            raise EngineInputError(msg) from error
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            msg = f"The model's chat template cannot render these messages: {error}"
            raise EngineInputError(msg) from error
        return prompt.removeprefix(self._prefix)


class _RefusedError(Exception):
    """A template called `raise_exception`."""


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
