"""One run tree for each question, in whatever tracer: named, tagged, complete, nothing counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers.context import collect_runs
from langchain_core.tracers.langchain import LangChainTracer
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langsmith import Client
from langsmith.run_helpers import traceable, tracing_context
from langsmith.utils import get_env_var

from langchain_sgd import Report, SGDRunnable, build_graph
from tests.support.models import PLAIN, PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton

PLANNED = skeleton("1", "2! <- 1", "3")
TREE = {"planner", "node:1", "node:2", "node:3"}


def staged(**lines: Any) -> tuple[Stage, SGDRunnable]:
    stage = Stage({PLANNER: planning(PLANNED, usage=(10, 5)), **lines}, default=Say(usage=(20, 7)))
    return stage, SGDRunnable(**stage.pair())


Tree = tuple[str, str, list[Any]]


def tree(run: Any) -> Tree:
    children = sorted(run.child_runs, key=lambda child: child.name)
    return run.name, run.run_type, [tree(child) for child in children]


EXPECTED: Tree = (
    "SGDRunnable",
    "chain",
    [
        ("node:1", "llm", []),
        ("node:2", "llm", []),
        ("node:3", "llm", []),
        ("planner", "llm", []),
    ],
)


async def asked(sgd: Any, config: RunnableConfig) -> None:
    await sgd.ainvoke("Why?", config)


async def streamed(sgd: Any, config: RunnableConfig) -> None:
    async for _ in sgd.astream("Why?", config):
        pass


async def watched(sgd: Any, config: RunnableConfig) -> None:
    async for _ in sgd.aevents("Why?", config):
        pass


async def in_a_thread(sgd: Any, config: RunnableConfig) -> None:
    sgd.invoke("Why?", config)


WAYS: list[Callable[..., Any]] = [asked, streamed, watched, in_a_thread]


@pytest.mark.parametrize("way", WAYS)
async def test_the_run_tree_is_exact(way: Any) -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()
    await way(sgd, {"callbacks": [collector]})
    assert [tree(run) for run in collector.traced_runs] == [EXPECTED]


async def test_every_model_run_says_what_it_is() -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()
    config: RunnableConfig = {
        "callbacks": [collector],
        "tags": ["mine"],
        "metadata": {"user": "u"},
        "configurable": {"plain": "value"},
    }
    await sgd.ainvoke("Why?", config)
    runs = {run.name: run for run in collector.traced_runs[0].child_runs}
    assert "sgd:small" in (runs["node:1"].tags or [])
    assert "sgd:large" in (runs["node:2"].tags or [])
    metadata = runs["node:2"].metadata
    assert metadata["sgd_node_id"] == "2"
    assert metadata["sgd_dependencies"] == ["1"]
    assert metadata["sgd_difficulty"] == 5
    assert (metadata["sgd_tier"], metadata["sgd_attempt"]) == ("large", 1)
    assert (metadata["ls_provider"], metadata["ls_model_name"]) == ("scripted", "large")
    for run in runs.values():
        assert "mine" in (run.tags or [])
        assert run.metadata["user"] == "u"
        assert not any(key.startswith("__") or key == "checkpoint_ns" for key in run.metadata)


async def test_each_attempt_is_a_run_of_its_own() -> None:
    _, sgd = staged(**{"small/1": Say((), error=ValueError("no"))})
    collector = RunCollectorCallbackHandler()
    await sgd.ainvoke("Why?", {"callbacks": [collector]})
    runs = [run for run in collector.traced_runs[0].child_runs if run.name == "node:1"]
    assert [(run.metadata["sgd_tier"], run.error is None) for run in runs] == [
        ("small", False),
        ("large", True),
    ]


async def test_a_plain_run_is_a_run_too() -> None:
    _, sgd = staged(**{PLANNER: Say("PLAIN")})
    collector = RunCollectorCallbackHandler()
    await sgd.ainvoke("Why?", {"callbacks": [collector]})
    names = {run.name for run in collector.traced_runs[0].child_runs}
    assert names == {PLANNER, PLAIN}


async def test_first_tokens_have_times() -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()
    await sgd.ainvoke("Why?", {"callbacks": [collector]})
    for run in collector.traced_runs[0].child_runs:
        if run.run_type == "llm":
            assert any(event["name"] == "new_token" for event in run.events)


async def test_it_nests_under_the_chain_around_it() -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()

    async def around(question: str) -> str:
        # Without passing config on: the context carries it.
        return (await sgd.ainvoke(question)).text

    chain = RunnableLambda(around) | StrOutputParser()
    await chain.ainvoke("Why?", {"callbacks": [collector]})
    [root] = collector.traced_runs
    [function] = [run for run in root.child_runs if run.name == "around"]
    assert [tree(run) for run in function.child_runs] == [EXPECTED]


async def test_a_batch_has_a_tree_for_each_question() -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()
    await sgd.abatch(["One?", "Two?"], {"callbacks": [collector], "max_concurrency": 1})
    assert [tree(run) for run in collector.traced_runs] == [EXPECTED, EXPECTED]


async def test_collect_runs_sees_one_root() -> None:
    _, sgd = staged()
    with collect_runs() as collected:
        await sgd.ainvoke("Why?")
    assert [tree(run) for run in collected.traced_runs] == [EXPECTED]


async def test_tokens_are_counted_once() -> None:
    _, sgd = staged()
    with get_usage_metadata_callback() as counted:
        message = await sgd.ainvoke("Why?")
    usage = counted.usage_metadata
    assert usage["large-model"]["input_tokens"] == 10 + 20
    assert usage["small-model"]["input_tokens"] == 20 + 20
    assert sum(model["output_tokens"] for model in usage.values()) == 5 + 3 * 7
    # The answer itself claims none, or tracers would add them to the children's.
    assert message.usage_metadata is None
    report = Report.from_message(message)
    assert {name: total.output_tokens for name, total in report.usage.items()} == {
        "planner": 5,
        "small": 14,
        "large": 7,
    }


async def test_a_failed_run_is_traced_as_failed() -> None:
    stage = Stage({PLANNER: Say("PLAIN"), PLAIN: Say((), error=ValueError("no"))})
    collector = RunCollectorCallbackHandler()
    with pytest.raises(Exception, match="Plain decoding"):
        await SGDRunnable(**stage.pair()).ainvoke("Why?", {"callbacks": [collector]})
    [root] = collector.traced_runs
    assert "NodeDecodeError" in (root.error or "")
    assert "During task" not in (root.error or "").splitlines()[0]


async def test_the_literal_graph_traces_its_nodes_as_langgraph_does() -> None:
    _, sgd = staged()
    collector = RunCollectorCallbackHandler()
    graph = build_graph(PLANNED, sgd).compile(name="literal")
    await graph.ainvoke({"question": "Why?"}, {"callbacks": [collector]})
    [root] = collector.traced_runs
    assert {run.name: [c.name for c in run.child_runs] for run in root.child_runs} == {
        n: [f"node:{n}"] for n in "123"
    }


# -- LangSmith


@pytest.fixture
def _langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LangSmith tracing switched on by the environment."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "SECRET-KEY")
    cast("Any", get_env_var).cache_clear()
    yield
    monkeypatch.undo()
    cast("Any", get_env_var).cache_clear()


class RecordingClient(Client):
    """Sends nothing; notes the runs that it was told to create."""

    def __init__(self, created: list[dict[str, Any]]) -> None:
        super().__init__(api_key="key", api_url="http://localhost:1", session=MagicMock())
        self._created = created

    def create_run(self, name: str, inputs: Any, run_type: Any, **rest: Any) -> None:
        self._created.append({"name": name, "inputs": inputs, "run_type": run_type, **rest})

    def update_run(self, *_: Any, **__: Any) -> None:
        """Ends are of no interest."""


def recording() -> tuple[Client, list[dict[str, Any]]]:
    created: list[dict[str, Any]] = []
    return RecordingClient(created), created


@pytest.mark.usefixtures("_langsmith")
async def test_langsmith_sees_one_root_and_no_orphans() -> None:
    _, sgd = staged()
    client, created = recording()
    tracer = LangChainTracer(client=client)
    for way in WAYS:
        created.clear()
        await way(sgd, {"callbacks": [tracer]})
        tracer.wait_for_futures()
        roots = [run for run in created if run.get("parent_run_id") is None]
        assert [run["name"] for run in roots] == ["SGDRunnable"]
        inside = {run["name"] for run in created if run.get("parent_run_id") == roots[0]["id"]}
        assert inside == TREE
        assert len(created) == len(TREE) + 1
        assert {run["trace_id"] for run in created} == {roots[0]["id"]}
        assert "SECRET-KEY" not in json.dumps(created, default=str)


@pytest.mark.usefixtures("_langsmith")
async def test_langsmith_by_environment_alone() -> None:
    # No callback is passed: LangChain makes a tracer from the environment for every root it sees, so a
    # hidden graph that were seen would show as an orphan.
    _, sgd = staged()
    client, created = recording()
    with tracing_context(enabled=True, client=client):
        await sgd.ainvoke("Why?")
        async for _ in sgd.astream("Why?"):
            pass
    roots = [run["name"] for run in created if run.get("parent_run_id") is None]
    assert roots == ["SGDRunnable", "SGDRunnable"]
    assert {run["name"] for run in created} == TREE | {"SGDRunnable"}


@pytest.mark.usefixtures("_langsmith")
async def test_it_nests_under_a_traceable_function() -> None:
    _, sgd = staged()
    client, created = recording()

    @traceable(client=client)
    async def outside() -> str:
        return (await sgd.ainvoke("Why?")).text

    with tracing_context(enabled=True, client=client):
        await outside()
    roots = [run["name"] for run in created if run.get("parent_run_id") is None]
    assert roots == ["outside"]
    assert {run["name"] for run in created} == TREE | {"SGDRunnable", "outside"}


@pytest.mark.usefixtures("_langsmith")
async def test_a_thread_groups_runs_without_leaking_langgraphs_keys() -> None:
    stage, _ = staged()
    sgd = SGDRunnable(**stage.pair(), checkpointer=InMemorySaver())
    client, created = recording()
    tracer = LangChainTracer(client=client)
    config: RunnableConfig = {
        "callbacks": [tracer],
        "configurable": {"thread_id": "t", "api_key": "SECRET", "__hidden": "SECRET"},
    }
    await sgd.ainvoke("Why?", config)
    tracer.wait_for_futures()
    assert {run["extra"]["metadata"]["thread_id"] for run in created} == {"t"}
    assert "SECRET" not in json.dumps(created, default=str).replace("SECRET-KEY", "")
