"""Reads JSON bodies as TGI's router does: the same refusals, in nearly the same words.

TGI is written in Rust; its framework refuses a body that does not fit the target type with
`text/plain` texts of the form `path: reason at line 1 column n`. Positions are those of the end of
the body, because Python's parser does not keep those of the fields.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

from langchain_sgd.embedded._errors import RejectionError

_T = TypeVar("_T")

_U32: Final = 2**32 - 1
_U64: Final = 2**64 - 1
_I32: Final = 2**31 - 1
_TOO_DEEP: Final = "recursion limit exceeded"
_PREFIX: Final = "Failed to deserialize the JSON body into the target type: "


def parse_json(raw: bytes, content_type: str | None) -> Any:
    """Parse a request's body.

    Raises:
        RejectionError: 415 for another content type, 400 for what is not JSON.
    """
    if not _is_json(content_type):
        raise RejectionError(415, "Expected request with `Content-Type: application/json`")

    try:
        # What stands after the first value is not read.
        value, _ = _DECODER.raw_decode(raw.decode().lstrip(" \t\r\n"))
        if b"\\u" in raw:
            # Python lets an escaped half of a surrogate pair through; it could not be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        position = f"line {error.lineno} column {error.colno}"
        _not_json(f"{error.msg} at {position}")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        _not_json(f"invalid unicode code point: {error.reason}")
    except RecursionError:
        _not_json(_TOO_DEEP)
    except ValueError as error:
        _not_json(str(error))
    return value


class _Map(dict[str, Any]):
    """A map that remembers which keys stood in it twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: frozenset[str] = frozenset()
        if len(self) < len(pairs):
            seen: set[str] = set()
            self.twice = frozenset(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _is_json(content_type: str | None) -> bool:
    mime = (content_type or "").partition(";")[0].strip().lower()
    kind, _, subtype = mime.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _no_constant(name: str) -> NoReturn:
    msg = f"expected value, not {name}"
    raise ValueError(msg)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Map, parse_constant=_no_constant)


def _not_json(reason: str) -> NoReturn:
    raise RejectionError(400, f"Failed to parse the request body as JSON: {reason}") from None


class Value:
    """One JSON value, with the path that leads to it."""

    __slots__ = ("_end", "path", "raw", "struct")

    def __init__(self, raw: Any, path: str = "", *, end: int) -> None:
        self.raw = raw
        self.path = path
        self.struct = ""
        self._end = end

    def named(self, struct: str) -> Value:
        """The same value, called by the name of TGI's type in complaints."""
        self.struct = struct
        return self

    def refuse(self, reason: str) -> NoReturn:
        """Refuse this value."""
        where = f"{self.path}: " if self.path else ""
        raise RejectionError(422, f"{_PREFIX}{where}{reason} at line 1 column {self._end}")

    def wrong(self, expected: str) -> NoReturn:
        """Refuse this value because another type was expected."""
        self.refuse(f"invalid type: {describe(self.raw)}, expected {expected}")

    # --- fields of a map

    def field(self, name: str) -> Value | None:
        """The field, or None where the map lacks it."""
        if not isinstance(self.raw, dict):
            self.wrong(f"struct {self.struct}" if self.struct else "a map")
        if isinstance(self.raw, _Map) and name in self.raw.twice:
            self.refuse(f"duplicate field `{name}`")
        if name not in self.raw:
            return None
        path = f"{self.path}.{name}" if self.path else name
        return Value(self.raw[name], path, end=self._end)

    def required(self, name: str) -> Value:
        """The field, which must be there."""
        found = self.field(name)
        if found is None:
            self.refuse(f"missing field `{name}`")
        return found

    def option(self, name: str, read: Callable[[Value], _T], *aliases: str) -> _T | None:
        """The field as `read` takes it; None where it is missing or null."""
        found = [value for alias in (name, *aliases) if (value := self.field(alias)) is not None]
        if len(found) > 1:
            self.refuse(f"duplicate field `{name}`")
        return read(found[0]) if found and found[0].raw is not None else None

    def default(self, name: str, read: Callable[[Value], _T], default: _T) -> _T:
        """The field as `read` takes it, or the default where it is missing; null is refused."""
        found = self.field(name)
        return default if found is None else read(found)

    def items(self) -> Iterator[Value]:
        """The elements of a sequence."""
        if not isinstance(self.raw, list):
            self.wrong("a sequence")
        for index, raw in enumerate(self.raw):
            yield Value(raw, f"{self.path}[{index}]", end=self._end)


def string(value: Value) -> str:
    """A string."""
    if not isinstance(value.raw, str):
        value.wrong("a string")
    return value.raw


def boolean(value: Value) -> bool:
    """A boolean."""
    if not isinstance(value.raw, bool):
        value.wrong("a boolean")
    return value.raw


def f32(value: Value) -> float:
    """A number; integers are taken too."""
    if isinstance(value.raw, bool) or not isinstance(value.raw, int | float):
        value.wrong("f32")
    try:
        single: float = struct.unpack("f", struct.pack("f", value.raw))[0]
    except OverflowError:
        return math.copysign(math.inf, value.raw)
    return single


def u32(value: Value) -> int:
    """An integer of 32 bits without sign."""
    return _integer(value, "u32", 0, _U32)


def i32(value: Value) -> int:
    """An integer of 32 bits."""
    return _integer(value, "i32", -_I32 - 1, _I32)


def u64(value: Value) -> int:
    """An integer of 64 bits without sign."""
    return _integer(value, "u64", 0, _U64)


def usize(value: Value) -> int:
    """A size."""
    return _integer(value, "usize", 0, _U64)


def strings(value: Value) -> tuple[str, ...]:
    """A sequence of strings."""
    return tuple(string(item) for item in value.items())


def anything(value: Value) -> Any:
    """The value as it is."""
    return value.raw


def _integer(value: Value, expected: str, low: int, high: int) -> int:
    raw = value.raw
    if isinstance(raw, bool) or not isinstance(raw, int) or raw > _U64:
        value.wrong(expected)
    if not low <= raw <= high:
        value.refuse(f"invalid value: integer `{raw}`, expected {expected}")
    return raw


def _floating(number: int) -> str:
    try:
        return str(float(number)).replace("e+", "e")
    except OverflowError:
        return "inf"


def describe(raw: Any) -> str:
    """A value's type as serde names it in its messages."""
    if raw is None:
        return "null"
    if isinstance(raw, bool):
        return f"boolean `{str(raw).lower()}`"
    if isinstance(raw, int) and raw <= _U64:
        return f"integer `{raw}`"
    if isinstance(raw, int | float):
        return f"floating point `{raw if isinstance(raw, float) else _floating(raw)}`"
    if isinstance(raw, str):
        return f"string {json.dumps(raw, ensure_ascii=False)}"
    return "map" if isinstance(raw, dict) else "sequence"
