"""Muon for the matrices of the layers, Adam for the rest.

Muon (Jordan et al., 2024) replaces a matrix's averaged gradient by the nearest orthogonal matrix, so
that all directions learn at one rate; here it needs about half of Adam's steps.
"""
# torch is no part of the environment in which types are checked.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ROUNDS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon:
    """Steps all matrices of one shape together."""

    def __init__(self, matrices: Iterable[nn.Parameter]) -> None:
        self._groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            self._groups[matrix.shape].append(matrix)
        self._average = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self._groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix by its orthogonalised average gradient, and forget the gradients."""
        for shape, group in self._groups.items():
            gradient = torch.stack([m.grad for m in group if m.grad is not None])
            average = self._average[shape]
            average.lerp_(gradient, 1 - _MOMENTUM)
            update = _orthogonal(gradient.lerp(average, _MOMENTUM))
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, change in zip(group, update, strict=True):
                matrix.sub_(change.to(matrix.dtype), alpha=scale)
                matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The averages, in the order of the shapes."""
        return {"average": list(self._average.values())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the averages of a checkpoint."""
        for mine, saved in zip(self._average.values(), state["average"], strict=True):
            mine.copy_(saved)


def _orthogonal(stack: Tensor) -> Tensor:
    """Newton-Schulz: each matrix of the stack with its singular values brought near one."""
    x = stack.bfloat16()
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * (square @ square)) @ x
    return x if wide else x.mT
