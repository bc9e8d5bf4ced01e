"""What a local model must do to be served: the one interface behind the TGI-protocol app.

`langchain_sgd.embedded.app` speaks the protocol (validation, framing, stop texts, finish reasons,
limits, errors) and knows models only through `Engine`, so OpenVINO, llama.cpp's server and the
scripted engine of the tests are judged by the same contract.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import KW_ONLY, astuple, dataclass, field
from typing import Any, Final, Literal, Protocol

GUARD: Final = "\ufdd0"
"""In a prompt: stands inside what looks like a control token and is to stay text. No language has it."""


def shown(prompt: str) -> str:
    """A prompt as people read it."""
    return prompt.replace(GUARD, "")


class EngineError(Exception):
    """The engine could not do what was asked; its text is meant for people."""


class EngineInputError(EngineError):
    """The request itself is impossible (a bad grammar, a template that fails): retrying is useless."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a served model says of itself; TGI's `/info` is made from it."""

    model_id: str
    _: KW_ONLY
    max_total_tokens: int
    """Prompt and generated tokens that one request may hold together."""
    slots: int
    """Requests that are decoded in one batch; more wait in the engine's queue."""
    dtype: str = "unknown"
    template_uses_tools: bool = False
    """Whether the chat template shows tools itself; where it does not, the app adds them as text."""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token."""

    id: int
    text: str
    """May be empty or end inside a UTF-8 sequence's replacement; texts joined give the output."""
    _: KW_ONLY
    logprob: float | None = None
    special: bool = False
    """True for the end-of-sequence token, which engines must report as their last token."""
    start: int | None = None
    stop: int | None = None
    """In `tokenize`: the characters of the text that the token covers. Tokens may share one."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the output: JSON that fits a schema, or a full match of a regular expression."""

    kind: Literal["json", "regex"]
    value: str | Mapping[str, Any]
    """The expression, or the JSON schema."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; `temperature=None` is greedy decoding."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One text to continue."""

    prompt: str
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    grammar: Grammar | None = None
    truncate: int | None = None
    """How many of the prompt's last tokens are kept; all by default."""
    logprobs: bool = False
    """Whether `Token.logprob` is wanted. Engines may leave it None otherwise: it costs about 25 % of
    the speed at eight streams on a small model."""


@dataclass(slots=True)
class Counters:
    """Filled by the engine while it works; complete when the stream has ended."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed because a cached prefix held them."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an engine has done since it was started; differences of two give a period."""

    steps: int = 0
    """Batches computed, each one pass through the model."""
    generated_tokens: int = 0
    computed_prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Prompt tokens that were taken over from another sequence."""
    busy_s: float = 0.0
    """Seconds spent in the model; the rest of a step is the loop's own cost."""

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(*map(operator.sub, astuple(self), astuple(other)))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*map(operator.add, astuple(self), astuple(other)))


class Engine(Protocol):
    """A model that continues text, several requests at once."""

    @property
    def info(self) -> EngineInfo:
        """What the model is and what it can hold."""
        ...

    def generate(self, request: GenerateRequest, counters: Counters) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made.

        The stream ends after the special end-of-sequence token or after `max_new_tokens`. Closing it
        stops the work and frees its slot.

        Raises:
            EngineInputError: The request is impossible; raised before the first token.
            EngineError: The engine failed.
        """
        ...

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """Apply the model's chat template, generation prompt included.

        Raises:
            EngineInputError: The template refuses these messages.
        """
        ...

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens."""
        ...

    async def aclose(self) -> None:
        """Free the model; requests in flight end with an `EngineError`."""
        ...
