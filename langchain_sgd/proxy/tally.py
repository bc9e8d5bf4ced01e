"""What a run has come to so far, from its events: tokens, and how much of its answer may be shown."""

from __future__ import annotations

from typing import Final

from langchain_sgd.events import (
    Ended,
    Event,
    HedgeDropped,
    Opened,
    PlainChosen,
    PlannerCalled,
    Started,
    Token,
)
from langchain_sgd.report import NodeReport, Usage

_MOST_CHARACTERS: Final = 4.5
"""Of a token, until a server has counted: some servers send several tokens in a piece."""
_FEW_PIECES: Final = 16
"""Fewer pieces of text do not tell how long a token is: the first may be a dash or one letter."""
_CHARACTERS: Final = 4
"""Of a token, in what a call has read."""
_OPENING, _PLANNER = "opening", "planner"


class Tally:
    """Feed it a run's events, and it tells the tokens that are known, and what of the text fits a bound.

    Args:
        most: Tokens of the whole answer that are shown; None bounds nothing. How long a token is, is told
            by the parts that a server has counted, else by the pieces in which the text comes, once there
            are some.
        question: Characters of the question. A quarter of them stands for what a call that is cancelled has
            read, as no server tells that.
        plans: Whether the run begins with a call of the planner.
    """

    def __init__(self, most: int | None, *, question: int, plans: bool) -> None:
        self._most = most
        self._question = question // _CHARACTERS
        self._open: set[str] = {_PLANNER} if plans else set()
        """Calls whose server has not counted yet."""
        self._counted = Usage()
        self._writing: dict[str, int] = {}
        """Pieces of what is being written, which no server has counted yet."""
        self._pieces = self._piece_characters = 0
        self._tokens = self._characters = 0
        """Of the answers that servers have counted."""
        self._shown = 0
        self.full = False
        """Text was left out."""

    @property
    def usage(self) -> Usage:
        """The tokens of all calls, as far as they are known."""
        read, written = self._question * len(self._open), sum(self._writing.values())
        still = Usage(input_tokens=read, output_tokens=written, estimated=bool(self._open))
        return self._counted + still

    def feed(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Token(node_id, text):
                self._wrote(node_id, text)
            case Opened(text):
                self._wrote(_OPENING, text)
            case Started(node_id):
                self._open.add(node_id)
            case PlannerCalled(attempt):
                self._open.discard(_PLANNER)
                self._counted += attempt.usage or Usage()
            case HedgeDropped(attempt):
                self._forget(_OPENING)
                self._counted += attempt.usage or Usage()
            case PlainChosen():
                self._forget(_OPENING)  # the plain answer says it again
                self._most = None  # its server keeps to the bound
            case Ended(node_id, _, text, report=report) if report is not None:
                self._forget(node_id)
                for attempt in report.attempts:
                    self._counted += attempt.usage or Usage()
                self._measure(report, text)
            case _:
                pass

    def _measure(self, report: NodeReport, text: str) -> None:
        """How long tokens are, from a part whose tokens are known to be those of its text."""
        usage = report.answering.usage if report.answering is not None else None
        if not text or usage is None or usage.estimated:
            return
        if report.parts is not None or (report.reasoning and not usage.reasoning_tokens):
            return  # its plan or its thoughts are in the count, and nobody says how much they are
        self._tokens += max(0, usage.output_tokens - usage.reasoning_tokens)
        self._characters += len(text) + sum(map(len, report.left_out))

    def _forget(self, key: str) -> None:
        self._open.discard(key)
        self._writing.pop(key, None)

    def _wrote(self, key: str, text: str) -> None:
        if text:
            self._open.add(key)
            self._writing[key] = self._writing.get(key, 0) + 1
            self._pieces += 1
            self._piece_characters += len(text)

    def fitting(self, text: str) -> str:
        """What of the next text may be shown."""
        if not text or self._most is None:
            return text
        if self._tokens and self._characters:
            each = self._characters / self._tokens
        elif self._pieces < _FEW_PIECES:
            each = _MOST_CHARACTERS
        else:
            each = min(self._piece_characters / self._pieces, _MOST_CHARACTERS)
        room = max(0, round(self._most * each) - self._shown)
        self.full = len(text) > room
        self._shown += min(len(text), room)
        return text[:room]
