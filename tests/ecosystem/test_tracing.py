"""One tree a question, its tokens counted once, in OpenInference (Phoenix) and Langfuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_sgd import ChatSGD, SGDRunnable
from tests.ecosystem.agents import Caller
from tests.support.models import PLANNER, Say, Stage, planning
from tests.support.skeletons import skeleton


def stage() -> Stage:
    usage = (10, 5)
    plan = planning(skeleton("1", "2"))
    return Stage(
        {
            PLANNER: Say(plan.text, usage=usage),
            "1": Say(["one ", "text"], usage=usage),
            "2": Say(["two ", "words"], usage=usage),
        }
    )


def things() -> dict[str, Runnable[Any, Any]]:
    sgd = SGDRunnable(**stage().pair())
    return {
        "runnable": sgd,
        "chat": ChatSGD(sgd),
        "agent": create_agent(
            Caller(tool="write_long_answer", args={"question": "Why?"}), [sgd.as_tool()]
        ),
        "node": sgd.as_subagent()["runnable"],
    }


def question(name: str) -> Any:
    return {"messages": [HumanMessage("Why?")]} if name in {"agent", "node"} else "Why?"


every_thing = pytest.mark.parametrize("name", ["runnable", "chat", "agent", "node"])


def named(spans: list[ReadableSpan], *names: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name in names]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    LangChainInstrumentor().instrument(tracer_provider=provider)
    yield exporter
    LangChainInstrumentor().uninstrument()
    provider.shutdown()


@every_thing
@pytest.mark.parametrize("sync", [False, True])
async def test_openinference_sees_one_tree(
    name: str, exporter: InMemorySpanExporter, *, sync: bool
) -> None:
    thing = things()[name]
    if sync:
        thing.invoke(question(name))
    else:
        await thing.ainvoke(question(name))
    spans = [*exporter.get_finished_spans()]
    assert len([span for span in spans if span.parent is None]) == 1
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    counted = [(span.attributes or {}).get("llm.token_count.total") for span in spans]
    assert [count for count in counted if count] == [15, 15, 15]
    (writer,) = named(spans, "node:1")
    assert (writer.attributes or {})["llm.model_name"] == "small"
    assert (writer.attributes or {})["openinference.span.kind"] == "LLM"


async def test_a_part_written_in_parts_is_a_branch_of_the_tree(
    exporter: InMemorySpanExporter,
) -> None:
    sgd = SGDRunnable(**stage().pair(), expand=lambda node: node.id == "2")
    await sgd.ainvoke("Why?")
    spans = [*exporter.get_finished_spans()]
    (root,) = [span for span in spans if span.parent is None]
    (branch,) = named(spans, "node:2")
    assert branch.parent is not None
    assert branch.context is not None
    assert branch.parent.span_id == root.context.span_id if root.context else False
    inside = [s.name for s in spans if s.parent and s.parent.span_id == branch.context.span_id]
    assert sorted(inside) == ["node:2.1", "node:2.2", "planner"]
    counted = [(span.attributes or {}).get("llm.token_count.total") for span in spans]
    assert [count for count in counted if count] == [15] * 5


@every_thing
@pytest.mark.parametrize("inline", [False, True])
async def test_langfuse_sees_one_tree(name: str, *, inline: bool) -> None:
    exporter = InMemorySpanExporter()
    client = Langfuse(
        public_key=f"pk-{name}-{inline}",
        secret_key="sk",
        span_exporter=exporter,
        tracer_provider=TracerProvider(),
    )
    handler = CallbackHandler(public_key=f"pk-{name}-{inline}")
    handler.run_inline = inline
    await things()[name].ainvoke(question(name), {"callbacks": [handler]})
    client.flush()
    spans = [*exporter.get_finished_spans()]
    client.shutdown()
    assert len([span for span in spans if span.parent is None]) == 1
    usage = [(span.attributes or {}).get("langfuse.observation.usage_details") for span in spans]
    counted = [told for told in usage if told and '"total": 15' in str(told)]
    assert len(counted) == 3
    assert len(named(spans, "planner", "node:1", "node:2")) == 3
