"""What a real LangSmith client sends of a run, read at a stand-in of LangSmith's ingest endpoint."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from langsmith import Client, traceable, tracing_context

from langchain_sgd import ChatSGD, Report, SGDRunnable
from langchain_sgd.bench.tracing import of_tracing
from langchain_sgd.tgi import TGIEndpoint
from tests.scripted_engine import ScriptedEngine
from tests.support.langsmith_server import LangSmithServer
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton
from tests.tgi_server import TGITestServer

INNER = ("SGDRunnable", ["node:1", "node:2", "node:3", "planner"])
KEY = "key-of-the-tracing-service"


@dataclass
class Tracing:
    """A client, and where it sends to."""

    server: LangSmithServer
    client: Client

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Trace what happens inside, and see it all sent."""
        with tracing_context(enabled=True, client=self.client, project_name="tests"):
            yield
        self.client.flush()

    @property
    def sent(self) -> str:
        return b"".join(self.server.bodies).decode()


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    with LangSmithServer() as server:
        client = Client(api_url=server.url, api_key=KEY)
        yield Tracing(server, client)
        client.cleanup()


def stage(**lines: Any) -> Stage:
    planned = skeleton("1", "2!", "3 <- 1,2")
    said: dict[str, Any] = {PLANNER: planning(planned, usage=(100, 10)), **lines}
    return Stage(said, default=Say(["some ", "text"], usage=(40, 2)))


def metadata_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["extra"]["metadata"]
    return found


def counted(run: dict[str, Any]) -> int:
    usage = metadata_of(run).get("usage_metadata", {"total_tokens": 0})
    return int(usage["total_tokens"])


async def ask(sgd: Any, question: str, config: RunnableConfig | None = None) -> None:
    await sgd.ainvoke(question, config)


async def stream(sgd: Any, question: str, config: RunnableConfig | None = None) -> None:
    async for _ in sgd.astream(question, config):
        pass


async def ask_sync(sgd: Any, question: str, config: RunnableConfig | None = None) -> None:
    await asyncio.to_thread(sgd.invoke, question, config)


async def stream_sync(sgd: Any, question: str, config: RunnableConfig | None = None) -> None:
    await asyncio.to_thread(lambda: [*sgd.stream(question, config)])


WAYS = [ask, stream, ask_sync, stream_sync]


@pytest.mark.parametrize("way", WAYS)
async def test_one_tree_a_question(way: Callable[..., Awaitable[None]], tracing: Tracing) -> None:
    with tracing():
        config: RunnableConfig = {"tags": ["mine"], "metadata": {"customer": "c1"}}
        await way(SGDRunnable(**stage().pair()), "Why?", config)

    (root,) = tracing.server.roots
    assert tracing.server.tree(root) == INNER
    assert root["session_name"] == "tests"
    assert (root["run_type"], root["inputs"]) == ("chain", {"input": "Why?"})
    for run in tracing.server.runs:
        assert run["trace_id"] == root["id"]
        assert run["dotted_order"].startswith(root["dotted_order"])
        assert run["end_time"] >= run["start_time"]
        assert "error" not in run
        assert "mine" in run["tags"]
        assert metadata_of(run)["customer"] == "c1"

    node = tracing.server.named("node:3")
    assert node["run_type"] == "llm"
    assert {"sgd:small", "nostream"} < {*node["tags"]}
    expected = {
        "sgd_node_id": "3",
        "sgd_difficulty": 2,
        "sgd_dependencies": ["1", "2"],
        "sgd_tier": "small",
        "sgd_attempt": 1,
        "ls_provider": "scripted",
        "ls_model_name": "small",
        "usage_metadata": {"input_tokens": 40, "output_tokens": 2, "total_tokens": 42},
    }
    assert {key: metadata_of(node)[key] for key in expected} == expected
    assert [event["name"] for event in node["events"]] == ["start", "new_token", "end"]
    assert metadata_of(tracing.server.named("node:2"))["sgd_tier"] == "large"
    assert metadata_of(tracing.server.named("planner"))["sgd_tier"] == "planner"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", [SGDRunnable, ChatSGD])
