"""The default engine on x86-64 Linux: OpenVINO GenAI's continuous batching, in a process of its own.

It shares the prefixes of running requests by itself, in blocks of 32 tokens. It reads GGUF files and its own
folders; of GGUF files only the weights, for it takes 8 s to read a vocabulary of 150,000 tokens and splits
some texts wrongly. See `unfit` for the files that it must not be given.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import secrets
import sys
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from langchain_sgd.embedded._gguf import GGUF, as_q8_0, read_gguf
from langchain_sgd.embedded._grammar import grammar_regex
from langchain_sgd.embedded._openvino_process import Request, Worker
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import TokenStream
from langchain_sgd.embedded._text import DEFAULT_CONTEXT, Chats, TextEngine
from langchain_sgd.embedded._tokenizer import (
    TextDecoder,
    Tokenizer,
    from_folder,
    from_gguf,
    knows,
    metadata_of_folder,
)
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    EngineInputError,
    GenerateRequest,
    Sampling,
    Token,
)

__all__ = ["INSTALL_HINT", "OpenVINOEngine", "unfit"]

INSTALL_HINT: Final = 'pip install "langchain-sgd[embedded]"'

_ARCHITECTURES: Final = frozenset({"llama", "qwen2", "qwen3"})
_VERIFIED: Final = frozenset({"F32", "F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"})
"""Number formats whose next-token probabilities were compared with llama.cpp's. It reads Q4_1 wrongly
without a word (-1.86 for a token of -0.40), and stops at Q5_0, which files called Q4_K_M hold."""
_CONVERTED_UP_TO: Final = 700_000_000
"""Bytes of the largest file that is written anew with weights that it reads; 20 s and as much disk."""
_SMALL_FILE: Final = 32_000_000
_MOST_THREADS: Final = 16


def unfit(model: GGUF) -> str | None:
    """Why OpenVINO cannot be given a file, None where it can."""
    if (reason := unfit_machine()) is not None:
        return reason
    if model.architecture not in _ARCHITECTURES:
        return f"OpenVINO does not know the architecture {model.architecture!r}"
    if not knows(model):
        return "its vocabulary is of a kind that only llama.cpp splits rightly"
    wrong = sorted(model.tensor_types - _VERIFIED)
    if not _readable(model) and model.path.stat().st_size > _CONVERTED_UP_TO:
        return f"OpenVINO does not read {', '.join(wrong) or 'files without a type'} rightly"
    return None


def unfit_machine() -> str | None:
    """Why OpenVINO does not run here, None where it does."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return (
            f"OpenVINO's batching needs Linux on x86-64, not {sys.platform} on {platform.machine()}"
        )
    if importlib.util.find_spec("openvino_genai") is None:
        return f"the package openvino-genai is not installed: {INSTALL_HINT}"
    return None


def _readable(model: GGUF) -> bool:
    # Vectors are F32 in every file; of matrices in F32 it says that it knows no such format.
    known = model.tensor_types <= _VERIFIED and model.tensor_types != {"F32"}
    return "general.file_type" in model.fields and known


