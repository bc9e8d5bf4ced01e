"""Tokens on their way from an engine's thread to coroutines.

A step of the engine makes one token for each of its requests. They travel together: one wake-up of an
event loop for each step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from langchain_sgd.embedded.engine import EngineError, Token


class Line:
    """The line that a text has come to, and which of its tokens someone waits for.

    Lines may be commands, such as the nodes of a skeleton: their last token is, and the first one, since it
    says that another line follows. So may their fields be, which end with a bar; the cells of a table are
    sent one by one for it.
    """

    def __init__(self) -> None:
        self._begun = False

    def take(self, token: Token) -> bool:
        """Go on by a token; whether it must not wait."""
        was_begun, self._begun = self._begun, "\n" not in token.text
        return not (was_begun and self._begun) or "|" in token.text


class TokenStream:
    """The tokens of one request: filled by the engine's thread, read by one coroutine of the running loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.abandoned = False
        """Set when the reader goes away; the engine then stops the request."""
        self._tokens: deque[Token] = deque()
        self._ended = False
        self._error: EngineError | None = None
        self._arrived = asyncio.Event()

    async def tokens(self) -> AsyncGenerator[Token, None]:
        """Yield tokens as they arrive; leaving it stops the request.

        Raises:
            EngineError: The engine ended the stream with it, after its last token.
        """
        try:
            while self._tokens or not self._ended:
                while self._tokens:
                    yield self._tokens.popleft()
                if not self._ended:
                    self._arrived.clear()
                    await self._arrived.wait()
        finally:
            self.abandoned = True
        if self._error is not None:
            raise self._error

    def arrive(
        self, tokens: Sequence[Token], *, ended: bool, error: EngineError | None = None
    ) -> None:
        """Take delivery; called in the reader's loop."""
        self._tokens.extend(tokens)
        if ended:
            self._ended = True
            self._error = error
        self._arrived.set()


class Mail:
    """What one step of an engine made, on its way to the loops that read it."""

    def __init__(self) -> None:
        self._letters: dict[asyncio.AbstractEventLoop, list[_Letter]] = {}

    def add(
        self,
        stream: TokenStream,
        tokens: Sequence[Token] = (),
        *,
        ended: bool = False,
        error: EngineError | None = None,
    ) -> None:
        """Add tokens, or a stream's end."""
        self._letters.setdefault(stream.loop, []).append((stream, tokens, ended, error))

    def send(self) -> None:
        """Wake each loop once for all that was added; streams of a closed loop are abandoned."""
        for loop, letters in self._letters.items():
            try:
                loop.call_soon_threadsafe(_deliver, letters)
            except RuntimeError:  # the loop is closed
                for stream, *_ in letters:
                    stream.abandoned = True
        self._letters = {}


_Letter = tuple[TokenStream, Sequence[Token], bool, EngineError | None]


def _deliver(letters: Sequence[_Letter]) -> None:
    for stream, tokens, ended, error in letters:
        stream.arrive(tokens, ended=ended, error=error)