async def test_tokens_are_counted_once(
    face: Any, way: Callable[..., Awaitable[None]], tracing: Tracing
) -> None:
    with tracing():
        await way(face(**stage().pair()), "Why?")
    models = [run for run in tracing.server.runs if run["run_type"] == "llm" if counted(run)]
    assert len(models) == 4
    assert sum(map(counted, tracing.server.runs)) == 110 + 3 * 42


async def test_a_chat_model_made_of_models_counts_nothing_of_its_own(tracing: Tracing) -> None:
    # LangSmith estimates the tokens of a model's run that says nothing of them.
    with tracing():
        await ChatSGD(SGDRunnable(**stage().pair())).ainvoke("Why?")
    (root,) = tracing.server.roots
    assert tracing.server.tree(root) == ("ChatSGD", [INNER])
    assert root["run_type"] == "llm"
    usage = metadata_of(root)["usage_metadata"]
    assert usage == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


async def test_an_attempt_that_failed_is_a_run_of_its_own(tracing: Tracing) -> None:
    refused = stage(**{"1": [Say("half", error=ConnectionError("gone")), Say("whole")]})
    with tracing():
        await SGDRunnable(**refused.pair()).ainvoke("Why?")
    tried = [run for run in tracing.server.runs if run["name"] == "node:1"]
    assert [metadata_of(run)["sgd_attempt"] for run in tried] == [1, 2]
    assert "gone" in tried[0]["error"]
    assert "error" not in tried[1]


async def test_runs_against_tgi_carry_names_counts_and_no_secret(tracing: Tracing) -> None:
    plan = "1 One\n2 Two <1 *"
    replies = {"Plan long answers": plan, "": "Some text."}
    engines = {name: ScriptedEngine(replies, model_id=f"lab/{name}") for name in ("small", "large")}
    async with TGITestServer(engines, api_key="key-of-the-endpoint") as server:
        tiers = {
            name: TGIEndpoint(
                server.url_of(name),
                api_key="key-of-the-endpoint",  # type: ignore[arg-type]
                options={"headers": {"X-Gateway": "key-of-the-gateway"}},
            )
            for name in engines
        }
        with tracing():
            sgd = SGDRunnable(**tiers, opening=False, least_share=0)
            await sgd.abatch(
                ["Why?", "How?"],
                {"configurable": {"api_key": "key-of-the-user"}, "max_concurrency": 3},
            )
            message = await sgd.ainvoke("When?")

    assert len(tracing.server.roots) == 3
    models = [run for run in tracing.server.runs if run["run_type"] == "llm"]
    assert len(models) == 9
    last = models[-1]
    assert metadata_of(last)["ls_provider"] == "tgi"
    assert metadata_of(last)["ls_model_name"] == "lab/large"
    used = Report.from_message(message).usage.values()
    expected = sum(usage.input_tokens + usage.output_tokens for usage in used)
    assert sum(map(counted, models[-3:])) == expected > 0
    assert "key-of-" not in tracing.sent
    assert "sgd_limit" not in tracing.sent
    assert not any("configurable" in run["extra"] for run in tracing.server.runs)


async def test_errors_hold_no_secret(tracing: Tracing) -> None:
    async with TGITestServer("text", api_key="the right one") as server:
        sgd = SGDRunnable(large=TGIEndpoint(server.url, api_key="key-of-mine"))  # type: ignore[arg-type]
        with tracing(), pytest.raises(Exception, match="401"):
            await sgd.ainvoke("Why?")
    (root,) = tracing.server.roots
    assert "401" in root["error"]
    assert "key-of-" not in tracing.sent


# -- nested calls


def graph_of(work: Any) -> Any:
    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("write", work)
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile()


async def in_a_lambda(sgd: SGDRunnable) -> Any:
    async def outer(question: str) -> AIMessage:
        return await sgd.ainvoke(question)

    await RunnableLambda(outer).ainvoke("Why?")
    return ("outer", [INNER])


async def in_a_sync_lambda(sgd: SGDRunnable) -> Any:
    def outer(question: str) -> AIMessage:
        return sgd.invoke(question)

    await asyncio.to_thread(RunnableLambda(outer).invoke, "Why?")
    return ("outer", [INNER])


async def streamed_in_a_lambda(sgd: SGDRunnable) -> Any:
    async def outer(question: str) -> str:
        return "".join([chunk.text async for chunk in sgd.astream(question)])

    await RunnableLambda(outer).ainvoke("Why?")
    return ("outer", [INNER])


