"""What `checking` asks of a model: one short answer, several at once, a constrained one; timed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_sgd.decoding.loops import for_this_loop
from langchain_sgd.decoding.reply import token_detail
from langchain_sgd.planning.forms import Form, Grammar, bound
from langchain_sgd.streams import all_of

PART_TOKENS: Final = 48
_NUMBER: Final = Grammar(
    regex="[0-9]{3}",
    gbnf="root ::= [0-9] [0-9] [0-9]",
    schema={
        "type": "object",
        "properties": {"number": {"type": "integer"}},
        "required": ["number"],
        "additionalProperties": False,
    },
    name="number",
)
PREFIX: Final = (
    "You write one part of a guide for people who plan a journey. Others write the other parts, so keep to"
    " your own. Write plain sentences, name what matters most first, and give numbers where you know them."
    " Think of families with children, of people who travel alone, and of those who cannot walk far. "
) * 4


@dataclass(slots=True)
class Said:
    """One answer."""

    text: str = ""
    tokens: int = 0
    counted: bool = False
    """Whether the server told the number of tokens."""
    prompt_tokens: int = 0
    cached: int = 0
    model: str = ""
    pieces: int = 0
    """Chunks that held something: text, or thoughts beside it."""
    later: float = 0.0
    """Share of the answer that came behind its first piece."""
    began: float = 0.0
    begun: float = 0.0
    """When the first piece came."""
    first: float = 0.0
    """When the first text came."""
    last: float = 0.0
    """When the last piece came."""

    @property
    def later_tokens(self) -> float:
        """Tokens that came behind the first piece."""
        return self.tokens * self.later


Prompt = str | Sequence[BaseMessage]


async def say(
    model: Runnable[Any, Any], prompt: Prompt, tokens: int, form: Form | None = None
) -> Said:
    """One answer of so many tokens, in a form if one is given."""
    asked = bound(model, max_tokens=tokens)
    if form is not None:
        asked = bound(model, form, _NUMBER, max_tokens=tokens)
    said = Said(began=time.perf_counter())
    whole: Any = None
    sizes: list[int] = []
    async for chunk in for_this_loop(asked).astream(prompt):
        if size := _size(chunk):
            sizes.append(size)
            said.last = time.perf_counter()
            said.begun = said.begun or said.last
            if chunk if isinstance(chunk, str) else chunk.text:
                said.first = said.first or said.last
        whole = chunk if whole is None else whole + chunk
    ended = time.perf_counter()
    said.begun, said.first, said.last = (at or ended for at in (said.begun, said.first, said.last))
    said.pieces = len(sizes)
    said.later = sum(sizes[1:]) / sum(sizes) if sizes else 0.0
    said.text = whole if isinstance(whole, str) else str(getattr(whole, "text", ""))
    usage = getattr(whole, "usage_metadata", None)
    said.counted = bool(usage)
    said.tokens = usage["output_tokens"] if usage else said.pieces
    if usage:
        said.prompt_tokens = usage["input_tokens"]
        said.cached = token_detail(usage.get("input_token_details"), "cache_read")
    metadata = getattr(whole, "response_metadata", None) or {}
    said.model = str(metadata.get("model_name") or metadata.get("model") or "it answers")
    return said


def _size(chunk: Any) -> int:
    """How much a chunk holds, in characters; thoughts count, wherever a server puts them."""
    if isinstance(chunk, str):
        return len(chunk)
    held = (chunk.content, *chunk.additional_kwargs.values())
    return sum(len(str(each)) for each in held if each)


async def together(model: Runnable[Any, Any], prompts: Sequence[Prompt], tokens: int) -> list[Said]:
    """Several answers at once."""

    def one(index: int) -> Coroutine[Any, Any, Said]:
        return say(model, prompts[index], tokens)

    done = await all_of(one, len(prompts), return_exceptions=False)
    return [each for each in done if isinstance(each, Said)]


def follows(form: Form, text: str) -> bool:
    """Whether an answer has the form that was asked for: three digits."""
    if form.writes == "lines":
        return re.fullmatch(_NUMBER.regex, text.strip()) is not None
    with suppress(ValueError):
        value = json.loads(text)
        return isinstance(value, dict) and isinstance(value.get("number"), int)
    return False


def part_prompt(number: int) -> str:
    """A prompt that shares its beginning with the others."""
    subjects = ("trains", "planes", "cars", "ships", "bicycles")
    return f"{PREFIX}Write your part, about {subjects[number]}, in 60 words."
