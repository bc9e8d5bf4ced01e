"""One request to a server and its answer, read in time and in bounds, its faults made `TGIError`s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import aiohttp
from yarl import URL

from langchain_sgd.tgi import bodies
from langchain_sgd.tgi.due import Due, Reader, in_time
from langchain_sgd.tgi.errors import TGIError
from langchain_sgd.tgi.faults import Faults, is_refusal
from langchain_sgd.tgi.pool import LoopPool
from langchain_sgd.tgi.sse import EventParser, EventTooLongError, begins_stream

_OK: Final = 200
_DONE: Final = b"[DONE]"
_NULL: Final = b"null"
"""An event that says nothing; some gateways send it."""
_ERROR_TIMEOUT_S: Final = 2.0
"""For an error's message; the status alone names the fault as well."""
_DRAIN_TIMEOUT_S: Final = 0.5


class Ending(Protocol):
    """Says whether a stream ended as it should."""

    def see(self, event: Mapping[str, Any], /) -> None:
        """Take an event."""

    def reached(self, *, done: bool) -> bool:
        """Whether the events are a whole stream; `done` says that `[DONE]` came behind them."""


class Exchange:
    """Opens an answer that is a success; leaving early closes its connection.

    Every fault of the connection, also while the answer is read, leaves as a `TGIError` and without the
    cause: aiohttp's errors hold the request's headers, and so the key.

    It is no generator: an event loop that ends while a stream is half read closes all generators at once,
    and this one under the hands of the stream's.

    Args:
        pool: The connections.
        method: Of HTTP.
        url: Where to.
        body: What is sent.
        headers: Beside aiohttp's own.
        faults: Names what goes wrong.
        due: Until when the answer must have begun.
    """

    response: aiohttp.ClientResponse

    def __init__(
        self,
        pool: LoopPool,
        method: str,
        url: URL,
        body: bytes | None,
        headers: Mapping[str, str],
        faults: Faults,
        due: Due | None = None,
    ) -> None:
        self._pool = pool
        self._method, self._url, self._sent, self._headers = method, url, body, headers
        self._faults = faults
        self._due = due

    async def __aenter__(self) -> Self:
        try:
            async with in_time(self._due):
                self.response = await self._pool.session.request(
                    self._method,
                    self._url,
                    data=self._sent,
                    headers=self._headers,
                    allow_redirects=False,
                )
        except aiohttp.ClientError as error:
            raise self._lost(error, answered=False) from None
        self._pool.refusals = 0
        if self.response.status != _OK:
            try:
                said = await self._error_body()
            finally:
                self.response.close()
            raise self._faults.refused(self.response, said)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.response.close()  # one that was read to its end has given its connection back already
        if isinstance(error, aiohttp.ClientError):
            raise self._lost(error, answered=True) from None

    def _lost(self, error: aiohttp.ClientError, *, answered: bool) -> TGIError:
        self._pool.refusals += is_refusal(error)
        return self._faults.lost(error, answered=answered)

    async def events(
        self, ending: Ending, next_due: Callable[[], Due]
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """Open the answer as a stream and read it, events that arrived together as one list.

        Args:
            ending: Is shown every event and says whether the stream ended rightly.
            next_due: Until when another event must have come; a stall is counted from event to event, not
                from byte to byte.
        """
        done = False
        async with self:
            parser = EventParser()
            unpacker = self._unpacker()
            chunk = b""
            if self.response.content_type != "text/event-stream":
                async with in_time(self._due):
                    chunk, whole = await self._under_another_type(unpacker)
                if whole is not None:
                    ending.see(whole)
                    yield [whole]
            with contextlib.closing(Reader(self.response.content, next_due())) as reader:
                while not done and (chunk or (chunk := await self._more(reader, unpacker))):
                    events: list[dict[str, Any]] = []
                    failure: TGIError | None = None
                    parsed, chunk = self._parsed(parser, chunk), b""
                    for data in parsed:
                        if data == _DONE:
                            done = True
                            break
                        if data == _NULL:
                            continue
                        event, failure = self._event(data)
                        if failure is not None:
                            break
                        ending.see(event)
                        events.append(event)
                    if events:
                        yield events
                        reader.due = next_due()
                    if failure is not None:
                        await self._drain()
                        raise failure
            if done:
                await self._drain()
        if not ending.reached(done=done):
            raise self._faults.without_end()

    async def body(
        self,
        longest: int = bodies.LONGEST_ANSWER,
        *,
        cut: bool = False,
        unpacker: bodies.Unpacker | None = None,
    ) -> bytes:
        """The bytes of the answer."""
        try:
            return await bodies.read(self.response, longest, cut=cut, unpacker=unpacker)
        except bodies.BodyError as error:
            raise self._faults.unreadable(error) from None

    def _unpacker(self) -> bodies.Unpacker | None:
        encoding = self.response.headers.get("Content-Encoding")
        if encoding is None:
            return None
        try:
            return bodies.Unpacker(encoding)
        except bodies.BodyError as error:
            raise self._faults.unreadable(error) from None

    async def _more(self, reader: Reader, unpacker: bodies.Unpacker | None) -> bytes:
        """The next bytes of a stream; none are its end."""
        while chunk := await reader.read():
            if unpacker is None or (chunk := self._unpacked(unpacker, chunk)):
                break
        return chunk

    def _unpacked(self, unpacker: bodies.Unpacker, chunk: bytes) -> bytes:
        try:
            return unpacker.feed(chunk, bodies.LONGEST_ANSWER)
        except bodies.BodyError as error:
            raise self._faults.unreadable(error) from None

    def _parsed(self, parser: EventParser, chunk: bytes) -> list[bytes]:
        try:
            return parser.feed(chunk)
        except EventTooLongError as error:
            raise self._faults.unreadable(error) from None

    async def _under_another_type(
        self, unpacker: bodies.Unpacker | None
    ) -> tuple[bytes, dict[str, Any] | None]:
        """Look at an answer that is not called a stream: no text is lost for its label.

        Returns:
            The first bytes, if it is a stream all the same; or none, and the whole answer.

        Raises:
            TGIError: It is neither.
        """
        begun = b""
        # Blank lines alone tell nothing, and some send them without end.
        while (is_stream := begins_stream(begun)) is None and len(begun) < bodies.LONGEST_ERROR:
            if not (chunk := await self.response.content.readany()):
                break
            begun += chunk if unpacker is None else self._unpacked(unpacker, chunk)
        if is_stream:
            return begun, None
        is_json = begun.lstrip().startswith((b"{", b"["))
        longest = bodies.LONGEST_ANSWER if is_json else bodies.LONGEST_ERROR
        body = begun + await self.body(longest, cut=not is_json, unpacker=unpacker)
        return b"", self._faults.whole_answer(body, in_place_of_stream=self.response.content_type)

    async def _error_body(self) -> bytes:
        """Read what an error says soon and shortly; what cannot be read is said to be so."""
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(_ERROR_TIMEOUT_S):
                await bodies.read(self.response, bodies.LONGEST_ERROR, cut=True, parts=parts)
        except bodies.BodyError as error:
            return str(error).encode()
        except (TimeoutError, aiohttp.ClientError):
            pass
        return b"".join(parts)

    def _event(self, data: bytes) -> tuple[dict[str, Any], TGIError | None]:
        """Read an event; the error where it is none or tells of one."""
        try:
            event = self._faults.json_object(data)
        except TGIError as error:
            return {}, error
        return event, self._faults.in_stream(event) if event.get("error") is not None else None

    async def _drain(self) -> None:
        """Read what follows `[DONE]` or an error: the end of the body, which frees the connection."""
        left = bodies.LONGEST_ERROR
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                while left > 0 and (data := await self.response.content.readany()):
                    left -= len(data)
