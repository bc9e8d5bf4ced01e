"""Which engine runs a model, and the model loaded with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, Unpack

from langchain_sgd.embedded import openvino
from langchain_sgd.embedded._gguf import read_gguf
from langchain_sgd.embedded._text import Options
from langchain_sgd.embedded.engine import EngineError
from langchain_sgd.embedded.llamacpp import LlamaCppEngine
from langchain_sgd.embedded.openvino import OpenVINOEngine

__all__ = ["EngineName", "LocalEngine", "choose", "load"]

EngineName = Literal["auto", "openvino", "llamacpp"]
LocalEngine = OpenVINOEngine | LlamaCppEngine

SLOW: Final = "SGD gains little there, because llama.cpp batches poorly on a CPU"


def choose(
    path: str | os.PathLike[str], engine: EngineName = "auto"
) -> tuple[type[LocalEngine], str | None]:
    """The engine for a model, and why it is not the default one.

    Raises:
        EngineError: There is no such model, it is damaged, or no engine runs it.
    """
    path = Path(path)
    if path.is_dir():
        if engine == "llamacpp":
            msg = f"llama.cpp reads GGUF files, not the folder {path}"
            raise EngineError(msg)
        return OpenVINOEngine, None
    if engine == "llamacpp":
        return LlamaCppEngine, None
    reason = openvino.unfit(read_gguf(path)) if engine == "auto" else None
    return (OpenVINOEngine, None) if reason is None else (LlamaCppEngine, reason)


def load(
    path: str | os.PathLike[str], *, engine: EngineName = "auto", **options: Unpack[Options]
) -> LocalEngine:
    """Load a GGUF file, or a folder in OpenVINO's format.

    Args:
        path: The file or folder.
        engine: What runs it. "auto" is OpenVINO where it runs and reads the file rightly, else llama.cpp.
        options: Others, by name:
            slots: Requests decoded together, 8 by default; more wait.
            context: Most tokens of a request, prompt and answer together; 4096 by default, and no more than
                the model was trained for.
            threads: Threads that compute. None chooses: 1 for files below 32 MB, else all cores.
            model_id: What the model is called; the name in the file by default.
            progress: Told what takes long, and which engine was chosen why.

    Raises:
        EngineError: It cannot be loaded; the message says what to do.
        ValueError: A number is below 1.
    """
    for name in ("slots", "context", "threads"):
        number = options.get(name)
        if isinstance(number, int) and number < 1:
            msg = f"{name} must be at least 1, not {number}"
            raise ValueError(msg)
    kind, reason = choose(path, engine)
    if reason is None:
        try:
            return kind(path, **options)
        except EngineError as error:
            if engine != "auto" or Path(path).is_dir():
                raise
            reason = str(error)
    if (progress := options.get("progress")) is not None:
        progress(f"{Path(path).name} runs on llama.cpp: {reason}. {SLOW}")
    return LlamaCppEngine(path, **options)
