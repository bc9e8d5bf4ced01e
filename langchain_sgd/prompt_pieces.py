"""What prompts are made of: an example of a part, a template's fields, a fence around a foreign text."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Iterable
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

_FENCE: Final = "="


class PartExample(BaseModel):
    """A part of an answer, for writers to see how one is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    headings: tuple[str, ...]
    """Of all parts of the answer."""
    part: int
    """Which of them the text is, from 1."""
    length: str
    """How long it was to be, in words for the writer."""
    text: str

    @model_validator(mode="after")
    def _is_one_of_the_parts(self) -> Self:
        if not 1 <= self.part <= len(self.headings):
            msg = (
                f"part {self.part} is none of the {len(self.headings)} headings; they count from 1"
            )
            raise ValueError(msg)
        return self


@functools.lru_cache(maxsize=256)
def fields_of(template: str) -> frozenset[str]:
    """The fields that a template names."""
    return frozenset(f for _, f, _, _ in string.Formatter().parse(template) if f is not None)


def fence_for(answers: Iterable[str]) -> str:
    """A line that none of the answers holds, so that none can end itself or begin another."""
    longest = max(
        (len(run) for answer in answers for run in re.findall(f"{_FENCE}+", answer)), default=0
    )
    return _FENCE * max(5, longest + 1)
