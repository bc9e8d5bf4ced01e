"""What a GGUF file says of its model, and the same file with weights that OpenVINO reads rightly.

The metadata is read here and not by the `gguf` package, which takes 6 to 14 s for the vocabularies of
small instruct models (50,000 to 150,000 tokens); this takes 0.2 to 1 s. Weights are the package's affair.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from langchain_sgd.embedded.engine import EngineError

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING: Final = 8
_ARRAY: Final = 9
_NUMBERS: Final = dict(enumerate("BbHhIif?", start=0)) | {10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS: Final = 4
_ALIGNMENT: Final = 32
_BLOCK: Final = 32
_WRITTEN_ANEW: Final = ("general.architecture", "general.file_type", "general.alignment")

TENSOR_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 30: "BF16",
}  # fmt: skip
"""Names of the number formats; the others are newer than what OpenVINO reads."""


_T = TypeVar("_T")
_KINDS: Final[Mapping[type, str]] = {
    list: "a list of texts",
    tuple: "a list of numbers",
    str: "a text",
    int: "a whole number",
}


@dataclass(frozen=True, slots=True)
class GGUF:
    """The description of a model file."""

    path: Path
    fields: Mapping[str, Any]
    tensor_types: frozenset[str]
    """The number formats that occur."""

    @property
    def architecture(self) -> str:
        """Such as `llama`."""
        return str(self.fields.get("general.architecture", ""))

    def field(self, name: str, kind: type[_T], missing: _T) -> _T:
        """A field's value; lists of texts are lists, lists of numbers tuples.

        Raises:
            EngineError: It is of another kind.
        """
        value = self.fields.get(name, missing)
        if not isinstance(value, kind):
            msg = f"{self.path} is damaged: its field {name} is not {_KINDS[kind]}"
            raise EngineError(msg)
        return value


class _Cursor:
    """Reads forward in a file and never beyond its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def raw(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._data):
            msg = f"{size} bytes at {self.at - size} do not fit into the file"
            raise ValueError(msg)
        return self._data[self.at - size : self.at]

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.raw(struct.calcsize(form)))

    def u64(self) -> int:
        return int.from_bytes(self.raw(8), "little")

    def u32(self) -> int:
        return int.from_bytes(self.raw(4), "little")

    def string(self) -> str:
        return self.raw(self.u64()).decode(errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.u32(), self.u64()
            if inner == _STRING:
                return [self.string() for _ in range(count)]
            return self.numbers(f"<{count}{_NUMBERS[inner]}")
        return self.numbers(f"<{_NUMBERS[kind]}")[0]


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
    cursor.at = len(_MAGIC)
    if (version := cursor.u32()) not in _VERSIONS:
        msg = f"version {version} is unknown"
        raise ValueError(msg)
    tensor_count, field_count = cursor.u64(), cursor.u64()
    fields = {cursor.string(): cursor.value(cursor.u32()) for _ in range(field_count)}
    tensors = [_tensor(cursor) for _ in range(tensor_count)]
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or not tensors:
        msg = "it holds no tensors, or does not say where they stand"
        raise ValueError(msg)
    start = -(-cursor.at // alignment) * alignment
    if any(start + offset >= len(data) for _, offset in tensors):
        msg = "tensors stand beyond its end; it may not have been copied to the end"
        raise ValueError(msg)
    return GGUF(
        path, fields, frozenset(TENSOR_TYPES.get(kind, f"type {kind}") for kind, _ in tensors)
    )


def _tensor(cursor: _Cursor) -> tuple[int, int]:
    """A matrix' number format, and where it stands."""
    name, dimensions = cursor.string(), cursor.u32()
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        msg = f"tensor {name!r} has {dimensions} dimensions"
        raise ValueError(msg)
    cursor.raw(8 * dimensions)
    return cursor.u32(), cursor.u64()


# -- the same model in other numbers


def as_q8_0(model: GGUF, folder: Path | None = None) -> Path:
    """The model's weights as Q8_0, in a file of its own that is made once and found again.

    Args:
        model: The file to read.
        folder: Where files are kept; `langchain-sgd` in the user's cache by default.

    Raises:
        EngineError: The file cannot be written, or a format is unknown.
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
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        msg = f"the weights cannot be written as Q8_0 to {folder}: {error}"
        raise EngineError(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _write_q8_0(model: GGUF, target: Path) -> None:
    import gguf  # noqa: PLC0415 - only here
    import numpy as np  # noqa: PLC0415

    reader = gguf.GGUFReader(model.path)
    writer = gguf.GGUFWriter(target, model.architecture)
    try:
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
        for field in reader.fields.values():
            if not field.name.startswith("GGUF.") and field.name not in _WRITTEN_ANEW:
                inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], inner)
        kinds = []
        for tensor in reader.tensors:
            shape = [int(size) for size in reversed(tensor.shape)]
            vector, even = len(shape) == 1, shape[-1] % _BLOCK == 0
            kind = gguf.GGMLQuantizationType["F32" if vector else "Q8_0" if even else "F16"]
            block, size = gguf.GGML_QUANT_SIZES[kind]
            whole = int(tensor.n_elements) // block * size
            writer.add_tensor_info(tensor.name, shape, np.dtype("f4"), whole, raw_dtype=kind)
            kinds.append(kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, kind in zip(reader.tensors, kinds, strict=True):
            data = tensor.data
            if tensor.tensor_type != kind:
                data = gguf.quantize(gguf.dequantize(data, tensor.tensor_type), kind)
            writer.write_tensor_data(data)
    finally:
        writer.close()
