"""From a trained model to a GGUF file that llama.cpp runs, tokenizer and chat template inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer

from langchain_sgd.embedded.train.model import Llama
from langchain_sgd.embedded.train.tokenizer import BOS, CHAT_TEMPLATE, EOS, PAD, SPECIAL

_Q8_ROW = 32
"""Numbers in a Q8_0 block; rows must be made of whole blocks."""


def write_gguf(path: Path, model: Llama, tokenizer: Tokenizer, *, kind: str, name: str) -> None:
    """Write the model.

    Args:
        path: The file.
        model: The trained weights.
        tokenizer: Byte-level BPE with GPT-2's splitting.
        kind: Number format of the matrices: F32, F16 or Q8_0.
        name: What the model calls itself.
    """
    shape = model.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"langchain-sgd-briefs-{name}")
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocabulary)
    file_types = {
        "F32": gguf.LlamaFileType.ALL_F32,
        "F16": gguf.LlamaFileType.MOSTLY_F16,
        "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_file_type(file_types[kind])
    _add_tokenizer(writer, tokenizer, shape.vocabulary)
    for key, tensor in model.state_dict().items():
        weight = tensor.float().numpy()
        if key.endswith(("attn_q", "attn_k")):
            weight = _interleaved(weight, shape.heads)
        _add_tensor(writer, f"{key}.weight", weight, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensor(writer: Any, key: str, weight: np.ndarray[Any, Any], kind: str) -> None:
    if weight.ndim == 1 or kind == "F32":
        writer.add_tensor(key, np.ascontiguousarray(weight, dtype=np.float32))
        return
    whole_blocks = weight.shape[-1] % _Q8_ROW == 0
    numbers = gguf.GGMLQuantizationType[kind if whole_blocks else "F16"]
    writer.add_tensor(key, gguf.quantize(weight, numbers), raw_dtype=numbers)


def _interleaved(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """From half-split rotary rows to llama.cpp's pairs."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, size: int) -> None:
    pieces = [f"[unused{index}]" for index in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for piece, index in tokenizer.get_vocab(with_added_tokens=False).items():
        pieces[index], kinds[index] = piece, gguf.TokenType.NORMAL
    for index, added in tokenizer.get_added_tokens_decoder().items():
        pieces[index] = added.content
        special = added.content in SPECIAL
        kinds[index] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(True)  # noqa: FBT003 - gguf's own signature
    writer.add_add_eos_token(False)  # noqa: FBT003
    writer.add_add_space_prefix(False)  # noqa: FBT003
    writer.add_chat_template(CHAT_TEMPLATE)
