"""Server-sent events out of bytes that were cut anywhere.

A pure parser for what TGI sends: `data: {json}` (axum 0.7) or `data:{json}` (axum 0.6) and a blank line;
comments (`:`, TGI's keepalive every 15 s) and other fields carry nothing and are dropped.
"""

from __future__ import annotations


class EventParser:
    """Turns chunks of bytes into the data of complete events.

    Where the chunks are cut never matters, not even inside a UTF-8 character: bytes are only decoded by
    whoever reads an event. An event that never saw its blank line is none.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the events that they complete, in order."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events: list[bytes] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
