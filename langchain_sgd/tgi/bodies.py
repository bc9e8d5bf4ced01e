"""Bytes of an answer, never more than anybody can want, and in the time allowed by whoever asks.

A proxy may send gigabytes, or a megabyte that unpacks to gigabytes, in the place of an answer.
"""

from __future__ import annotations

import zlib
from typing import Final

import aiohttp

LONGEST_ANSWER: Final = 64 * 2**20
"""Bytes of a whole answer: TGI's longest, with the logprobs of every token, is a small part of it."""
LONGEST_ERROR: Final = 64 * 2**10
"""Bytes of an error that are read; what is behind them is thrown away with the connection."""
_PLAIN: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip", "deflate"})


class BodyError(ValueError):
    """The body cannot be read: too long, or packed in a way that was not asked for."""


class Unpacker:
    """Takes off a compression that a proxy put on, although `identity` was asked for; bounded."""

    def __init__(self, encoding: str) -> None:
        """Raise a `BodyError` where the encoding is none that can be taken off."""
        encoding = encoding.strip().lower()
        if encoding not in _PLAIN and encoding not in _GZIP:
            msg = f"the answer is compressed by {encoding!r}, which was not asked for"
            raise BodyError(msg)
        self._inflate = None if encoding in _PLAIN else zlib.decompressobj(wbits=47)

    def feed(self, data: bytes, longest: int, *, cut: bool = False) -> bytes:
        """Give the plain bytes of these; the first `longest` of them where it may be `cut`.

        Raises:
            BodyError: They are more than `longest`, or no such compression.
        """
        if self._inflate is None:
            return data[:longest] if cut else data
        try:
            plain = self._inflate.decompress(data, longest)
        except zlib.error:
            msg = "the answer's compression is broken"
            raise BodyError(msg) from None
        if self._inflate.unconsumed_tail and not cut:
            msg = f"the answer unpacks to more than {longest:,} bytes"
            raise BodyError(msg)
        return plain


async def read(
    response: aiohttp.ClientResponse,
    longest: int,
    *,
    cut: bool = False,
    unpacker: Unpacker | None = None,
    parts: list[bytes] | None = None,
) -> bytes:
    """Read a body to its end.

    Args:
        response: Whose body.
        longest: Bytes that are taken, packed or plain.
        cut: Whether the beginning will do where there is more, as for an error's message.
        unpacker: What has unpacked the beginning of the body, if that was read already.
        parts: Takes what comes, for whoever may stop waiting for the rest.

    Raises:
        BodyError: It is longer, or its compression is none that can be taken off.
    """
    if unpacker is None:
        unpacker = Unpacker(response.headers.get("Content-Encoding", ""))
    parts = [] if parts is None else parts
    left = longest
    while data := await response.content.readany():
        plain = unpacker.feed(data, left, cut=cut)
        parts.append(plain)
        left -= len(plain)
        if cut and left <= 0:
            break
        if left < 0:
            msg = f"the answer is longer than {longest:,} bytes"
            raise BodyError(msg)
    return b"".join(parts)
