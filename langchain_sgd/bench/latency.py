"""A stated model of how long a served language model takes, and an engine that takes that long.

One step of a server with continuous batching takes

    max(a, c * prompt tokens in the step) + b * streams in the step          (seconds)

`a` is what a step costs however small it is (the weights are read once), `b` what every stream adds, `c` what
a prompt token costs to compute: prompts hide behind the reading of the weights until they take longer. Around
it stand a queue in order of arrival before a limited number of slots, at most `chunk` prompt tokens a step,
and a prefix cache: what a prompt has in common with one computed before is free.

Not in it: the cache's growth in memory and its cost in attention, evictions by size, preemption, the
network. Times are the running loop's, so on a virtual-time loop hours take seconds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    GenerateRequest,
    Token,
)

CHARACTERS_A_TOKEN: Final = 4
"""By which prompts are measured: the usual rule of thumb for English."""
_KEPT_PROMPTS: Final = 256
_ENDLESS: Final = "word "


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """The parameters, in seconds; see the module."""

    name: str
    step_s: float
    """`a`: a step, before any stream."""
    stream_s: float
    """`b`: each stream of a step."""
    prompt_token_s: float
    """`c`: each computed prompt token of a step."""
    slots: int = 32
    """Requests decoded together; more wait."""
    chunk: int = 512
    """Most prompt tokens of a step."""
    source: str = "given"
    """Where the numbers come from."""

    def seconds(self, streams: int, prompt_tokens: int = 0) -> float:
        """What one step takes."""
        return max(self.step_s, self.prompt_token_s * prompt_tokens) + self.stream_s * streams

    @property
    def tokens_per_s(self) -> float:
        """Of one stream alone."""
        return 1 / self.seconds(1)


def _published(name: str, prefill_ms: float, decode_ms: float) -> LatencyModel:
    """From the published times of one stream: prefill of 128 tokens, decoding of 64.

    What a further stream costs was not published. It is charged as much as a prompt token, which is what
    its arithmetic costs; reading its cache from memory is not in it.
    """
    token_s = prefill_ms / 128 / 1000
    return LatencyModel(
        name=name,
        step_s=decode_ms / 64 / 1000 - token_s,
        stream_s=token_s,
        prompt_token_s=token_s,
        source=(
            f"Skeleton-of-Thought (arXiv 2307.15337), A100-80G, FP16: prefill of 128 tokens"
            f" {prefill_ms:g} ms, decoding 64 tokens {decode_ms:g} ms; assumed: a further stream costs"
            " what a prompt token does"
        ),
    )


PRESETS: Final[Mapping[str, LatencyModel]] = {
    model.name: model
    for model in (
        _published("llama-7b-a100", 40, 2735),
        _published("llama-13b-a100", 54, 3725),
        _published("llama-33b-a100", 100, 5506),
    )
}
"""Only what was published; for a server of your own, `calibrate`."""


# -- calibration


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured: steps of so many streams took so long."""

    streams: float
    """The mean over the steps."""
    step_s: float
    weight: float = 1.0
    """For instance, the number of steps."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibrated model, and how far it is from what it was made from."""

    model: LatencyModel
    points: tuple[Point, ...]
    errors: tuple[float, ...]
    """Predicted over measured, less 1, point by point."""

    @property
    def worst(self) -> float:
        """The largest relative error, without its sign."""
        return max(map(abs, self.errors))


def calibrate(
    points: Iterable[Point],
    *,
    name: str,
    prompt_token_s: float | None = None,
    slots: int = 8,
    source: str = "measured",
) -> Fit:
    """The line through measured step times, by least squares of the *relative* error.

    Neither parameter is let below zero: a step that gets faster with more streams is noise.

    Args:
        points: At two batch sizes at least.
        name: Of the model.
        prompt_token_s: Measured apart; as much as a stream if not given.
        slots: Of the server.
        source: What was measured.

    Raises:
        ValueError: There are no two batch sizes among the points, or a time is not above zero.
    """
    found = tuple(points)
    if len({point.streams for point in found}) < 2:
        msg = f"two batch sizes are needed to calibrate {name}, not {[p.streams for p in found]}"
        raise ValueError(msg)
    if any(point.step_s <= 0 or point.weight <= 0 for point in found):
        msg = f"times and weights must be above zero to calibrate {name}"
        raise ValueError(msg)
    base, slope = _line(found)
    model = LatencyModel(
        name=name,
        step_s=base,
        stream_s=slope,
        prompt_token_s=slope if prompt_token_s is None else prompt_token_s,
        slots=slots,
        source=source,
    )
    errors = tuple((base + slope * p.streams) / p.step_s - 1 for p in found)
    return Fit(model, found, errors)


def _line(points: Sequence[Point]) -> tuple[float, float]:
    weights = [p.weight / p.step_s**2 for p in points]
    total = sum(weights)
    mean_x = sum(w * p.streams for w, p in zip(weights, points, strict=True)) / total
    mean_y = sum(w * p.step_s for w, p in zip(weights, points, strict=True)) / total
    spread = sum(w * (p.streams - mean_x) ** 2 for w, p in zip(weights, points, strict=True))
    slope = sum(
        w * (p.streams - mean_x) * (p.step_s - mean_y) for w, p in zip(weights, points, strict=True)
    )
    slope /= spread
    if slope < 0:
        return mean_y, 0.0
    if (base := mean_y - slope * mean_x) >= 0:
        return base, slope
    through_zero = sum(w * p.streams * p.step_s for w, p in zip(weights, points, strict=True))
    return 0.0, through_zero / sum(w * p.streams**2 for w, p in zip(weights, points, strict=True))


