"""The opt-in engine: OpenVINO GenAI, whose kernels batch better where the processor has AVX-512.

It reads the same GGUF files (F16, Q8_0, Q4_0; Llama and Qwen architectures), but only the weights: it
tokenizes byte-level BPE wrongly, so tokens come from llama.cpp's vocabulary. Its own prefix cache works
by blocks of 32 tokens. See `OpenVINOEngine` for what it cannot do.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import secrets
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._batching import Statistics, again
from langchain_sgd.embedded._context import Model, default_threads
from langchain_sgd.embedded._grammar import grammar_text
from langchain_sgd.embedded._json_regex import json_regex
from langchain_sgd.embedded._llama import library
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

_BLOCK: Final = 32
_PROMPT_TOKENS_PER_STEP: Final = 256


@dataclass(slots=True, eq=False)
class _Request:
    prompt: npt.NDArray[np.int64]
    config: Any
    constrained: bool
    stream: TokenStream
    counters: Counters
    logprobs: bool
    limit: int
    decoder: TextDecoder
    handle: Any = None
    generated: int = 0
    out: list[Token] = field(default_factory=list)


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
        blocks = slots * (self.info.max_total_tokens // _BLOCK + 1)
        try:
            pipeline = _Pipeline(
                model.path,
                slots=slots,
                blocks=blocks,
                threads=threads or default_threads(model.path),
            )
        except EngineError:
            model.free()
            raise
        self._pipeline = pipeline

        vocabulary = self._text.vocabulary

        def free() -> None:
            vocabulary.close()
            model.free()

        self._loop = _Loop(pipeline, vocabulary, on_end=free, name=self.info.model_id)
        self._close = weakref.finalize(self, self._loop.close)

    @property
    def info(self) -> EngineInfo:
        """What the model is and what it can hold."""
        return self._text.info

    @property
    def statistics(self) -> Statistics:
        """Steps, tokens and time so far; prompt tokens are counted as computed, cached or not."""
        return self._loop.statistics

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield the tokens of a continuation as they are made; see `engine.Engine`.

        Raises:
            EngineInputError: The request asks for what this engine cannot do.
            EngineError: The engine failed or was closed.
        """
        text = self._text
        prompt = text.prompt(request)
        regex = None
        if request.grammar is not None:
            regex = await asyncio.to_thread(self._expression, request.grammar)
        stream = TokenStream(self._outboxes.mine())
        self._loop.submit(
            _Request(
                prompt=prompt.astype(np.int64),
                config=self._pipeline.config(request, regex, text.vocabulary.end_tokens),
                constrained=regex is not None,
                stream=stream,
                counters=counters,
                logprobs=request.logprobs,
                limit=request.max_new_tokens,
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


class _Pipeline:
    """OpenVINO's pipeline, and how to build it again."""

    def __init__(self, path: Path, *, slots: int, blocks: int, threads: int) -> None:
        try:
            # Only this engine needs them, and checks must not.
            openvino = importlib.import_module("openvino")
            openvino_genai = importlib.import_module("openvino_genai")
        except ImportError as error:
            msg = f"The OpenVINO engine needs the package openvino-genai: {INSTALL_HINT}"
            raise EngineError(msg) from error
        self._genai: Any = openvino_genai
        self._tensor: Any = openvino.Tensor
        self._path = path
        self.running: Final[Any] = openvino_genai.GenerationStatus.RUNNING
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = slots
        scheduler.max_num_batched_tokens = max(_PROMPT_TOKENS_PER_STEP, slots)
        scheduler.num_kv_blocks = blocks
        self._scheduler: Any = scheduler
        # Its default of bfloat16 changes what a model says.
        self._properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._pipeline: Any = None
        self.build()

    def build(self) -> None:
        """Load the model; what the last pipeline was doing is lost.

        Raises:
            EngineError: OpenVINO cannot read the file.
        """
        self._pipeline = None
        try:
            self._pipeline = self._genai.ContinuousBatchingPipeline(
                str(self._path), self._scheduler, "CPU", self._properties
            )
        except RuntimeError as error:
            msg = f"OpenVINO could not load {self._path}: {_brief(error)}"
            raise EngineError(msg) from error

    def config(self, request: GenerateRequest, regex: str | None, ends: Sequence[int]) -> Any:
        """A request in OpenVINO's terms.

        Raises:
            EngineInputError: A sampling parameter is unknown to OpenVINO.
        """
        config = self._genai.GenerationConfig()
        config.max_new_tokens = request.max_new_tokens
        config.eos_token_id = ends[0]
        config.stop_token_ids = set(ends)
        config.logprobs = int(request.logprobs)
        _apply(request.sampling, config)
        if regex is not None:
            structured = self._genai.StructuredOutputConfig()
            structured.regex = regex
            config.structured_output_config = structured
        return config

    def add(self, number: int, request: _Request) -> Any:
        """Hand a request over.

        Raises:
            RuntimeError: OpenVINO refuses it.
        """
        ids = self._tensor(request.prompt.reshape(1, -1))
        return self._pipeline.add_request(number, ids, request.config)

    def step(self) -> None:
        """Compute the next token of all requests.

        Raises:
            RuntimeError: It failed, and will fail from now on.
        """
        self._pipeline.step()

    def drop(self, handles: Sequence[Any]) -> None:
        """Free the model; requests in flight must be given up first, or it complains on stderr."""
        if handles:
            for handle in handles:
                handle.cancel()
            # It may have failed before; there is nothing left to lose.
            with suppress(RuntimeError):
                self._pipeline.step()
        self._pipeline = None


class _Loop:
    """The thread that drives a pipeline."""

    def __init__(
        self,
        pipeline: _Pipeline,
        vocabulary: Vocabulary,
        *,
        on_end: Callable[[], None],
        name: str,
    ) -> None:
        self._pipeline = pipeline
        self._vocabulary = vocabulary
        self._on_end = on_end
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._running: list[_Request] = []
        self._fresh: list[_Request] = []
        self._outboxes: set[Outbox] = set()
        self._lock = threading.Lock()
        self._end: EngineError | None = None
        self._number = self._steps = self._generated = self._prompted = 0
        self._busy_s = 0.0
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

    def submit(self, request: _Request) -> None:
        with self._lock:
            if self._end is not None:
                raise again(self._end)
            self._inbox.put(request)

    def close(self) -> None:
        self._refuse(EngineError("The engine was closed"))
        # An engine that is collected as garbage may be collected in its own thread.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _refuse(self, error: EngineError) -> None:
        with self._lock:
            if self._end is None:
                self._end = error
                self._inbox.put(None)

    def _run(self) -> None:
        try:
            while self._receive():
                self._step()
                self._send()
        except BaseException as error:
            failure = EngineError(f"The engine's thread died: {error!r}")
            failure.__cause__ = error
            self._refuse(failure)
            raise
        finally:
            self._end_all()
            self._on_end()

    def _end_all(self) -> None:
        waiting = []
        while not self._inbox.empty():
            request = self._inbox.get()
            if request is not None:
                waiting.append(request)
        for request in (*self._running, *waiting):
            self._post(request, ended=True, error=self._end)
        self._send()
        self._pipeline.drop([request.handle for request in self._running])
        self._running.clear()

    def _receive(self) -> bool:
        while True:
            try:
                request = self._inbox.get(block=not self._running)
            except Empty:
                break
            if request is None:
                return False
            if not request.stream.abandoned:
                self._add(request)
        for request in [request for request in self._running if request.stream.abandoned]:
            request.handle.cancel()
            self._running.remove(request)
        return True

    def _add(self, request: _Request) -> None:
        try:
            request.handle = self._pipeline.add(self._number, request)
        except RuntimeError as error:
            failure = EngineInputError(f"OpenVINO refuses the request: {_brief(error)}")
            self._post(request, ended=True, error=failure)
            self._send()
            return
        self._number += 1
        request.counters.prompt_tokens = len(request.prompt)
        self._prompted += len(request.prompt)
        self._running.append(request)
        self._fresh.append(request)

    def _step(self) -> None:
        if not self._running:
            return
        started = time.perf_counter()
        try:
            self._pipeline.step()
        except RuntimeError as error:
            self._start_again(error)
            return
        self._busy_s += time.perf_counter() - started
        self._steps += 1
        self._fresh.clear()
        for request in list(self._running):
            self._read(request)

    def _read(self, request: _Request) -> None:
        ended = False
        while not ended and request.handle.can_read():
            for output in request.handle.read().values():
                for token, logprob in zip(
                    output.generated_ids, output.generated_log_probs, strict=True
                ):
                    request.generated += 1
                    self._generated += 1
                    last = request.generated == request.limit
                    request.out.append(
                        request.decoder.push(
                            token, logprob if request.logprobs else None, last=last
                        )
                    )
                    ended = ended or last or token in self._vocabulary.ends
        if not ended and request.handle.get_status() != self._pipeline.running:
            # Out of cache blocks, which it does not say otherwise.
            error = EngineError("OpenVINO gave the request up; try again with fewer at once")
            self._post(request, ended=True, error=error)
            self._running.remove(request)
        elif request.out or ended:
            self._post(request, ended=ended)
            if ended:
                self._running.remove(request)

    def _start_again(self, error: RuntimeError) -> None:
        """Build the pipeline anew; blame the request that came last with a grammar, if one did."""
        reason = _brief(error)
        for request in self._running:
            blamed = request.constrained and request in self._fresh
            failure = (
                EngineInputError(f"OpenVINO cannot follow the grammar: {reason}")
                if blamed
                else EngineError(f"OpenVINO failed, and was started again; try again: {reason}")
            )
            self._post(request, ended=True, error=failure)
        self._running.clear()
        self._fresh.clear()
        self._pipeline.build()

    def _post(self, request: _Request, *, ended: bool, error: EngineError | None = None) -> None:
        outbox = request.stream.outbox
        outbox.post(request.stream, request.out, ended=ended, error=error and again(error))
        request.out = []
        self._outboxes.add(outbox)

    def _send(self) -> None:
        for outbox in self._outboxes:
            outbox.flush()
        self._outboxes.clear()


def _apply(sampling: Sampling, config: Any) -> None:
    if sampling.typical_p is not None:
        msg = "The OpenVINO engine has no typical_p; leave it out or use top_p"
        raise EngineInputError(msg)
    if sampling.temperature is not None:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.rng_seed = (secrets.randbits(32) if sampling.seed is None else sampling.seed) % 2**63
        if sampling.top_k is not None:
            config.top_k = sampling.top_k
        if sampling.top_p is not None:
            config.top_p = sampling.top_p
    if sampling.repetition_penalty is not None:
        config.repetition_penalty = sampling.repetition_penalty
    if sampling.frequency_penalty is not None:
        config.frequency_penalty = sampling.frequency_penalty


def _brief(error: Exception) -> str:
    """The last line of one of OpenVINO's messages; the others name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
