"""A loaded model with its key-value cache: the calls that a batching loop needs."""

from __future__ import annotations

import ctypes as c
import math
import os
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._llama import Batch, Library
from langchain_sgd.embedded._vocabulary import Vocabulary
from langchain_sgd.embedded.engine import EngineError

_MAGIC: Final = b"GGUF"
_FILE_TYPES: Final = {
    0: "float32",
    1: "float16",
    2: "q4_0",
    7: "q8_0",
    15: "q4_k_m",
    32: "bfloat16",
}
_NO_ROOM: Final = 1

# Below this size a model's step is so short that threads wait for each other more than they compute,
# and for the server's own work.
_SMALL_FILE: Final = 32_000_000
_MOST_THREADS: Final = 16


def check_model_file(path: Path) -> None:
    """Look at a model file before the library does, whose own complaint is hard to read.

    Raises:
        EngineError: It is missing, no file, or no GGUF file.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        msg = f"The model file {path} cannot be read: {error.strerror or error}"
        raise EngineError(msg) from error
    if magic != _MAGIC:
        msg = (
            f"{path} is not a GGUF model: it begins with {magic!r}, not {_MAGIC!r}; models in other"
            " formats must be converted, for instance with llama.cpp's convert_hf_to_gguf.py"
        )
        raise EngineError(msg)


def default_threads(path: Path) -> int:
    """How many threads compute a model best: one for a small file, else one for each core."""
    if path.stat().st_size < _SMALL_FILE:
        return 1
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


class Model:
    """The weights of one GGUF file."""

    def __init__(self, lib: Library, path: Path, *, vocabulary_only: bool = False) -> None:
        """Load a file; milliseconds for the bundled ones, seconds for billions of parameters.

        Args:
            lib: The library.
            path: The file.
            vocabulary_only: Leave the weights, for where something else computes.

        Raises:
            EngineError: The file cannot be used.
        """
        check_model_file(path)
        self.lib: Final = lib
        self.path: Final = path
        params = lib.llama_model_default_params()
        params.vocab_only = vocabulary_only
        # The processor only, also where the library could use a GPU: that has not been tried.
        params.n_gpu_layers = 0
        lib.errors.clear()
        pointer: int | None = lib.llama_model_load_from_file(str(path).encode(), params)
        if pointer is None:
            reason = "; ".join(lib.errors) or "no reason given"
            msg = f"llama.cpp could not load {path}: {reason}"
            raise EngineError(msg)
        self.pointer: int = pointer
        if (
            lib.llama_model_has_encoder(pointer)
            or lib.llama_model_is_recurrent(pointer)
            or lib.llama_model_is_hybrid(pointer)
        ):
            self.free()
            msg = f"{path} is not a plain decoder-only transformer, the only kind served here"
            raise EngineError(msg)
        self.vocabulary: Final = Vocabulary(lib, pointer)
        self.n_params: Final[int] = lib.llama_model_n_params(pointer)
        self.trained_context: Final[int] = lib.llama_model_n_ctx_train(pointer)

    @property
    def dtype(self) -> str:
        """Type of most weights."""
        number = self._metadata("general.file_type")
        return _FILE_TYPES.get(int(number), f"gguf-{number}") if number.isdigit() else "unknown"

    @property
    def name(self) -> str:
        """The name that the file gives the model; may be empty."""
        return self._metadata("general.name")

    @property
    def chat_template(self) -> str | None:
        """Source of the chat template, None where the model has none."""
        source: bytes | None = self.lib.llama_model_chat_template(self.pointer, None)
        return None if source is None else source.decode(errors="replace")

    def free(self) -> None:
        """Give the memory back; contexts must have been freed before."""
        self.lib.llama_model_free(self.pointer)

    def _metadata(self, key: str) -> str:
        buffer = c.create_string_buffer(256)
        size = self.lib.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if size >= 0 else ""


class Context:
    """A key-value cache shared by several sequences, and the batch that is filled for it.

    Owned by one thread. Sequence numbers are below `sequences`; the cells of a sequence that was
    copied are shared, not duplicated.
    """

    def __init__(
        self, model: Model, *, cells: int, sequences: int, batch: int, threads: int
    ) -> None:
        """Reserve memory.

        Args:
            model: The weights.
            cells: Tokens that all sequences may hold together.
            sequences: Number of sequences, and of outputs per batch.
            batch: Most tokens per batch.
            threads: Threads that compute.

        Raises:
            EngineError: The memory cannot be had.
        """
        lib = self._lib = model.lib
        params = lib.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = params.n_outputs_max = sequences
        params.n_threads = params.n_threads_batch = threads
        # One pool of cells: prefixes are shared by reference, and any mix of sequences is one batch.
        params.kv_unified = True
        params.offload_kqv = params.op_offload = False
        lib.errors.clear()
        pointer: int | None = lib.llama_init_from_model(model.pointer, params)
        if pointer is None:
            reason = "; ".join(lib.errors) or "no reason given"
            msg = f"llama.cpp could not make room for {cells} tokens of context: {reason}"
            raise EngineError(msg)
        self.pointer: int = pointer
        self._memory: int = lib.llama_get_memory(pointer)
        self._vocabulary_size = len(model.vocabulary)
        self._outputs = 0
        self.size: Final = batch
        self.count = 0
        """Tokens in the batch."""
        self._seen: tuple[int, npt.NDArray[np.float32]] | None = None
        self._token = np.zeros(batch, np.int32)
        self._position = np.zeros(batch, np.int32)
        self._sequence = np.zeros(batch, np.int32)
        self._wanted = np.zeros(batch, np.int8)
        self._ones = np.ones(batch, np.int32)
        self._sequence_pointers = np.arange(batch, dtype=np.uint64) * 4 + np.uint64(
            self._sequence.ctypes.data
        )
        self._batch = Batch(
            n_tokens=0,
            token=self._token.ctypes.data,
            embd=None,
            pos=self._position.ctypes.data,
            n_seq_id=self._ones.ctypes.data,
            seq_id=self._sequence_pointers.ctypes.data,
            logits=self._wanted.ctypes.data,
        )

    @property
    def room(self) -> int:
        """Tokens that the batch can still take."""
        return self.size - self.count

    def clear_batch(self) -> None:
        """Begin a new batch."""
        self.count = self._outputs = 0

    def add(
        self, sequence: int, position: int, tokens: npt.NDArray[np.int32], *, wanted: bool
    ) -> int:
        """Put tokens of a sequence into the batch.

        Args:
            sequence: The sequence.
            position: Position of the first token in it.
            tokens: The tokens; no more than `room`.
            wanted: Whether the prediction after the last one is needed.

        Returns:
            The last token's place in the batch.
        """
        start, end = self.count, self.count + len(tokens)
        if len(tokens) == 1:
            # Every request that writes: single values cost a fifth of what slices do.
            self._token[start] = tokens[0]
            self._position[start] = position
            self._sequence[start] = sequence
        else:
            self._token[start:end] = tokens
            self._position[start:end] = range(position, position + len(tokens))
            self._sequence[start:end] = sequence
            self._wanted[start:end] = 0
        self._wanted[end - 1] = wanted
        self._outputs += wanted
        self.count = end
        return end - 1

    def decode(self) -> bool:
        """Compute the batch.

        Returns:
            False when the cells do not suffice: nothing was computed.

        Raises:
            EngineError: The computation failed; the cache's content is unknown now.
        """
        self._batch.n_tokens = self.count
        status: int = self._lib.llama_decode(self.pointer, self._batch)
        if status == 0:
            return True
        if status == _NO_ROOM:
            return False
        msg = f"llama.cpp failed to compute a batch (status {status})"
        if self._lib.errors:
            msg += f": {self._lib.errors[-1]}"
        raise EngineError(msg)

    def logits(self) -> npt.NDArray[np.float32]:
        """Predictions of the last batch, a row per wanted output in order; valid until the next one.

        Writing into them changes what samplers see.
        """
        address: int = self._lib.llama_get_logits(self.pointer)
        shape = self._outputs, self._vocabulary_size
        if self._seen is None or self._seen[0] != address or self._seen[1].shape != shape:
            # Made anew only where it must be: the library seldom moves its buffer.
            values = (c.c_float * math.prod(shape)).from_address(address)
            self._seen = address, np.frombuffer(memoryview(values), np.float32).reshape(shape)
        return self._seen[1]

    def sample(self, sampler: int, place: int) -> int:
        """Let a sampler choose a token after the given place in the batch."""
        token: int = self._lib.llama_sampler_sample(sampler, self.pointer, place)
        return token

    def copy(self, source: int, target: int, length: int) -> None:
        """Let `target`, which must be empty, begin with the first tokens of `source`."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Remove all but the first `length` tokens of a sequence."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def clear(self) -> None:
        """Forget all sequences."""
        self._lib.llama_memory_clear(self._memory, False)  # noqa: FBT003 - a C function

    def free(self) -> None:
        """Give the memory back."""
        self._lib.llama_free(self.pointer)
