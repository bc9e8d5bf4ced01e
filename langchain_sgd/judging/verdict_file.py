"""Verdicts in a JSONL file: each is written when it is given, so a killed run goes on after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_sgd.errors import InvalidInputError

Row = dict[str, Any]


class VerdictFile:
    """Verdicts by what was asked.

    A row's `asked` is a digest of the judge's name and of every word that it was shown, so a verdict is
    found again only where the same judge would be asked the same. Others may stand in the same file.

    Args:
        path: The file; None keeps the verdicts in memory only.

    Raises:
        InvalidInputError: The file holds something else than verdicts.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        data = path.read_bytes()
        whole, newline, rest = data.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._rows[row["asked"]] = {"verdict": row["verdict"], **row}
            except (ValueError, KeyError, TypeError):
                msg = f"{path}, line {number} is no verdict; name another file to keep verdicts in"
                raise InvalidInputError(msg) from None
        if rest:  # the kill came in the middle of a row
            path.write_bytes(whole + newline)

    def get(self, asked: str) -> Row | None:
        """What was said when this was asked."""
        return self._rows.get(asked)

    def add(self, row: Row) -> None:
        """Keep a verdict."""
        self._rows[row["asked"]] = row
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