async def in_a_graph(sgd: SGDRunnable) -> Any:
    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await sgd.ainvoke(state["messages"])]}

    await graph_of(write).ainvoke({"messages": "Why?"})
    return ("LangGraph", [("write", [INNER])])


async def in_a_sync_graph(sgd: SGDRunnable) -> Any:
    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [sgd.invoke(state["messages"])]}

    await asyncio.to_thread(graph_of(write).invoke, {"messages": "Why?"})
    return ("LangGraph", [("write", [INNER])])


async def as_a_tool_of_an_agent(sgd: SGDRunnable) -> Any:
    called = AIMessage(
        "", tool_calls=[{"name": "report", "args": {"question": "Why?"}, "id": "call-1"}]
    )
    await graph_of(ToolNode([sgd.as_tool(name="report")])).ainvoke({"messages": [called]})
    return ("LangGraph", [("write", [("report", [INNER])])])


async def as_a_tool_in_a_thread(sgd: SGDRunnable) -> Any:
    await asyncio.to_thread(sgd.as_tool(name="report").invoke, {"question": "Why?"})
    return ("report", [INNER])


async def in_a_traceable_function(sgd: SGDRunnable) -> Any:
    @traceable
    async def service(question: str) -> str:
        return (await sgd.ainvoke(question)).text

    await service("Why?")
    return ("service", [INNER])


async def in_a_sync_traceable_function(sgd: SGDRunnable) -> Any:
    @traceable
    def service(question: str) -> str:
        return "".join(chunk.text for chunk in sgd.stream(question))

    await asyncio.to_thread(service, "Why?")
    return ("service", [INNER])


@pytest.mark.parametrize(
    "nested",
    [
        in_a_lambda,
        in_a_sync_lambda,
        streamed_in_a_lambda,
        in_a_graph,
        in_a_sync_graph,
        as_a_tool_of_an_agent,
        as_a_tool_in_a_thread,
        in_a_traceable_function,
        in_a_sync_traceable_function,
    ],
)
async def test_nested_calls_keep_their_parents(
    nested: Callable[[SGDRunnable], Awaitable[Any]], tracing: Tracing
) -> None:
    with tracing():
        expected = await nested(SGDRunnable(**stage().pair()))
    (root,) = tracing.server.roots
    assert tracing.server.tree(root) == expected
    assert {run["trace_id"] for run in tracing.server.runs} == {root["id"]}


async def test_a_batch_gives_a_tree_a_question(tracing: Tracing) -> None:
    questions = [f"Question {n}?" for n in range(4)]

    async def both(_: str) -> None:
        await SGDRunnable(**stage().pair()).abatch(questions, {"max_concurrency": 2})

    with tracing():
        await RunnableLambda(both).ainvoke("")
    (root,) = tracing.server.roots
    trees = tracing.server.children(root)
    assert sorted(tree["inputs"]["input"] for tree in trees) == questions
    for tree in trees:
        assert tracing.server.tree(tree) == INNER
        for model in tracing.server.children(tree)[:-1]:
            assert tree["inputs"]["input"] in json.dumps(model["inputs"])


# -- what happens inside a tier


async def test_a_tier_that_is_traced_by_itself_hangs_under_its_node(tracing: Tracing) -> None:
    @traceable(name="look_up")
    async def look_up(word: str) -> str:
        return f"what is known of {word}"

    @traceable(run_type="llm", name="own_client", metadata={"ls_provider": "own"})
    async def write(messages: list[Any]) -> str:
        return f"{len(messages)} messages, {await look_up('tides')}"

    planner = stage().model("planner")
    with tracing():
        await SGDRunnable(large=RunnableLambda(write), planner=planner).ainvoke("Why?")
    (root,) = tracing.server.roots
    expected = [
        "planner",
        *((f"node:{n}", [("own_client", ["look_up"])]) for n in "123"),
    ]
    assert tracing.server.tree(root) == ("SGDRunnable", sorted(expected, key=str))


