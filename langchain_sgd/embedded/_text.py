"""The text side of a model, the same for every engine: chat template, guards, limits."""

from __future__ import annotations

import asyncio
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypedDict, TypeVar

from jinja2 import TemplateError, TemplateSyntaxError, meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from langchain_sgd.embedded._child import Keeper
from langchain_sgd.embedded._gguf import GGUF
from langchain_sgd.embedded._tokenizer import Controls
from langchain_sgd.embedded.engine import EngineError, EngineInfo, EngineInputError, GenerateRequest

INSTALL_HINT: Final = 'pip install "langchain-sgd[embedded]"'
DEFAULT_CONTEXT: Final = 4096
"""Tokens of a request where nothing is said: room for a planner's prompt, a plan and a long answer."""
_SMALL_FILE: Final = 32_000_000
_MOST_THREADS: Final = 16


class Chats:
    """Makes prompts of chats by a model's Jinja template, in a sandbox: model files come from anywhere.

    What people write in messages stays text: a control token in it, such as `<|im_end|>`, is guarded. A
    template that is missing or broken hurts chats only.
    """

    def __init__(self, template: Any, controls: Controls) -> None:
        self.uses_tools = False
        """Whether the template shows tools itself."""
        self._controls = controls
        # Now, because compiling takes a moment that the first chat should not wait for.
        try:
            self._template = self._compiled(template)
        except EngineError as error:
            self._template = error

    def _compiled(self, source: Any) -> Any:
        if not isinstance(source, str):
            msg = "The model has no chat template; use text generation instead"
            raise EngineInputError(msg)
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
            EngineError: The template is broken.
        """
        if isinstance(self._template, EngineError):
            raise type(self._template)(*self._template.args)
        try:
            prompt: str = self._template.render(
                messages=self._guarded(messages),
                tools=self._guarded(tools or ()) or None,
                add_generation_prompt=True,
                **self._controls.texts,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            msg = f"The model's chat template cannot render these messages: {error}"
            raise EngineInputError(msg) from error
        return prompt.removeprefix("".join(map(self._controls.text_of, self._controls.begins)))

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._controls.guarded(value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(each) for key, each in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(each) for each in value]
        return value


def _refuse(reason: str) -> NoReturn:
    raise TemplateError(reason)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is loaded, and what it says of itself."""

    path: Path
    size: int
    """Bytes of its weights."""
    controls: Controls
    template: Any
    name: str
    context: Any
    """Tokens that the model was trained for; None where nothing says."""
    dtype: str


def source_of(model: GGUF, controls: Controls, path: Path | None = None) -> Source:
    """A GGUF file, its weights taken from another one where a path is given."""
    path = path or model.path
    return Source(
        path=path,
        size=path.stat().st_size,
        controls=controls,
        template=model.fields.get("tokenizer.chat_template"),
        name=model.field("general.name", str, "") or model.path.stem,
        context=model.fields.get(f"{model.architecture}.context_length"),
        dtype="+".join(sorted(model.tensor_types - {"F32"}) or ["F32"]).lower(),
    )


class Options(TypedDict, total=False):
    """How a model is run; see `load.load`."""

    slots: int
    context: int | None
    threads: int | None
    model_id: str | None
    progress: Callable[[str], object] | None


K = TypeVar("K", bound=Keeper)


class TextEngine(Generic[K]):
    """What both engines do alike.

    Args:
        source: The model.
        keeper: What runs it: made of the options that the process is told first, and of the model's name.
        label: What that is called.
        slots: These and the others as of `load.load`.
    """

    def __init__(
        self,
        source: Source,
        keeper: Callable[[Mapping[str, Any], str], K],
        label: str,
        *,
        slots: int = 8,
        context: int | None = None,
        threads: int | None = None,
        model_id: str | None = None,
        progress: Callable[[str], object] | None = None,
    ) -> None:
        trained = source.context or DEFAULT_CONTEXT
        if not isinstance(trained, int) or trained < 1:
            msg = (
                f"{source.path} says a context of {str(trained)[:100]!r}, not of a number of tokens"
            )
            raise EngineError(msg)
        self._chats = Chats(source.template, source.controls)
        self._info = EngineInfo(
            model_id or source.name,
            max_total_tokens=min(context or DEFAULT_CONTEXT, trained),
            slots=slots,
            dtype=source.dtype,
            template_uses_tools=self._chats.uses_tools,
        )
        if progress is not None:
            size = f"{source.size / 1e6:.0f} MB"
            progress(f"loading {self._info.model_id} ({size}) with {label}")
        options = {
            "path": str(source.path),
            "slots": slots,
            "context": self._info.max_total_tokens,
            "threads": threads or default_threads(source.size),
        }
        self._keeper = keeper(options, self._info.model_id)
        # Also runs when the process ends.
        self._close = weakref.finalize(self, self._keeper.close)

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
        try:
            await asyncio.to_thread(self.close)
        except RuntimeError:  # the interpreter is ending, and gives no more threads
            self.close()

    def close(self) -> None:
        """As `aclose`, for code without an event loop; waits for the step in progress."""
        self._close()

    def _kept(self, ids: Sequence[int], request: GenerateRequest) -> Sequence[int]:
        """The prompt's tokens, cut to as many as the request wants.

        Raises:
            EngineInputError: There are none, or too many for the context.
        """
        ids = ids if request.truncate is None else ids[-request.truncate :]
        limit = self._info.max_total_tokens
        if not ids:
            msg = "The prompt is empty, and the model has no token that begins a text"
            raise EngineInputError(msg)
        if len(ids) + request.max_new_tokens > limit:
            msg = (
                f"{len(ids)} prompt tokens and {request.max_new_tokens} new ones exceed the context of"
                f" {limit} tokens"
            )
            raise EngineInputError(msg)
        return ids


def default_threads(size: int) -> int:
    """How many threads compute a model best: one for a small file, else one for each core.

    Below 32 MB a step is so short that threads wait for each other more than they compute.
    """
    if size < _SMALL_FILE:
        return 1
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
