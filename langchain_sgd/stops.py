"""Stop texts: where the caller wants an answer to end."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Lets text pass up to the first of the stop texts, wherever the pieces are cut."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found: str | None = None
        """The stop text that has come."""
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def feed(self, piece: str, *, last: bool) -> str:
        """The text that may be shown; what may be the beginning of a stop text is held back."""
        text, self._held = self._held + piece, ""
        first = min(
            ((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0), default=None
        )
        if first is not None:
            at, self.found = first
            return text[:at]
        if not last:
            kept = max((_overlap(text, stop) for stop in self._stops), default=0)
            self._held = text[len(text) - kept :]
            return text[: len(text) - kept]
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
