"""Ids back to text, for each kind of vocabulary; and what a model's files say of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from tokenizers import Tokenizer as Splitter
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from langchain_sgd.embedded import openvino
from langchain_sgd.embedded._gguf import GGUF
from langchain_sgd.embedded._text import Chats, source_of
from langchain_sgd.embedded._tokenizer import (
    Controls,
    TextDecoder,
    Tokenizer,
    controls_of,
    from_folder,
    from_gguf,
    knows,
)
from langchain_sgd.embedded.engine import GUARD, EngineError

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
END, OTHER = len(LETTERS), len(LETTERS) + 1
CONTROLS = Controls({"<end>": END, "<other>": OTHER}, ends=[END])


def folder_of(path: Path, splitter: Splitter, *ends: int) -> Tokenizer:
    splitter.save(str(path / "tokenizer.json"))
    return from_folder(path, ends)


@pytest.fixture
def bytewise(tmp_path: Path) -> Tokenizer:
    """Every byte is a token."""
    splitter = Splitter(BPE({letter: n for n, letter in enumerate(LETTERS)}, []))
    splitter.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter.decoder = decoders.Sequence([decoders.ByteLevel()])
    splitter.add_special_tokens(["<end>", "<other>"])
    return folder_of(tmp_path, splitter, END)


def sentencepiece(decoder: decoders.Decoder | None) -> Splitter:
    """Words carry their spaces; bytes that are in no word are tokens of their own."""
    texts = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"hiyo\u2581", "\u2581yo"]
    splitter = Splitter(
        BPE({text: n for n, text in enumerate(texts)}, [], unk_token="<unk>", byte_fallback=True)
    )
    if decoder is not None:
        splitter.decoder = decoder
    splitter.add_special_tokens(["<unk>"])
    return splitter


SPACES = decoders.Sequence(
    [
        decoders.Replace("\u2581", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    decoder = TextDecoder(tokenizer)
    last = len(ids) - 1
    return [decoder.push(each, last=n == last).text for n, each in enumerate(ids)]


@pytest.mark.parametrize("text", ["a b", " word", "né 日本", "🙂x", "\ufffd!", "\n\n", "a \ufffd"])
def test_a_character_comes_with_the_token_that_completes_it(bytewise: Tokenizer, text: str) -> None:
    pieces = [part for each in text for part in [""] * (len(each.encode()) - 1) + [each]]
    assert decoded(bytewise, bytewise.encode(text)) == pieces
    assert decoded(bytewise, [*bytewise.encode(text), END]) == [*pieces, "<end>"]


def test_the_last_token_gives_up_an_unfinished_character(bytewise: Tokenizer) -> None:
    assert decoded(bytewise, bytewise.encode("a🙂")[:-1]) == ["a", "", "", "\ufffd"]


def test_bytes_that_are_no_text_are_shown_at_the_next_token(bytewise: Tokenizer) -> None:
    lead = bytewise.encode("é")[0]
    assert decoded(bytewise, [lead, *bytewise.encode("ab")]) == ["", "\ufffda", "b"]


def test_control_tokens_have_no_text_but_the_end_is_named(bytewise: Tokenizer) -> None:
    (letter,) = bytewise.encode("a")
    decoder = TextDecoder(bytewise)
    tokens = [decoder.push(each, last=each == OTHER) for each in (letter, END, OTHER)]
    assert [(each.text, each.special) for each in tokens] == [
        ("a", False),
        ("<end>", True),
        ("", False),
    ]


@pytest.mark.parametrize("decoder", [SPACES, decoders.Metaspace(), None])
def test_words_carry_their_spaces_whatever_the_file_says_of_decoding(
    tmp_path: Path, decoder: decoders.Decoder | None
) -> None:
    splitter = sentencepiece(decoder)
    vocabulary = splitter.get_vocab()
    ids = [vocabulary[each] for each in ("\u2581yo", "h", "i", "\u2581", "\u2581yo")]
    assert decoded(folder_of(tmp_path, splitter), ids) == [" yo", "h", "i", " ", " yo"]


def test_byte_tokens_make_characters_and_bad_ones_break_nothing(tmp_path: Path) -> None:
    splitter = sentencepiece(SPACES)
    ids = [1 + byte for byte in b"\n\xc3\xa9\n\xf0"] + [splitter.get_vocab()["h"]]
    assert decoded(folder_of(tmp_path, splitter), ids) == ["\n", "", "é", "\n", "", "\ufffdh"]


def test_what_somebody_wrote_is_no_control_token(bytewise: Tokenizer) -> None:
    guarded = CONTROLS.guarded("a<end>")
    assert GUARD in guarded
    assert END not in bytewise.encode(guarded)
    assert bytewise.encode(guarded) == bytewise.encode("a<") + bytewise.encode("end>")
    assert bytewise.encode("a<end>")[-1] == END


# -- of GGUF files


def gguf(path: Path, more: Mapping[str, int] = MappingProxyType({}), /, **changes: Any) -> GGUF:
    """A file with a token for each byte and further ones of these kinds."""
    file = path / "model.gguf"
    file.touch()
    fields: dict[str, Any] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*LETTERS, *more],
        "tokenizer.ggml.token_type": (*(1 for _ in LETTERS), *more.values()),
        "tokenizer.ggml.merges": [],
        "tokenizer.chat_template": "{{ bos_token }}|{{ messages[0].content }}|{{ eos_token }}",
    }
    fields |= {f"tokenizer.ggml.{name}": value for name, value in changes.items()}
    return GGUF(file, fields, frozenset({"F16"}))


def test_tokens_that_a_user_defined_are_their_own_text(tmp_path: Path) -> None:
    tokenizer = from_gguf(gguf(tmp_path, {"«note»": 4, "éa": 4}))
    assert decoded(tokenizer, tokenizer.encode("a «note»éa")) == ["a", " ", "«note»", "éa"]


@pytest.mark.parametrize("kind", [1, 3])
def test_what_begins_and_ends_a_text_is_named_whatever_its_kind(tmp_path: Path, kind: int) -> None:
    ids = {"eos_token_id": END, "bos_token_id": OTHER, "add_bos_token": False}
    model = gguf(tmp_path, {"<end>": kind, "<begin>": kind}, **ids)
    controls = controls_of(model)
    assert controls.text_of(controls.eos) == "<end>"
    chats = Chats(source_of(model, controls).template, controls)
    assert chats.render([{"role": "user", "content": "hi"}], None) == "<begin>|hi|<end>"
    assert TextDecoder(from_gguf(model)).push(END).text == "<end>"
    # Only those of the kind are kept out of what people write.
    assert (GUARD in controls.guarded("<end>")) == (kind == 3)


def test_tokens_beyond_the_vocabulary_are_none(tmp_path: Path) -> None:
    controls = controls_of(gguf(tmp_path, eos_token_id=END, bos_token_id=2**32 - 1))
    assert (controls.ends, controls.eos, controls.texts["bos_token"]) == ((), None, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": 5},
        {"token_type": ["a"]},
        {"tokens": (1, 2)},
        {"tokens": "ab"},
        {"merges": 5},
        {"eos_token_id": "x"},
        {"pre": ["gpt-2"]},
    ],
)
def test_a_vocabulary_of_another_kind_is_said_to_be_so(
    tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    model = gguf(tmp_path, **changes)
    with pytest.raises(EngineError, match=r"model\.gguf"):
        _ = knows(model) and from_gguf(model)


@pytest.mark.parametrize("make", [controls_of, openvino.unfit], ids=["llamacpp", "auto"])
def test_so_it_is_where_llamacpp_may_run_it(
    tmp_path: Path, make: Callable[[GGUF], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "unfit_machine", lambda: None)
    model = gguf(tmp_path, token_type=5, pre=5)
    with pytest.raises(EngineError, match=r"is damaged: its field tokenizer\.ggml"):
        make(model)
