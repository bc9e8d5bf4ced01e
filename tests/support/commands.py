"""A command that serves until it is interrupted, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

Process = asyncio.subprocess.Process


@asynccontextmanager
async def command(
    *arguments: str, environment: Mapping[str, str] | None = None, within_s: float = 50
) -> AsyncIterator[tuple[Process, str]]:
    """The process, once it serves, and what it has said until then.

    Args:
        arguments: Behind `langchain-sgd`.
        environment: What is set, beside where modules are found; None: as here.
        within_s: For it to begin to serve in.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "langchain_sgd", *arguments,
        env=None if environment is None else {"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(within_s):
            said = (await process.stdout.readuntil(b"Ctrl-C")).decode()
        yield process, said
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def interrupted(process: Process) -> str:
    """What it complains of until it has ended by Ctrl-C, which is no failure."""
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        _, complaints = await process.communicate()
    assert process.returncode == 0
    return complaints.decode()
