"""The files of users: text as their editors write it, JSON lines, and such lines that grow."""

from __future__ import annotations

import json
import os
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
    the end is left out; it is overwritten with blanks when the next row is added. Nothing is written before
    that, and nothing is ever cut off: another process may add rows to the same file.

    Args:
        path: The file.
        must_exist: Whether it is an error if it is not there.
        begins: How a row begins. Nothing else is ever overwritten.
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
        try:
            self._keep(_text(rest), data.count(b"\n") + 1)
        except InvalidInputError:
            if not self._is_begun(rest):
                raise

    def _is_begun(self, last: bytes) -> bool:
        """Whether bytes at the end are the beginning of a row of ours."""
        text = _text(last).lstrip()
        return not _is_json(text) and (
            text.startswith(self._begins) or self._begins.startswith(text)
        )

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
        # Half characters stay escapes, which UTF-8 has no bytes for.
        line = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")
        joint = self._end_last_line()
        with self._path.open("ab") as file:
            file.write(joint + line + b"\n")

    def _end_last_line(self) -> bytes:
        """Blank half a row at the end, and give what is lacking before the next one.

        It is looked up now, since others may have added rows after this one was opened.
        """
        if not self._path.exists():
            return b""
        with self._path.open("r+b") as file:
            if not file.seek(0, os.SEEK_END):
                return b""
            file.seek(-1, os.SEEK_END)
            if file.read() == b"\n":
                return b""
            file.seek(0)
            data = file.read()
            last = data.rpartition(b"\n")[2]
            if not self._is_begun(last):
                return b"\n"
            file.seek(len(data) - len(last))
            file.write(b" " * len(last))
        return b""


def _text(last: bytes) -> str:
    return last.removeprefix(BOM_UTF8).decode(errors="replace")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
