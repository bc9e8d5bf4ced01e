"""Verdicts in a JSONL file: each is written when it is given, so a killed run goes on after it."""

from __future__ import annotations

from pathlib import Path

from langchain_sgd.files import Row, RowFile


class VerdictFile:
    """Verdicts by what was asked.

    A row's `asked` is a digest of the judge's name and of every word that it was shown, so a verdict is
    found again only where the same judge would be asked the same. Others may stand in the same file.

    Args:
        path: The file; None keeps the verdicts in memory only.

    Raises:
        InvalidInputError: The file holds something else than verdicts; nothing in it is touched then.
    """

    def __init__(self, path: Path | None) -> None:
        self._rows: dict[str, Row] = {}
        self._file: RowFile | None = None
        if path is None:
            return
        self._file = RowFile(
            path,
            begins='{"asked": "',
            fields=("asked", "verdict"),
            what="no verdict; name another file to keep verdicts in",
        )
        self._rows = {str(row["asked"]): row for _, row in self._file.rows}

    def get(self, asked: str) -> Row | None:
        """What was said when this was asked."""
        return self._rows.get(asked)

    def add(self, row: Row) -> None:
        """Keep a verdict."""
        self._rows[row["asked"]] = row
        if self._file is not None:
            self._file.add(row)
