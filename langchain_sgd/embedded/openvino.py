"""The default engine on x86-64 Linux: OpenVINO GenAI's continuous batching, in a process of its own.

It shares the prefixes of running requests by itself, in blocks of 32 tokens. It reads GGUF files and its own
folders; of GGUF files only the weights, for it takes 8 s to read a vocabulary of 150,000 tokens and splits
some texts wrongly. See `unfit` for the files that it must not be given.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import platform
import secrets
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final, Unpack

from langchain_sgd.embedded._child import Child, Keeper
from langchain_sgd.embedded._gguf import GGUF, as_q8_0, read_gguf
from langchain_sgd.embedded._grammar import grammar_regex
from langchain_sgd.embedded._text import INSTALL_HINT, Options, Source, TextEngine, source_of
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
    EngineInputError,
    GenerateRequest,
    Sampling,
    Statistics,
    Token,
)

__all__ = ["OpenVINOEngine", "unfit"]

_ARCHITECTURES: Final = frozenset({"llama", "qwen2", "qwen3"})
_VERIFIED: Final = frozenset({"F32", "F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"})
"""Number formats whose next-token probabilities were compared with llama.cpp's. It reads Q4_1 wrongly
without a word (-1.86 for a token of -0.40), and stops at Q5_0, which files called Q4_K_M hold."""
_CONVERTED_UP_TO: Final = 700_000_000
"""Bytes of the largest file that is written anew with weights that it reads; 20 s and as much disk."""


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


class OpenVINOEngine(TextEngine["Worker"]):
    """One model on OpenVINO GenAI's continuous batching; an `engine.Engine`.

    May be used from several event loops and threads at once. What it cannot do: `typical_p` is refused, and
    cached prompt tokens are not counted. A grammar that gets past all checks and still fails interrupts the
    other requests, which end with an `EngineError`; the pipeline is then built anew. If its process dies,
    so do the requests in it; the next one starts another.

    Args:
        path: A GGUF file, or a folder in OpenVINO's format with its `tokenizer.json`.
        options: As of `load.load`.

    Raises:
        EngineError: The model cannot be used, or openvino-genai is not installed.
    """

    name: Final = "openvino"

    def __init__(self, path: str | os.PathLike[str], **options: Unpack[Options]) -> None:
        if (reason := unfit_machine()) is not None:
            raise EngineError(reason)
        tell = options.get("progress") or (lambda _: None)
        path = Path(path)
        source, self._tokenizer = _folder(path) if path.is_dir() else _file(path, tell)
        super().__init__(source, Worker, "OpenVINO", **options)

    @property
    def statistics(self) -> Statistics:
        """Steps, tokens and time so far; prompt tokens are counted as computed, cached or not."""
        return self._keeper.statistics

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Raises:
            EngineInputError: The request asks for what this engine cannot do.
            EngineError: The engine failed or was closed.
        """
        tokenizer = self._tokenizer
        ids = self._kept(tokenizer.encode(request.prompt), request)
        regex = None
        if request.grammar is not None:
            regex = await asyncio.to_thread(grammar_regex, request.grammar)
        counters.prompt_tokens = len(ids)
        if not request.max_new_tokens:
            return
        asked = {
            "ids": ids,
            "limit": request.max_new_tokens,
            "ends": tokenizer.controls.ends,
            "logprobs": request.logprobs,
            "sampling": _config(request.sampling),
            "regex": regex,
        }
        async with aclosing(self._keeper.tokens(asked, TextDecoder(tokenizer))) as tokens:
            async for token in tokens:
                yield token

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens, the beginning-of-sequence token included."""
        return self._tokenizer.tokens(text)

    async def forget(self) -> None:
        """Empty the cache of prefixes, for measuring; requests in flight are lost.

        Raises:
            EngineError: The engine failed or was closed.
        """
        (await self._keeper.ready()).tell({"forget": True})
        async for _ in self.generate(GenerateRequest("x", 1), Counters()):
            pass  # answered by the new pipeline, which is there then


class Worker(Keeper):
    """The process that computes; who asks it may run in several loops and threads."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._asking: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[Any]]] = {}
        """Where what is made for each request is waited for."""
        self._adding = threading.Lock()
        self._ended: Child | None = None
        self._numbers = itertools.count(1)
        self.statistics = Statistics()
        super().__init__({**options, "engine": "openvino"}, name)

    async def tokens(
        self, asked: Mapping[str, Any], decoder: TextDecoder
    ) -> AsyncGenerator[Token, None]:
        """Yield a request's tokens as they are made; leaving them stops it.

        Raises:
            EngineInputError: The request was refused.
            EngineError: The process ended, or was closed.
        """
        child = await self.ready()
        made: asyncio.Queue[Any] = asyncio.Queue()
        with self._adding:
            if self.closed or child is self._ended:
                raise EngineError(self.last_words(child))
            number = next(self._numbers)
            self._asking[number] = asyncio.get_running_loop(), made
            self.statistics += Statistics(computed_prompt_tokens=len(asked["ids"]))
            child.tell({"add": {"number": number, **asked}})
        state = "running"
        try:
            while state == "running":
                ids, logprobs, state, reason = await made.get()
                for place, token in enumerate(ids, 1):
                    is_last = state == "ended" and place == len(ids)
                    logprob = logprobs[place - 1] if asked["logprobs"] else None
                    yield decoder.push(token, logprob, last=is_last)
        finally:
            del self._asking[number]
            if state == "running":
                child.tell({"cancel": number})
        if state != "ended":
            raise EngineInputError(reason) if state == "refused" else EngineError(reason)

    def listen(self, child: Child) -> None:
        """Hand on what a process sends, until it ends."""
        try:
            for message in child.lines():
                out = message["out"]
                if "busy_s" in message:
                    made = sum(len(ids) for _, ids, *_ in out)
                    with self._adding:
                        self.statistics += Statistics(1, made, busy_s=message["busy_s"])
                self._deliver(out)
        finally:
            with self._adding:
                self._ended = child
            words = self.last_words(child)
            self._deliver([[number, [], [], "lost", words] for number in list(self._asking)])

    def _deliver(self, out: Sequence[Sequence[Any]]) -> None:
        """Wake each loop once for all that its requests are told."""
        mail: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[Any], Sequence[Any]]]] = {}
        for number, *said in out:
            if (waiting := self._asking.get(number)) is not None:
                loop, made = waiting
                mail.setdefault(loop, []).append((made, said))
        for loop, letters in mail.items():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_hand_over, letters)


