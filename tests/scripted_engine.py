"""An engine without a model: its answers are scripted, or made up from the prompt's own words.

Everything is deterministic by (prompt, seed), and greedy requests ignore the seed. Grammars are
enforced: the output is the scripted reply where that fits, else one is filled in from the prompt.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

from langchain_sgd.embedded._errors import Kind, ProtocolError
from langchain_sgd.embedded.engine import (
    Counters,
    EngineError,
    EngineInfo,
    EngineInputError,
    GenerateRequest,
    Token,
)
from tests.grammar_filling import fill_grammar, fits_grammar
from tests.support.asked import holds

Reply = str | Callable[[str], str] | Mapping[str, str]
"""A fixed text, a function of the prompt, or texts by a substring of the prompt ("" = else)."""

PLANNER = "Plan long answers"
"""How a planner's prompt is known."""

_PIECES = {
    "words": re.compile(r"\s?\w+|\s?[^\w\s]|\s"),
    "characters": re.compile(r".", re.DOTALL),
    "bytes": re.compile(r".", re.DOTALL),
}
_WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "jasper",
    "kestrel",
    "lantern",
    "meadow",
    "north",
    "orchard",
    "pebble",
    "quarry",
    "river",
    "summit",
    "thistle",
    "upland",
    "valley",
    "willow",
    "yarrow",
    "zephyr",
]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long tokens take, so that parallel speed-ups can be measured."""

    token_s: float = 0.0
    first_token_s: float = 0.0
    slowdown: float = 0.0
    """Share of `token_s` that every other request in flight adds."""
    plans_first: bool = False
    """A plain answer (the reply under "") ends after a plan has: one that is whole before is kept, and nothing is
    split. It waits for a plan no longer than two seconds, and for one to be begun no longer than a third of one."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong in the engine, after so many tokens."""

    kind: Literal["busy", "fail", "incomplete", "stall"]
    after: int = 0


@dataclass(slots=True)
class Call:
    """What the engine sees of the request that it works for; the server sets it per request."""

    trouble: Trouble | None = None
    requests: list[GenerateRequest] = field(default_factory=list)


CALL: ContextVar[Call | None] = ContextVar("scripted_engine_call", default=None)


