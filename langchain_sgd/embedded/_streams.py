"""Tokens on their way from an engine's thread to coroutines.

A step of the engine makes one token for each of its requests. They travel together: one wake-up of an
event loop per step, and none at all while the loop has not yet come to the last one.
"""

from __future__ import annotations

import asyncio
import weakref
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
    """The tokens of one request: filled by the engine's thread, read by one coroutine."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.abandoned = False
        """Set by the reader when it goes away; the engine then stops the request."""
        self._tokens: deque[Token] = deque()
        self._ended = False
        self._error: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def tokens(self) -> AsyncGenerator[Token, None]:
        """Yield tokens as they arrive; leaving it stops the request.

        Raises:
            EngineError: The engine ended the stream with it, after its last token.
        """
        arrived = self._tokens
        try:
            while True:
                while arrived:
                    yield arrived.popleft()
                if self._ended:
                    break
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
                self._waiter = None
        finally:
            self.abandoned = True
        if self._error is not None:
            raise self._error

    def arrive(self, tokens: Sequence[Token], *, ended: bool, error: EngineError | None) -> None:
        """Take delivery; called in the reader's loop."""
        self._tokens.extend(tokens)
        if ended:
            self._ended = True
            self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Outbox:
    """The way from an engine's thread into one event loop."""

    def __init__(self, loop: weakref.ref[asyncio.AbstractEventLoop]) -> None:
        """Deliver to a loop, which is not kept alive by this."""
        self._loop = loop
        self._mail: deque[tuple[TokenStream, Sequence[Token], bool, EngineError | None]] = deque()
        self._scheduled = False

    def post(
        self,
        stream: TokenStream,
        tokens: Sequence[Token] = (),
        *,
        ended: bool = False,
        error: EngineError | None = None,
    ) -> None:
        """Send tokens, or a stream's end; they leave with the next `flush`."""
        self._mail.append((stream, tokens, ended, error))

    def flush(self) -> None:
        """Wake the loop for what was posted; streams of a closed loop are abandoned."""
        if self._scheduled:
            return
        self._scheduled = True
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._deliver)
                return
        except RuntimeError:  # the loop is closed
            pass
        # Nobody reads any more.
        self._scheduled = False
        while self._mail:
            self._mail.popleft()[0].abandoned = True

    def _deliver(self) -> None:
        # Cleared first: mail that comes while this runs then asks for another delivery.
        self._scheduled = False
        while self._mail:
            stream, tokens, ended, error = self._mail.popleft()
            stream.arrive(tokens, ended=ended, error=error)


class Outboxes:
    """The outboxes of one engine, one per event loop that reads from it."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = (
            weakref.WeakKeyDictionary()
        )

    def mine(self) -> Outbox:
        """The outbox of the running loop."""
        loop = asyncio.get_running_loop()
        outbox = self._known.get(loop)
        if outbox is None:
            outbox = self._known[loop] = Outbox(weakref.ref(loop))
        return outbox
