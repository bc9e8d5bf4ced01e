"""Writes the table of options into `options.md`, from the descriptions of the fields themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from langchain_sgd import SGDRunnable

PAGE = Path(__file__).with_name("options.md")
BEGIN, END = "<!-- options -->", "<!-- /options -->"
_INHERITED = {"name"}


def table() -> str:
    """All options of `SGDRunnable`, one a row."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for name, field in SGDRunnable.model_fields.items():
        if name not in _INHERITED:
            meaning = (field.description or "").replace("|", "\\|")
            rows.append(f"| `{name}` | {_default(field)} | {meaning} |")
    return "\n".join(rows)


def _default(field: Any) -> str:
    if field.default_factory is not None:
        made = field.default_factory()
        return f"`{type(made).__name__}()`" if not isinstance(made, dict) else "none"
    return "none" if field.default is None else f"`{field.default!r}`".replace("'", '"')


def page(text: str) -> str:
    """The page with the table of today."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if page(text) != text:
        PAGE.write_text(page(text), encoding="utf-8")
        sys.stdout.write(f"{PAGE} is new\n")