class ScriptedEngine:
    """Implements `langchain_sgd.embedded.engine.Engine` for tests."""

    def __init__(
        self,
        reply: Reply | None = None,
        *,
        model_id: str = "scripted/model",
        max_total_tokens: int = 4096,
        slots: int = 8,
        pace: Pace = Pace(),
        grammars: Literal["enforce", "ignore", "restart"] = "enforce",
        pieces: Literal["words", "characters", "bytes"] = "words",
        template_uses_tools: bool = False,
    ) -> None:
        """`ignore` is TGI's llamacpp backend; `restart` begins a grammar anew after 1024 tokens."""
        self.reply = reply
        self.pace = pace
        self.grammars = grammars
        self.pieces = pieces
        self.refused_role: str | None = None
        """Role that the chat template refuses, if any."""
        self.active = 0
        self.peak = 0
        """Most requests that were decoded at once."""
        self.closed_early = 0
        """Streams that were closed before their end."""
        self._info = EngineInfo(
            model_id,
            max_total_tokens=max_total_tokens,
            slots=slots,
            dtype="scripted",
            template_uses_tools=template_uses_tools,
        )
        self._slots = asyncio.Semaphore(slots)
        self._plans = 0
        """Plans that have ended."""
        self._planning = 0
        """Plans in the making."""
        self._changed = asyncio.Event()
        self._closed = False
        self._cache: deque[list[str]] = deque(maxlen=64)

    @property
    def info(self) -> EngineInfo:
        return self._info

    async def generate(
        self, request: GenerateRequest, counters: Counters
    ) -> AsyncGenerator[Token, None]:
        self._check_open()
        call = CALL.get() or Call()
        call.requests.append(request)
        trouble = call.trouble
        if trouble is not None and trouble.kind == "busy":
            raise ProtocolError(Kind.OVERLOADED)  # as the app does where too many are in flight

        prompt = self._split(request.prompt)
        prompt = prompt if request.truncate is None else prompt[-request.truncate :]
        counters.prompt_tokens = len(prompt)
        counters.cached_tokens = max((_common(prompt, past) for past in self._cache), default=0)
        ended = False
        async with self._slots:
            self._moved(+1)
            self.peak = max(self.peak, self.active)
            self._planning += (plans_itself := PLANNER in request.prompt)
            try:
                plans = self._plans
                await _pause(self.pace.first_token_s)
                for index, token in enumerate(self._tokens(request)):
                    if token.special and self.pace.plans_first:
                        await self._wait_for_plan(request.prompt, plans)
                    if trouble is not None and index == trouble.after:
                        if trouble.kind == "incomplete":
                            return
                        await _fail(trouble)
                    await _pause(self.pace.token_s * (1 + self.pace.slowdown * (self.active - 1)))
                    yield token
                # As on TGI, a prompt is cached when the request that computed it has ended.
                self._cache.append(prompt)
                ended = True
            finally:
                self._planning -= plans_itself
                self.closed_early += not ended
                self._moved(-1)

    async def _wait_for_plan(self, prompt: str, plans: int) -> None:
        if PLANNER in prompt:
            self._plans += 1
        elif isinstance(self.reply, Mapping) and self._scripted(prompt) == self.reply.get(""):
            for waited in range(100):
                if self._plans > plans:
                    await asyncio.sleep(0.3)  # the plan reaches the client first
                    return
                if waited > 15 and not self._planning:
                    return  # nobody has asked for one
                await asyncio.sleep(0.02)

    def _moved(self, change: int) -> None:
        self.active += change
        self._changed.set()
        self._changed = asyncio.Event()

    async def until_active(self, count: int, timeout_s: float = 5.0) -> None:
        """Wait until exactly so many requests are being decoded."""
        async with asyncio.timeout(timeout_s):
            while self.active != count:
                await self._changed.wait()

    def _tokens(self, request: GenerateRequest) -> list[Token]:
        texts = self._split(self.text(request))
        if request.grammar is not None and self.grammars == "restart" and len(texts) > 1024:
            texts = texts[:1024] + texts
        tokens = [self._token(text, logprob=request.logprobs) for text in texts]
        eos = Token(2, "</s>", logprob=-0.01, special=True)
        return [*tokens, eos][: request.max_new_tokens]

    def text(self, request: GenerateRequest) -> str:
        """What the request is answered with, before it is cut."""
        seed = None if request.sampling.temperature is None else request.sampling.seed
        free = self._scripted(request.prompt)
        if free is None:
            free = _babble(request.prompt, seed)
        if request.grammar is None or self.grammars == "ignore":
            return free
        if fits_grammar(free, request.grammar):
            return free
        return fill_grammar(request.grammar, question_of(request.prompt))

    def _scripted(self, prompt: str) -> str | None:
        if self.reply is None or isinstance(self.reply, str):
            return self.reply
        if isinstance(self.reply, Mapping):
            return next((text for part, text in self.reply.items() if holds(prompt, part)), None)
        return self.reply(prompt)

    def _split(self, text: str) -> list[str]:
        pieces = _PIECES[self.pieces].findall(text)
        if self.pieces != "bytes":
            return pieces
        # A token that ends inside a character shows nothing; the one that completes it shows it.
        return [part for piece in pieces for part in [""] * (len(piece.encode()) - 1) + [piece]]

    @staticmethod
    def _token(text: str, *, logprob: bool = False) -> Token:
        number = zlib.crc32(text.encode(errors="replace"))
        return Token(3 + number % 31_997, text, logprob=-(number % 300) / 100 if logprob else None)

    async def render_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> str:
        """`<|role|>`, the text, `</s>`; the tools, if they are given, stand before all."""
        self._check_open()
        for message in messages:
            if message["role"] == self.refused_role:
                msg = f"the template knows no role {message['role']!r}"
                raise EngineInputError(msg)
        shown = "" if tools is None else f"<|tools|>\n{json.dumps(tools, ensure_ascii=False)}</s>\n"
        turns = [f"<|{each['role']}|>\n{each.get('content', '')}</s>\n" for each in messages]
        return f"{shown}{''.join(turns)}<|assistant|>\n"

    async def tokenize(self, text: str) -> list[Token]:
        self._check_open()
        return [self._token(piece) for piece in self._split(text)]

    async def aclose(self) -> None:
        """Every later call fails."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            msg = "the engine is closed"
            raise EngineError(msg)


def question_of(prompt: str) -> str:
    """The last thing a user said, without tools; the whole prompt where it is no chat."""
    _, marker, after = prompt.rpartition("<|user|>\n")
    if not marker:
        return prompt
    question = after.partition("</s>")[0].partition("\n---\n")[0]
    # A tool's result after the question: nothing more is to be called.
    return f"{question}\n<|answered|>" if "<|tool|>" in after else question


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _fail(trouble: Trouble) -> None:
    if trouble.kind == "stall":
        await asyncio.Event().wait()
    msg = "out of memory"
    raise EngineError(msg)


def _babble(prompt: str, seed: int | None) -> str:
    rng = random.Random(f"{prompt}|{seed}")
    words = [rng.choice(_WORDS) for _ in range(rng.randint(8, 16))]
    return f"{' '.join(words).capitalize()}."


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )
