"""What a resume calls again: a process is killed in the middle of a run, another one goes on.

The models answer at once, but the last two parts of eight, which hang until the process is killed with
SIGKILL. Once at the top level, once as a step of a user's graph, where only that graph has a checkpointer.
Needs `langgraph-checkpoint-sqlite`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_sgd.bench._output import parser, save, show
from langchain_sgd.bench.models import StreamOnly, lines_of
from langchain_sgd.report import Report
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.skeleton import Node, NodeId, Skeleton

PLACES = ("top level", "nested in a graph")
NEEDS = {1: (), 2: (), 3: (), 4: (1,), 5: (2,), 6: (3, 4), 7: (), 8: (5, 6)}
HANGING = frozenset({"6", "8"})
SKELETON = Skeleton(
    nodes=tuple(
        Node(
            id=NodeId(str(number)),
            heading=f"Part {number}",
            scope=f"subject {number}",
            dependencies=tuple(NodeId(str(needed)) for needed in needs),
            difficulty=2,
        )
        for number, needs in NEEDS.items()
    )
)
SAVED = 1 + len(NEEDS) - len(HANGING)
"""The plan, and every part that does not hang."""

THREAD: RunnableConfig = {"configurable": {"thread_id": "run-1"}}
_MODULE = "langchain_sgd.bench.resume"
_SAVED, _POLL_S, _PATIENCE_S = "saved", 0.02, 120.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """Model calls of one run in two processes, by the part that was asked for."""

    before: tuple[str, ...]
    """Until the kill; the last of them had no answer yet."""
    after: tuple[str, ...]
    status: str
    restored: int
    """Parts that came from the checkpoint."""


def measure(place: str) -> Resumed:
    """Start a run, kill it once all that can be saved is, and go on in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "calls")
        command = [sys.executable, "-m", _MODULE, "--worker", place, folder]
        with subprocess.Popen([*command, "--hang"], stdout=subprocess.PIPE, text=True) as first:  # noqa: S603 - this file
            said = first.stdout.readline() if first.stdout else ""
            first.send_signal(signal.SIGKILL)
        if said.strip() != _SAVED:
            msg = f"The first process ended before its answers were saved; it said {said!r}"
            raise RuntimeError(msg)
        before = log.read_text().split()
        second = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
        after = log.read_text().split()[len(before) :]
        return Resumed(tuple(before), tuple(after), **json.loads(second.stdout))


def main(argv: Sequence[str] | None = None) -> None:
    """Print and save the figures."""
    args = parser("resume", __doc__ or "").parse_args(argv)
    found = {place: measure(place) for place in PLACES}
    show(
        f"Killed and resumed: model calls of a run of {len(SKELETON)} parts and their plan",
        ("", "before the kill", "after", "called again", "from the checkpoint", "status"),
        [
            (place, len(r.before), len(r.after), _again(r), r.restored, r.status)
            for place, r in found.items()
        ],
        note="Called again are the calls that had no answer yet when the process was killed.",
    )
    figures = {
        place: {
            "calls_before": r.before,
            "calls_after": r.after,
            "called_again": _again(r),
            "restored": r.restored,
            "status": r.status,
        }
        for place, r in found.items()
    }
    save(args.json, "resume", argv, figures)


def _again(found: Resumed) -> int:
    return len({*found.before} & {*found.after})


# -- the process that is killed, and the one that goes on


class _LoggedModel(StreamOnly):
    """Notes each call in a file, which outlives the process."""

    def __init__(self, log: Path, hanging: frozenset[str]) -> None:
        self._log, self._hanging = log, hanging

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str]:
        """The plan, or a part's text."""
        part = (config or {}).get("metadata", {}).get("sgd_node_id", "planner")
        # A line, which must be there before the kill.
        with self._log.open("a") as log:
            log.write(f"{part}\n")
        if part in self._hanging:
            await asyncio.Event().wait()
        yield "".join(lines_of(SKELETON)) if part == "planner" else f"text of {part}"


class _State(TypedDict, total=False):
    question: str
    messages: list[AnyMessage]


def _nested(sgd: SGDRunnable, saver: BaseCheckpointSaver[Any]) -> Any:
    async def write(state: _State) -> _State:
        return {"messages": [await sgd.ainvoke(state["question"])]}

    graph = StateGraph(_State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile(checkpointer=saver)


async def _work(place: str, folder: Path, *, hang: bool) -> None:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415 - not a dependency

    async with AsyncSqliteSaver.from_conn_string(str(folder / "runs.sqlite")) as saver:
        model = _LoggedModel(folder / "calls", HANGING if hang else frozenset())
        if place == PLACES[0]:
            sgd = SGDRunnable(large=model, stall_timeout_s=None, opening=False, checkpointer=saver)
            run: Any = sgd.ainvoke
            question: Any = "Which?"
        else:
            sgd = SGDRunnable(large=model, stall_timeout_s=None, opening=False)
            run = _nested(sgd, saver).ainvoke
            question = {"question": "Which?"}
        if hang:
            async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
                group.create_task(run(question, THREAD))
                while await _saved(saver) < SAVED:  # noqa: ASYNC110 - a database calls nobody
                    await asyncio.sleep(_POLL_S)
                print(_SAVED, flush=True)
        result = await run(None, THREAD)
        message: AIMessage = result if isinstance(result, AIMessage) else result["messages"][-1]
        report = Report.from_message(message)
        restored = sum(node.restored for node in report.nodes)
        print(json.dumps({"status": report.status, "restored": restored}))


async def _saved(saver: BaseCheckpointSaver[Any]) -> int:
    """How many plans and answers are saved already, in any graph of the thread."""
    count = 0
    async for saved in saver.alist(THREAD):
        for _, _, value in saved.pending_writes or ():
            count += isinstance(value, dict) and bool({"answer", "attempts"} & {*value})
    return count


def _worker(argv: Sequence[str]) -> None:
    options = argparse.ArgumentParser()
    options.add_argument("place")
    options.add_argument("folder", type=Path)
    options.add_argument("--hang", action="store_true")
    args = options.parse_args(argv)
    asyncio.run(_work(args.place, args.folder, hang=args.hang))


if __name__ == "__main__":
    _, *arguments = sys.argv
    if arguments[:1] == ["--worker"]:
        _worker(arguments[1:])
    else:
        main(arguments)
