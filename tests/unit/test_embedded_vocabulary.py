"""Characters that span several tokens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from langchain_sgd.embedded._vocabulary import TextDecoder
from langchain_sgd.embedded.engine import Token


class Bytes:
    """A vocabulary of given pieces; the only end token is the one after the last."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.ends = frozenset({len(pieces)})

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def special_text(self, token: int) -> str:
        return "<end>" if token == len(self.pieces) else ""

    def whole_token(self, token: int) -> Token | None:
        if token in self.ends:
            return Token(token, "<end>", special=True)
        try:
            return Token(token, self.pieces[token].decode())
        except UnicodeDecodeError:
            return None


def decode(pieces: list[bytes]) -> list[str]:
    decoder = TextDecoder(Bytes(pieces))  # type: ignore[arg-type]
    return [
        decoder.push(number, last=number == len(pieces) - 1).text for number in range(len(pieces))
    ]


@given(st.text(max_size=12), st.data())
def test_any_cut_of_a_text_into_tokens_gives_the_text(text: str, data: st.DataObject) -> None:
    raw = text.encode(errors="replace")
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw))))))
    bounds = [0, *(cut for cut in cuts if cut < len(raw)), len(raw)]
    texts = decode([raw[a:b] for a, b in pairwise(bounds)])
    assert "".join(texts) == raw.decode()


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=6))
@example([b"\xf0\x9f", b"a"])
@example([b"\xe2\x82"])
def test_bytes_that_are_no_text_become_replacements_and_nothing_is_held_back(
    pieces: list[bytes],
) -> None:
    texts = decode(pieces)
    assert "".join(texts) == b"".join(pieces).decode(errors="replace")


def test_the_end_token_is_special() -> None:
    decoder = TextDecoder(Bytes([b"a"]))  # type: ignore[arg-type]
    assert decoder.push(1) == Token(1, "<end>", special=True)
    assert decoder.push(1, -0.5) == Token(1, "<end>", logprob=-0.5, special=True)
