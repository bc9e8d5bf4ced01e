"""Stop texts: where the caller wants an answer to end."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Lets text pass up to the stop text that is complete first, wherever the pieces are cut.

    Each character costs the same, however long the stop texts are (Knuth, Morris and Pratt, 1977).
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found: str | None = None
        """The stop text that has come."""
        self._stops = [_Stop(stop) for stop in dict.fromkeys(stops) if stop]
        self._held = ""

    def feed(self, piece: str, *, last: bool) -> str:
        """The text that may be shown; what may be the beginning of a stop text is held back."""
        if not self._stops:
            return piece
        text, begin = self._held + piece, len(self._held)
        for index, char in enumerate(piece, begin + 1):
            done = [stop.text for stop in self._stops if stop.take(char)]
            if done:
                self.found, self._held = max(done, key=len), ""
                return text[: index - len(self.found)]
        kept = 0 if last else max(stop.matched for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


class _Stop:
    """One stop text, and how much of it the text so far ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._shorter = [0]
        """For each length, the next shorter beginning that ends there too."""
        for char in text[1:]:
            self._shorter.append(self._longer(self._shorter[-1], char))

    def take(self, char: str) -> bool:
        """Whether the stop text is complete with this character."""
        self.matched = self._longer(self.matched, char)
        return self.matched == len(self.text)

    def _longer(self, length: int, char: str) -> int:
        while length and self.text[length] != char:
            length = self._shorter[length - 1]
        return length + (self.text[length] == char)
