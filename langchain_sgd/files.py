"""The files of users: text as their editors write it, JSON lines, and such lines that grow."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from langchain_sgd.errors import InvalidInputError

Row = dict[str, Any]
"""A JSON object on a line of its own."""


def read_text(path: Path) -> str:
    """The text of a file, without the mark that editors on Windows put before it.

    Raises:
        InvalidInputError: It is no text in UTF-8.
        OSError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _no_text(path) from None


def _no_text(path: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{path} is not text in UTF-8; save it as UTF-8 (editors ask for the encoding when they save,"
        " PowerShell has Out-File -Encoding utf8)"
    )


def json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects in a file of JSON lines, each with its line's number; blank lines are skipped.

    Raises:
        InvalidInputError: A line is no JSON object, or the file is no text.
        OSError: It cannot be read.
    """
    # Not splitlines: a JSON text may hold a bare U+2028.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, _object(line, f"{path}, line {number}")


def _object(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        msg = f"{place} is no JSON: {error}"
        raise InvalidInputError(msg) from None
    if not isinstance(row, dict):
        msg = f"{place} is no JSON object"
        raise InvalidInputError(msg)
    return row


class RowFile:
    """JSON lines that grow by a row at a time, so that a kill costs the row that is being written, no more.

    A last row that lacks only its newline is kept, and blank lines are skipped. The beginning of a row at
    the end is left out; it is cut off when the next row is added. Nothing is written before that.

    Args:
        path: The file.
        must_exist: Whether it is an error if it is not there.
        begins: How a row begins. Nothing else is ever cut off.
        fields: What every row has.
        what: What a line is that is no such row, and what to do about it; None says what is wrong with it.

    Raises:
        InvalidInputError: The file holds something else.
        OSError: It cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        must_exist: bool = False,
        begins: str = "{",
        fields: Collection[str] = (),
        what: str | None = None,
    ) -> None:
        self.rows: list[tuple[str, Row]] = []
        """Those that were there, each with its place."""
        self._path = path
        self._begins = begins
        self._fields = frozenset(fields)
        self._what = what
        self._end: int | None = None
        """Where a row begins that is to be cut off."""
        self._joint = b""
        """What is lacking before the next row."""
        if must_exist or path.exists():
            self._read(path.read_bytes())

    def _read(self, data: bytes) -> None:
        whole, _, rest = data.rpartition(b"\n")
        try:
            lines = whole.removeprefix(BOM_UTF8).decode().split("\n")
        except UnicodeDecodeError:
            raise _no_text(self._path) from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._keep(line, number)
        if not rest.strip():
            return
        last = rest.removeprefix(BOM_UTF8).decode(errors="replace")
        try:
            self._keep(last, data.count(b"\n") + 1)
        except InvalidInputError:
            if _is_json(last) or not (
                last.startswith(self._begins) or self._begins.startswith(last)
            ):
                raise
            self._end = len(data) - len(rest)
        else:
            self._joint = b"\n"

    def _keep(self, line: str, number: int) -> None:
        place = f"{self._path}, line {number}"
        try:
            row = _object(line, place)
        except InvalidInputError:
            if self._what is None:
                raise
            row = {}
        if not self._fields <= row.keys():
            msg = f"{place} is {self._what}"
            raise InvalidInputError(msg)
        self.rows.append((place, row))

    def add(self, row: Row) -> None:
        """Write a row.

        Raises:
            OSError: It cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._end is not None:
            with self._path.open("r+b") as file:
                file.truncate(self._end)
            self._end = None
        # Half characters stay escapes, which UTF-8 has no bytes for.
        line = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")
        with self._path.open("ab") as file:
            file.write(self._joint + line + b"\n")
        self._joint = b""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
