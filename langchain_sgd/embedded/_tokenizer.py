"""A model's tokens: text to ids and back.

The splitting itself is the `tokenizers` package's, set up from what the model's file says: a GGUF file's
vocabulary and merges, or the `tokenizer.json` of a folder. Which texts count as control tokens is decided
here, because that must differ within one prompt: see `guarded`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, pre_tokenizers
from tokenizers import Tokenizer as Splitter
from tokenizers.models import BPE

from langchain_sgd.embedded._gguf import GGUF
from langchain_sgd.embedded.engine import GUARD, EngineError, Token, shown

_GPT2: Final = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",)
_MODERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Final[Mapping[str, tuple[str, ...]]] = {
    "gpt-2": _GPT2,
    "smollm": (r"\p{N}", *_GPT2),
    "qwen2": (_MODERN % "",),
    "deepseek-r1-qwen": (_MODERN % "",),
    "llama-bpe": (_MODERN % "{1,3}",),
}
"""Expressions by `tokenizer.ggml.pre` that cut a text into words before its bytes are merged."""

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_END_TEXTS: Final = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "</s>",
)
"""Control tokens that end an answer in models whose files do not say so."""


def knows(model: GGUF) -> bool:
    """Whether the file's vocabulary is one of those that are split exactly as llama.cpp does."""
    fields = model.fields
    named = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    return named[0] == "gpt2" and named[1] in _SPLITS


def guarded(text: str, controls: re.Pattern[str] | None) -> str:
    """Somebody's words inside a prompt: what looks like a control token in them stays text."""
    text = shown(text)
    if controls is None:
        return text
    return controls.sub(lambda found: f"{found[0][0]}{GUARD}{found[0][1:]}", text)


def controls_pattern(texts: Sequence[str]) -> re.Pattern[str] | None:
    """Finds control tokens in a text, the longest first."""
    found = sorted({text for text in texts if len(text) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, found))) if found else None


class Tokenizer:
    """Splits text as one model does. Thread-safe.

    Args:
        splitter: Makes ids of ordinary text.
        pieces: The bytes of every ordinary token, by id.
        controls: The texts of the control tokens, by id.
        ends: Control tokens that end an answer; the first one is preferred.
        bos: Token that every text begins with, if any.
    """

    def __init__(
        self,
        splitter: Splitter,
        pieces: Mapping[int, bytes],
        controls: Mapping[int, str],
        ends: Sequence[int],
        bos: int | None = None,
    ) -> None:
        self._splitter = splitter
        self._pieces = pieces
        self._controls = controls
        self._ids = {text: token for token, text in controls.items()}
        self.ends: Final = tuple(dict.fromkeys(ends))
        self.bos: Final = bos
        self.pattern: Final = controls_pattern(list(self._ids))

    def text_of(self, token: int | None) -> str:
        """A control token's text; empty for None."""
        return "" if token is None else self._controls.get(token, "")

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for control tokens."""
        return self._pieces.get(token, b"")

    def encode(self, text: str) -> list[int]:
        """A text's ids, the one that begins a text included."""
        begun = [] if self.bos is None else [self.bos]
        return begun + [token for part in self._parts(text) for token in self._part(part)]

    def tokens(self, text: str) -> list[Token]:
        """A text's tokens, each with the characters that it covers; for showing them."""
        found = [] if self.bos is None else [Token(self.bos, "", special=True, start=0, stop=0)]
        at = 0
        for part in self._parts(text):
            if part in self._ids:
                stop = at + len(part)
                found.append(Token(self._ids[part], part, special=True, start=at, stop=stop))
            else:
                plain = _encodable(shown(part))
                encoding = self._splitter.encode(plain, add_special_tokens=False)
                found += [
                    Token(token, plain[start:stop], start=at + start, stop=at + stop)
                    for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
                ]
            at += len(shown(part))
        return found

    def _parts(self, text: str) -> Iterator[str]:
        """Control tokens and what stands between them."""
        at = 0
        for found in self.pattern.finditer(text) if self.pattern else ():
            yield from (text[at : found.start()], found[0])
            at = found.end()
        yield text[at:]

    def _part(self, part: str) -> Sequence[int]:
        if part in self._ids:
            return (self._ids[part],)
        text = _encodable(shown(part))
        ids: list[int] = self._splitter.encode(text, add_special_tokens=False).ids if text else []
        return ids

    @cached_property
    def end_set(self) -> frozenset[int]:
        """The end tokens as a set."""
        return frozenset(self.ends)


def _encodable(text: str) -> str:
    """Text with a question mark for each half of a surrogate pair, which JSON can carry."""
    return text.encode(errors="replace").decode()