def _hand_over(letters: Sequence[tuple[asyncio.Queue[Any], Sequence[Any]]]) -> None:
    for made, said in letters:
        made.put_nowait(said)


# -- what is loaded


def _file(path: Path, tell: Callable[[str], object]) -> tuple[Source, Tokenizer]:
    tell(f"reading {path.name}")
    model = read_gguf(path)
    if (reason := unfit(model)) is not None:
        msg = f"{path}: {reason}; use llama.cpp: engine='llamacpp'"
        raise EngineError(msg)
    readable = None
    if not _readable(model):
        tell(f"writing {path.name} once more as Q8_0, which OpenVINO reads rightly")
        readable = as_q8_0(model)
    tokenizer = from_gguf(model)
    return source_of(model, tokenizer.controls, readable), tokenizer


def _folder(path: Path) -> tuple[Source, Tokenizer]:
    weights = path / "openvino_model.bin"
    if not (path / "openvino_model.xml").is_file() or not weights.is_file():
        msg = f"{path} holds no model in OpenVINO's format (openvino_model.xml and .bin)"
        raise EngineError(msg)
    said = metadata_of_folder(path)
    ends = said.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(isinstance(each, int) for each in ends):
        msg = f"{path} names other things than tokens' numbers as eos_token_id"
        raise EngineError(msg)
    tokenizer = from_folder(path, ends)
    source = Source(
        path=path,
        size=weights.stat().st_size,
        controls=tokenizer.controls,
        template=said.get("chat_template"),
        name=path.name,
        context=said.get("max_position_embeddings"),
        dtype="openvino",
    )
    return source, tokenizer


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
