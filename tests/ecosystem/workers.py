"""Many users on two workers of a LangGraph server, with one PostgreSQL behind them; one worker is killed.

    python -m tests.ecosystem.workers --postgres postgresql://user:password@127.0.0.1:5432/database

The server is Aegra, which speaks LangGraph Server's protocol and keeps threads and checkpoints in PostgreSQL.
A client whose worker is gone asks the other one to go on with its thread. The models are scripted: they say in
their log what they were asked for, and when. One worker is killed when half of the parts have been finished, however
fast the machine is. Prints one JSON object; its exit status says whether all answers came whole and none of the
first third of the parts was asked for again. What ended just before the kill may not be saved yet: `saved_within_s`
is how long before the kill a part had ended, at most, that was asked for again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.scripted_engine import Pace, ScriptedEngine
from tests.support.travel import LONG_REPLIES
from tests.tgi_server import TGITestServer, WireEntry

ROOT = Path(__file__).parents[2]
TRAINS = "Trains are slow, but they stop in the middle of towns, show the land on the way, and leave room for legs and for books."
"""Long enough for a small model's part."""
ANSWER = (
    f"An undivided answer.\n\n## Trains\n\n{TRAINS}\n\n## Planes\n\nPlanes are loud.\n\n"
    "## Advice\n\nStay at home."
)
TOKEN_S = 0.15
"""The parts take from half a second to four."""
SAID = {**LONG_REPLIES, "Write only part 1,": TRAINS}
GO_ON: dict[str, Any] = {"update": {"messages": []}}
"""A command that changes nothing: the thread goes on from what was saved. Aegra takes no empty input."""
_PART = re.compile(r"User (\d+)\b.*Write only part (\d),", re.DOTALL)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def worker(
    python: str, folder: Path, postgres: str, models: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """One process of the server: its URL and itself."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "AEGRA_CONFIG": str(folder / "aegra.json"),
        "DATABASE_URL": postgres,
        "SQLALCHEMY_POOL_SIZE": "10",
        "LANGGRAPH_MAX_POOL_SIZE": "20",
        "LOG_LEVEL": "WARNING",
        "LANGSMITH_TRACING": "false",
        **models,
    }
    command = [python, "-m", "uvicorn", "aegra_api.main:app", "--port", str(port)]
    with (
        (folder / f"{port}.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.send_signal(signal.SIGTERM)


async def wait_until_up(http: httpx.AsyncClient, url: str, process: Any, folder: Path) -> None:
    async with asyncio.timeout(300):
        while True:
            if process.poll() is not None:
                msg = f"The worker did not start: {last_lines(folder)}"
                raise RuntimeError(msg)
            try:
                if (await http.get(f"{url}/health")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)


async def conversation(http: httpx.AsyncClient, url: str, thread: str) -> list[dict[str, Any]]:
    """What is saved of a thread."""
    said = await http.get(f"{url}/threads/{thread}/state")
    if said.status_code == httpx.codes.NOT_FOUND:
        return []
    found: list[dict[str, Any]] = said.raise_for_status().json()["values"].get("messages", [])
    return found


async def ask(http: httpx.AsyncClient, urls: list[str], user: int) -> dict[str, Any]:
    """One user's question, asked until there is an answer; of a worker that is gone, the next one goes on."""
    began, thread = time.monotonic(), None
    asked = f"Train or plane? User {user} asks."
    question: Any = {"input": {"messages": [{"role": "user", "content": asked}]}}
    moved, errors = 0, list[str]()
    for attempt in range(8):
        url = urls[(user + moved) % len(urls)]
        try:
            if thread is None:
                made = await http.post(f"{url}/threads", json={})
                thread = made.raise_for_status().json()["thread_id"]
            saved = await conversation(http, url, thread) if attempt else []
            run = {"assistant_id": "sgd", **({"command": GO_ON} if saved else question)}
            answered = await http.post(f"{url}/threads/{thread}/runs/wait", json=run)
            answered.raise_for_status()
            messages = await conversation(http, url, thread)
            if messages and messages[-1]["type"] == "ai":
                return {
                    "user": user,
                    "text": messages[-1]["content"],
                    "seconds": time.monotonic() - began,
                    "moved": moved,
                    "asked": attempt + 1,
                }
        except httpx.TransportError:
            moved += 1
        except httpx.HTTPStatusError as error:
            errors.append(error.response.text[:300])
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - began
    return {"user": user, "text": None, "seconds": seconds, "moved": moved, "errors": errors[:3]}


def last_lines(folder: Path) -> str:
    return "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))


def parts(log: list[WireEntry]) -> dict[tuple[str, str], list[WireEntry]]:
    """The calls for each user's parts, in the order in which they came."""
    found = defaultdict(list)
    for entry in log:
        for prompt in entry.prompts:
            if named := _PART.search(prompt):
                found[named[1], named[2]].append(entry)
    return found


async def measure(
    postgres: str, users: int, *, kill_after: int, python: str = sys.executable
) -> dict[str, Any]:
    pace = Pace(token_s=TOKEN_S)
    engines = {
        name: ScriptedEngine(SAID, model_id=f"lab/{name}", pace=pace, slots=4 * users)
        for name in ("small", "large")
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "graph.py").write_text(
            "from langchain_sgd.platform import make_graph\n\ngraph = make_graph()\n"
        )
        (folder / "aegra.json").write_text(json.dumps({"graphs": {"sgd": "./graph.py:graph"}}))
        async with (
            TGITestServer(engines, max_concurrent_requests=8 * users) as models,
            httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as http,
        ):
            named = {f"SGD_{tier.upper()}": models.url_of(tier) for tier in engines}
            with ExitStack() as workers:
                urls: list[str] = []
                processes: list[Any] = []
                for _ in range(2):  # one after the other: the first one makes the tables
                    url, process = workers.enter_context(worker(python, folder, postgres, named))
                    await wait_until_up(http, url, process, folder)
                    urls.append(url)
                    processes.append(process)
                done: dict[tuple[str, str], float] = {}
                began, killed = time.monotonic(), None

                async def kill() -> None:
                    nonlocal done, killed
                    while killed is None:
                        await asyncio.sleep(0.05)
                        found = finished(models.log)
                        if len(found) >= kill_after:
                            processes[0].kill()
                            done, killed = found, time.monotonic()

                async with asyncio.TaskGroup() as killing:
                    killer = killing.create_task(kill() if kill_after else asyncio.sleep(0))
                    async with asyncio.TaskGroup() as group:
                        asked = [group.create_task(ask(http, urls, n)) for n in range(users)]
                    killer.cancel()
                answers = [task.result() for task in asked]
            calls = parts(models.log)
            logs = last_lines(folder)
    whole = [answer for answer in answers if answer["text"] == ANSWER]
    wrong = [answer for answer in answers if answer["text"] != ANSWER]
    again = [part for part in done if len(calls[part]) > 1]
    first = list(done)[:users]
    seconds = sorted(answer["seconds"] for answer in answers)
    return {
        "users": users,
        "killed_after_s": killed and round(killed - began, 1),
        "whole_answers": len(whole),
        "moved_users": sum(bool(answer["moved"]) for answer in answers),
        "parts": 3 * users,
        "finished_before_the_kill": len(done),
        "of_those_asked_again": len(again),
        "of_the_first_third_asked_again": len({*first} & {*again}),
        "saved_within_s": killed
        and round(max((killed - done[part] for part in again), default=0), 1),
        "calls_for_parts": sum(map(len, calls.values())),
        "median_s": round(statistics.median(seconds), 1),
        "longest_s": round(seconds[-1], 1),
        **({} if len(whole) == users else {"logs": logs, "wrong": wrong[:3]}),
    }


def finished(log: list[WireEntry]) -> dict[tuple[str, str], float]:
    """The parts whose text has come whole, and when, the first one first."""
    ended = {
        part: entry.ended
        for part, entries in parts(log).items()
        for entry in entries
        if entry.ended is not None and not entry.disconnected
    }
    return dict(sorted(ended.items(), key=lambda item: item[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--postgres", default=os.environ.get("SGD_TEST_POSTGRES_URL"))
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument(
        "--kill-after", type=int, metavar="PARTS", help="0: never; default: a third"
    )
    parser.add_argument("--python", default=sys.executable, help="Of the workers, with aegra-api")
    args = parser.parse_args()
    if not args.postgres:
        parser.error("give --postgres, or set SGD_TEST_POSTGRES_URL")
    kill_after = 3 * args.users // 2 if args.kill_after is None else args.kill_after
    said = asyncio.run(
        # Workers run in a folder of their own; a link of an environment's is not followed.
        measure(
            args.postgres,
            args.users,
            kill_after=kill_after,
            python=str(Path(args.python).absolute()),
        )
    )
    print(json.dumps(said, indent=1))  # noqa: T201 - it is a program
    good = said["whole_answers"] == args.users and not said["of_the_first_third_asked_again"]
    return 0 if good and bool(kill_after) == bool(said["killed_after_s"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