# -- the engine


@dataclass(slots=True, eq=False)
class _Job:
    prompt: str
    pieces: Sequence[str]
    counters: Counters
    out: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    left: int | None = None
    """Prompt tokens to compute; None before the cache was looked at."""
    given: int = 0


class LatencyEngine:
    """Writes given texts as slowly as a `LatencyModel` says; an `engine.Engine`, for one event loop.

    Args:
        model: How long things take.
        max_total_tokens: Most tokens of a request.
    """

    def __init__(self, model: LatencyModel, *, max_total_tokens: int = 100_000) -> None:
        self.model = model
        self.info = EngineInfo(
            f"simulated/{model.name}", max_total_tokens=max_total_tokens, slots=model.slots
        )
        self.steps = 0
        self.busy_s = 0.0
        self.streamed = 0
        """Tokens written, of all streams."""
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._known: deque[str] = deque(maxlen=_KEPT_PROMPTS)
        self._stepping = False
        self._closed = False

    async def write(
        self, prompt: str, pieces: Sequence[str], counters: Counters | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield the pieces, a token each, after the prompt was computed.

        Raises:
            EngineError: The engine was closed.
        """
        self._check_open()
        job = _Job(prompt, pieces, counters or Counters())
        job.counters.prompt_tokens = _tokens(prompt)
        if not pieces:
            return
        self._waiting.append(job)
        if not self._stepping:
            self._stepping = True
            # Whatever arrives at this moment shares the first step.
            asyncio.get_running_loop().call_soon(self._begin)
        try:
            while (piece := await job.out.get()) is not None:
                yield piece
            self._check_open()
        finally:
            if job in self._running:
                self._running.remove(job)
            elif job in self._waiting:
                self._waiting.remove(job)

    def _begin(self) -> None:
        """Fill the slots and start a step, if there is work."""
        while self._waiting and len(self._running) < self.model.slots:
            self._running.append(self._waiting.popleft())
        if not self._running:
            self._stepping = False
            return
        streams: list[_Job] = []
        prompts: list[tuple[_Job, int]] = []
        budget = self.model.chunk
        for job in self._running:
            if job.left is None and budget:
                cached = max((_common(job.prompt, known) for known in self._known), default=0)
                job.counters.cached_tokens = min(cached, job.counters.prompt_tokens - 1)
                # The last token of a prompt is always computed: it predicts the first of the answer.
                job.left = job.counters.prompt_tokens - job.counters.cached_tokens
            if job.left == 0:
                streams.append(job)
            elif job.left is not None and budget:
                prompts.append((job, min(budget, job.left)))
                budget -= prompts[-1][1]
        seconds = self.model.seconds(len(streams), sum(taken for _, taken in prompts))
        self.steps += 1
        self.busy_s += seconds
        asyncio.get_running_loop().call_later(seconds, self._end, streams, prompts)

    def _end(self, streams: Sequence[_Job], prompts: Sequence[tuple[_Job, int]]) -> None:
        """Hand out what the step has computed."""
        for job, taken in prompts:
            assert job.left is not None  # noqa: S101 - looked up when its prompt began
            job.left -= taken
            if job.left == 0:
                self._known.append(job.prompt)
        finished = [job for job, _ in prompts if job.left == 0]
        for job in itertools.chain(streams, finished):
            job.out.put_nowait(job.pieces[job.given])
            job.given += 1
            self.streamed += 1
            if job.given == len(job.pieces):
                job.out.put_nowait(None)
                if job in self._running:
                    self._running.remove(job)
        self._begin()

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the engine {self.info.model_id} was closed"
            raise EngineError(msg)

    # -- as an Engine, behind the server's application

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        """Yield `max_new_tokens` words: the model knows how long texts take, not what they say."""
        words = [_ENDLESS] * request.max_new_tokens
        stream = self.write(request.prompt, words, counters)
        try:
            async for word in stream:
                yield Token(1, word)
        finally:
            await stream.aclose()

    async def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> str:
        """Join the messages' texts; tools are not shown."""
        del tools
        return "\n".join(str(message.get("content")) for message in messages)

    async def tokenize(self, text: str) -> list[Token]:
        """Cut after every four characters."""
        size = CHARACTERS_A_TOKEN
        return [Token(1, text[at : at + size]) for at in range(0, len(text), size)]

    async def share_prefix(self, text: str) -> int:
        """Compute it now; later prompts find it in the cache."""
        async for _ in self.write(text, ("",)):
            pass
        return _tokens(text)

    async def aclose(self) -> None:
        """End requests in flight."""
        self._closed = True
        for job in (*self._running, *self._waiting):
            job.out.put_nowait(None)
        self._running.clear()
        self._waiting.clear()


def _tokens(text: str) -> int:
    return max(1, -(-len(text) // CHARACTERS_A_TOKEN))


def _common(first: str, second: str) -> int:
    """Tokens that two texts share at their beginning; by bisection, since slices compare fast."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low // CHARACTERS_A_TOKEN