class OpenVINOEngine(TextEngine):
    """One model on OpenVINO GenAI's continuous batching; an `engine.Engine`.

    May be used from several event loops and threads at once. What it cannot do: `typical_p` is refused, and
    cached prompt tokens are not counted. A grammar that gets past all checks and still fails interrupts the
    other requests, which end with an `EngineError`; the pipeline is then built anew. If its process dies,
    so do the requests in it; the next one starts another.

    Args:
        path: A GGUF file, or a folder in OpenVINO's format with its `tokenizer.json`.
        slots: These and the others as of `load.load`.

    Raises:
        EngineError: The model cannot be used, or openvino-genai is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slots: int = 8,
        context: int | None = None,
        threads: int | None = None,
        model_id: str | None = None,
        progress: Callable[[str], object] | None = None,
    ) -> None:
        if (reason := unfit_machine()) is not None:
            raise EngineError(reason)
        tell = progress or (lambda _: None)
        path = Path(path)
        source = _folder(path) if path.is_dir() else _file(path, tell)
        tokenizer = self._tokenizer = source.tokenizer
        self._chats = Chats(
            source.template,
            bos=tokenizer.text_of(tokenizer.bos),
            eos=tokenizer.text_of(tokenizer.ends[-1] if tokenizer.ends else None),
            strip_bos=tokenizer.bos is not None,
            controls=tokenizer.pattern,
        )
        self._info = EngineInfo(
            model_id or source.name or path.stem,
            max_total_tokens=min(context or DEFAULT_CONTEXT, source.context or DEFAULT_CONTEXT),
            slots=slots,
            dtype=source.dtype,
            eos_token=tokenizer.text_of(tokenizer.ends[0] if tokenizer.ends else None),
            template_uses_tools=self._chats.uses_tools,
        )
        tell(f"loading {self._info.model_id} ({source.size / 1e6:.0f} MB) with OpenVINO")
        self._worker = Worker(
            {
                "path": str(source.path),
                "slots": slots,
                "context": self._info.max_total_tokens,
                "threads": threads or default_threads(source.size),
            },
            name=self._info.model_id,
        )
        # Also runs when the process ends.
        self._close = weakref.finalize(self, self._worker.close)

    @property
    def statistics(self) -> Statistics:
        """Steps, tokens and time so far; prompt tokens are counted as computed, cached or not."""
        return self._worker.statistics

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Raises:
            EngineInputError: The request asks for what this engine cannot do.
            EngineError: The engine failed or was closed.
        """
        tokenizer = self._tokenizer
        ids = tokenizer.encode(request.prompt)
        ids = ids if request.truncate is None else ids[-request.truncate :]
        self._check_length(len(ids), request.max_new_tokens)
        regex = None
        if request.grammar is not None:
            regex = await asyncio.to_thread(grammar_regex, request.grammar)
        await self._worker.ready()
        counters.prompt_tokens = len(ids)
        if not request.max_new_tokens:
            return
        stream = TokenStream()
        self._worker.submit(
            Request(
                ids=ids,
                limit=request.max_new_tokens,
                sampling=_config(request.sampling),
                regex=regex,
                stream=stream,
                logprobs=request.logprobs,
                decoder=TextDecoder(tokenizer),
                ends=tokenizer.ends,
            )
        )
        async with aclosing(stream.tokens()) as tokens:
            async for token in tokens:
                yield token

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens, the beginning-of-sequence token included."""
        return self._tokenizer.tokens(text)

    async def forget(self) -> None:
        """Empty the cache of prefixes, for measuring; no request may be in flight.

        Raises:
            EngineError: The engine failed or was closed.
        """
        await self._worker.ready()
        await asyncio.wrap_future(self._worker.forget())


# -- what is loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    path: Path
    tokenizer: Tokenizer
    template: str | None
    name: str | None
    context: int | None
    dtype: str
    size: int


def _file(path: Path, tell: Callable[[str], object]) -> _Source:
    tell(f"reading {path.name}")
    model = read_gguf(path)
    if (reason := unfit(model)) is not None:
        msg = f"{path}: {reason}; use llama.cpp: engine='llamacpp'"
        raise EngineError(msg)
    readable = path
    if not _readable(model):
        tell(f"writing {path.name} once more as Q8_0, which OpenVINO reads rightly")
        readable = as_q8_0(model)
    return _Source(
        path=readable,
        tokenizer=from_gguf(model),
        template=model.fields.get("tokenizer.chat_template"),
        name=model.fields.get("general.name"),
        context=model.of_model("context_length"),
        dtype="+".join(sorted(model.tensor_types - {"F32"}) or ["F32"]).lower(),
        size=readable.stat().st_size,
    )


def _folder(path: Path) -> _Source:
    weights = path / "openvino_model.bin"
    if not (path / "openvino_model.xml").is_file() or not weights.is_file():
        msg = f"{path} holds no model in OpenVINO's format (openvino_model.xml and .bin)"
        raise EngineError(msg)
    said = metadata_of_folder(path)
    ends = said.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    template = said.get("chat_template")
    return _Source(
        path=path,
        tokenizer=from_folder(path, ends),
        template=template if isinstance(template, str) else None,
        name=path.name,
        context=said.get("max_position_embeddings"),
        dtype="openvino",
        size=weights.stat().st_size,
    )


def default_threads(size: int) -> int:
    """How many threads compute a model best: one for a small file, else one for each core.

    Below 32 MB a step is so short that threads wait for each other more than they compute.
    """
    if size < _SMALL_FILE:
        return 1
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _config(sampling: Sampling) -> dict[str, Any]:
    """How tokens are drawn, in OpenVINO's names.

    Raises:
        EngineInputError: OpenVINO has no such parameter.
    """
    if sampling.typical_p is not None:
        msg = "The OpenVINO engine has no typical_p; leave it out or use top_p"
        raise EngineInputError(msg)
    config: dict[str, Any] = {}
    if sampling.temperature is not None:
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        config = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "rng_seed": seed % 2**63,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
        }
    config["repetition_penalty"] = sampling.repetition_penalty
    config["frequency_penalty"] = sampling.frequency_penalty
    return {name: value for name, value in config.items() if value is not None}
