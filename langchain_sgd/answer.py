"""From events to the answer, in the skeleton's order: pure.

The first unfinished node's tokens are given as they come; those of later nodes wait their turn. The text
given piece by piece and the text of the finished answer are the same, but for what was given and had to be
written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_sgd.events import (
    PLAIN_ID,
    Discarded,
    Ended,
    Event,
    Opened,
    PlainChosen,
    PlanEnded,
    Planned,
    Token,
    Voided,
)
from langchain_sgd.prose import closed
from langchain_sgd.report import NodeStatus
from langchain_sgd.skeleton import Node, NodeId

MISSING = "*[This part is missing: it could not be written.]*"
CUT = "*[The text breaks off here.]*"
UNACCEPTED = "*[This part did not pass its check.]*"
CUT_PLAN = "*[The plan of this answer broke off; parts may be missing.]*"
AGAIN = "*[The text breaks off here; this part starts again.]*"


TOP_LEVEL = 2
"""Of the headings of an answer's parts; those of parts of parts are deeper."""
_DEEPEST = 6


def titled(heading: str, level: int = TOP_LEVEL) -> str:
    """A heading and the gap after it."""
    return f"{'#' * min(level, _DEEPEST)} {heading}\n\n"


def section(
    node: Node, status: NodeStatus, text: str, *, headings: bool = True, level: int = TOP_LEVEL
) -> str:
    """One node's part of the answer; what is missing or cut is said.

    A block that it leaves open, such as code, is closed: the parts behind it would stand inside.
    """
    body = assemble_plain(status, text)
    body += closed(body)
    return titled(node.heading, level) + body if headings else body


def assemble_plain(status: NodeStatus, text: str) -> str:
    """A text and, if it is not whole, the mark that says so."""
    mark = mark_of(status, text)
    return f"{text}{closed(text)}\n\n{mark}" if text and mark else text or mark


def mark_of(status: NodeStatus, text: str) -> str:
    """What the reader is told of a part that is not whole; empty for one that is."""
    if status == "complete":
        return ""
    if not text:
        return MISSING
    if status == "partial":
        return ""  # it stands inside
    return UNACCEPTED if status == "unaccepted" else CUT


def assemble(
    nodes: Sequence[Node],
    ended: Mapping[NodeId, tuple[NodeStatus, str]],
    *,
    headings: bool = True,
    level: int = TOP_LEVEL,
    cut: bool = False,
    opening: str = "",
) -> str:
    """The answer: its opening if it has one, then the nodes' parts in skeleton order."""
    parts = [section(node, *ended[node.id], headings=headings, level=level) for node in nodes]
    return "\n\n".join([*filter(None, [opening]), *parts, *([CUT_PLAN] if cut else [])])


@dataclass(slots=True)
class _Part:
    heading: str | None
    """None for the one part of a plain run."""
    text: str = ""
    """The text of the current attempt."""
    shown: str = ""
    """What was given of this part's text and still counts."""
    status: NodeStatus | None = None
    restarted: bool = False
    begun: bool = False
    """Its text has begun, so that its heading may be shown, be the text itself still held back."""


@dataclass(slots=True)
class Assembler:
    """Feed it a run's events; it gives the next pieces of the answer."""

    headings: bool = True
    level: int = TOP_LEVEL
    interrupted: list[NodeId] = field(default_factory=list)
    """Nodes whose shown text broke off and was started again with other words."""
    voided: bool = False
    """What was shown of the parts turned out to belong to a thought of the planner."""
    _opening: str = ""
    """What was given before all parts."""
    _is_opening: bool = False
    """The opening is not whole: the parts wait for it."""
    _parts: dict[NodeId, _Part] = field(default_factory=dict)
    _order: list[NodeId] = field(default_factory=list)
    _current: int = 0
    _opened: bool = False
    """The current part's heading was given."""
    _begun: bool = False
    """Something was given."""
    _cut: bool = False

    def feed(self, event: Event) -> str:
        """The text that this event adds to the answer; often empty."""
        if isinstance(event, Token):  # nearly all of them
            return self._token(event.node_id, event.text)
        match event:
            case Opened(text, last=last):
                self._opening += text
                self._begun |= bool(text)
                self._is_opening = not last
                return text + self._advance()
            case Planned(node):
                self._add(node.id, _Part(node.heading if self.headings else None))
            case Voided():
                shown = "".join(part.shown for part in self._parts.values())
                self._parts, self._order, self._current = {}, [], 0
                self._opened = False
                if shown:
                    self.voided = True
                    return f"{closed(shown)}\n\n{AGAIN}"
            case PlainChosen():
                # It begins with the opening, if there is one, and says it again in its own tokens.
                self._is_opening = False
                self._opened = bool(self._opening)
                opened = bool(self._opening)
                self._add(PLAIN_ID, _Part(None, shown=self._opening, restarted=opened))
            case Discarded(node_id):
                part = self._parts[node_id]
                part.text, part.restarted = "", True
            case Ended(node_id, status, text):
                part = self._parts[node_id]
                part.text, part.status = text, status
                return self._advance()
            case PlanEnded(_, cut):
                self._cut = cut
                return self._advance()
            case _:
                pass
        return ""

    def _token(self, node_id: NodeId, text: str) -> str:
        part = self._parts[node_id]
        part.text += text
        part.begun = True
        if self._order[self._current] != node_id:
            return ""
        if self._opened and not part.restarted and not self._is_opening:
            part.shown = part.text
            return text
        return self._advance()

    def _add(self, node_id: NodeId, part: _Part) -> None:
        self._parts[node_id] = part
        self._order.append(node_id)

    def _gap(self) -> str:
        gap, self._begun = ("\n\n" if self._begun else ""), True
        return gap

    def _advance(self) -> str:
        out: list[str] = []
        while self._current < len(self._order) and not self._is_opening:
            node_id = self._order[self._current]
            part = self._parts[node_id]
            if not part.begun and part.status is None:
                return "".join(out)
            if not self._opened:
                out.append(self._gap())
                if part.heading is not None:
                    out.append(titled(part.heading, self.level))
                self._opened = True
            out.append(self._more(node_id, part))
            if part.status is None:
                return "".join(out)
            mark = mark_of(part.status, part.shown)
            if mark or node_id != PLAIN_ID:
                out.append(closed(part.shown))
            if mark:
                out.append(f"\n\n{mark}" if part.shown else mark)
            self._current += 1
            self._opened = False
        if self._cut and not self._is_opening:
            self._cut = False
            out.append(f"{self._gap()}{CUT_PLAN}")
        return "".join(out)

    def _more(self, node_id: NodeId, part: _Part) -> str:
        if part.text.startswith(part.shown):
            more = part.text[len(part.shown) :]
            part.restarted = False
        elif part.shown.startswith(part.text) and part.status != "complete":
            # So far it repeats what was shown; without an answer, that stays and is marked as cut.
            return ""
        else:
            self.interrupted.append(node_id)
            more = f"{closed(part.shown)}\n\n{AGAIN}\n\n{part.text}"
        part.shown = part.text
        return more
