"""The Llama architecture, small enough to read: what llama.cpp will run, written for training."""
# torch is no part of the environment in which types are checked.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody gives it
from torch import Tensor, nn

MASKED = -30000.0
"""Finite, so that bf16 softmax stays free of NaN."""


@dataclass(frozen=True)
class Shape:
    """What a model looks like; every width a multiple of 64, as Q8_0 rows demand."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    context: int = 1024
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """Columns of one attention head."""
        return self.width // self.heads


class Block(nn.Module):
    """One layer: attention over what came before, then a gated two-layer network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.eps = shape.heads, shape.norm_eps
        d, f = shape.width, shape.hidden
        self.attn_norm, self.ffn_norm = (nn.Parameter(torch.ones(d)) for _ in range(2))
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Parameter(torch.empty(d, d)) for _ in range(4)
        )
        self.ffn_gate, self.ffn_up = (nn.Parameter(torch.empty(f, d)) for _ in range(2))
        self.ffn_down = nn.Parameter(torch.empty(d, f))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """The residual stream after this layer; `x` is batch x tokens x width."""
        batch, tokens, width = x.shape
        h = normed(x, self.attn_norm, self.eps)
        joined = torch.cat((self.attn_q, self.attn_k, self.attn_v)).to(x.dtype)
        q, k, v = F.linear(h, joined).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (_turned(q, turn) * (1 / math.sqrt(q.shape[-1]))) @ _turned(k, turn).mT
        seen = torch.softmax(scores + mask, -1) @ v
        seen = seen.transpose(1, 2).reshape(batch, tokens, width)
        x = x + F.linear(seen, self.attn_output.to(x.dtype))
        h = normed(x, self.ffn_norm, self.eps)
        joined = torch.cat((self.ffn_gate, self.ffn_up)).to(x.dtype)
        gate, up = F.linear(h, joined).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.ffn_down.to(x.dtype))


class Llama(nn.Module):
    """Token ids to logits; embedding and output share one matrix.

    The start matters more than any other choice for models of this size (measured on this domain):
    embeddings large enough that the blocks do not drown the token, and from the second layer on an
    attention that copies what it looks at. With the usual start copying stayed at chance for millions
    of tokens.
    """

    def __init__(self, shape: Shape, *, seed: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.Parameter(torch.full((shape.width,), 0.1))
        self._start(torch.Generator().manual_seed(seed))
        half = shape.head_width // 2
        angles = torch.outer(
            torch.arange(shape.context),
            shape.rope_base ** (-torch.arange(half) / half),
        )
        self.register_buffer("cos", angles.cos().bfloat16(), persistent=False)
        self.register_buffer("sin", angles.sin().bfloat16(), persistent=False)
        mask = torch.full((shape.context, shape.context), MASKED).triu(1)
        self.register_buffer("mask", mask.bfloat16(), persistent=False)

    @torch.no_grad()
    def _start(self, rng: torch.Generator) -> None:
        self.token_embd.normal_(std=0.5, generator=rng)
        for index, block in enumerate(self.blk):
            for name, weight in block.named_parameters():
                if weight.dim() == 1:
                    continue
                out = name in ("attn_output", "ffn_down")
                std = (0.3 if out else 0.8) / math.sqrt(weight.shape[1])
                weight.normal_(std=std, generator=rng)
            if index:
                width = self.shape.width
                turn, _ = torch.linalg.qr(torch.randn(width, width, generator=rng))
                block.attn_v.copy_(turn.T)
                block.attn_output.copy_(0.15 * turn)

    def forward(self, ids: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Logits for the token after each position.

        Args:
            ids: Batch x tokens.
            chosen: Flat positions for which logits are wanted; all of them if None.

        Returns:
            Positions x vocabulary, in float32.
        """
        tokens = ids.shape[1]
        x = F.embedding(ids, self.token_embd).bfloat16()
        turn = (self.cos[:tokens], self.sin[:tokens])
        mask = self.mask[:tokens, :tokens]
        for block in self.blk:
            x = block(x, turn, mask)
        x = x.flatten(0, 1)
        x = normed(x if chosen is None else x[chosen], self.output_norm, self.shape.norm_eps)
        return F.linear(x, self.token_embd.to(x.dtype)).float()


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm, in the stream's own precision."""
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions, in the half-split layout."""
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
