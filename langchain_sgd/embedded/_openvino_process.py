"""The process that computes for the OpenVINO engine, and the thread that reads what it sends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from langchain_sgd.embedded._child import Child, Keeper
from langchain_sgd.embedded._statistics import Statistics
from langchain_sgd.embedded._streams import Mail, TokenStream
from langchain_sgd.embedded._tokenizer import (
    TextDecoder,
)
from langchain_sgd.embedded.engine import (
    EngineError,
    EngineInputError,
    Token,
)


@dataclass(slots=True, eq=False)
class Request:
    ids: Sequence[int]
    limit: int
    sampling: Mapping[str, Any]
    regex: str | None
    stream: TokenStream
    logprobs: bool
    decoder: TextDecoder
    ends: Sequence[int]
    out: list[Token] = field(default_factory=list)
    generated: int = 0

    def to_json(self) -> dict[str, Any]:
        """What the worker needs of it."""
        return {
            "ids": list(self.ids),
            "limit": self.limit,
            "ends": list(self.ends),
            "logprobs": self.logprobs,
            "sampling": self.sampling,
            "regex": self.regex,
        }


class Worker:
    """The process that computes, and the thread that reads what it sends.

    See `_openvino_worker` for the process and for what is said between the two.
    """

    def __init__(self, options: Mapping[str, Any], *, name: str) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            EngineError: OpenVINO cannot read the file.
        """
        self._name = name
        self._running: dict[int, Request] = {}
        self._mail = Mail()
        self._lock = threading.Lock()
        self._forgetting: deque[Future[None]] = deque()
        self._number = self._generated = self._prompted = self._steps = 0
        self._busy_s = 0.0
        self._keeper = Keeper(
            "_openvino_worker.py", options, name, started=self._listen, ended=self._join
        )
        self.ready = self._keeper.ready
        self.close = self._keeper.close
        self._listen(self._keeper.child)

    def _listen(self, child: Child) -> None:
        self._before = (self._steps, self._busy_s)
        # A daemon, because a forgotten engine must not keep the process alive; closing joins it.
        self._thread = threading.Thread(
            target=self._run, args=(child,), name=f"openvino:{self._name}", daemon=True
        )
        self._thread.start()

    def _join(self, _: Child) -> None:
        # An engine that is collected as garbage may be collected in its own thread.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            steps=self._steps,
            generated_tokens=self._generated,
            computed_prompt_tokens=self._prompted,
            busy_s=self._busy_s,
        )

    def submit(self, request: Request) -> None:
        """Hand a request over; its tokens, or why there are none, come by its stream.

        Raises:
            EngineError: The engine was closed.
        """
        with self._lock:
            if self._keeper.closed:
                raise EngineError(self._keeper.last_words())
            self._number += 1
            self._running[self._number] = request
            self._prompted += len(request.ids)
            self._keeper.child.tell({"add": {"number": self._number, **request.to_json()}})

    def forget(self) -> Future[None]:
        """Empty the cache."""
        with self._lock:
            waiting: Future[None] = Future()
            self._forgetting.append(waiting)
            self._keeper.child.tell({"forget": True})
        return waiting

    def _run(self, child: Child) -> None:
        try:
            for message in child.lines():
                self._read(message)
                self._mail.send()
        finally:
            self._end_all(child)

    def _end_all(self, child: Child) -> None:
        words = self._keeper.last_words()
        child.free()
        while self._forgetting:
            self._forgetting.popleft().set_exception(EngineError(words))
        for number in list(self._running):
            self._post(self._running.pop(number), ended=True, error=EngineError(words))
        self._mail.send()

    def _read(self, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            if (request := self._running.pop(message["refused"], None)) is not None:
                error = EngineInputError(f"OpenVINO refuses the request: {message['reason']}")
                self._post(request, ended=True, error=error)
        elif "forgotten" in message:
            self._forgetting.popleft().set_result(None)
        elif "broken" in message:
            for number in message["lost"]:
                self._lose(number, message["broken"], is_fresh=number in message["fresh"])
        else:
            self._steps = self._before[0] + message["steps"]
            self._busy_s = self._before[1] + message["busy_s"]
            for number, ids, logprobs, state in message["out"]:
                if (request := self._running.get(number)) is not None:
                    self._take(number, request, ids, logprobs, state)
            # A list, since requests are added meanwhile.
            for number, request in list(self._running.items()):
                if request.stream.abandoned:
                    del self._running[number]
                    self._keeper.child.tell({"cancel": number})

    def _take(
        self,
        number: int,
        request: Request,
        ids: Sequence[int],
        logprobs: Sequence[float] | None,
        state: str,
    ) -> None:
        self._generated += len(ids)
        end = len(ids) - 1 if state == "ended" else None
        request.out += [
            request.decoder.push(
                token, None if logprobs is None else logprobs[place], last=place == end
            )
            for place, token in enumerate(ids)
        ]
        error = None
        if state == "given up":
            error = EngineError("OpenVINO gave the request up; try again with fewer at once")
        if state != "running":
            del self._running[number]
        self._post(request, ended=state != "running", error=error)

    def _lose(self, number: int, reason: str, *, is_fresh: bool) -> None:
        """The pipeline was built anew; the request that came last with a grammar, if one did, is to blame."""
        if (request := self._running.pop(number, None)) is None:
            return
        error = (
            EngineInputError(f"OpenVINO cannot follow the grammar: {reason}")
            if is_fresh and request.regex is not None
            else EngineError(f"OpenVINO failed, and was started again; try again: {reason}")
        )
        self._post(request, ended=True, error=error)

    def _post(self, request: Request, *, ended: bool, error: EngineError | None = None) -> None:
        self._mail.add(request.stream, request.out, ended=ended, error=error)
        request.out = []
