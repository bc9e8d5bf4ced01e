"""A program of an engine's own, in a child process: a crash or a hostile file ends it, and nothing else.

What goes to it and what comes from it are lines of JSON. What it prints to its standard error is kept for
the day on which it dies, and shown to nobody before.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

from langchain_sgd.embedded.engine import EngineError

_STOP_TIMEOUT_S: Final = 10.0
"""For a program to end in after it was told to; it may be in the middle of a long step."""
_KEPT_BYTES: Final = 4000


class Child:
    """A running program that has loaded its model.

    Args:
        options: What it is told first; see `_worker`.
        listener: Runs in a thread of its own while the program does, to read what it sends.

    Raises:
        EngineError: It could not load the model, or died over it.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        listener: Callable[[Child], None] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Idle OpenMP threads that spin take the cores from whoever works: 1,022 ms a step instead of 59
        # beside one busy neighbor.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
            # -P, or the modules beside the program would stand for OpenVINO's.
            [sys.executable, "-P", str(Path(__file__).with_name("_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            encoding="utf-8",
        )
        pipes = self._process.stdin, self._process.stdout
        self._stdin, self._stdout = cast("tuple[IO[str], IO[str]]", pipes)
        self.said: Mapping[str, Any] = {"failed": ""}
        """Its first message."""
        try:
            self.tell(options)
            self.said = next(self.lines(), {}) or {"failed": self.last_words("while it loaded")}
        finally:
            if "failed" in self.said:
                self.close()
        if "failed" in self.said:
            msg = f"{options.get('path')} could not be loaded: {self.said['failed']}"
            raise EngineError(msg)
        if listener is not None:
            # A daemon, because a forgotten engine must not keep the process alive; closing joins it.
            self._thread = threading.Thread(target=listener, args=(self,), daemon=True)
            self._thread.start()

    @property
    def mine(self) -> bool:
        """Whether this is the process that started it, and not a fork of it."""
        return os.getpid() == self._owner

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ends_soon(self) -> bool:
        """Whether it has ended, or does within a second: a socket breaks before its process is gone."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return not self.alive

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message; of a program that has died nothing is said here."""
        with self._lock, suppress(OSError, ValueError):
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()

    def lines(self) -> Iterator[Any]:
        """What it sends, until it ends."""
        with suppress(ValueError):  # the pipe was closed meanwhile, or the last line is cut
            for line in self._stdout:
                yield json.loads(line)

    def last_words(self, when: str) -> str:
        """How it ended, and the last thing that it said; what says nothing more but lives is ended."""
        if not self.ends_soon():
            self.kill()
        code = self._process.wait()
        said: list[str] = []
        with suppress(OSError, ValueError):
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _KEPT_BYTES))
            said = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"exit status {code}"
        if code < 0:
            with suppress(ValueError):
                how = signal.Signals(-code).name
        words = f"The engine's process ended {when} ({how})"
        return f"{words}: {said[-1][:300]}" if said else words

    def kill(self) -> None:
        """End it at once, and wait until it has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and wait for its listener; may be called again, and from a fork, where it does nothing."""
        if not self.mine:
            return
        with suppress(OSError, ValueError):
            self._stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        # An engine that is collected as garbage may be collected in the listener's thread.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for pipe in (self._stdin, self._stdout, self._errors):
            with suppress(OSError, ValueError):
                pipe.close()


class Keeper:
    """A child that is started anew when it has died, until it is closed.

    Args:
        options: As of `Child`.
        name: What its engine is called in errors.

    Raises:
        EngineError: The first one cannot be started.
    """

    listen: Callable[[Child], None] | None = None
    """A child's listener, where a subclass has one."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self.closed = False
        self.name = name
        self._options = options
        self._lock = threading.Lock()
        self.child = Child(options, self.listen)

    async def ready(self) -> Child:
        """One that runs.

        Raises:
            EngineError: It was closed, belongs to another process, or cannot be started.
        """
        if not self.child.mine:
            msg = (
                f"The engine {self.name} belongs to the process that made it; make one of your own"
                " after the fork, or use its server's URL"
            )
            raise EngineError(msg)
        if self.closed or not self.child.alive:
            await asyncio.to_thread(self._revive)
        return self.child

    def _revive(self) -> None:
        with self._lock:
            if self.closed:
                raise EngineError(self.last_words(self.child))
            if not self.child.alive:
                self.child.close()
                self.child = Child(self._options, self.listen)

    def last_words(self, child: Child) -> str:
        """Why a child stopped in the middle."""
        if self.closed:
            return f"The engine {self.name} was closed"
        return f"{child.last_words('while it worked')}; the next request starts it anew"

    def close(self) -> None:
        """End it for good and wait for it; may be called again, and from a fork, where it does nothing."""
        if not self.child.mine:
            return
        with self._lock:
            self.closed = True
            self.child.close()
