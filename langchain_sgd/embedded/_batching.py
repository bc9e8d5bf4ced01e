"""The loop that decodes all requests of a model together: one thread, one batch per step.

A step takes the next token of every running request and, as far as the batch has room, the prompts of
new ones. Prompts take over what is already computed of them (see `_prefixes`); one that shares its
beginning with a prompt still being computed waits for that one, so that a fan-out over a new prefix
computes it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Final

import numpy as np
import numpy.typing as npt

from langchain_sgd.embedded._context import Context
from langchain_sgd.embedded._grammar import Matcher
from langchain_sgd.embedded._prefixes import Kept, common_length, longest
from langchain_sgd.embedded._sampling import Sampler
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import Outbox, TokenStream
from langchain_sgd.embedded._vocabulary import TextDecoder, Vocabulary
from langchain_sgd.embedded.engine import Counters, EngineError, Token

# Waiting for another prompt pays when it saves more than a step's fixed cost.
_WORTH_WAITING: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request that has been checked and translated."""

    prompt: npt.NDArray[np.int32]
    max_new_tokens: int
    """0 only computes the prompt."""
    stream: TokenStream
    counters: Counters
    sampler: Sampler | None = None
    """None takes the most probable token."""
    matcher: Matcher | None = None
    logprobs: bool = False


@dataclass(slots=True, eq=False)
class _Running:
    job: Job
    sequence: int
    tokens: npt.NDArray[np.int32]
    """Prompt and generated tokens; the first `length` are known, the first `computed` are cached."""
    length: int
    computed: int
    taken_over: int
    decoder: TextDecoder
    generated: int = 0
    place: int = -1
    """Where the batch holds its last token; -1 when no prediction is due in this step."""
    out: list[Token] = field(default_factory=list)


