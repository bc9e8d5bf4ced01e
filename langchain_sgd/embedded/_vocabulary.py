"""A model's tokens: text to ids and back."""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._llama import Library
from langchain_sgd.embedded.engine import EngineError, Token

_PIECE_SIZE: Final = 256

# UTF-8: bytes of a character, and the first byte value of each kind of byte.
_CHARACTER_SIZE: Final = 4
_CONTINUATION: Final = 0x80
_LEAD: Final = 0xC0
_LEAD_3: Final = 0xE0
_LEAD_4: Final = 0xF0


class Vocabulary:
    """The vocabulary inside a loaded model. Thread-safe, also against `close`."""

    def __init__(self, lib: Library, model: int) -> None:
        self._lib = lib
        self._pointer: int = lib.llama_model_get_vocab(model)
        self._size: int = lib.llama_vocab_n_tokens(self._pointer)
        self._lock = threading.Lock()
        self._closed = False
        self._pieces: dict[int, bytes] = {}
        self._tokens: dict[int, Token | None] = {}
        self.adds_bos: Final[bool] = lib.llama_vocab_get_add_bos(self._pointer)
        self.bos: Final[int] = lib.llama_vocab_bos(self._pointer)

    def __len__(self) -> int:
        return self._size

    @cached_property
    def end_tokens(self) -> list[int]:
        """Tokens that end a text; the one that ends a turn of a chat comes first, if there is one."""
        first = [
            token
            for token in (
                self._lib.llama_vocab_eot(self._pointer),
                self._lib.llama_vocab_eos(self._pointer),
            )
            if token >= 0
        ]
        others = [
            token
            for token in range(self._size)
            if self._lib.llama_vocab_is_eog(self._pointer, token)
        ]
        return list(dict.fromkeys(first + others))

    @cached_property
    def ends(self) -> frozenset[int]:
        """The end tokens as a set."""
        return frozenset(self.end_tokens)

    @property
    def bos_text(self) -> str:
        """Text of the token that begins a text; empty where there is none."""
        return self.special_text(self.bos) if self.bos >= 0 else ""

    @property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token; empty where there is none."""
        eos: int = self._lib.llama_vocab_eos(self._pointer)
        return self.special_text(eos) if eos >= 0 else ""

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def whole_token(self, token: int) -> Token | None:
        """The token as it stands alone, None for one that holds a piece of a character.

        Most tokens of most texts are whole; making each only once spares a microsecond a token.
        """
        try:
            return self._tokens[token]
        except KeyError:
            if token in self.ends:
                whole = Token(token, self.special_text(token), special=True)
            else:
                try:
                    whole = Token(token, self.piece(token).decode())
                except UnicodeDecodeError:
                    whole = None
            self._tokens[token] = whole
            return whole

    def special_text(self, token: int) -> str:
        """A token's text, control tokens included."""
        return self._render(token, special=True).decode(errors="replace")

    def _render(self, token: int, *, special: bool) -> bytes:
        size = _PIECE_SIZE
        while True:
            buffer = c.create_string_buffer(size)
            with self._open():
                written: int = self._lib.llama_token_to_piece(
                    self._pointer, token, buffer, size, 0, special
                )
            if written >= 0:
                return buffer.raw[:written]
            size = -written

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                msg = "The engine was closed"
                raise EngineError(msg)
            yield

    def tokenize(self, text: bytes, *, special: bool = True) -> npt.NDArray[np.int32]:
        """Split UTF-8 text into ids.

        Args:
            text: The text.
            special: Whether to add the beginning-of-sequence token as the model wants it, and to
                read the text of control tokens as those tokens.
        """
        room = len(text) + 8
        while True:
            ids = np.empty(room, np.int32)
            with self._open():
                count: int = self._lib.llama_tokenize(
                    self._pointer, text, len(text), ids.ctypes.data, room, special, special
                )
            if count >= 0:
                return ids[:count].copy()
            room = -count

    def close(self) -> None:
        """Refuse further use: the model is about to be freed."""
        with self._lock:
            self._closed = True


class TextDecoder:
    """Turns one request's ids into tokens with text; characters may span several tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._partial = b""

    def push(self, token: int, logprob: float | None = None, *, last: bool = False) -> Token:
        """The token with the text that it completes.

        Args:
            token: Its id.
            logprob: Its log-probability, where that was asked for.
            last: Whether no token follows, so that an unfinished character must be given up.
        """
        if not self._partial and logprob is None:
            whole = self._vocabulary.whole_token(token)
            if whole is not None:
                return whole
        if token in self._vocabulary.ends:
            text = self._vocabulary.special_text(token)
            return Token(token, text, logprob=logprob, special=True)
        raw = self._partial + self._vocabulary.piece(token)
        complete = len(raw) if last else _complete_length(raw)
        self._partial = raw[complete:]
        return Token(token, raw[:complete].decode(errors="replace"), logprob=logprob)


def _complete_length(raw: bytes) -> int:
    """How many bytes of a text can be decoded before more of it is known."""
    for back in range(1, min(_CHARACTER_SIZE, len(raw) + 1)):
        byte = raw[-back]
        if byte < _CONTINUATION:
            break
        if byte >= _LEAD:
            needed = 2 if byte < _LEAD_3 else 3 if byte < _LEAD_4 else 4
            return len(raw) - back if needed > back else len(raw)
    return len(raw)