class TextDecoder:
    """Turns one request's ids into tokens with text; characters may span several tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, logprob: float | None = None, *, last: bool = False) -> Token:
        """The token with the text that it completes; the last one gives up an unfinished character."""
        if token in self._tokenizer.end_set:
            text = self._tokenizer.text_of(token)
            return Token(token, text, logprob=logprob, special=True)
        text = self._utf8.decode(self._tokenizer.piece(token), last)
        return Token(token, text, logprob=logprob)


# -- from files


def from_gguf(model: GGUF) -> Tokenizer:
    """The tokenizer that a GGUF file describes; `knows` says for which there is one.

    Raises:
        EngineError: The file's vocabulary is incomplete.
    """
    fields = model.fields
    try:
        tokens: list[str] = fields["tokenizer.ggml.tokens"]
        kinds = fields.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
        pre = fields["tokenizer.ggml.pre"]
        controls = {n: tokens[n] for n, kind in enumerate(kinds) if kind == _CONTROL}
        vocabulary = {text: n for n, text in enumerate(tokens) if n not in controls}
        splitter = Splitter(BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
        words = [pre_tokenizers.Split(Regex(each), "isolated") for each in _SPLITS[pre]]
        splitter.pre_tokenizer = pre_tokenizers.Sequence(
            [*words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        own = [tokens[n] for n, kind in enumerate(kinds) if kind == _USER_DEFINED]
        splitter.add_tokens([AddedToken(text, normalized=False) for text in own])
    except Exception as error:  # the package raises what it likes
        msg = f"The vocabulary of {model.path} cannot be used: {error!r}"
        raise EngineError(msg) from error
    pieces = {n: _bytes(text) for text, n in vocabulary.items()}
    pieces |= {vocabulary[text]: text.encode() for text in own}
    bos = fields.get("tokenizer.ggml.bos_token_id")
    adds_bos = fields.get("tokenizer.ggml.add_bos_token", False)
    ends = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eos")]
    ends += [n for n, text in controls.items() if text in _END_TEXTS]
    return Tokenizer(
        splitter, pieces, controls, [n for n in ends if n is not None], bos if adds_bos else None
    )


def from_folder(folder: Path, ends: Sequence[int]) -> Tokenizer:
    """The tokenizer in `tokenizer.json`.

    Raises:
        EngineError: The file is missing or cannot be used.
    """
    try:
        splitter = Splitter.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the package raises what it likes
        msg = f"{folder}/tokenizer.json cannot be used: {error}"
        raise EngineError(msg) from error
    added = splitter.get_added_tokens_decoder()
    controls = {n: token.content for n, token in added.items() if token.special}
    byte_level = "ByteLevel" in json.dumps(json.loads(splitter.to_str())["decoder"])
    read = _bytes if byte_level else _sentencepiece
    vocabulary = splitter.get_vocab(with_added_tokens=True)
    pieces = {n: read(text) for text, n in vocabulary.items() if n not in controls}
    pieces |= {n: token.content.encode() for n, token in added.items() if not token.special}
    first = splitter.encode("x").ids[:1]
    bos = first[0] if first and first[0] in controls else None
    return Tokenizer(splitter, pieces, controls, ends, bos)


def _byte_characters() -> dict[str, int]:
    """The printable characters that stand for bytes in byte-level vocabularies."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return {chr(byte if byte in printable else next(spare)): byte for byte in range(256)}


_BYTES: Final = _byte_characters()


def _bytes(text: str) -> bytes:
    try:
        return bytes([_BYTES[character] for character in text])
    except KeyError:
        return text.encode()


def _sentencepiece(text: str) -> bytes:
    if (byte := re.fullmatch(r"<0x([0-9A-F]{2})>", text)) is not None:
        return bytes.fromhex(byte[1])
    return text.replace("\u2581", " ").encode()


def metadata_of_folder(folder: Path) -> dict[str, Any]:
    """What the JSON files beside a model in OpenVINO's format say; empty where they are missing.

    Raises:
        EngineError: One of them is no JSON object.
    """
    found: dict[str, Any] = {}
    for name in ("config", "generation_config", "tokenizer_config"):
        path = folder / f"{name}.json"
        try:
            found |= json.loads(path.read_text()) if path.is_file() else {}
        except (OSError, ValueError, TypeError) as error:
            msg = f"{path} cannot be read: {error}"
            raise EngineError(msg) from error
    template = folder / "chat_template.jinja"
    if template.is_file():
        found["chat_template"] = template.read_text()
    return found
