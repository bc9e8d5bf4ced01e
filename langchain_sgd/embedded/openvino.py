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
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from langchain_sgd.embedded._child import Child, Keeper
from langchain_sgd.embedded._gguf import GGUF, as_q8_0, read_gguf
from langchain_sgd.embedded._grammar import grammar_regex
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import Mail, TokenStream
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


@dataclass(slots=True, eq=False)
class _Request:
    ids: Sequence[int]
    limit: int
    sampling: Mapping[str, Any]
    regex: str | None
    stream: TokenStream
    logprobs: bool
    decoder: TextDecoder
    ends: Sequence[int]
    out: list[Token] = field(default_factory=list)
    generated: int = 0

    def to_json(self) -> dict[str, Any]:
        """What the worker needs of it."""
        return {
            "ids": list(self.ids),
            "limit": self.limit,
            "ends": list(self.ends),
            "logprobs": self.logprobs,
            "sampling": self.sampling,
            "regex": self.regex,
        }


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
        self._worker = _Worker(
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
            _Request(
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


# -- the process that computes


class _Worker:
    """The process that computes, and the thread that reads what it sends.

    See `_openvino_worker` for the process and for what is said between the two.
    """

    def __init__(self, options: Mapping[str, Any], *, name: str) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            EngineError: OpenVINO cannot read the file.
        """
        self._name = name
        self._running: dict[int, _Request] = {}
        self._mail = Mail()
        self._lock = threading.Lock()
        self._forgetting: deque[Future[None]] = deque()
        self._number = self._generated = self._prompted = self._steps = 0
        self._busy_s = 0.0
        self._keeper = Keeper(
            "_openvino_worker.py", options, name, started=self._listen, ended=self._join
        )
        self.ready = self._keeper.ready
        self.close = self._keeper.close
        self._listen(self._keeper.child)

    def _listen(self, child: Child) -> None:
        self._before = (self._steps, self._busy_s)
        # A daemon, because a forgotten engine must not keep the process alive; closing joins it.
        self._thread = threading.Thread(
            target=self._run, args=(child,), name=f"openvino:{self._name}", daemon=True
        )
        self._thread.start()

    def _join(self, _: Child) -> None:
        # An engine that is collected as garbage may be collected in its own thread.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            steps=self._steps,
            generated_tokens=self._generated,
            computed_prompt_tokens=self._prompted,
            busy_s=self._busy_s,
        )

    def submit(self, request: _Request) -> None:
        """Hand a request over; its tokens, or why there are none, come by its stream.

        Raises:
            EngineError: The engine was closed.
        """
        with self._lock:
            if self._keeper.closed:
                raise EngineError(self._keeper.last_words())
            self._number += 1
            self._running[self._number] = request
            self._prompted += len(request.ids)
            self._keeper.child.tell({"add": {"number": self._number, **request.to_json()}})

    def forget(self) -> Future[None]:
        """Empty the cache."""
        with self._lock:
            waiting: Future[None] = Future()
            self._forgetting.append(waiting)
            self._keeper.child.tell({"forget": True})
        return waiting

    def _run(self, child: Child) -> None:
        try:
            for message in child.lines():
                self._read(message)
                self._mail.send()
        finally:
            self._end_all(child)

    def _end_all(self, child: Child) -> None:
        words = self._keeper.last_words()
        child.free()
        while self._forgetting:
            self._forgetting.popleft().set_exception(EngineError(words))
        for number in list(self._running):
            self._post(self._running.pop(number), ended=True, error=EngineError(words))
        self._mail.send()

    def _read(self, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            if (request := self._running.pop(message["refused"], None)) is not None:
                error = EngineInputError(f"OpenVINO refuses the request: {message['reason']}")
                self._post(request, ended=True, error=error)
        elif "forgotten" in message:
            self._forgetting.popleft().set_result(None)
        elif "broken" in message:
            for number in message["lost"]:
                self._lose(number, message["broken"], is_fresh=number in message["fresh"])
        else:
            self._steps = self._before[0] + message["steps"]
            self._busy_s = self._before[1] + message["busy_s"]
            for number, ids, logprobs, state in message["out"]:
                if (request := self._running.get(number)) is not None:
                    self._take(number, request, ids, logprobs, state)
            # A list, since requests are added meanwhile.
            for number, request in list(self._running.items()):
                if request.stream.abandoned:
                    del self._running[number]
                    self._keeper.child.tell({"cancel": number})

    def _take(
        self,
        number: int,
        request: _Request,
        ids: Sequence[int],
        logprobs: Sequence[float] | None,
        state: str,
    ) -> None:
        self._generated += len(ids)
        end = len(ids) - 1 if state == "ended" else None
        request.out += [
            request.decoder.push(
                token, None if logprobs is None else logprobs[place], last=place == end
            )
            for place, token in enumerate(ids)
        ]
        error = None
        if state == "given up":
            error = EngineError("OpenVINO gave the request up; try again with fewer at once")
        if state != "running":
            del self._running[number]
        self._post(request, ended=state != "running", error=error)

    def _lose(self, number: int, reason: str, *, is_fresh: bool) -> None:
        """The pipeline was built anew; the request that came last with a grammar, if one did, is to blame."""
        if (request := self._running.pop(number, None)) is None:
            return
        error = (
            EngineInputError(f"OpenVINO cannot follow the grammar: {reason}")
            if is_fresh and request.regex is not None
            else EngineError(f"OpenVINO failed, and was started again; try again: {reason}")
        )
        self._post(request, ended=True, error=error)

    def _post(self, request: _Request, *, ended: bool, error: EngineError | None = None) -> None:
        self._mail.add(request.stream, request.out, ended=ended, error=error)
        request.out = []
