"""A model of random weights in a GGUF file: it writes nonsense as slowly as a real one writes sense.

For measuring time where the bundled models are too small: at this size a decode step waits for memory,
as it does for the models that people serve. It never ends a text by itself, so lengths are those that
are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from langchain_sgd.embedded.briefs.domain import NEEDS
from langchain_sgd.embedded.briefs.texts import BRIEF_QUESTIONS, VALUES

Kind = Literal["F32", "F16", "Q8_0"]

_WIDTH: Final = 768
_LAYERS: Final = 8
_HEADS: Final = 12
_HIDDEN: Final = 2048
_CONTEXT: Final = 2048
_SPECIAL: Final = ("<|bos|>", "<|eos|>", "<|unk|>")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_BOS, _EOS = 0, 1
_TEMPLATE: Final = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
"""Nothing after the prompt: a text that goes on with a part's prompt and text begins with the same tokens."""
_SPREAD: Final = 6.0
"""Of the words' logits: so wide that what has the logit 0, all but words, is never drawn."""


def cached_model(kind: Kind = "F16") -> Path:
    """The file of a model of about 60 M parameters, written at the first call.

    It lies in the user's cache folder and takes 61 (Q8_0), 115 (F16) or 230 (F32) megabytes.

    Raises:
        SystemExit: The package that writes GGUF files is missing.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = root / "langchain-sgd" / f"random-60m-{kind.lower()}-3.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        write_random_model(part, kind=kind)
        part.replace(path)
    return path


def write_random_model(
    path: Path,
    *,
    kind: Kind = "F16",
    width: int = _WIDTH,
    layers: int = _LAYERS,
    hidden: int = _HIDDEN,
    heads: int = _HEADS,
) -> None:
    """Write a model.

    Args:
        path: The file.
        kind: Number format of the matrices.
        width: A multiple of 32 and of `heads`.
        layers: Blocks of attention and feed-forward.
        hidden: Width of the feed-forward part, a multiple of 32.
        heads: Attention heads.

    Raises:
        SystemExit: The package that writes GGUF files is missing.
    """
    try:
        import gguf  # noqa: PLC0415 - only this needs it
        import numpy as np  # noqa: PLC0415 - comes with it
    except ImportError as error:
        msg = "writing a random model needs the package gguf: pip install gguf"
        raise SystemExit(msg) from error

    random = np.random.default_rng(1)
    # It writes words of two letters: a text is read back as the tokens it was written in.
    openings = [f"Ġ{letter}" for letter in _LETTERS]
    words = [opening + letter for opening in openings for letter in _LETTERS]
    asked = [piece for piece in _prompt_pieces() if piece not in {*openings, *words}]
    tokens = [*_SPECIAL, *words, *openings, *asked, *_byte_characters()]
    kinds = [gguf.TokenType.CONTROL] * len(_SPECIAL)
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(_SPECIAL))
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("langchain-sgd-random")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    file_types = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[file_types[kind]])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{piece[:-1]} {piece[-1]}" for piece in [*openings, *words, *asked]])
    writer.add_bos_token_id(_BOS)
    writer.add_eos_token_id(_EOS)
    writer.add_add_bos_token(value=True)
    writer.add_chat_template(_TEMPLATE)

    def add(name: str, values: Any) -> None:
        if values.ndim == 1 or kind == "F32":
            writer.add_tensor(f"{name}.weight", values.astype(np.float32))
            return
        numbers = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(
            f"{name}.weight", gguf.quantize(values.astype(np.float32), numbers), raw_dtype=numbers
        )

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Any:
        values = random.standard_normal((rows, columns), dtype=np.float32)
        return values * np.float32(scale / columns**0.5)

    add("token_embd", matrix(len(tokens), width, width**0.5))
    add("output_norm", np.ones(width))
    output = matrix(len(tokens), width, _SPREAD)
    output[: len(_SPECIAL)] = output[len(_SPECIAL) + len(words) :] = 0
    add("output", output)
    for layer in range(layers):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{name}", matrix(width, width))
        add(f"{block}.ffn_gate", matrix(hidden, width))
        add(f"{block}.ffn_up", matrix(hidden, width))
        add(f"{block}.ffn_down", matrix(width, hidden))
        add(f"{block}.attn_norm", np.ones(width))
        add(f"{block}.ffn_norm", np.ones(width))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _prompt_pieces() -> list[str]:
    """The words of the questions and their beginnings, shortest first, as byte-level tokens.

    A word of a prompt is one token, as it is for models that people serve; what is written has none of
    them.
    """

    def beginnings(word: str) -> Iterator[str]:
        return (word[:end] for end in range(2, len(word) + 1))

    text = " ".join([*BRIEF_QUESTIONS, *NEEDS, *map(str.lower, NEEDS), *sum(VALUES.values(), ())])
    found = set(re.findall(r"[A-Za-z]+", text))
    spaced = {piece for word in found for piece in beginnings(f"Ġ{word}")}
    opening = {piece for word in found if word[0].isupper() for piece in beginnings(word)}
    return sorted({*spaced, *opening, "ĊĊ", "##"}, key=lambda piece: (len(piece), piece))


def _byte_characters() -> list[str]:
    """The characters that stand for the 256 bytes in byte-level vocabularies."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in shown else next(spare)) for byte in range(256)]
