"""OpenVINO's process, on a pipeline that only notes what it is told."""

from __future__ import annotations

import io
import json
from queue import SimpleQueue
from typing import Any, ClassVar

import pytest

from langchain_sgd.embedded._worker import Worker, brief


class Handle:
    """A request that never says anything."""

    def __init__(self, pipeline: NotedPipeline, number: int) -> None:
        self._pipeline, self._number = pipeline, number

    def can_read(self) -> bool:
        return False

    def get_status(self) -> str:
        return "RUNNING"

    def cancel(self) -> None:
        self._pipeline.did.append(f"cancel {self._number}")


class NotedPipeline:
    states: ClassVar = {"RUNNING": "running"}

    def __init__(self, *, fails: bool = False) -> None:
        self.did: list[str] = []
        self._fails = fails

    def build(self) -> None:
        self.did.append("build")

    def add(self, request: dict[str, Any]) -> Handle:
        self.did.append(f"add {request['number']}")
        return Handle(self, request["number"])

    def step(self) -> None:
        self.did.append("step")
        if self._fails:
            msg = "somewhere.cpp:7\nno"
            raise RuntimeError(msg)


def request(number: int, regex: str | None = None) -> dict[str, Any]:
    return {"add": {"number": number, "ids": [1], "limit": 9, "ends": [], "regex": regex}}


def run(pipeline: NotedPipeline, *messages: Any) -> list[dict[str, Any]]:
    inbox: SimpleQueue[Any] = SimpleQueue()
    for message in (*messages, None):
        inbox.put(message)
    out = io.StringIO()
    Worker(pipeline, inbox, out).run()  # type: ignore[arg-type]
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_requests_are_taken_in_one_a_step() -> None:
    """Two in one step may be given the same part of a cached block, and then write over each other."""
    pipeline = NotedPipeline()
    run(pipeline, request(1), request(2), request(3))
    assert pipeline.did[:6] == ["add 1", "step", "add 2", "step", "add 3", "step"]


def test_a_request_that_is_cancelled_is_told_to_the_pipeline() -> None:
    pipeline = NotedPipeline()
    run(pipeline, request(1), {"cancel": 1}, {"cancel": 7}, request(2))
    assert pipeline.did[:5] == ["add 1", "step", "cancel 1", "add 2", "step"]


def test_a_pipeline_that_breaks_is_built_anew_and_says_who_was_lost() -> None:
    pipeline = NotedPipeline(fails=True)
    told = run(pipeline, request(1), request(2, regex="a+"))
    assert [message["out"] for message in told] == [
        [[1, [], [], "lost", "OpenVINO failed, and was started again; try again: no"]],
        [[2, [], [], "refused", "OpenVINO cannot follow the grammar: no"]],
    ]
    assert pipeline.did.count("build") == 2


@pytest.mark.parametrize("running", [False, True])
def test_its_cache_is_emptied_by_a_new_pipeline(*, running: bool) -> None:
    pipeline = NotedPipeline()
    told = run(pipeline, *([request(1)] if running else []), {"forget": True}, request(2))
    ended = [each for message in told if "busy_s" not in message for each in message["out"]]
    assert [(number, state) for number, _, _, state, _ in ended] == (
        [(1, "lost")] if running else []
    )
    assert pipeline.did.index("build") < pipeline.did.index("add 2")


def test_a_reason_names_none_of_its_source_files() -> None:
    place = "[14:59:44] /home/x/build/src/grammar_parser.cc:123: "
    assert brief(RuntimeError(f"Check failed\n{place}Parsing error at 1: no rule\n")) == (
        "Parsing error at 1: no rule"
    )
    assert brief(RuntimeError("what: a/b:1: c")) == "what: a/b:1: c"
