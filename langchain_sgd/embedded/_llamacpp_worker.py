"""llama.cpp's own server in a process of its own; run by `llamacpp.py`, the other end of the pipes.

A program, not a module: it is started by its path and imports nothing of the package. The first line that
arrives says what to load, as JSON: `{"path", "slots", "context", "threads", "key"}`. It is answered by
`{"url": ...}` or `{"failed": reason}`. The end of the input ends the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def start(options: dict[str, Any]) -> Any:
    """The server, with its model loaded and listening on loopback."""
    import xllamacpp  # noqa: PLC0415 - its absence is an answer, not a crash

    params = xllamacpp.CommonParams()
    params.model.path = options["path"]
    params.n_parallel = options["slots"]
    params.n_ctx = options["slots"] * options["context"]
    params.kv_unified = True
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    params.port = 0
    params.api_keys = [options["key"]]
    params.endpoint_metrics = True
    params.ui = False
    # Chats are rendered elsewhere; a broken template in the file is no reason not to start.
    params.use_jinja = False
    params.chat_template = "chatml"
    params.fit_params = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def main() -> None:
    """Load what the first message names, and serve."""
    # Interrupting the program in the terminal is the server's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        server = start(json.loads(sys.stdin.readline()))
        answer = {"url": server.listening_address}
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        answer = {"failed": str(error)}
    out.write(json.dumps(answer) + "\n")
    out.flush()
    sys.stdin.read()
    # Its destructor waits for requests in flight; nobody reads their answers any more.
    os._exit(0)


if __name__ == "__main__":
    main()
