"""An engine in a process of its own; run by `_child.py`, the other end of the pipes.

OpenVINO's `step` holds the interpreter's lock while it computes. In the server's process each thing that the
server does between two waits would wait for a step, so that answers and new requests come several steps
late; here nothing else wants the lock.

A program, not a module: it is started by its path and imports nothing of the package, so that it starts
as fast as the engine does. Messages are lines of JSON. The first one that arrives says what to load:
`{"engine", "path", "slots", "context", "threads"}`, and is answered by `{"failed": reason}` or, once it is
loaded, by `{"url"}` of llama.cpp's server, whose `"key"` was said with it, or `{"loaded": true}` of OpenVINO.
OpenVINO is then sent `{"add": {"number", "ids", "limit", "ends", "logprobs", "sampling", "regex"}}`,
`{"cancel": number}` and `{"forget": true}`, which empties the cache. It sends
`{"busy_s", "out": [[number, ids, logprobs, state, reason]]}` after each step, and without `busy_s` what else
ends requests. The state is "running", "ended", "refused" (its own fault) or "lost".
The end of the input ends the process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TextIO

_BLOCK: Final = 32
"""Tokens in a block of its key-value cache."""
_PROMPT_TOKENS_PER_STEP: Final = 256
_SWITCH_S: Final = 1e-5
"""The thread that reads requests is to get the lock as soon as a step has ended."""

_SOURCE: Final = re.compile(r"^(\[[\d:]+\] )?/\S+:\d+: *")


class Pipeline:
    """The pipeline, and how to build it again.

    Args:
        path: The GGUF file, or the folder.
        slots: Requests decoded together.
        context: Most tokens of a request.
        threads: Threads that compute.
    """

    def __init__(self, *, path: str, slots: int, context: int, threads: int) -> None:
        # Here, so that their absence is an answer and not a crash.
        import numpy as np  # noqa: PLC0415
        import openvino  # noqa: PLC0415
        import openvino_genai  # noqa: PLC0415

        self._genai: Any = openvino_genai
        self._tensor: Any = openvino.Tensor
        self._array: Any = np.array
        self._path = path
        status = openvino_genai.GenerationStatus
        self.states: Final = {status.RUNNING: "running", status.FINISHED: "ended"}
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = slots
        scheduler.max_num_batched_tokens = max(_PROMPT_TOKENS_PER_STEP, slots)
        scheduler.num_kv_blocks = slots * (context // _BLOCK + 1)
        self._scheduler: Any = scheduler
        self._properties: dict[str, Any] = {
            # Its default of bfloat16 changes what a model says.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            # The cores are shared with the server and its clients; a thread that may not move waits for them.
            "ENABLE_CPU_PINNING": False,
        }
        self._pipeline: Any = None
        self.build()

    def build(self) -> None:
        """Load the model; what the last pipeline was doing is lost."""
        self._pipeline = None
        self._pipeline = self._genai.ContinuousBatchingPipeline(
            self._path, self._scheduler, "CPU", self._properties
        )

    def add(self, request: dict[str, Any]) -> Any:
        """Hand a request over; the handle to read it by."""
        config = self._genai.GenerationConfig()
        config.max_new_tokens = request["limit"]
        if request["ends"]:
            config.eos_token_id = request["ends"][0]
            config.stop_token_ids = set(request["ends"])
        config.logprobs = int(request["logprobs"])
        for name, value in request["sampling"].items():
            setattr(config, name, value)
        if request["regex"] is not None:
            structured = self._genai.StructuredOutputConfig()
            structured.regex = request["regex"]
            config.structured_output_config = structured
        ids = self._tensor(self._array([request["ids"]], "int64"))
        return self._pipeline.add_request(request["number"], ids, config)

    def step(self) -> None:
        """Compute the next token of all requests."""
        self._pipeline.step()


class Worker:
    """Serves requests on a pipeline until the input ends."""

    def __init__(self, pipeline: Pipeline, inbox: SimpleQueue[Any], out: TextIO) -> None:
        self._pipeline = pipeline
        self._inbox = inbox
        self._out = out
        self._running: dict[int, Any] = {}
        """Their handles."""
        self._suspects: set[int] = set()
        """Those with a grammar that no step has computed yet."""

    def run(self) -> None:
        """Take requests and compute; returns when the input has ended."""
        while self._receive():
            if self._running:
                self._step()
        # It complains when requests are lost with it, and may have failed before.
        for handle in self._running.values():
            handle.cancel()
        if self._running:
            with suppress(RuntimeError):
                self._pipeline.step()

    def _receive(self) -> bool:
        while True:
            try:
                message = self._inbox.get(block=not self._running)
            except Empty:
                return True
            if message is None:
                return False
            if "add" in message:
                self._add(message["add"])
                # One a step: two that are taken in together may be given the same part of a cached block, and
                # then write over each other. Seen as parts that answered their neighbor's heading.
                return True
            if "forget" in message:
                self._lose_all("its cache was emptied")
            elif (handle := self._running.pop(message["cancel"], None)) is not None:
                handle.cancel()

    def _add(self, request: dict[str, Any]) -> None:
        number = request["number"]
        try:
            self._running[number] = self._pipeline.add(request)
        except RuntimeError as error:
            send(
                self._out,
                {"out": [[number, [], [], "refused", f"OpenVINO refuses it: {brief(error)}"]]},
            )
            return
        if request["regex"] is not None:
            self._suspects.add(number)

    def _step(self) -> None:
        started = time.perf_counter()
        try:
            self._pipeline.step()
        except RuntimeError as error:
            self._lose_all(brief(error))
            return
        busy_s = time.perf_counter() - started
        self._suspects.clear()
        out = [self._read(number, handle) for number, handle in list(self._running.items())]
        send(self._out, {"busy_s": busy_s, "out": [each for each in out if each]})

    def _lose_all(self, reason: str) -> None:
        """Build the pipeline anew; a request that came last with a grammar is to blame."""
        out = [
            [number, [], [], "refused", f"OpenVINO cannot follow the grammar: {reason}"]
            if number in self._suspects
            else [
                number,
                [],
                [],
                "lost",
                f"OpenVINO failed, and was started again; try again: {reason}",
            ]
            for number in self._running
        ]
        send(self._out, {"out": out})
        self._running.clear()
        self._suspects.clear()
        self._pipeline.build()

    def _read(self, number: int, handle: Any) -> list[Any] | None:
        ids: list[int] = []
        logprobs: list[float] = []
        while handle.can_read():
            for output in handle.read().values():
                ids += output.generated_ids
                logprobs += output.generated_log_probs
        # One that is out of cache blocks is in no state of these; it does not say so otherwise.
        state = self._pipeline.states.get(handle.get_status(), "lost")
        if state != "running":
            del self._running[number]
        elif not ids:
            return None
        reason = "OpenVINO gave the request up; try again with fewer at once"
        return [number, ids, logprobs, state, reason if state == "lost" else None]


def llama_cpp_server(*, path: str, slots: int, context: int, threads: int, key: str) -> Any:
    """llama.cpp's own server, with its model loaded and listening on loopback."""
    import xllamacpp  # noqa: PLC0415 - its absence is an answer, not a crash

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.kv_unified = True
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.port = 0
    params.api_keys = [key]
    params.endpoint_metrics = True
    params.ui = False
    # Chats are rendered elsewhere; a broken template in the file is no reason not to start.
    params.use_jinja = False
    params.chat_template = "chatml"
    params.fit_params = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def brief(error: Exception) -> str:
    """The last line of one of OpenVINO's messages, without the place in its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _SOURCE.sub("", lines[-1]) if lines else repr(error)


def send(out: TextIO, message: dict[str, Any]) -> None:
    """Say something to whoever started the process."""
    out.write(json.dumps(message) + "\n")
    out.flush()


def main() -> None:
    """Load what the first message names, and serve."""
    # Interrupting the program in the terminal is the server's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Engines print to the standard output, which from now on is the standard error's file.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    options = json.loads(sys.stdin.readline())
    try:
        if options.pop("engine") == "llamacpp":
            server = llama_cpp_server(**options)
            send(out, {"url": server.listening_address})
            sys.stdin.read()
            # Its destructor waits for requests in flight; nobody reads their answers any more.
            os._exit(0)
        pipeline = Pipeline(**options)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        send(out, {"failed": brief(error)})
        return
    sys.setswitchinterval(_SWITCH_S)
    send(out, {"loaded": True})
    inbox: SimpleQueue[Any] = SimpleQueue()

    def receive() -> None:
        for line in sys.stdin:
            inbox.put(json.loads(line))
        inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    with suppress(BrokenPipeError):  # nobody reads any more
        Worker(pipeline, inbox, out).run()


if __name__ == "__main__":
    main()
