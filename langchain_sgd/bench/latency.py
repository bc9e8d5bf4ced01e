"""A stated model of how long a served language model takes, and an engine that takes that long.

One step of a server with continuous batching takes

    a + c * max(0, prompt tokens in the step - h) + b * streams in the step          (seconds)

`a` is what a step costs however small it is (the weights are read once), `b` what every stream adds, `c` what
a prompt token costs to compute, `h` how many of them hide behind the reading of the weights: `a / c` where it
is not measured, since a step then takes the longer of the two. Around it stand a queue in order of arrival
before a limited number of slots, at most `chunk` prompt tokens a step, and a prefix cache: what a prompt has
in common with one computed before is free. A call takes `d` seconds from the caller to the queue, and calls
of one caller pass that way one by one: it is work of one process, not of the network.

Not in it: the cache's growth in memory and its cost in attention, evictions by size, preemption, what a
grammar costs. `langchain-sgd bench calibrate` measures a, b, c, d and h, and how far the model is from real
runs. Times are the running loop's, so on a virtual-time loop hours take seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    GenerateRequest,
    Token,
)
from langchain_sgd.files import read_text

CHARACTERS_A_TOKEN: Final = 4
"""By which prompts are measured where nothing else is known: the usual rule of thumb for English."""
MODEL_KIND: Final = "latency model"
"""What a saved model says of itself."""
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
    """`c`: each computed prompt token of a step that does not hide."""
    call_s: float = 0.0
    """`d`: from the caller to the queue."""
    hidden_tokens: float | None = None
    """`h`: prompt tokens of a step that cost nothing; None: as many as take `step_s`."""
    slots: int = 32
    """Requests decoded together; more wait."""
    chunk: int = 512
    """Most prompt tokens of a step."""
    characters_a_token: float = CHARACTERS_A_TOKEN
    """Of prompts."""
    source: str = "given"
    """Where the numbers come from."""

    def seconds(self, streams: int, prompt_tokens: int = 0) -> float:
        """What one step takes."""
        hidden = self.hidden_tokens
        if hidden is None:
            computed_s = max(self.step_s, self.prompt_token_s * prompt_tokens)
        else:
            computed_s = self.step_s + self.prompt_token_s * max(0.0, prompt_tokens - hidden)
        return computed_s + self.stream_s * streams

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for `from_json`."""
        return {"kind": MODEL_KIND, **asdict(self)}

    def write(self, path: Path) -> None:
        """Save it, for `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """A model from what `to_json` gave.

        Raises:
            ValueError: It is no latency model; the text names the field.
        """
        if not isinstance(data, Mapping) or data.get("kind") != MODEL_KIND:
            msg = f"this is no latency model: it lacks 'kind': {MODEL_KIND!r}"
            raise ValueError(msg)
        values = {name: value for name, value in data.items() if name != "kind"}
        known = {f.name for f in fields(cls)}
        if unknown := sorted(values.keys() - known):
            msg = f"a latency model has no {unknown}; it has {sorted(known)}"
            raise ValueError(msg)
        if missing := sorted(_NEEDED - values.keys()):
            msg = f"the latency model lacks {missing}"
            raise ValueError(msg)
        for name, value in values.items():
            if problem := _fault(name, value):
                msg = f"the latency model's {name} must be {problem}, not {value!r}"
                raise ValueError(msg)
        model = cls(**values)
        if not model.seconds(1):
            msg = "a step of the latency model takes no time: step_s and stream_s are both 0"
            raise ValueError(msg)
        return model

    @classmethod
    def read(cls, path: Path) -> Self:
        """The model in a JSON file that `langchain-sgd bench calibrate --save` wrote.

        Raises:
            ValueError: The file cannot be read, or holds no latency model.
        """
        try:
            return cls.from_json(json.loads(read_text(path)))
        except (OSError, ValueError) as error:
            msg = f"No latency model in {path}: {error}"
            raise ValueError(msg) from error

    @property
    def tokens_per_s(self) -> float:
        """Of one stream alone."""
        return 1 / self.seconds(1)


_NEEDED: Final = frozenset({"name", "step_s", "stream_s", "prompt_token_s"})
_WHOLE: Final = frozenset({"slots", "chunk"})
_TEXTS: Final = frozenset({"name", "source"})


def _fault(name: str, value: Any) -> str | None:
    """What the field must be, if this value is not that."""
    if name in _TEXTS:
        return None if isinstance(value, str) else "a text"
    if name in _WHOLE:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return None if is_count else "a whole number from 1 on"
    if name == "hidden_tokens" and value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        return "a number from 0 on"
    return "above 0" if name == "characters_a_token" and not value else None


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
"""Only what was published; `langchain-sgd bench calibrate` measures other servers."""


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
        self.computed = 0
        """Prompt tokens computed."""
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._known: deque[str] = deque(maxlen=_KEPT_PROMPTS)
        self._way_free_at = -math.inf
        """When the last call has come through to the queue."""
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
        job.counters.prompt_tokens = self._tokens(prompt)
        if not pieces:
            return
        loop = asyncio.get_running_loop()
        if self.model.call_s:
            self._way_free_at = max(self._way_free_at, loop.time()) + self.model.call_s
            await asyncio.sleep(self._way_free_at - loop.time())
            self._check_open()
        self._waiting.append(job)
        if not self._stepping:
            self._stepping = True
            # Whatever arrives at this moment shares the first step.
            loop.call_soon(self._begin)
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
                shared = max((_common(job.prompt, known) for known in self._known), default=0)
                cached = int(shared / self.model.characters_a_token)
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
            self.computed += taken
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

    def _tokens(self, text: str) -> int:
        return max(1, math.ceil(len(text) / self.model.characters_a_token))

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

    async def aclose(self) -> None:
        """End requests in flight."""
        self._closed = True
        for job in (*self._running, *self._waiting):
            job.out.put_nowait(None)
        self._running.clear()
        self._waiting.clear()


def _common(first: str, second: str) -> int:
    """Characters that two texts share at their beginning; by bisection, since slices compare fast."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
