"""What every step of one run shares: its question, its clock, where its events go."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig

from langchain_sgd.decoding.length import LEAST_WORDS, Length
from langchain_sgd.decoding.opening import SharedOpening
from langchain_sgd.decoding.spending import Spending
from langchain_sgd.events import Emit, Warned
from langchain_sgd.journal import Journal
from langchain_sgd.limits import Limit
from langchain_sgd.options import Options
from langchain_sgd.question import Question

if TYPE_CHECKING:
    from langchain_sgd.decoding.part import Part

TOKENS_A_WORD = 1.5
"""About what a word takes, where the user bounds the whole answer in tokens."""
NOSTREAM = "nostream"
"""LangGraph's tag for model calls whose tokens do not belong into the chat: ours would be interleaved."""


@dataclass(slots=True)
class Clock:
    """Seconds since the run began, and when it must end."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    began: float = field(init=False)
    """Loop time."""

    def __post_init__(self) -> None:
        self.began = self.loop.time()

    def now(self) -> float:
        """Seconds since the run began."""
        return self.loop.time() - self.began

    def at(self, moment: float) -> float:
        """A loop time as seconds since the run began."""
        return moment - self.began

    def is_late(self, until: float | None) -> bool:
        """Whether the loop time `until` has passed."""
        return until is not None and self.loop.time() >= until


@dataclass(slots=True)
class Within:
    """A run's place in another one, of whose answer it writes a part, or the whole."""

    run: RunContext
    """The other run."""
    part: Part
    tier: str
    """Which of the other run's tiers it is."""
    journal: Journal
    """Where it keeps what is finished."""
    limit: Limit
    """The user's bound of calls to the tier that it is."""
    began: float
    """Loop time."""
    until: float | None
    """Loop time at which it must have ended."""

    @property
    def depth(self) -> int:
        """How many times the question was split before this run."""
        return self.run.depth + (self.part.node is not None)

    @property
    def place(self) -> str:
        """What stands before its nodes' ids to make them unique among those of all levels."""
        return self.run.place if self.part.node is None else f"{self.run.place}{self.part.id}."


@dataclass
class RunContext:
    """One run: what was asked, how it is decoded, who listens."""

    question: Question
    options: Options
    config: RunnableConfig
    """Of the model calls: callbacks, tags, metadata."""
    limit: Limit
    """Most model calls in flight in this run, or in the batch it belongs to."""
    emit: Emit
    clock: Clock = field(default_factory=Clock)
    """Of a run within another one, that one's."""
    within: Within | None = None
    """None for a run that nobody made a part of."""
    watched: bool = True
    """Somebody sees the answer grow."""
    opening: SharedOpening = field(default_factory=SharedOpening)
    """What parts go on from."""

    @property
    def depth(self) -> int:
        """How many times the question was split before this run."""
        return 0 if self.within is None else self.within.depth

    @property
    def place(self) -> str:
        """What stands before a node's id to make it unique among those of all levels."""
        return "" if self.within is None else self.within.place

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What each call holds a slot of, beside its tier's own. No run holds one: only calls do."""
        if self.within is None:
            return (self.limit,)
        return (*self.within.run.limits, self.within.limit)

    @functools.cached_property
    def length(self) -> Length:
        """How long the answer is to be."""
        share = None if self.within is None else self.within.part.share
        own = None if self.is_expansion else self.options.length
        words = own or (self.options.length if share is None else share.words)
        messages, prompts = self.question.messages, self.options.prompts
        standing = messages[0].text if isinstance(messages[0], SystemMessage) else ""
        return Length.of(prompts.asked_in(messages), words, str(standing))

    @property
    def is_expansion(self) -> bool:
        """Whether it is a part that `expand` splits: the other run's models and options are its own."""
        return self.within is not None and self.within.run.options is self.options

    @functools.cached_property
    def spending(self) -> Spending:
        """What the run has cost so far."""
        prices, most = self.options.all_prices, self.options.max_cost
        if self.within is None:
            return Spending(prices, most)
        outer = self.within.run.spending
        if self.is_expansion:
            return outer
        return Spending(prices, most, (outer, self.within.tier))

    @functools.cached_property
    def most_length(self) -> Length | None:
        """How long the answer may be at most, where the caller bounds its tokens."""
        tokens = self.question.options.get("max_tokens")
        return None if tokens is None else Length(max(LEAST_WORDS, int(tokens / TOKENS_A_WORD)))

    @property
    def deadline(self) -> float | None:
        """Loop time at which the run must have ended."""
        seconds, within = self.options.deadline_s, self.within
        ends = [] if within is None or within.until is None else [within.until]
        if seconds is not None:
            ends.append((self.clock.began if within is None else within.began) + seconds)
        return min(ends, default=None)

    def warn(self, text: str) -> None:
        """Tell what the answer lacks or costs more."""
        self.emit(Warned(text, self.clock.now()))

    def child(
        self, name: str, tier: str, attempt: int, metadata: Mapping[str, Any]
    ) -> RunnableConfig:
        """The config of one model call: its name, its tags, its place in the trace."""
        return {
            **self.config,
            "run_name": name,
            "tags": [*(self.config.get("tags") or []), f"sgd:{tier}", NOSTREAM],
            "metadata": {
                **(self.config.get("metadata") or {}),
                **metadata,
                "sgd_tier": tier,
                "sgd_attempt": attempt,
            },
        }

    def seed(self, part: str) -> dict[str, Any]:
        """A seed of its own for each part, so that parts do not all make the same choices."""
        if self.options.seed is None:
            return {}
        said = f"{self.options.seed}:{self.place}{part}"
        digest = hashlib.sha256(said.encode()).digest()
        return {"seed": int.from_bytes(digest[:4], "big") >> 1}

    async def pause(self, number: int, error: BaseException | None, until: float | None) -> bool:
        """Wait after failed attempt `number`, as long as the server asked for or as is usual.

        Returns:
            Whether there is still time; False at once where the server asks for longer than there is.
        """
        if error is None:
            return True
        delay = self.options.backoff.delay(number, error)
        if delay is None or self.clock.is_late(until if until is None else until - delay):
            return False
        await asyncio.sleep(delay)
        return True


_RUNTIME_KEY = "__pregel_runtime"
"""Where LangGraph keeps its store and stream writer, which a tier's tools may use."""
_PLACE_KEYS = frozenset({"thread_id", "checkpoint_id", "checkpoint_map"})


def for_models(config: RunnableConfig) -> RunnableConfig:
    """The caller's config without the caller's place in a graph.

    A tier may be a graph itself. With these keys it would take itself for a part of the caller's graph and
    save under a name made from the order of calls: after a resume it would be given another node's answer.
    """
    configurable = {
        key: value
        for key, value in (config.get("configurable") or {}).items()
        if key == _RUNTIME_KEY or not (key.startswith("__") or key in _PLACE_KEYS)
    }
    return {**config, "configurable": configurable}
