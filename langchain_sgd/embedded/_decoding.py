"""What becomes of one request: its tokens, and when and why it is finished, by TGI's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_sgd.embedded.engine import Token

FinishReason = Literal["length", "eos_token", "stop_sequence"]


class Decoding:
    """Follows the tokens of one request and says when, and why, it is finished.

    A stop text ends the request when the output *ends* with it after a token (one newline may
    follow); it stays in the output. A stop text that ends inside a token is not seen. Both are
    TGI's rules.
    """

    __slots__ = ("_longest", "_max_new_tokens", "_stop", "_tail", "tokens")

    def __init__(self, max_new_tokens: int, stop: Sequence[str]) -> None:
        self.tokens: list[Token] = []
        self._max_new_tokens = max_new_tokens
        self._stop = tuple(text for each in stop for text in (each, f"{each}\n"))
        self._longest = max(map(len, self._stop), default=0)
        self._tail = ""

    def push(self, token: Token) -> FinishReason | None:
        """Take the next token; the reason to end after it, if there is one."""
        self.tokens.append(token)
        if len(self.tokens) >= self._max_new_tokens:
            return "length"
        if token.special:
            return "eos_token"
        if self._stop:
            self._tail = (self._tail + token.text)[-self._longest :]
            if self._tail.endswith(self._stop):
                return "stop_sequence"
        return None

    @property
    def text(self) -> str:
        """The output so far, without special tokens."""
        return "".join([token.text for token in self.tokens if not token.special])


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One finished request."""

    text: str
    tokens: Sequence[Token]
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int = 0
    seed: int | None = None

    @property
    def mean_logprob(self) -> float:
        """What `best_of` compares."""
        return sum(token.logprob or 0.0 for token in self.tokens) / len(self.tokens)
