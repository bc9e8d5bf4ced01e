"""Any text made one that can be encoded: half characters, which streams cut, joined or replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOM = "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Repair:
    """Makes any text one that can be encoded: joins surrogates, cut apart too, and replaces lone ones.

    A byte order mark at the beginning goes.
    """

    _high: str = ""
    """The first half of a pair, where the text ends with it."""
    _begun: bool = False

    def feed(self, chunk: str) -> str:
        """The chunk, repaired; half a pair at its end waits for the other half."""
        if chunk.isascii() and not self._high:
            self._begun = self._begun or bool(chunk)
            return chunk
        text, self._high = self._high + chunk, ""
        if not self._begun:
            text = text.lstrip(_BOM)
            self._begun = bool(text)
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return repaired(text)

    def close(self) -> str:
        """The replacement of a half that stayed alone."""
        rest, self._high = repaired(self._high), ""
        return rest


def repaired(text: str) -> str:
    """The text with surrogates joined to characters, and lone ones replaced."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
