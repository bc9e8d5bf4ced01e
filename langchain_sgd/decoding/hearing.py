"""What is heard of one attempt becomes the part's text, and is told as far as it may be shown."""

from __future__ import annotations

from collections.abc import Callable

from langchain_sgd.decoding.length import Share
from langchain_sgd.decoding.points import Echo, PointEnd
from langchain_sgd.decoding.sentences import SentenceEnd
from langchain_sgd.events import Discarded, Emit, Token
from langchain_sgd.skeleton import NodeId
from langchain_sgd.text import AnswerFilter
from langchain_sgd.tiers import Tier


class Hearing:
    """Feed it what the model says; thoughts and a repeated heading are left out, and the end is found.

    Args:
        part_id: The part.
        heading: Its heading, which texts often begin with again.
        share: Its length; None where the writer was told none.
        least: With fewer words the text may not be taken. It is shown from there on, so that nobody reads
            a part twice.
        tier: Who writes.
        emit: Is told of the text.
        now: The run's clock.
        begun: The answer that it goes on from, and beyond the part if nobody stops it; empty for none.
    """

    def __init__(
        self,
        part_id: NodeId,
        heading: str,
        share: Share | None,
        least: int,
        tier: Tier,
        emit: Emit,
        now: Callable[[], float],
        *,
        begun: str = "",
    ) -> None:
        self._id, self._share, self._least = part_id, share, least
        self._tier, self._emit, self._now = tier, emit, now
        self._filter = AnswerFilter(heading, opened=tier.shared.opens_thoughts)
        self._said: list[str] = []
        self._is_continuing = bool(begun)
        self._echo = Echo(begun)
        self._begin()

    def _begin(self) -> None:
        share = self._share
        self._ending = None if share is None else SentenceEnd(share.most_words)
        is_paragraph = share is None or share.is_paragraph
        self._point = PointEnd(paragraph=is_paragraph) if self._is_continuing else None
        self._pieces: list[str] = []
        self._held = ""
        self._is_enough = not self._least

    @property
    def said(self) -> str:
        """All that the model said."""
        return "".join(self._said)

    @property
    def text(self) -> str:
        """The part's text."""
        return "".join(self._pieces)

    @property
    def done(self) -> bool:
        """The part is long enough and was ended."""
        if self._point is not None and self._point.done:
            return True
        return self._ending is not None and self._ending.done

    @property
    def thinking(self) -> bool:
        """After `close`, whether the model was cut in a thought."""
        return self._filter.thinking

    @property
    def is_nearly_empty(self) -> bool:
        """Whether the text has fewer words than it must have."""
        return not self._is_enough

    def feed(self, said: str) -> bool:
        """Hear more; whether enough was heard."""
        self._said.append(said)
        said = self._echo.feed(said)
        if self._pieces:
            return self._take(self._filter.feed(said))
        begun = self._filter.begun
        enough = self._take(self._filter.feed(said))
        if self._filter.begun and not (begun or self._pieces):
            # Most texts begin with words of their heading, and are held back until that is clear.
            self._emit(Token(self._id, "", self._now()))
        return enough

    def close(self) -> None:
        """The model has said all."""
        rest = self._filter.feed(self._echo.close())
        self._take(rest + self._filter.close(), last=True)

    def _take(self, text: str, *, last: bool = False) -> bool:
        if self._filter.restarted and not self._tier.shared.opens_thoughts:
            # All so far was a thought that the model's template had opened; next time it is known.
            self._tier.shared.opens_thoughts = True
            self._begin()
            self._emit(Discarded(self._id, "it was a thought", self._now()))
        if self._point is not None:
            text = self._point.feed(text) + (self._point.close() if last else "")
        if self._ending is not None:
            text = self._ending.feed(text)
        if text:
            self._pieces.append(text)
            if not self._is_enough:
                self._held += text
                if self._ending is not None and self._ending.words >= self._least:
                    self._is_enough, text = True, self._held
            if self._is_enough:
                self._emit(Token(self._id, text, self._now()))
        return self.done
