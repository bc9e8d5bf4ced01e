"""Where a command's JSON goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from langchain_sgd.terminal.safe import json_text

STDOUT: Final = Path("-")


def write_json(path: Path, value: Any) -> None:
    """Write it into a file, or to standard output, whatever characters that takes."""
    text = json_text(value)
    if path != STDOUT:
        path.write_text(text, encoding="utf-8")
        return
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2) + "\n"
    sys.stdout.write(text)
