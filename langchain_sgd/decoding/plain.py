"""An undivided answer that begins before it is known whether it is wanted (a hedged request)."""

from __future__ import annotations

import asyncio

from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.writer import Written, write_plain
from langchain_sgd.events import Emit, Event, HedgeDropped, PlainChosen, Started, Token
from langchain_sgd.owner import Owner
from langchain_sgd.report import Attempt


class PlainAnswer:
    """The undivided answer of one run: begun early or when it is chosen.

    What it says is held back until it is chosen. It never waits for a slot that somebody else could take.
    """

    def __init__(self, run: RunContext, owner: Owner) -> None:
        self._run = run
        self._owner = owner
        self._task: asyncio.Task[Written] | None = None
        self._held: list[Event] = []
        self._listener: Emit | None = None
        self._dropped = False

    def begin(self) -> None:
        """Begin beside the planner, if the question may yet stay whole and there is room."""
        run = self._run
        if run.options.mode != "auto" or self._task is not None or self._dropped:
            return
        limits = (run.limit, *run.options.largest.limits)
        if all(limit.has_room() for limit in limits):
            work = write_plain(run, "begun beside the planner", self._hear)
            self._task = self._owner.start(work)

    def _hear(self, event: Event) -> None:
        if self._listener is not None:
            self._listener(event)
        else:
            self._held.append(event)

    def drop(self) -> None:
        """The question is split, so nobody wants it."""
        if self._task is None or self._dropped:
            return
        self._dropped = True
        self._task.cancel()
        started = next((event for event in self._held if isinstance(event, Started)), None)
        if started is not None:
            first = next((event.at_s for event in self._held if isinstance(event, Token)), None)
            now = self._run.clock.now()
            attempt = Attempt(
                tier=started.tier,
                started_s=started.at_s,
                first_token_s=first,
                ended_s=now,
                error="not wanted: the question is split",
            )
            self._run.emit(HedgeDropped(attempt, now))
        self._held.clear()

    def restored(self, reason: str) -> None:
        """It is chosen, and an earlier life of the run has written it."""
        self._run.emit(PlainChosen(reason, self._run.clock.now()))

    async def choose(self, reason: str) -> Written:
        """The answer: what came so far at once, and the rest as it comes."""
        run = self._run
        run.emit(PlainChosen(reason, run.clock.now()))
        if self._task is None or self._dropped:
            return await write_plain(run, reason, run.emit)
        for event in self._held:
            run.emit(event)
        self._held.clear()
        self._listener = run.emit
        await asyncio.wait([self._task])
        return self._task.result()
