"""Server-sent events out of bytes that were cut anywhere.

A pure parser for what TGI sends: `data: {json}` (axum 0.7) or `data:{json}` (axum 0.6) and a blank line;
comments (`:`, TGI's keepalive every 15 s) and other fields carry nothing and are dropped.
"""

from __future__ import annotations

from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
_LONGEST: Final = 8 * 2**20
"""Bytes of one event. A token with its logprobs takes some hundreds; the whole text comes in the last."""


_FIELDS: Final = (b"data", b"event", b"id", b"retry", b"")
"""A line without a name is a comment."""


def begins_stream(begun: bytes) -> bool | None:
    """Whether bytes are the beginning of events; None while there are too few to tell."""
    if _BOM.startswith(begun):
        return None
    name, colon, _ = begun.removeprefix(_BOM).lstrip(b"\r\n").partition(b":")
    if colon:
        return name in _FIELDS
    return None if any(field.startswith(name) for field in _FIELDS) else False


class EventTooLongError(ValueError):
    """An event does not end where any sane one has ended."""


class EventParser:
    """Turns chunks of bytes into the data of complete events.

    Where the chunks are cut never matters, not even inside a UTF-8 character: bytes are only decoded by
    whoever reads an event. An event that never saw its blank line is none. Every byte is looked at a
    fixed number of times, and no more than one event's bytes are kept.
    """

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._line: list[bytes] = []
        """Pieces of the line that has not ended yet."""
        self._data: list[bytes] = []
        """Data lines of the event that has not ended yet."""
        self._data_size = self._kept = 0
        """Bytes of the latter, and of both."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the events that they complete, in order.

        Raises:
            EventTooLongError: The event in progress is longer than the limit.
        """
        self._kept += len(chunk)
        events: list[bytes] = []
        if b"\n" in chunk or (self._line and self._line[-1].endswith(b"\r")) or b"\r" in chunk:
            events = self._lines(chunk)
        elif chunk:
            self._line.append(chunk)
        if self._kept > self._longest:
            msg = f"an event of more than {self._longest:,} bytes"
            raise EventTooLongError(msg)
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._line:
            chunk = b"".join((*self._line, chunk))
        held = b""
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):  # the other half of the line's end may be on its way
                chunk, held = chunk[:-1], b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        rest += held
        self._line = [rest] if rest else []
        events: list[bytes] = []
        kept = self._data_size
        for raw in lines:
            line = raw.removeprefix(_BOM) if raw.startswith(_BOM) else raw
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
                kept += len(line)
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                kept = 0
        self._data_size = kept
        self._kept = kept + len(rest)
        return events
