"""How a token is drawn: TGI's sampling parameters as a chain of llama.cpp's samplers."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._llama import Library
from langchain_sgd.embedded.engine import Sampling

_RANDOM_SEED: Final = 0xFFFFFFFF


class Sampler:
    """A chain of samplers with one request's history and random state. Not thread-safe."""

    def __init__(self, lib: Library, pointer: int) -> None:
        self._lib = lib
        self.pointer = pointer

    def __del__(self) -> None:
        self._lib.llama_sampler_free(self.pointer)


def make_sampler(
    lib: Library, sampling: Sampling, prompt: npt.NDArray[np.int32], vocabulary_size: int, last: int
) -> Sampler | None:
    """The chain for `sampling`, None where taking the most probable token is all of it.

    The order is TGI's: penalties, temperature, top-k, top-p, typical-p. Only what is asked for is
    in the chain: an empty sampler costs as much as a full one.

    Args:
        lib: The library.
        sampling: What was asked for.
        prompt: The prompt's ids; penalties count them too.
        vocabulary_size: Tokens in the vocabulary.
        last: How many tokens back penalties look.
    """
    repetition = 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty
    frequency = 0.0 if sampling.frequency_penalty is None else sampling.frequency_penalty
    penalised = repetition != 1.0 or frequency != 0.0
    if sampling.temperature is None and not penalised:
        return None

    chain: int = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    links: list[int] = []
    if penalised:
        links.append(
            lib.llama_sampler_init_penalties(vocabulary_size, last, repetition, frequency, 0.0)
        )
    if sampling.temperature is None:
        links.append(lib.llama_sampler_init_greedy())
    else:
        if sampling.temperature != 1.0:
            links.append(lib.llama_sampler_init_temp(sampling.temperature))
        if sampling.top_k is not None:
            links.append(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p is not None and sampling.top_p < 1.0:
            links.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.typical_p is not None and sampling.typical_p < 1.0:
            links.append(lib.llama_sampler_init_typical(sampling.typical_p, 1))
        links.append(lib.llama_sampler_init_dist(_seed(sampling.seed)))
    for link in links:
        lib.llama_sampler_chain_add(chain, link)
    if penalised:
        for token in prompt[-last:].tolist():
            lib.llama_sampler_accept(chain, token)
    return Sampler(lib, chain)


def _seed(seed: int | None) -> int:
    """A seed of 32 bits from one of 64; the library takes its highest one to mean "any"."""
    if seed is None:
        return _RANDOM_SEED
    folded = (seed ^ (seed >> 32)) & 0xFFFFFFFF
    return folded if folded != _RANDOM_SEED else 0