class Batcher:
    """Owns a context and the thread that drives it."""

    def __init__(
        self,
        context: Context,
        vocabulary: Vocabulary,
        *,
        slots: int,
        kept: Kept,
        sequences: int,
        on_end: Callable[[], None],
        name: str,
    ) -> None:
        """Start the thread.

        Args:
            context: What decodes; the thread's alone from now on.
            vocabulary: The model's tokens.
            slots: Most requests per step; more wait.
            kept: What finished requests may leave in the cache.
            sequences: Sequences of the context.
            on_end: Called by the thread when it has ended, to free what it used.
            name: The thread's name.
        """
        self._context = context
        self._vocabulary = vocabulary
        self._slots = slots
        self._kept = kept
        self._free = list(range(sequences))
        self._on_end = on_end
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: list[Job] = []
        self._running: list[_Running] = []
        self._outboxes: set[Outbox] = set()
        self._lock = Lock()
        self._end: EngineError | None = None
        self._sequences = sequences
        self._steps = self._generated_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._forced_tokens = 0
        self._by_size: dict[int, tuple[int, float]] = {}
        # A daemon, because a forgotten engine must not keep the process alive; closing joins it.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> Statistics:
        """Counts so far."""
        return Statistics(
            steps=self._steps,
            generated_tokens=self._generated_tokens,
            computed_prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_tokens,
            forced_tokens=self._forced_tokens,
            busy_s=sum(seconds for _, seconds in self._by_size.copy().values()),
            by_size=self._by_size.copy(),
        )

    def submit(self, job: Job) -> None:
        """Queue a job; its tokens, or why there are none, come by its stream.

        Raises:
            EngineError: The engine was closed, or has died.
        """
        with self._lock:
            if self._end is not None:
                raise again(self._end)
            self._inbox.put(job)

    def close(self) -> None:
        """End all jobs with an `EngineError`, free the model and wait for the thread."""
        self._refuse(EngineError("The engine was closed"))
        # An engine that is collected as garbage may be collected in its own thread.
        if current_thread() is not self._thread:
            self._thread.join()

    def _refuse(self, error: EngineError) -> None:
        with self._lock:
            if self._end is None:
                self._end = error
                self._inbox.put(None)

    def _run(self) -> None:
        try:
            while self._receive():
                self._admit()
                if self._running:
                    self._step()
                self._outboxes = {each for each in self._outboxes if not each.flush_in_time()}
        except BaseException as error:
            failure = EngineError(f"The engine's thread died: {error!r}")
            failure.__cause__ = error
            self._refuse(failure)
            raise
        finally:
            self._end_all()
            self._on_end()

    def _end_all(self) -> None:
        while True:
            try:
                job = self._inbox.get_nowait()
            except Empty:
                break
            if job is not None:
                self._waiting.append(job)
        for running in self._running:
            self._post(running.job, running.out, ended=True, error=self._end)
        for job in self._waiting:
            self._post(job, ended=True, error=self._end)
        self._running.clear()
        self._waiting.clear()
        self._send()

    def _receive(self) -> bool:
        """Take in new jobs, waiting for one when there is nothing to do; False at the end."""
        idle = not self._running and not self._waiting
        while True:
            try:
                job = self._inbox.get(block=idle)
            except Empty:
                break
            if job is None:
                return False
            idle = False
            self._waiting.append(job)
        self._waiting = [job for job in self._waiting if not job.stream.abandoned]
        for running in [running for running in self._running if running.job.stream.abandoned]:
            self._retire(running)
        return True

    def _admit(self) -> None:
        for job in list(self._waiting):
            if len(self._running) == self._slots:
                return
            if self._may_start(job):
                self._waiting.remove(job)

    def _may_start(self, job: Job) -> bool:
        """Start a job, unless waiting for a prompt in work spares it computing the same tokens."""
        source = longest(
            job.prompt,
            [
                *(
                    (running.sequence, running.tokens[: running.computed])
                    for running in self._running
                ),
                *self._kept,
            ],
        )
        cached = source.length if source else 0
        for running in self._running:
            if _missing(running) > 1:
                coming = common_length(job.prompt, running.tokens[: running.length])
                if min(coming, len(job.prompt) - 1) >= cached + _WORTH_WAITING:
                    return False

        # There is one for every slot beside those that are kept.
        sequence = self._free.pop()
        if source:
            self._kept.used(source.sequence)
            self._context.copy(source.sequence, sequence, cached)
        tokens = np.empty(len(job.prompt) + job.max_new_tokens, np.int32)
        tokens[: len(job.prompt)] = job.prompt
        running = _Running(
            job=job,
            sequence=sequence,
            tokens=tokens,
            length=len(job.prompt),
            computed=cached,
            taken_over=cached,
            decoder=TextDecoder(self._vocabulary),
        )
        self._running.append(running)
        job.counters.prompt_tokens = len(job.prompt)
        job.counters.cached_tokens = cached
        self._cached_tokens += cached
        try:
            if job.matcher is not None and self._follow(running, job.matcher):
                self._finish(running)
        except EngineError as error:
            self._finish(running, error)
        return True

    def _give_up_oldest(self) -> bool:
        oldest = self._kept.oldest()
        if oldest is None:
            return False
        self._remove(oldest)
        return True

    def _remove(self, sequence: int) -> None:
        self._context.cut(sequence)
        self._free.append(sequence)

    def _step(self) -> None:
        filled = self._fill()
        if any(not running.generated for running, _ in filled):
            self._send()  # a prompt makes this a long step, which nothing that was made shall wait for
        started = time.perf_counter()
        try:
            while not self._context.decode():
                # The cells suffice for all running requests: what is kept beyond them must go.
                if not self._give_up_oldest():
                    self._fail_running(EngineError("The key-value cache is full"))
                    return
        except EngineError as error:
            self._fail_running(error)
            return
        size = self._context.count
        steps, seconds = self._by_size.get(size, (0, 0.0))
        self._by_size[size] = steps + 1, seconds + time.perf_counter() - started
        self._steps += 1
        due = []
        for running, count in filled:
            self._prompt_tokens += min(count, max(len(running.job.prompt) - running.computed, 0))
            running.computed += count
            if running.place >= 0:
                due.append(running)
        if due:
            self._choose(due)

    def _fill(self) -> list[tuple[_Running, int]]:
        """Fill the batch, requests that already write first; says what was taken of each."""
        context = self._context
        context.clear_batch()
        filled = []
        for running in sorted(self._running, key=_missing):
            running.place = -1
            count = min(_missing(running), context.room)
            if count:
                end = running.computed + count
                complete = end == running.length
                place = context.add(
                    running.sequence,
                    running.computed,
                    running.tokens[running.computed : end],
                    wanted=complete,
                )
                if complete:
                    running.place = place
                filled.append((running, count))
        return filled

    def _choose(self, due: list[_Running]) -> None:
        """Choose the next token of every request whose tokens are all computed."""
        logits = self._context.logits()
        greedy = any(running.job.sampler is None for running in due)
        best = logits.argmax(axis=1).tolist() if greedy else ()
        for row, running in enumerate(due):
            job = running.job
            if not job.max_new_tokens:
                self._finish(running)
                continue
            try:
                normaliser = _log_sum(logits[row]) if job.logprobs else None
                raw = logits[row].copy() if job.logprobs and job.matcher else logits[row]
                if job.matcher is not None:
                    job.matcher.mask(logits[row])
                if job.sampler is not None:
                    token = self._context.sample(job.sampler.pointer, running.place)
                elif job.matcher is not None:
                    token = int(logits[row].argmax())
                else:
                    token = best[row]
                logprob = None if normaliser is None else float(raw[token]) - normaliser
                self._take(running, token, logprob)
            except EngineError as error:
                self._finish(running, error)
                continue
            if running.out:
                self._post(job, running.out)
                running.out = []

    def _take(self, running: _Running, token: int, logprob: float | None) -> None:
        """Add a chosen token, and those that a grammar forces to follow it."""
        self._append(running, token, logprob)
        if token in self._vocabulary.ends or running.generated == running.job.max_new_tokens:
            self._finish(running)
        elif running.job.matcher is not None:
            running.job.matcher.consume(token)
            if self._follow(running, running.job.matcher):
                self._finish(running)

    def _follow(self, running: _Running, matcher: Matcher) -> bool:
        """Add the tokens that the grammar leaves no choice about; True when they end the request.

        They cost a place in the next batch each, but no step. Where log-probabilities are wanted,
        every token goes through the model instead.
        """
        if running.job.logprobs:
            return False
        for token in matcher.forced():
            matcher.consume(token)
            self._append(running, token, None)
            self._forced_tokens += 1
            if running.generated == running.job.max_new_tokens:
                return True
        if matcher.finished():
            self._append(running, self._vocabulary.end_tokens[0], None)
            self._forced_tokens += 1
            return True
        return False

    def _append(self, running: _Running, token: int, logprob: float | None) -> None:
        running.tokens[running.length] = token
        running.length += 1
        running.generated += 1
        self._generated_tokens += 1
        last = running.generated == running.job.max_new_tokens
        running.out.append(running.decoder.push(token, logprob, last=last))

    def _finish(self, running: _Running, error: EngineError | None = None) -> None:
        self._post(running.job, running.out, ended=True, error=error)
        running.out = []
        self._retire(running)

    def _retire(self, running: _Running) -> None:
        """Free a request's place; what was computed for it is kept while it is recent."""
        self._running.remove(running)
        length = min(running.computed, self._kept.budget)
        if not length:
            self._remove(running.sequence)
            return
        self._context.cut(running.sequence, length)
        own = max(length - running.taken_over, 0)
        for sequence in self._kept.add(running.sequence, running.tokens[:length].copy(), own):
            self._remove(sequence)

    def _fail_running(self, error: EngineError) -> None:
        """End the running requests; the cache cannot be trusted any more."""
        for running in self._running:
            self._post(running.job, running.out, ended=True, error=error)
        self._running.clear()
        self._kept.clear()
        self._context.clear()
        self._free = list(range(self._sequences))

    def _post(
        self,
        job: Job,
        tokens: Sequence[Token] = (),
        *,
        ended: bool = False,
        error: EngineError | None = None,
    ) -> None:
        outbox = job.stream.outbox
        outbox.post(job.stream, tokens, ended=ended, error=error and again(error))
        self._outboxes.add(outbox)

    def _send(self) -> None:
        for outbox in self._outboxes:
            outbox.flush()
        self._outboxes.clear()


def again(error: EngineError) -> EngineError:
    """The same error for another reader: raised in two places, one object would mix their traces."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def _missing(running: _Running) -> int:
    return running.length - running.computed


def _log_sum(logits: npt.NDArray[np.float32]) -> float:
    """Logarithm of the sum of exponentials, which turns logits into log-probabilities."""
    peak = float(logits.max())
    return peak + float(np.log(np.exp(logits - peak).sum()))
