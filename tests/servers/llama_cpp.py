"""llama.cpp's own server, from the wheel `xllamacpp`: python -m tests.servers.llama_cpp MODEL.gguf PORT."""

from __future__ import annotations

import sys
import threading

import xllamacpp


def main() -> None:
    model, port = sys.argv[1], int(sys.argv[2])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 8192
    params.n_parallel = 4
    params.cpuparams.n_threads = 2
    params.use_jinja = True
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server  # it serves as long as it is held


if __name__ == "__main__":
    main()
