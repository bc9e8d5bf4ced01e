"""Speeds that a check measures, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_sgd import probing
from langchain_sgd.bench.virtual_time import run_virtual
from langchain_sgd.findings import Finding, Speed
from langchain_sgd.speeds import speed_of

Piece = tuple[float, AIMessageChunk]
"""What a model sends, and the seconds before it."""


def text(content: str) -> AIMessageChunk:
    return AIMessageChunk(content=content)


def thought(content: str) -> AIMessageChunk:
    return AIMessageChunk(content="", additional_kwargs={"reasoning_content": content})


class Timed(BaseChatModel):
    """Sends its pieces in their time, and then what 48 tokens cost; calls wait for each other if told."""

    pieces: Sequence[Piece]
    serial: bool = False
    short: list[int] = Field(default_factory=list)
    """Tokens of its first answers, each in one piece."""
    lock: Any = Field(default_factory=asyncio.Lock)

    @property
    def _llm_type(self) -> str:
        return "timed"

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        if self.serial:
            await self.lock.acquire()
        tokens = self.short.pop() if self.short else 48
        for seconds, piece in self.pieces if tokens == 48 else self.pieces[:1]:
            await asyncio.sleep(seconds)
            yield ChatGenerationChunk(message=piece)
        if self.serial:
            self.lock.release()
        await asyncio.sleep(0.5)  # usage may come late
        usage = {"input_tokens": 9, "output_tokens": tokens, "total_tokens": 9 + tokens}
        end = AIMessageChunk(content="", usage_metadata=usage, chunk_position="last")
        yield ChatGenerationChunk(message=end)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError


def measured(
    monkeypatch: pytest.MonkeyPatch, pieces: Sequence[Piece], *, serial: bool = False
) -> tuple[Finding, Speed | None]:
    def clock() -> float:
        return asyncio.get_running_loop().time()

    monkeypatch.setattr(probing, "time", SimpleNamespace(perf_counter=clock))
    return run_virtual(speed_of(Timed(pieces=pieces, serial=serial), "large"))


@pytest.mark.parametrize(
    "pieces",
    [
        [(0.01, text("word "))] * 48,
        [*[(0.01, thought("hmmm "))] * 40, *[(0.01, text("word "))] * 8],
        [(0.01, thought("word "))] * 48,
        [(0.08, text("word " * 8))] * 6,
    ],
)
def test_the_speed_is_that_between_the_pieces_whatever_they_hold(
    monkeypatch: pytest.MonkeyPatch, pieces: Sequence[Piece]
) -> None:
    _, speed = measured(monkeypatch, pieces)
    assert speed is not None
    assert speed.alone == pytest.approx(100)
    assert speed.batching == pytest.approx(4)
    assert speed.first_token_s == pytest.approx(pieces[0][0])


def test_streams_that_wait_for_each_other_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    finding, speed = measured(monkeypatch, [(0.01, text("word "))] * 48, serial=True)
    assert speed is not None
    assert speed.batching == pytest.approx(1, abs=0.05)
    assert "gains little" in finding.remedy


@pytest.mark.parametrize("count", [1, 2])
def test_an_answer_in_few_pieces_tells_no_speed(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    finding, speed = measured(monkeypatch, [(0.1, text("word " * (48 // count)))] * count)
    assert speed is None
    assert finding.state == "note"
    assert "does not stream" in finding.detail


@pytest.mark.parametrize(("short", "known"), [(2, True), (100, False)])
def test_an_answer_that_ends_at_once_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, short: int, *, known: bool
) -> None:
    clock = lambda: asyncio.get_running_loop().time()  # noqa: E731
    monkeypatch.setattr(probing, "time", SimpleNamespace(perf_counter=clock))
    model = Timed(pieces=[(0.01, text("word "))] * 48, short=[1] * short)
    finding, speed = run_virtual(speed_of(model, "large"))
    assert (speed is not None) == known
    assert ("too short" in finding.detail) != known
