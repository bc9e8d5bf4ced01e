"""The opt-in engine: OpenVINO GenAI, whose kernels batch better where the processor has AVX-512.

It reads the same GGUF files (F16, Q8_0, Q4_0; Llama and Qwen architectures), but only the weights: it
tokenizes byte-level BPE wrongly, so tokens come from llama.cpp's vocabulary. Its own prefix cache works
by blocks of 32 tokens. See `OpenVINOEngine` for what it cannot do.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._batching import again
from langchain_sgd.embedded._context import Model, default_threads
from langchain_sgd.embedded._grammar import grammar_text
from langchain_sgd.embedded._json_regex import json_regex
from langchain_sgd.embedded._llama import library
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import Outbox, Outboxes, TokenStream
from langchain_sgd.embedded._text import Text, check_numbers
from langchain_sgd.embedded._vocabulary import TextDecoder, Vocabulary
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    EngineInputError,
    GenerateRequest,
    Grammar,
    Sampling,
    Token,
)

__all__ = ["INSTALL_HINT", "OpenVINOEngine"]

INSTALL_HINT: Final = 'pip install "langchain-sgd[embedded,openvino]"'

_STOP_TIMEOUT_S: Final = 10.0
"""For the worker to end in after it was told to; it may be in the middle of a long step."""


@dataclass(slots=True, eq=False)
class _Request:
    prompt: npt.NDArray[np.int32]
    limit: int
    sampling: Mapping[str, Any]
    regex: str | None
    stream: TokenStream
    counters: Counters
    logprobs: bool
    decoder: TextDecoder
    out: list[Token] = field(default_factory=list)

    def to_json(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """What the worker needs of it."""
        return {
            "ids": self.prompt.tolist(),
            "limit": self.limit,
            "ends": list(vocabulary.end_tokens),
            "logprobs": self.logprobs,
            "sampling": self.sampling,
            "regex": self.regex,
        }


class OpenVINOEngine:
    """One GGUF model on OpenVINO GenAI's continuous batching; an `engine.Engine`.

    What differs from the default engine: `typical_p` is refused; JSON schemas are read as TGI reads them
    and refused where an expression cannot say them; cached prompt tokens are not counted; a model takes
    seconds to load. A grammar that gets past all checks and still fails interrupts the other requests,
    which end with an `EngineError`; the pipeline is then built anew.

    Args:
        path: The GGUF file.
        slots: Requests decoded together; more wait.
        context: Most tokens of a request, prompt and answer together.
        threads: Threads that compute. None chooses: 1 for files below 32 MB, else all cores.
        model_id: What the model is called; the name in the file by default.
        json_separators: How JSON grammars separate items, and keys from values.

    Raises:
        EngineError: The file cannot be used, or openvino-genai is not installed.
        ValueError: A number is below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slots: int = 8,
        context: int = 1024,
        threads: int | None = None,
        model_id: str | None = None,
        json_separators: tuple[str, str] = (",", ":"),
    ) -> None:
        check_numbers(slots=slots, context=context, threads=threads)
        model = Model(library(), Path(path), vocabulary_only=True)
        self._separators = json_separators
        self._text = Text(
            model, slots=slots, context=context, model_id=model_id, json_separators=json_separators
        )
        self._outboxes = Outboxes()
        vocabulary = self._text.vocabulary

        def free() -> None:
            vocabulary.close()
            model.free()

        try:
            self._worker = _Worker(
                path=model.path,
                slots=slots,
                context=self.info.max_total_tokens,
                threads=threads or default_threads(model.path),
                vocabulary=vocabulary,
                on_end=free,
                name=self.info.model_id,
            )
        except EngineError:
            free()
            raise
        self._close = weakref.finalize(self, self._worker.close)

    @property
    def info(self) -> EngineInfo:
        """What the model is and what it can hold."""
        return self._text.info

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
        self._worker.check()
        text = self._text
        prompt = text.prompt(request)
        regex = None
        if request.grammar is not None:
            regex = await asyncio.to_thread(self._expression, request.grammar)
        stream = TokenStream(self._outboxes.mine())
        self._worker.submit(
            _Request(
                prompt=prompt,
                limit=request.max_new_tokens,
                sampling=_config(request.sampling),
                regex=regex,
                stream=stream,
                counters=counters,
                logprobs=request.logprobs,
                decoder=TextDecoder(text.vocabulary),
            )
        )
        async with aclosing(stream.tokens()) as tokens:
            async for token in tokens:
                yield token

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """Apply the model's chat template, generation prompt included.

        Raises:
            EngineInputError: The model has no template, or the template refuses these messages.
            EngineError: The template is broken, or jinja2 is not installed.
        """
        return self._text.render_chat(messages, tools)

    async def tokenize(self, text: str) -> list[Token]:
        """Split text into the model's tokens, the beginning-of-sequence token included."""
        return self._text.tokenize(text)

    async def share_prefix(self, text: str) -> int:  # noqa: ARG002 - part of the interface
        """Do nothing: OpenVINO shares prefixes by itself."""
        return 0

    async def aclose(self) -> None:
        """Free the model; requests in flight end with an `EngineError`. May be called again."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As `aclose`, for code without an event loop; waits for the step in progress."""
        self._close()

    def _expression(self, grammar: Grammar) -> str:
        """The grammar as a regular expression that both llguidance and OpenVINO have a say on.

        A grammar that OpenVINO refuses interrupts everybody, so llguidance, which refuses much the
        same ones without harm, is asked first.
        """
        kind, text = grammar_text(grammar, self._separators)
        if kind == "json":
            text = json_regex(json.loads(text), self._separators)
        self._text.compile(Grammar("regex", text))
        return text


