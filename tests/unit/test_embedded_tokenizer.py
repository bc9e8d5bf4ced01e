"""Ids back to text: what a token completes, and what becomes of characters that no token does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer as Splitter
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from langchain_sgd.embedded._tokenizer import Controls, TextDecoder, Tokenizer
from langchain_sgd.embedded.engine import GUARD

END, OTHER = 1000, 1001
CONTROLS = Controls({"<end>": END, "<other>": OTHER}, ends=[END])


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """Every byte is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = Splitter(BPE({letter: n for n, letter in enumerate(letters)}, []))
    splitter.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter.decoder = decoders.ByteLevel()
    return Tokenizer(splitter, CONTROLS)


def decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    decoder = TextDecoder(tokenizer)
    last = len(ids) - 1
    return [decoder.push(each, last=n == last).text for n, each in enumerate(ids)]


@pytest.mark.parametrize("text", ["a b", " word", "né 日本", "🙂x", "\ufffd!", "\n\n"])
def test_a_character_comes_with_the_token_that_completes_it(bytewise: Tokenizer, text: str) -> None:
    pieces = [part for each in text for part in [""] * (len(each.encode()) - 1) + [each]]
    if "\ufffd" in text:
        pieces = ["", "", "", text]  # it may still be one that is unfinished
    assert decoded(bytewise, bytewise.encode(text)) == pieces


def test_the_last_token_gives_up_an_unfinished_character(bytewise: Tokenizer) -> None:
    assert decoded(bytewise, bytewise.encode("a🙂")[:-1]) == ["a", "", "", "\ufffd"]


def test_bytes_that_are_no_text_are_shown_with_what_follows(bytewise: Tokenizer) -> None:
    lead = bytewise.encode("é")[0]
    assert "".join(decoded(bytewise, [lead, *bytewise.encode("ab")])) == "\ufffdab"


def test_control_tokens_have_no_text_but_the_end_is_named(bytewise: Tokenizer) -> None:
    (letter,) = bytewise.encode("a")
    decoder = TextDecoder(bytewise)
    tokens = [decoder.push(each, last=each == OTHER) for each in (letter, END, OTHER)]
    assert [(each.text, each.special) for each in tokens] == [
        ("a", False),
        ("<end>", True),
        ("", False),
    ]


def test_a_first_word_keeps_its_space() -> None:
    """Where words carry their spaces, a decoder drops that of a text's first one."""
    splitter = Splitter(BPE({"x": 0, "\u2581": 1, "\u2581x": 2}, [("\u2581", "x")]))
    splitter.pre_tokenizer = pre_tokenizers.Metaspace()
    splitter.decoder = decoders.Metaspace()
    assert decoded(Tokenizer(splitter, CONTROLS), [2, 2]) == [" x", " x"]


def test_what_somebody_wrote_is_no_control_token(bytewise: Tokenizer) -> None:
    guarded = CONTROLS.guarded("a<end>")
    assert GUARD in guarded
    assert END not in bytewise.encode(guarded)
    assert bytewise.encode(guarded) == bytewise.encode("a<") + bytewise.encode("end>")
    assert bytewise.encode("a<end>")[-1] == END
