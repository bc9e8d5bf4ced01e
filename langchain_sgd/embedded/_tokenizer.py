"""A model's tokens: text to ids and back.

The splitting itself is the `tokenizers` package's, set up from what the model's file says: a GGUF file's
vocabulary and merges, or the `tokenizer.json` of a folder. Which texts count as control tokens is decided
here, because that must differ within one prompt: see `Controls.guarded`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, pre_tokenizers
from tokenizers import Tokenizer as Splitter
from tokenizers.decoders import ByteLevel, DecodeStream
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
    fields = model.fields
    named = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    return named[0] == "gpt2" and named[1] in _SPLITS


class Controls:
    """A model's control tokens, and where they stand in a text.

    Args:
        ids: The tokens by their texts.
        ends: Those that end an answer; the first one is preferred.
        eos: What templates take to end a text.
        bos: The token that begins one.
        adds_bos: Whether every text begins with it, whoever writes it.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        ends: Iterable[int] = (),
        eos: int | None = None,
        bos: int | None = None,
        adds_bos: bool = False,
    ) -> None:
        self.ids: Final = ids
        self._texts = {token: text for text, token in ids.items()}
        self.ends: Final = tuple(dict.fromkeys(ends))
        self.eos: Final = eos
        self.begins: Final[Sequence[int]] = (bos,) if adds_bos and bos is not None else ()
        self.texts: Final = {"bos_token": self.text_of(bos), "eos_token": self.text_of(eos)}
        """As chat templates name them."""
        found = sorted((text for text in ids if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def text_of(self, token: int | None) -> str:
        """A control token's text; empty for None."""
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
    """The control tokens that a GGUF file names."""
    fields = model.fields
    tokens: Sequence[str] = fields.get("tokenizer.ggml.tokens") or ()
    kinds: Sequence[int] = fields.get("tokenizer.ggml.token_type") or ()
    pairs = enumerate(zip(tokens, kinds, strict=False))
    ids = {text: n for n, (text, kind) in pairs if kind == _CONTROL}
    bos, eot, eos = (
        number if isinstance(number := fields.get(f"tokenizer.ggml.{name}_token_id"), int) else None
        for name in ("bos", "eot", "eos")
    )
    ends = (eot, eos, *map(ids.get, _END_TEXTS))
    is_llama = fields.get("tokenizer.ggml.model") == "llama"
    return Controls(
        ids,
        ends=[token for token in ends if token is not None],
        eos=eos,
        bos=bos,
        adds_bos=bool(fields.get("tokenizer.ggml.add_bos_token", is_llama)),
    )


class Tokenizer:
    """Splits text as one model does. Thread-safe."""

    def __init__(self, splitter: Splitter, controls: Controls) -> None:
        """`splitter` makes ids of ordinary text."""
        self.splitter: Final = splitter
        self.controls: Final = controls

    def encode(self, text: str) -> list[int]:
        """A text's ids, the one that begins a text included."""
        found = list(self.controls.begins)
        for part, control in self.controls.parts(text):
            if control is None:
                found += self.splitter.encode(part, add_special_tokens=False).ids
            else:
                found.append(control)
        return found

    def tokens(self, text: str) -> list[Token]:
        """A text's tokens, each with the characters that it covers; for showing them."""
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
        self._tokenizer = tokenizer
        # After a word, or the space before the first one would be taken for a text's beginning.
        word = tokenizer.splitter.encode("x", add_special_tokens=False).ids
        self._stream = DecodeStream(word, skip_special_tokens=True)

    def push(self, token: int, logprob: float | None = None, *, last: bool = False) -> Token:
        """The token with the text that it completes; the last one gives up an unfinished character."""
        controls = self._tokenizer.controls
        if token in controls.ends:
            return Token(token, controls.text_of(token), logprob=logprob, special=True)
        text = self._stream.step(self._tokenizer.splitter, token)
        if text is None:
            text = "\ufffd" if last and not controls.text_of(token) else ""
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
        kinds = fields.get("tokenizer.ggml.token_type") or ()
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
        pre = fields["tokenizer.ggml.pre"]
        vocabulary = {text: n for n, text in enumerate(tokens) if text not in controls.ids}
        splitter = Splitter(BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
        words = [pre_tokenizers.Split(Regex(each), "isolated") for each in _SPLITS[pre]]
        splitter.pre_tokenizer = pre_tokenizers.Sequence(
            [*words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        splitter.decoder = ByteLevel()
        own = [tokens[n] for n, kind in enumerate(kinds) if kind == _USER_DEFINED]
        splitter.add_tokens([AddedToken(text, normalized=False) for text in own])
    except Exception as error:  # the package raises what it likes
        msg = f"The vocabulary of {model.path} cannot be used: {error!r}"
        raise EngineError(msg) from error
    return Tokenizer(splitter, controls)


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
    ids = {token.content: n for n, token in added.items() if token.special}
    first = splitter.encode("x").ids[:1]
    bos = first[0] if first and first[0] in ids.values() else None
    eos = ends[-1] if ends else None
    return Tokenizer(splitter, Controls(ids, ends=ends, eos=eos, bos=bos, adds_bos=True))


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
