"""What a GGUF file says of its model, and the same file with weights that OpenVINO reads rightly.

The metadata is read here and not by the `gguf` package, which takes 6 to 14 s for the vocabularies of
small instruct models (50,000 to 150,000 tokens); this takes 0.2 to 1 s. Weights are the package's affair.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from langchain_sgd.embedded.engine import EngineError

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING: Final = 8
_ARRAY: Final = 9
_NUMBERS: Final = dict(enumerate("BbHhIif?", start=0)) | {10: "Q", 11: "q", 12: "d"}
_FILE_TYPE: Final = "general.file_type"
_Q8_0: Final = 8
_F16: Final = 1
_F32: Final = 0
_Q8_0_FILE: Final = 7
_BLOCK: Final = 32
_MOST_DIMENSIONS: Final = 4
_ALIGNMENT: Final = 32

TENSOR_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 30: "BF16",
}  # fmt: skip
"""Names of the number formats; the others are newer than what OpenVINO reads."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one matrix stands in the file."""

    name: str
    shape: tuple[int, ...]
    """Innermost dimension first, as the file has it."""
    kind: int
    offset: int
    """From the beginning of the tensors."""


@dataclass(frozen=True, slots=True)
class GGUF:
    """The description of a model file."""

    path: Path
    fields: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    metadata: tuple[int, int]
    """Where the fields begin and end."""
    data: int
    """Where the tensors begin."""

    @property
    def architecture(self) -> str:
        """Such as `llama`."""
        return str(self.fields.get("general.architecture", ""))

    def of_model(self, name: str, default: Any = None) -> Any:
        """A field of the architecture, such as `context_length`."""
        return self.fields.get(f"{self.architecture}.{name}", default)

    @property
    def tensor_types(self) -> frozenset[str]:
        """The number formats that occur."""
        kinds = {tensor.kind for tensor in self.tensors}
        return frozenset(TENSOR_TYPES.get(kind, f"type {kind}") for kind in kinds)


class _Cursor:
    """Reads forward in a file and never beyond its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def take(self, form: str) -> Any:
        values = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return values[0]

    def string(self) -> str:
        size = self.take("<Q")
        self._room(size)
        self.at += size
        return self._data[self.at - size : self.at].decode(errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            self._room(count)
            if inner == _STRING:
                return [self.string() for _ in range(count)]
            form = f"<{count}{_NUMBERS[inner]}"
            values = struct.unpack_from(form, self._data, self.at)
            self.at += struct.calcsize(form)
            return values
        return self.take(f"<{_NUMBERS[kind]}")

    def count(self) -> int:
        number: int = self.take("<Q")
        self._room(number)
        return number

    def _room(self, size: int) -> None:
        if size > len(self._data) - self.at:
            msg = f"{size} entries or bytes at {self.at} do not fit into the file"
            raise ValueError(msg)


def read_gguf(path: Path) -> GGUF:
    """Read a file's description.

    Raises:
        EngineError: There is no such file, or it is damaged or no GGUF file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except FileNotFoundError as error:
        msg = f"There is no model file at {path}"
        raise EngineError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise EngineError(msg) from error
    except (ValueError, KeyError, struct.error, MemoryError, OverflowError) as error:
        msg = f"{path} is damaged or no GGUF file: {error}"
        raise EngineError(msg) from error


def _read(path: Path, data: mmap.mmap) -> GGUF:
    cursor = _Cursor(data)
    if data[:4] != _MAGIC:
        msg = "it does not begin with GGUF"
        raise ValueError(msg)
    cursor.at = 4
    if (version := cursor.take("<I")) not in _VERSIONS:
        msg = f"version {version} is unknown"
        raise ValueError(msg)
    tensor_count, field_count = cursor.count(), cursor.count()
    begin = cursor.at
    fields = {cursor.string(): cursor.value(cursor.take("<I")) for _ in range(field_count)}
    end = cursor.at
    tensors = tuple(_tensor(cursor) for _ in range(tensor_count))
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or not tensors:
        msg = "it holds no tensors, or does not say where they stand"
        raise ValueError(msg)
    start = -(-cursor.at // alignment) * alignment
    if any(start + tensor.offset >= len(data) for tensor in tensors):
        msg = "tensors stand beyond its end; it may not have been copied to the end"
        raise ValueError(msg)
    return GGUF(path, fields, tensors, (begin, end), start)


def _tensor(cursor: _Cursor) -> Tensor:
    name, dimensions = cursor.string(), cursor.take("<I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        msg = f"tensor {name!r} has {dimensions} dimensions"
        raise ValueError(msg)
    shape = tuple(cursor.take("<Q") for _ in range(dimensions))
    return Tensor(name, shape, cursor.take("<I"), cursor.take("<Q"))


# -- the same model in other numbers


def as_q8_0(model: GGUF, folder: Path | None = None) -> Path:
    """The model's weights as Q8_0, in a file of its own that is made once and found again.

    Args:
        model: The file to read.
        folder: Where files are kept; `langchain-sgd` in the user's cache by default.

    Raises:
        EngineError: The file cannot be written, a format is unknown, or the package gguf is missing.
    """
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(cache) / "langchain-sgd"
    stat = model.path.stat()
    key = f"{model.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    target = folder / f"{model.path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}-Q8_0.gguf"
    if target.is_file():
        return target
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_q8_0(model, part)
        part.replace(target)
    except ImportError as error:
        msg = "reading these weights needs the package gguf: pip install gguf"
        raise EngineError(msg) from error
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        msg = f"the weights cannot be written as Q8_0 to {folder}: {error}"
        raise EngineError(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _write_q8_0(model: GGUF, target: Path) -> None:
    import numpy as np  # noqa: PLC0415 - only here
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants  # noqa: PLC0415

    entries: list[bytes] = []
    writers: list[Callable[[], Any]] = []
    at = 0
    whole = np.memmap(model.path, mode="r")

    def converted(tensor: Tensor, kind: int) -> Any:
        form = GGMLQuantizationType(tensor.kind)
        block, size = GGML_QUANT_SIZES[form]
        begin = model.data + tensor.offset
        rows, row = math.prod(tensor.shape[1:]), tensor.shape[0] // block * size
        raw = whole[begin : begin + rows * row].reshape(rows, row)
        if tensor.kind == kind:
            return raw
        return quants.quantize(quants.dequantize(raw, form), GGMLQuantizationType(kind))

    for tensor in model.tensors:
        vector = len(tensor.shape) == 1
        kind = _F32 if vector else _F16 if tensor.shape[0] % _BLOCK else _Q8_0
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        name = tensor.name.encode()
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        entries.append(struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", kind, at))
        writers.append(partial(converted, tensor, kind))
        at += -(-math.prod(tensor.shape) // block * size // _ALIGNMENT) * _ALIGNMENT
    with target.open("wb") as file:
        file.write(_header(model, whole) + b"".join(entries))
        for write in writers:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            write().tofile(file)


def _header(model: GGUF, whole: Any) -> bytes:
    """The fields as they are, but for the type of the file and the alignment."""
    begin, end = model.metadata
    fields: bytes = whole[begin:end].tobytes()
    count = len(model.fields)
    for key, value in ((_FILE_TYPE, _Q8_0_FILE), ("general.alignment", _ALIGNMENT)):
        name = key.encode()
        entry = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, value)
        at = fields.find(entry[:-4])
        if at >= 0:
            fields = fields[:at] + entry + fields[at + len(entry) :]
        else:
            fields, count = fields + entry, count + 1
    return _MAGIC + struct.pack("<IQQ", 3, len(model.tensors), count) + fields