class _Worker:
    """The process that computes, and the thread that reads what it sends.

    See `_openvino_worker` for the process and for what is said between the two.
    """

    def __init__(
        self,
        *,
        path: Path,
        slots: int,
        context: int,
        threads: int,
        vocabulary: Vocabulary,
        on_end: Callable[[], None],
        name: str,
    ) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            EngineError: OpenVINO is not installed, or cannot read the file.
        """
        self._vocabulary = vocabulary
        self._on_end = on_end
        self._running: dict[int, _Request] = {}
        self._outboxes: set[Outbox] = set()
        self._lock = threading.Lock()
        self._end: EngineError | None = None
        self._number = self._steps = self._generated = self._prompted = 0
        self._busy_s = 0.0
        self._process = _start(
            {"path": str(path), "slots": slots, "context": context, "threads": threads}
        )
        # A daemon, because a forgotten engine must not keep the process alive; closing joins it.
        self._thread = threading.Thread(target=self._run, name=f"openvino:{name}", daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            steps=self._steps,
            generated_tokens=self._generated,
            computed_prompt_tokens=self._prompted,
            busy_s=self._busy_s,
        )

    def check(self) -> None:
        """Complain if it has ended.

        Raises:
            EngineError: Why it has.
        """
        if self._end is not None:
            raise again(self._end)

    def submit(self, request: _Request) -> None:
        """Hand a request over; its tokens, or why there are none, come by its stream.

        Raises:
            EngineError: The engine was closed, or has died.
        """
        with self._lock:
            self.check()
            self._number += 1
            self._prompted += len(request.prompt)
            request.counters.prompt_tokens = len(request.prompt)
            self._running[self._number] = request
            self._tell({"add": {"number": self._number, **request.to_json(self._vocabulary)}})

    def close(self) -> None:
        """End all requests with an `EngineError`, and the process."""
        with self._lock:
            self._end = self._end or EngineError("The engine was closed")
            with suppress(OSError):
                _pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        # An engine that is collected as garbage may be collected in its own thread.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _tell(self, message: Mapping[str, Any]) -> None:
        # A process that has died is noticed by the thread that reads.
        with suppress(OSError, ValueError):
            pipe = _pipe(self._process.stdin)
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

    def _run(self) -> None:
        try:
            for line in _pipe(self._process.stdout):
                self._read(json.loads(line))
                self._send()
        finally:
            self._end_all()

    def _end_all(self) -> None:
        code = self._process.wait()
        with self._lock:
            if self._end is None:
                msg = f"OpenVINO's process ended by itself (exit status {code}); make a new engine"
                self._end = EngineError(msg)
                with suppress(OSError):
                    _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()
        for request in self._running.values():
            self._post(request, ended=True, error=self._end)
        self._running.clear()
        self._send()
        self._on_end()

    def _read(self, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            if (request := self._running.pop(message["refused"], None)) is not None:
                error = EngineInputError(f"OpenVINO refuses the request: {message['reason']}")
                self._post(request, ended=True, error=error)
        elif "broken" in message:
            for number in message["lost"]:
                self._lose(number, message["broken"], is_fresh=number in message["fresh"])
        else:
            self._steps, self._busy_s = message["steps"], message["busy_s"]
            for number, ids, logprobs, state in message["out"]:
                if (request := self._running.get(number)) is not None:
                    self._take(number, request, ids, logprobs, state)
            # A list, since requests are added meanwhile.
            for number, request in list(self._running.items()):
                if request.stream.abandoned:
                    del self._running[number]
                    with self._lock:
                        self._tell({"cancel": number})

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
        outbox = request.stream.outbox
        outbox.post(request.stream, request.out, ended=ended, error=error and again(error))
        request.out = []
        self._outboxes.add(outbox)

    def _send(self) -> None:
        for outbox in self._outboxes:
            outbox.flush()
        self._outboxes.clear()


def _start(options: Mapping[str, Any]) -> subprocess.Popen[str]:
    """A worker that has loaded the model.

    Raises:
        EngineError: OpenVINO is not installed, or cannot read the file.
    """
    if importlib.util.find_spec("openvino_genai") is None:
        msg = f"The OpenVINO engine needs the package openvino-genai: {INSTALL_HINT}"
        raise EngineError(msg)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
        # -P, or the modules beside the program would stand for OpenVINO's.
        [sys.executable, "-P", str(Path(__file__).with_name("_openvino_worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    stdin, stdout = _pipe(process.stdin), _pipe(process.stdout)
    with suppress(OSError):
        stdin.write(json.dumps(options) + "\n")
        stdin.flush()
    answer = stdout.readline()
    if answer and "loaded" in (said := json.loads(answer)):
        return process
    reason = said["failed"] if answer else "its process ended; what it said stands above"
    with suppress(OSError):
        stdin.close()
    stdout.close()
    process.wait()
    msg = f"OpenVINO could not load {options['path']}: {reason}"
    raise EngineError(msg)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        msg = "the process was started without pipes"
        raise RuntimeError(msg)
    return pipe


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
