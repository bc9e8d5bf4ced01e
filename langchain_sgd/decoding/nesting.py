"""A part that is an answer of its own: planned, written in parts, told as one.

Whoever writes it is an `SGDRunnable`: one that is a tier, or, with `expand`, the run's own. It is called as
any model is, with its place in the caller's run beside the callbacks. So its calls count as the caller's,
end with it, are kept with its answers, and its report becomes a part of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from langchain_sgd.decoding.attempting import Attempted, call_started, examine, leaves_the_run
from langchain_sgd.decoding.caller import call_model
from langchain_sgd.decoding.context import RunContext, Within
from langchain_sgd.decoding.part import Part
from langchain_sgd.decoding.patience import Patience
from langchain_sgd.decoding.reply import Reply
from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.events import Emit, Token
from langchain_sgd.journal import Journal
from langchain_sgd.options import nested_in
from langchain_sgd.report import Report
from langchain_sgd.tiers import Tier

_KEY = "__sgd_within"
"""In `configurable`; what begins with two underscores reaches no model and no trace."""


def placed(config: RunnableConfig, within: Within) -> RunnableConfig:
    """The config for a run within another one."""
    return {**config, "configurable": {**config.get("configurable", {}), _KEY: within}}


def place_in(config: RunnableConfig) -> Within | None:
    """The place that a run's caller gave it; None at the top."""
    within = (config.get("configurable") or {}).get(_KEY)
    return within if isinstance(within, Within) else None


@dataclass(frozen=True, slots=True)
class InnerJournal:
    """A part's own entries in the journal of the run around it."""

    outer: Journal
    prefix: str

    @property
    def kept(self) -> Mapping[str, Any]:
        """What an earlier life has kept, by key."""
        start = len(self.prefix)
        kept = self.outer.kept.items()
        return {key[start:]: value for key, value in kept if key.startswith(self.prefix)}

    def note(self, key: str, value: Any) -> None:
        """Keep a value before any that is kept later."""
        self.outer.note(f"{self.prefix}{key}", value)

    async def keep(self, key: str, value: Any) -> None:
        """Keep a value; it is safe once this returns."""
        await self.outer.keep(f"{self.prefix}{key}", value)

    def ask(self, pending: Mapping[str, Any]) -> Any:
        """A human's answer."""
        return self.outer.ask(pending)


async def attempt_in_parts(
    run: RunContext,
    part: Part,
    tier: Tier,
    number: int,
    _: int,
    emit: Emit,
    until: float | None,
) -> tuple[Attempted, float | None]:
    """As `attempt_by_model`, by an `SGDRunnable`, which repeats by itself what fails in it."""
    tried = Attempted(Reply(tier.name))
    reply = tried.reply
    pieces: list[str] = []
    until = call_started(run, part, tier, number, emit, until)
    within = Within(run, part, tier.name, part.journal, tier.limit, run.clock.loop.time(), until)
    expands = nested_in(tier.model) is run.options

    def hear(text: str) -> None:
        pieces.append(text)
        emit(Token(part.id, text, run.clock.now()))

    try:
        await call_model(
            Tier(tier.name, tier.model),  # its calls hold the slots
            part.question,
            placed(run.child(part.run_name, tier.name, number, part.metadata), within),
            hear,
            reply,
            patience=Patience(),  # it ends itself in time, with what is finished
            options={k: v for k, v in run.question.options.items() if k != "max_tokens"},
        )
    except Exception as error:
        if leaves_the_run(error):
            raise
        if isinstance(error, SkeletonGraphError) and error.report is not None:
            reply.usage = error.report.total_usage  # nobody reads its texts, but they were paid for
    tried.text = "".join(pieces)
    if reply.report is not None:
        parts = Report.model_validate(reply.report)
        tried.parts = parts.model_copy(update={"tier": None if expands else tier.name})
        reply.usage = parts.total_usage if parts.usage else None
        if parts.ttft_s is not None:
            reply.first_at = run.clock.began + parts.ttft_s
        for warning in parts.warnings:
            run.warn(f"{part.name}: {warning}")
    examine(run, part, tried, nearly_empty=False)
    if tried.problem is None and tried.parts is not None and tried.parts.status == "partial":
        tried.status = "partial"
    tried.annotations = tuple(reply.annotations)
    return tried, until
