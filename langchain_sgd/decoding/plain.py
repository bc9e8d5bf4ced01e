"""An undivided answer that begins before it is known whether it is wanted (a hedged request).

With `opening=True` it begins together with the planner, and its first sentence is shown as it comes: it
opens the answer, whatever follows. Without, it begins with the planner's word for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from langchain_sgd.decoding.context import RunContext
from langchain_sgd.decoding.opening import BROKEN_OFF, OPENING_TOKENS, OpeningText, may_stand
from langchain_sgd.decoding.part import Written
from langchain_sgd.decoding.reply import tokens_of
from langchain_sgd.decoding.writer import write_plain
from langchain_sgd.events import (
    Discarded,
    Emit,
    Ended,
    Event,
    HedgeDropped,
    Opened,
    PlainChosen,
    Started,
    Token,
)
from langchain_sgd.journal import Journal
from langchain_sgd.options import nested_in
from langchain_sgd.owner import Owner
from langchain_sgd.planning.wrappers import is_chat_model
from langchain_sgd.report import Attempt, Usage

_OPENING_KEY = "opening"
"""The opening's key in the journal."""
_HEAD_START_S = 0.02
"""Enough for a request to be on its way before the next one; nothing beside the time of a plan."""


class PlainAnswer:
    """The undivided answer of one run: begun early or when it is chosen.

    What it says is held back until it is chosen, but for the opening. It never waits for a slot that
    somebody else could take.

    Args:
        run: The run.
        owner: Owns the call's task.
        journal: Where the opening is kept, and found again.
    """

    def __init__(self, run: RunContext, owner: Owner, journal: Journal) -> None:
        question, options = run.question, run.options
        self.opens = (
            options.opening
            and options.mode != "never"
            and question.skeleton is None
            and not question.approve
            and is_chat_model(options.largest.model)
            and nested_in(options.largest.model) is None
            and run.within is None
        )
        """Whether it begins together with the planner, to open the answer. An agent's first words come late,
        and cost a whole answer."""
        self._run = run
        self._emit = run.emit
        if self.opens:  # what the rest of the run tells passes by here: parts follow the opening
            run.emit = self._pass_on
        self._owner = owner
        self._journal = journal
        self._task: asyncio.Task[Written] | None = None
        self._is_heard = asyncio.Event()
        self._held: list[Event] = []
        self._listener: Emit | None = None
        self._reading: OpeningText | None = OpeningText() if self.opens else None
        """None once nothing more of what is said belongs to the opening."""
        self._shown = ""
        self._whole = False
        """All of the opening was shown: the parts may follow."""
        self._dropped = False
        if self.opens and (kept := journal.kept.get(_OPENING_KEY)):
            self._dropped, self._reading = True, None
            run.opening.settle(kept)
            self._emit(Opened(kept, run.clock.now(), last=True))

    @property
    def opened(self) -> bool:
        """Whether it has begun together with the planner."""
        return self.opens and self._task is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been written already, and may be the answer."""
        task = self._task
        if (
            task is None
            or self._run.options.mode != "auto"
            or self._dropped
            or not task.done()
            or task.cancelled()
        ):
            return False
        return task.exception() is None and task.result().has_come_to_its_end

    def forgo_opening(self) -> None:
        """Parts of an earlier life of the run are shown already: nothing can open the answer any more."""
        self.opens, self._reading = False, None

    def begin(self) -> None:
        """Begin beside the planner, if the question may yet stay whole and there is room."""
        run = self._run
        may_stay_whole = run.options.mode == "auto" or self.opens
        if not may_stay_whole or self._task is not None or self._dropped:
            return
        largest = run.options.largest
        messages = run.question.messages
        if run.spending.refusal(largest.name, messages, OPENING_TOKENS) is not None:
            return
        if all(limit.has_room() for limit in (*run.limits, *largest.limits)):
            reason = "begun beside the planner"
            work = write_plain(run, reason, self._hear, self._journal)
            self._task = self._owner.start(work)
            if self.opens:
                run.opening.begin()
            self._task.add_done_callback(self._ended)

    async def go_first(self) -> None:
        """Let its request reach the server before the planner's, if one model serves both.

        A server computes the prompts of its requests in the order in which they come. The planner's is the
        longer one, and the plan needs more tokens than one: it loses little, and the first text waits for
        one prompt in place of two.
        """
        options = self._run.options
        if self._task is not None and options.planning_tier.shared is options.largest.shared:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEAD_START_S):
                    await self._is_heard.wait()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Token):
            self._is_heard.set()
        if self._listener is not None:
            self._listener(event)
            return
        self._held.append(event)
        reading = self._reading
        if reading is None:
            return
        if isinstance(event, Discarded) and self._shown:
            self._break_off()
        elif isinstance(event, Token) and ((text := reading.feed(event.text)) or reading.done):
            self._reading = None if reading.done else reading
            self._show(text, last=reading.done)

    def _show(self, text: str, *, last: bool) -> None:
        self._shown += text
        if last:
            self._run.opening.settle("" if text == BROKEN_OFF else self._shown)
        if self._shown and not self._whole:
            self._whole = last
            self._emit(Opened(text, self._run.clock.now(), last))
        if last and self._dropped:
            self._stop()

    def _break_off(self) -> None:
        """No more of the opening will come. An undivided answer may yet go on from what was shown."""
        self._reading = None
        if self._dropped:
            self._show(self._mark, last=True)

    @property
    def _mark(self) -> str:
        """What ends an opening of which no more comes."""
        is_broken = self._shown and not self._whole and not may_stand(self._shown)
        return BROKEN_OFF if is_broken else ""

    def _ended(self, task: asyncio.Task[Written]) -> None:
        """The call has ended before its first sentence had, or the run with it."""
        self._is_heard.set()
        if self._reading is None or task.cancelled():
            return
        self._break_off()

    def _pass_on(self, event: Event) -> None:
        """Tell an event of the rest of the run, which does not wait long for the opening."""
        if self._reading is not None and self._dropped:
            if isinstance(event, Token | Ended) and not self._shown:
                self._reading = None  # the parts have begun: it comes too late
                self._run.opening.settle("")
                self._stop()
            elif isinstance(event, Ended):
                self._break_off()
        self._emit(event)

    def drop(self) -> None:
        """The question is split: nobody wants more of it than its opening."""
        if self._task is None or self._dropped:
            return
        self._dropped = True
        if self._reading is None:
            self._show(self._mark, last=True)

    def _stop(self) -> None:
        """End the call, and tell what it was for."""
        if self._task is not None:
            self._task.cancel()
        if self._shown:
            self._journal.note(_OPENING_KEY, self._shown)
        started = next((event for event in self._held if isinstance(event, Started)), None)
        if started is not None:
            self._emit(HedgeDropped(self._attempt(started), self._run.clock.now()))
        self._held.clear()

    def _attempt(self, started: Started) -> Attempt:
        """The call for the report; of one that had ended, what its server counted."""
        task, error = self._task, "stopped: the question is split"
        if task is not None and task.done() and not task.cancelled() and not task.exception():
            *before, last = task.result().report.attempts
            usage = sum((a.usage for a in before if a.usage), last.usage or Usage())
            return last.model_copy(update={"usage": usage, "error": last.error or error})
        said = [event for event in self._held if isinstance(event, Token)]
        usage = Usage(
            input_tokens=tokens_of(self._run.question.messages),
            output_tokens=len(said),
            estimated=True,
        )
        return Attempt(
            tier=started.tier,
            started_s=started.at_s,
            first_token_s=said[0].at_s if said else None,
            ended_s=self._run.clock.now(),
            usage=usage,
            error=error,
        )

    def restored(self, reason: str) -> None:
        """It is chosen, and an earlier life of the run has written it."""
        self._emit(PlainChosen(reason, self._run.clock.now()))

    async def choose(self, reason: str) -> Written:
        """The answer: what came so far at once, and the rest as it comes."""
        run = self._run
        self._reading = None
        self._emit(PlainChosen(reason, run.clock.now()))
        if self._task is None or self._dropped:
            return await write_plain(run, reason, self._emit, self._journal)
        for event in self._held:
            self._emit(event)
        self._held.clear()
        self._listener = self._emit
        await asyncio.wait([self._task])
        return self._task.result()