async def test_a_tier_that_is_an_agent_hangs_under_its_node(tracing: Tracing) -> None:
    model = stage().model("inner")

    async def think(state: MessagesState) -> dict[str, Any]:
        first, *others = [chunk async for chunk in model.astream(state["messages"])]
        return {"messages": [first + others]}

    planner = stage().model("planner")
    with tracing():
        await SGDRunnable(large=graph_of(think), planner=planner).ainvoke("Why?")
    (root,) = tracing.server.roots
    node = next(run for run in tracing.server.children(root) if run["name"] == "node:1")
    assert tracing.server.tree(node) == ("node:1", [("write", ["inner"])])
    assert sum(map(counted, tracing.server.runs)) == 110 + 3 * 42


# -- runs that stop and go on


async def test_an_approval_and_its_answer_are_two_traces_that_repeat_nothing(
    tracing: Tracing,
) -> None:
    thread: RunnableConfig = {"configurable": {"thread_id": "t-1"}}
    sgd = SGDRunnable(**stage().pair(), approve=True, checkpointer=InMemorySaver())
    with tracing():
        await sgd.ainvoke("Why?", thread)
        await sgd.ainvoke(Command(resume=True), thread)
    first, second = tracing.server.roots
    assert tracing.server.tree(first) == ("SGDRunnable", ["planner"])
    below = ["node:1", "node:2", "node:3"]
    assert tracing.server.tree(second) == ("SGDRunnable", below)
    # LangSmith joins the two by this.
    assert {metadata_of(run)["thread_id"] for run in tracing.server.runs} == {"t-1"}


async def test_a_resumed_run_shows_only_what_was_called_again(tracing: Tracing) -> None:
    thread: RunnableConfig = {"configurable": {"thread_id": "t-1"}}
    refused = stage(**{"3": [Say(error=ValueError("no")), Say(error=ValueError("no")), Say()]})
    sgd = SGDRunnable(**refused.pair(), on_node_error="raise", checkpointer=InMemorySaver())
    with tracing():
        with pytest.raises(Exception, match="no"):
            await sgd.ainvoke("Why?", thread)
        await sgd.ainvoke(None, thread)
    names = Counter(run["name"] for run in tracing.server.runs)
    assert (names["planner"], names["node:1"], names["node:2"]) == (1, 1, 1)
    assert names["node:3"] == 3
    assert tracing.server.tree(tracing.server.roots[1]) == ("SGDRunnable", ["node:3"])


async def test_a_cancelled_run_is_closed(tracing: Tracing) -> None:
    sgd = SGDRunnable(**stage(**{"3": Say(["half"], hang=True)}).pair())
    with tracing():
        answer = sgd.astream("Why?")
        async for chunk in answer:
            if "half" in chunk.text:
                break
        await answer.aclose()
    assert all("end_time" in run for run in tracing.server.runs)
    assert tracing.server.named("node:3")["error"]


# -- off, and by the environment


async def test_without_tracing_nothing_is_sent(tracing: Tracing) -> None:
    with tracing_context(enabled=False, client=tracing.client):
        await SGDRunnable(**stage().pair()).ainvoke("Why?")
    tracing.client.flush()
    assert tracing.server.bodies == []


def test_two_environment_variables_turn_it_on(tmp_path: Path) -> None:
    code = """
from langchain_core.tracers.langchain import wait_for_all_tracers
from langchain_sgd import SGDRunnable
from tests.integration.test_langsmith import stage

SGDRunnable(**stage().pair()).invoke("Why?")
wait_for_all_tracers()
"""
    root = Path(__file__).parents[2]
    with LangSmithServer() as server:
        environment = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": KEY,
            "LANGSMITH_ENDPOINT": server.url,
            "LANGSMITH_PROJECT": "from the environment",
            "PYTHONPATH": str(root),
            "HOME": str(tmp_path),
        }
        command = [sys.executable, "-c", code]
        subprocess.run(command, env=environment, check=True, timeout=50)  # noqa: S603 - our own code
        (run,) = server.roots
        assert server.tree(run) == INNER
        assert run["session_name"] == "from the environment"
        assert KEY.encode() not in b"".join(server.bodies)


async def test_what_tracing_costs_is_measured_on_a_client_that_traces() -> None:
    times = await of_tracing(nodes=3, tokens=2, repeats=1)
    assert [*times] == ["off", "in process", "LangSmith's client"]
    assert all(ms > 0 for found in times.values() for ms in found.values())
