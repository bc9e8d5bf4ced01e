"""One attempt at a plan: the planner's text as it comes, on its way to nodes.

Held back here is what may turn out to be no plan: a single part, a copy of one of the prompt's examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from langchain_sgd.planning.drafts import Draft, Repairer
from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.repetition import words_of
from langchain_sgd.skeleton import Node
from langchain_sgd.wire import MIN_NODES, PLAIN_WORD

_REPEATS = 2
"""Lines in a row that say again what was said; then the planner goes on repeating."""
_LONG_QUESTION = 4
"""Words from which a heading that equals the question is no heading."""
_UNREAD_SHOWN = 3

CHOSEN = "the planner chose to answer undivided"
"""Why a question stays whole."""
_DOUBTED = "the planner was not sure enough of a split (plain_above)"

ReadLine = Callable[[str], Draft | None]
"""Reads one line of the planner's text; None if it is no node."""


class Reading:
    """One attempt's text on its way to nodes."""

    def __init__(
        self,
        max_nodes: int,
        on_node: Callable[[Node], None],
        on_void: Callable[[], None] | None,
        *,
        read_line: ReadLine | None,
        question: str,
        examples: Sequence[tuple[str, str]],
        begun: Sequence[Node] = (),
        plain_above: float | None = None,
    ) -> None:
        self._parser = SkeletonParser(read_line)
        self._max_nodes = max_nodes
        self._repairer = Repairer(max_nodes, list(begun))
        self._begun = list(begun)
        self._on_node = on_node
        self._on_void = on_void
        self._question = words_of(question)
        self._examples = [
            _headings(plan, read_line)
            for asked, plan in examples
            if not _alike(words_of(asked), self._question)
        ]
        self._voided = 0
        self._plain_above = None if begun else plain_above
        self._plain_probability: float | None = None
        """Probability of the plain word; None if it is not known."""
        self.whole: str | None = None
        """Why the question stays whole, if the first token's probabilities say so: no more is read then."""
        self.given = bool(begun)
        """Nodes were handed out: there is a skeleton, whatever comes."""
        self.echoed = False
        """A part was the question itself."""
        self._parroted = False
        """The plan is that of an example in the prompt."""
        self._over = False
        """More nodes came than are taken."""
        self._repeats = 0
        """Lines in a row that were no new part."""

    @property
    def nodes(self) -> list[Node]:
        """What was read, mended."""
        return self._repairer.nodes

    @property
    def warnings(self) -> list[str]:
        """What was mended, and what could not be."""
        return self._repairer.warnings

    @property
    def plain(self) -> bool:
        """The planner said that the question is better answered undivided."""
        return self._parser.plain

    @property
    def is_unsure(self) -> bool:
        """The planner said plain, and was less sure of it than the user wants."""
        return self.plain and self._plain_above is not None and self._plain_probability is not None

    @property
    def problem(self) -> str:
        """Why it is no plan, for the planner to read."""
        if self.plain:
            return f"this question must be split; {PLAIN_WORD} is not allowed."
        if self._parroted:
            return "it repeats an example; plan the question itself."
        if self._parser.reason is not None and not self._stopped:
            return f"it {self._parser.reason}."
        if self.nodes or self.echoed:
            return f"it has one part only; at least {MIN_NODES} are needed."
        return "it holds no line of a plan."

    def feed(self, text: str, /, first: Mapping[str, float] | None = None) -> bool:
        """Read more; True when enough was read."""
        if self._plain_above is not None and self._plain_probability is None and first is not None:
            self._plain_probability = plain_probability(first)
            if self._plain_probability is not None and self._plain_probability >= self._plain_above:
                self.whole = CHOSEN if _begins_plain(text) else _DOUBTED
        if self.whole is not None:
            return True
        self._admit(self._parser.feed(text))
        begun = self._parser.begun
        if begun and not self.given and self.nodes and self._goes_on():
            self._give()
        if self._repairer.full and begun:
            self._over = True
        return self.plain or self._stopped or self._parser.ended

    @property
    def _repeating(self) -> bool:
        return self._repeats >= _REPEATS

    @property
    def _stopped(self) -> bool:
        """The rest is not read, though the parser may have seen some of it."""
        return self._parroted or self._over or self._repeating

    @property
    def _ran_on(self) -> bool:
        return self._parser.ran_on and not self._stopped

    @property
    def has_one_part(self) -> bool:
        """The planner finds nothing to split; a line without an end hides what would have followed."""
        return bool(self.nodes or self.echoed) and not self._ran_on

    def close(self, *, cut: bool) -> bool:
        """Read what is left; whether the text ended in the middle of an object."""
        broken = self._parser.open_object
        self._admit(self._parser.close(cut=cut))
        if self._over:
            self.warnings.append(f"the planner wrote more than {self._max_nodes} nodes")
        if self._stopped:
            return False  # the model was, too, be it in the middle of a line
        if self._parser.reason is not None:
            self.warnings.append(f"the planner {self._parser.reason}")
        self.warnings.extend(
            f"could not read a line of the plan: {line[:80]!r}"
            for line in self._parser.unread[:_UNREAD_SHOWN]
        )
        return broken or self._ran_on

    @property
    def _may_parrot(self) -> bool:
        """The one node so far is the first of an example's."""
        return any(headings[:1] == (self.nodes[0].heading,) for headings in self._examples)

    def _goes_on(self) -> bool:
        """Whether the line that has begun will be a second part, whatever follows."""
        so_far = _letters(self._parser.begun_heading)
        said = [_letters(self.nodes[0].heading)]
        if len(self._question) >= _LONG_QUESTION:
            said.append("".join(self._question))
        differs = all(not s.startswith(so_far) and not so_far.startswith(s) for s in said)
        return differs and not self._may_parrot

    def _admit(self, drafts: Sequence[Draft]) -> None:
        if self._parser.voided > self._voided:
            self._void()
        for draft in drafts:
            if self._repeating:
                return
            if self._parroted or self._is_begun(draft):
                continue
            if self._repeats_question(draft):
                self._repeats += 1
                continue
            if self._repairer.full:
                self._over = True
                return
            node = self._repairer.admit(draft)
            if node is None:
                self._repeats += 1
                continue
            self._repeats = 0
            if self.given:
                self._on_node(node)
                continue
            if len(self.nodes) < MIN_NODES:
                continue
            headings = tuple(node.heading for node in self.nodes)
            if any(example[: len(headings)] == headings for example in self._examples):
                self._parroted = True
                self.nodes.clear()
                continue
            self._give()

    def _is_begun(self, draft: Draft) -> bool:
        """The planner says again what it had written before it was interrupted."""
        return any(draft.id.strip() == node.id for node in self._begun)

    def _void(self) -> None:
        self._voided = self._parser.voided
        if self.given and self._on_void is None:
            self.warnings.append("the plan was part of a thought, and its parts were begun")
            return
        if self.given and self._on_void is not None:
            self._on_void()
        self.given = bool(self._begun)
        self._repeats = 0
        self._repairer = Repairer(self._max_nodes, list(self._begun))

    def _repeats_question(self, draft: Draft) -> bool:
        said = (draft.heading, f"{draft.heading} {draft.scope}")
        if len(self._question) >= _LONG_QUESTION and self._question in map(words_of, said):
            self.warnings.append(f"left out node {draft.id!r}: it repeats the question")
            self.echoed = True
            return True
        return False

    def _give(self) -> None:
        self.given = True
        for node in self.nodes:
            self._on_node(node)


