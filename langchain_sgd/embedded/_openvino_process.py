"""The process that computes for the OpenVINO engine, and the thread that reads what it sends.

See `_openvino_worker` for the process and for what is said between the two. A step of it makes one token for
each of its requests. They travel together: one wake-up of an event loop for each step.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_sgd.embedded._child import Child, Keeper
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._tokenizer import TextDecoder
from langchain_sgd.embedded.engine import EngineError, EngineInputError, Token

_Items = Sequence[Token | EngineError | None]
"""Tokens, and what ends them: an error, or None."""


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One text to continue, asked for in the running loop."""

    ids: Sequence[int]
    limit: int
    ends: Sequence[int]
    logprobs: bool
    sampling: Mapping[str, Any]
    regex: str | None
    decoder: TextDecoder
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    made: asyncio.Queue[Token | EngineError | None] = field(default_factory=asyncio.Queue)

    def to_json(self) -> dict[str, Any]:
        """What the process needs of it."""
        names = ("ids", "limit", "ends", "logprobs", "sampling", "regex")
        return {name: getattr(self, name) for name in names}


class Worker(Keeper):
    """The process that computes; its loops and threads may be several."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            EngineError: OpenVINO cannot read the file.
        """
        self._running: dict[int, Request] = {}
        self._mail: dict[asyncio.AbstractEventLoop, list[tuple[Request, _Items]]] = {}
        self._adding = threading.Lock()
        self._ended: Child | None = None
        self._number = self._prompted = self._steps = self._generated = 0
        self._busy_s = 0.0
        super().__init__("_openvino_worker.py", options, name)

    @property
    def statistics(self) -> Statistics:
        """What was done so far; prompt tokens are counted as computed, cached or not."""
        return Statistics(
            steps=self._steps,
            generated_tokens=self._generated,
            computed_prompt_tokens=self._prompted,
            busy_s=self._busy_s,
        )

    async def tokens(self, request: Request) -> AsyncGenerator[Token, None]:
        """Yield a request's tokens as they are made; leaving them stops it.

        Raises:
            EngineInputError: The request was refused.
            EngineError: The process ended, or was closed.
        """
        child = await self.ready()
        with self._adding:
            if self.closed or child is self._ended:
                raise EngineError(self.last_words(child))
            self._number = number = self._number + 1
            self._running[number] = request
            self._prompted += len(request.ids)
            child.tell({"add": {"number": number, **request.to_json()}})
        try:
            while (token := await request.made.get()) is not None:
                if isinstance(token, EngineError):
                    raise token
                yield token
        finally:
            if self._running.pop(number, None) is not None:
                child.tell({"cancel": number})

    def listen(self, child: Child) -> None:
        """Read what a process sends, until it ends; one that sends what cannot be read is ended."""
        try:
            for message in child.lines():
                self._read(message)
                self._send(child)
            words = self.last_words(child)
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            child.kill()
            words = (
                f"The engine {self.name} could not read what OpenVINO made ({error!r}); the next request"
                " starts it anew"
            )
        with self._adding:
            self._ended = child
            for number in list(self._running):
                self._end(number, EngineError(words))
        self._send(child)

    def _read(self, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            error = EngineInputError(f"OpenVINO refuses the request: {message['reason']}")
            self._end(message["refused"], error)
        elif "broken" in message:
            for number in message["lost"]:
                self._lose(number, message["broken"], is_fresh=number in message["fresh"])
        else:
            self._steps += 1
            self._busy_s += message["busy_s"]
            for number, ids, logprobs, state in message["out"]:
                if (request := self._running.get(number)) is not None:
                    self._take(number, request, ids, logprobs, state)

    def _take(
        self,
        number: int,
        request: Request,
        ids: Sequence[int],
        logprobs: Sequence[float | None],
        state: str,
    ) -> None:
        self._generated += len(ids)
        last = len(ids) - 1 if state == "ended" else None
        shown = logprobs if request.logprobs else [None] * len(ids)
        push = request.decoder.push
        pairs = enumerate(zip(ids, shown, strict=True))
        self._post(request, [push(*pair, last=place == last) for place, pair in pairs])
        if state == "given up":
            error = EngineError("OpenVINO gave the request up; try again with fewer at once")
            self._end(number, error)
        elif state == "ended":
            self._end(number, None)

    def _lose(self, number: int, reason: str, *, is_fresh: bool) -> None:
        """The pipeline was built anew; the request that came last with a grammar, if one did, is to blame."""
        request = self._running.get(number)
        if is_fresh and request is not None and request.regex is not None:
            self._end(number, EngineInputError(f"OpenVINO cannot follow the grammar: {reason}"))
        else:
            words = f"OpenVINO failed, and was started again; try again: {reason}"
            self._end(number, EngineError(words))

    def _end(self, number: int, reason: EngineError | None) -> None:
        if (request := self._running.pop(number, None)) is not None:
            self._post(request, [reason])

    def _post(self, request: Request, items: _Items) -> None:
        self._mail.setdefault(request.loop, []).append((request, items))

    def _send(self, child: Child) -> None:
        """Wake each loop once for all that was posted; requests of a closed loop are cancelled."""
        mail, self._mail = self._mail, {}
        for loop, letters in mail.items():
            try:
                loop.call_soon_threadsafe(_deliver, letters)
            except RuntimeError:  # the loop is closed
                for number in [n for n, each in list(self._running.items()) if each.loop is loop]:
                    del self._running[number]
                    child.tell({"cancel": number})


def _deliver(letters: Sequence[tuple[Request, _Items]]) -> None:
    for request, items in letters:
        for item in items:
            request.made.put_nowait(item)
