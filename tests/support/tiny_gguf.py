"""A language model of 0.1 M random weights, written as a GGUF file where a test needs one.

It speaks nonsense, but really: byte-level BPE, attention, a chat template, the same file for the same
arguments. So the engine can be tested without a bundled model and without a download.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

SPECIAL = ("<|bos|>", "<|eos|>", "<|end|>", "<|pad|>")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "a n", "an d", "e r", "r e", "o n", "Ġ a", '" :', '{ "')
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_characters() -> list[str]:
    """The printable characters that stand for the 256 bytes in byte-level BPE vocabularies."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    characters, spare = [], 256
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(spare))
            spare += 1
    return characters


def write_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    template: str | None = TEMPLATE,
    context: int = 512,
    width: int = 64,
    layers: int = 2,
    architecture: str = "llama",
) -> Path:
    """Write a model and give its path."""
    random = np.random.default_rng(seed)
    tokens = [*SPECIAL, *byte_characters(), *("".join(merge.split(" ")) for merge in MERGES)]
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (
        len(tokens) - len(SPECIAL)
    )
    hidden = 2 * width
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny-{seed}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_eot_token_id(2)
    writer.add_pad_token_id(3)
    writer.add_add_bos_token(value=True)
    writer.add_add_space_prefix(value=False)
    if template is not None:
        writer.add_chat_template(template)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns)) / np.sqrt(columns)
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))

    matrix("token_embd", len(tokens), width)
    norm("output_norm")
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}", width, width)
        matrix(f"blk.{layer}.ffn_gate", hidden, width)
        matrix(f"blk.{layer}.ffn_up", hidden, width)
        matrix(f"blk.{layer}.ffn_down", width, hidden)
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
