"""The real servers: llama.cpp's own, started here, and those whose URLs `SGD_TEST_URLS` names."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from langchain_sgd.embedded.server import bundled_models

LLAMA_CPP = "llama.cpp"
URLS = os.environ.get("SGD_TEST_URLS", "").split()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "url" in metafunc.fixturenames:
        metafunc.parametrize("url", [LLAMA_CPP, *URLS], indirect=True, scope="session")


@pytest.fixture(scope="session")
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != LLAMA_CPP:
        yield request.param
        return
    model = os.environ.get("SGD_TEST_GGUF") or str(bundled_models()["large"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.servers.llama_cpp", model, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        found = f"http://127.0.0.1:{port}"
        _wait(found, process)
        yield found
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("llama.cpp's server did not start")
