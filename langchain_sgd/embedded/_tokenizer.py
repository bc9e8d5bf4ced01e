"""A model's tokens: text to ids and back.

The splitting itself is the `tokenizers` package's, set up from what the model's file says: a GGUF file's
vocabulary and merges, or the `tokenizer.json` of a folder. Which texts count as control tokens is decided
here, because that must differ within one prompt: see `Controls.guarded`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_CONTROL, _USER_DEFINED = 3, 4
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
    pre = model.field("tokenizer.ggml.pre", str, "")
    return model.fields.get("tokenizer.ggml.model") == "gpt2" and pre in _SPLITS


class Controls:
    """A model's control tokens, and where they stand in a text.

    Args:
        ids: The tokens by their texts.
        ends: Those that end an answer; the first one is preferred.
        eos: What templates take to end a text.
        bos: The token that begins one.
        adds_bos: Whether every text begins with it, whoever writes it.
        named: Texts of tokens that templates and ends name though they count as no control tokens.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        ends: Iterable[int] = (),
        eos: int | None = None,
        bos: int | None = None,
        adds_bos: bool = False,
        named: Mapping[int, str] | None = None,
    ) -> None:
        self.ids: Final = ids
        self._texts = {**(named or {}), **{token: text for text, token in ids.items()}}
        self.ends: Final = tuple(dict.fromkeys(ends))
        self.eos: Final = eos
        self.begins: Final[Sequence[int]] = (bos,) if adds_bos and bos is not None else ()
        self.texts: Final = {"bos_token": self.text_of(bos), "eos_token": self.text_of(eos)}
        """As chat templates name them."""
        found = sorted((text for text in ids if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def text_of(self, token: int | None) -> str:
        """The text of a token that controls, begins or ends; empty for others and for None."""
        return "" if token is None else self._texts.get(token, "")

    def guarded(self, text: str) -> str:
        """Somebody's words inside a prompt: what looks like a control token in them stays text."""
        text = shown(text)
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found[0][0]}{GUARD}{found[0][1:]}", text)

    def parts(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Control tokens, each with its id, and what stands between them, without guards."""
        at = 0
        for found in self._pattern.finditer(text) if self._pattern else ():
            yield _plain(text[at : found.start()]), None
            yield found[0], self.ids[found[0]]
            at = found.end()
        yield _plain(text[at:]), None


def _plain(text: str) -> str:
    """Without guards, and with a question mark for each half of a surrogate pair, which JSON can carry."""
    return shown(text).encode(errors="replace").decode()


def controls_of(model: GGUF) -> Controls:
    """The control tokens that a GGUF file names.

    Raises:
        EngineError: Its vocabulary is of another kind.
    """
    fields = model.fields
    tokens: Sequence[str] = model.field("tokenizer.ggml.tokens", list, [])
    kinds: Sequence[int] = model.field("tokenizer.ggml.token_type", tuple, ())
    pairs = enumerate(zip(tokens, kinds, strict=False))
    ids = {text: n for n, (text, kind) in pairs if kind == _CONTROL}
    bos, eot, eos = (
        number if 0 <= number < len(tokens) else None
        for name in ("bos", "eot", "eos")
        for number in (model.field(f"tokenizer.ggml.{name}_token_id", int, -1),)
    )
    ends = (eot, eos, *map(ids.get, _END_TEXTS))
    is_llama = fields.get("tokenizer.ggml.model") == "llama"
    return Controls(
        ids,
        ends=[token for token in ends if token is not None],
        eos=eos,
        bos=bos,
        adds_bos=bool(fields.get("tokenizer.ggml.add_bos_token", is_llama)),
        # Some files type these as ordinary tokens.
        named={token: tokens[token] for token in (bos, eot, eos) if token is not None},
    )


class Tokenizer:
    """Splits text as one model does. Thread-safe.

    Args:
        splitter: Makes ids of ordinary text.
        pieces: The bytes that each ordinary token adds to a text.
        controls: The other tokens.
    """

    def __init__(self, splitter: Splitter, pieces: Mapping[int, bytes], controls: Controls) -> None:
        self.splitter: Final = splitter
        self.pieces: Final = pieces
        self.controls: Final = controls

    def encode(self, text: str) -> list[int]:
        """A text's ids, the one that begins a text included."""
        return [token.id for token in self.tokens(text)]

    def tokens(self, text: str) -> list[Token]:
        """A text's tokens, each with the characters that it covers."""
        found = [Token(bos, "", special=True, start=0, stop=0) for bos in self.controls.begins]
        at = 0
        for part, control in self.controls.parts(text):
            stop = at + len(part)
            if control is None:
                encoding = self.splitter.encode(part, add_special_tokens=False)
                found += [
                    Token(token, part[start:end], start=at + start, stop=at + end)
                    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
                ]
            else:
                found.append(Token(control, part, special=True, start=at, stop=stop))
            at = stop
        return found


class TextDecoder:
    """Turns one request's ids into tokens with text; characters may span several tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pieces = tokenizer.pieces
        self._controls = tokenizer.controls
        # Not the package's own stream: it raises on bytes that are no text, which a model may well write.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, logprob: float | None = None, *, last: bool = False) -> Token:
        """The token with the text that it completes; the last one gives up an unfinished character."""
        if token in self._controls.ends:
            return Token(token, self._controls.text_of(token), logprob=logprob, special=True)
        text = self._utf8.decode(self._pieces.get(token, b""), last)
        return Token(token, text, logprob=logprob)


# -- from files


def from_gguf(model: GGUF) -> Tokenizer:
    """The tokenizer that a GGUF file describes; `knows` says for which there is one.

    Raises:
        EngineError: The file's vocabulary is incomplete.
    """
    fields, controls = model.fields, controls_of(model)
    try:
        tokens: list[str] = fields["tokenizer.ggml.tokens"]
        kinds = fields.get("tokenizer.ggml.token_type", ())
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
        pre = fields["tokenizer.ggml.pre"]
        vocabulary = {text: n for n, text in enumerate(tokens) if text not in controls.ids}
        splitter = Splitter(BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
        words = [pre_tokenizers.Split(Regex(each), "isolated") for each in _SPLITS[pre]]
        splitter.pre_tokenizer = pre_tokenizers.Sequence(
            [*words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        own = {n: tokens[n] for n, kind in enumerate(kinds) if kind == _USER_DEFINED}
        splitter.add_tokens([AddedToken(text, normalized=False) for text in own.values()])
    except Exception as error:  # the package raises what it likes
        msg = f"The vocabulary of {model.path} cannot be used: {error!r}"
        raise EngineError(msg) from error
    pieces = {n: _bytes(text) for n, text in enumerate(tokens) if text not in controls.ids}
    pieces |= {n: text.encode() for n, text in own.items()}
    return Tokenizer(splitter, pieces, controls)


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
    # Control tokens are found here; what else looks like one is text.
    splitter.encode_special_tokens = True
    added = splitter.get_added_tokens_decoder()
    ids = {token.content: n for n, token in added.items() if token.special}
    by_bytes = "ByteLevel" in json.dumps(json.loads(splitter.to_str())["decoder"])
    piece = _bytes if by_bytes else _sentencepiece
    vocabulary = splitter.get_vocab(with_added_tokens=False)
    pieces = {n: piece(text) for text, n in vocabulary.items() if text not in ids}
    pieces |= {n: token.content.encode() for n, token in added.items() if not token.special}
    first = splitter.encode("x").ids[:1]
    bos = first[0] if first and first[0] in ids.values() else None
    eos = ends[-1] if ends else None
    controls = Controls(ids, ends=ends, eos=eos, bos=bos, adds_bos=True)
    return Tokenizer(splitter, pieces, controls)


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
