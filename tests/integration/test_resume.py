"""kill -9 in the middle of a run, then another process goes on: nothing finished is asked again."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableGenerator
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from langchain_sgd import Report, SGDRunnable, Skeleton, build_graph
from tests.support.models import PLANNER, part_of, plan_lines, text_for
from tests.support.skeletons import skeleton

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
PLANNED = skeleton("1", "2 <- 1", "3", "4 <- 2,3")
OTHER = Skeleton(
    nodes=(PLANNED.nodes[0].model_copy(update={"heading": "Another"}), *PLANNED.nodes[1:])
)
PLANS = {"same": PLANNED, "other": OTHER}
KINDS = ["top", "nested", "literal"]


class State(TypedDict, total=False):
    question: str
    messages: list[AnyMessage]


def sgd_of(log: Path, hangs: Sequence[str], plan: Skeleton, **options: Any) -> SGDRunnable:
    """Models that note each call in a file, tell when they have ended, and hang where told to."""

    def note(line: str) -> None:
        with log.open("a") as file:
            file.write(line + "\n")

    async def speak(inputs: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
        messages: list[BaseMessage] = [message async for item in inputs for message in item]
        prompt = "\n".join(f"{m.type}: {m.text}" for m in messages)
        part = part_of(prompt)
        note(f"asked {part}")
        if part == PLANNER:
            lines = plan_lines(plan)
            for line in lines[: 2 if PLANNER in hangs else None]:
                yield AIMessageChunk(content=line)
        else:
            yield AIMessageChunk(content=text_for(part, prompt))
        if part in hangs:
            note(f"hangs {part}")
            await asyncio.Event().wait()

    return SGDRunnable(large=RunnableGenerator(speak), **options)


def graph_of(kind: str, sgd: SGDRunnable, saver: AsyncSqliteSaver) -> Any:
    """What is run: the Runnable itself, a parent graph around it, or the literal graph."""
    if kind == "top":
        return sgd
    if kind == "literal":
        return build_graph(PLANNED, sgd).compile(checkpointer=saver)

    async def write(state: State) -> State:
        return {"messages": [await sgd.ainvoke(state["question"])]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile(checkpointer=saver)


async def run(
    folder: Path, kind: str, hangs: Sequence[str], plan: Skeleton, value: Any, **options: Any
) -> Any:
    async with AsyncSqliteSaver.from_conn_string(str(folder / "saved.db")) as saver:
        if kind == "top":
            options["checkpointer"] = saver
        sgd = sgd_of(folder / "log", hangs, plan, **options)
        given = {"question": value} if isinstance(value, str) and kind != "top" else value
        return await graph_of(kind, sgd, saver).ainvoke(given, THREAD)


def asked(folder: Path) -> list[str]:
    lines = (folder / "log").read_text().splitlines()
    return [line.removeprefix("asked ") for line in lines if line.startswith("asked")]


def killed(folder: Path, kind: str, hangs: Sequence[str], saved: int, **options: Any) -> list[str]:
    """Run in a process of its own until it hangs and `saved` answers are on disk; kill -9; what was asked."""
    arguments = json.dumps([str(folder), kind, list(hangs), options])
    with subprocess.Popen([sys.executable, "-m", __name__, arguments]) as process:  # noqa: S603
        try:
            wait_for_hang(folder, hangs, saved, process)
        finally:
            process.send_signal(signal.SIGKILL)
    return asked(folder)


def wait_for_hang(
    folder: Path, hangs: Sequence[str], saved: int, process: subprocess.Popen[bytes]
) -> None:
    async def poll() -> None:
        while process.poll() is None:
            log = (folder / "log").read_text() if (folder / "log").exists() else ""
            if all(f"hangs {part}" in log for part in hangs) and answers_on_disk(folder) >= saved:
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"the run ended with {process.returncode} and should hang")

    asyncio.run(asyncio.wait_for(poll(), 50))


def answers_on_disk(folder: Path) -> int:
    with sqlite3.connect(folder / "saved.db") as database:
        try:
            # LangGraph saves answers and the checkpoint that they belong to at the same time; in the first
            # milliseconds of a run an answer may be there before its checkpoint.
            rows = database.execute(
                "select count(distinct channel) from writes"
                " join checkpoints using (thread_id, checkpoint_ns, checkpoint_id)"
                " where channel = 'plan' or channel like 'node %' or channel like 'answer_%'"
            ).fetchone()
        except sqlite3.OperationalError:  # not made yet, or locked
            return 0
    return int(rows[0])


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_missing_is_asked_after_a_kill(tmp_path: Path, kind: str) -> None:
    planner = [] if kind == "literal" else [PLANNER]
    before = killed(tmp_path, kind, ["2"], saved=2 if kind == "literal" else 3)
    assert sorted(before) == ["1", "2", "3", *planner]
    result = asyncio.run(run(tmp_path, kind, [], PLANNED, None))
    assert asked(tmp_path)[len(before) :] == ["2", "4"]
    if kind == "literal":
        assert all(result[f"answer_{n}"].startswith(f"text of {n} ") for n in "1234")
        return
    message = result if kind == "top" else result["messages"][0]
    report = Report.from_message(message)
    assert report.status == "complete"
    assert [node.restored for node in report.nodes] == [True, False, True, False]
    assert all(node.answer.startswith(f"text of {node.id} ") for node in report.nodes)


@pytest.mark.parametrize("kind", ["top", "nested"])
def test_an_unfinished_plan_is_made_again_and_its_nodes_reused(tmp_path: Path, kind: str) -> None:
    before = killed(tmp_path, kind, [PLANNER], saved=2)
    assert before == [PLANNER, "1", "2"]
    asyncio.run(run(tmp_path, kind, [], PLANNED, None))
    assert asked(tmp_path)[3:] == [PLANNER, "3", "4"]


def test_a_planner_that_words_its_plan_otherwise_goes_on_from_the_saved_lines(
    tmp_path: Path,
) -> None:
    killed(tmp_path, "top", [PLANNER], saved=2)
    message = asyncio.run(run(tmp_path, "top", [], OTHER, None))
    assert asked(tmp_path)[3:] == [PLANNER, "3", "4"]
    assert "## Another" not in message.text
    assert Report.from_message(message).status == "complete"


@pytest.mark.parametrize("kind", ["top", "nested"])
def test_an_approval_survives_a_restart(tmp_path: Path, kind: str) -> None:
    asyncio.run(run(tmp_path, kind, [], PLANNED, "Why?", approve=True))
    assert asked(tmp_path) == [PLANNER]
    resumed: Command[Any] = Command(resume=PLANNED.model_dump(mode="json"))
    result = asyncio.run(run(tmp_path, kind, [], PLANNED, resumed, approve=True))
    message = result if kind == "top" else result["messages"][0]
    assert Report.from_message(message).status == "complete"
    assert sorted(asked(tmp_path)) == ["1", "2", "3", "4", PLANNER]


def test_a_second_kill_is_survived_too(tmp_path: Path) -> None:
    first = killed(tmp_path, "top", ["2"], saved=3)
    second = killed(tmp_path, "top", ["4"], saved=4, resume=True)
    assert second[len(first) :] == ["2", "4"]
    message = asyncio.run(run(tmp_path, "top", [], PLANNED, None))
    assert asked(tmp_path)[len(second) :] == ["4"]
    assert Report.from_message(message).status == "complete"


if __name__ == "__main__":
    where, what, hanging, settings = json.loads(sys.argv[1])
    asyncio.run(
        run(Path(where), what, hanging, PLANNED, None if settings.get("resume") else "Why?")
    )