def example_drafts(text: str, read_line: ReadLine | None = None) -> list[Draft]:
    """The drafts of a whole plan."""
    parser = SkeletonParser(read_line)
    return [*parser.feed(text), *parser.close()]


@functools.lru_cache(maxsize=256)
def _headings(text: str, read_line: ReadLine | None) -> tuple[str, ...]:
    """Those of an example's plan, which every question's plan is compared with."""
    return tuple(draft.heading for draft in example_drafts(text, read_line))


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two questions share so many words that their plans may be the same."""
    shared = len(set(one) & set(other))
    return shared * 2 > min(len(set(one)), len(set(other)))


def _letters(text: str) -> str:
    return "".join(words_of(text))


def plain_probability(first: Mapping[str, float]) -> float | None:
    """The probability of the plain word, against a plan's first line.

    Args:
        first: Log-probabilities of what the first token might have been.

    Returns:
        None if it cannot be told from that token: a thought comes first, or JSON, or a plan's first line
        of a server that gives no alternatives.
    """
    plain = sum(math.exp(min(value, 0.0)) for text, value in first.items() if _begins_plain(text))
    split = sum(
        math.exp(min(value, 0.0)) for text, value in first.items() if text.strip()[:1].isdigit()
    )
    if len(first) > 1:
        return plain / (plain + split) if plain + split else None
    return plain or None  # of a server that gives no alternatives: the others may be anything


def _begins_plain(token: str) -> bool:
    said = token.strip()
    return bool(said) and PLAIN_WORD.startswith(said)
