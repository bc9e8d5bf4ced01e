"""LangSmith's OpenTelemetry export, read from an in-memory collector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langsmith import Client, tracing_context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_sgd import ChatSGD, SGDRunnable
from tests.integration.test_langsmith import stage


@dataclass
class Collector:
    client: Client
    exporter: InMemorySpanExporter

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with tracing_context(enabled=True, client=self.client):
            yield
        self.client.flush()

    @property
    def spans(self) -> list[ReadableSpan]:
        return [*self.exporter.get_finished_spans()]

    def named(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    @property
    def parents(self) -> dict[str, str | None]:
        """By the name of a span, that of its parent."""
        names = {span.context.span_id: span.name for span in self.spans if span.context}
        return {
            span.name: names[span.parent.span_id] if span.parent else None for span in self.spans
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = Client(api_key="none", tracing_mode="otel", otel_tracer_provider=provider)
    yield Collector(client, exporter)
    client.cleanup()
    provider.shutdown()


BELOW = dict.fromkeys(("planner", "node:1", "node:2", "node:3"), "SGDRunnable")


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_question_is_one_trace_of_nested_spans(collector: Collector) -> None:
    with collector():
        await SGDRunnable(**stage().pair()).ainvoke("Why?", {"configurable": {"api_key": "secret"}})
    assert collector.parents == {"SGDRunnable": None, **BELOW}
    assert len({span.context.trace_id for span in collector.spans if span.context}) == 1
    root = collector.named("SGDRunnable")
    for span in collector.spans:
        assert root.start_time <= span.start_time <= span.end_time  # type: ignore[operator]
        assert "secret" not in json.dumps(attributes(span))

    node = attributes(collector.named("node:3"))
    assert node["langsmith.span.kind"] == "llm"
    assert node["gen_ai.operation.name"] == "chat"
    assert node["gen_ai.request.model"] == "small"
    assert node["gen_ai.usage.input_tokens"] == 40
    assert node["gen_ai.usage.output_tokens"] == 2
    assert node["langsmith.metadata.sgd_node_id"] == "3"
    assert node["langsmith.metadata.sgd_tier"] == "small"
    assert "sgd:small" in node["langsmith.span.tags"]


async def test_spans_carry_the_attributes_that_the_docs_list(collector: Collector) -> None:
    with collector():
        await SGDRunnable(**stage().pair()).ainvoke("Why?")
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    listed = set(re.findall(r"^\| `(gen_ai\.\S+)` \|", page, re.MULTILINE))
    for name in BELOW:
        carried = attributes(collector.named(name))
        assert {key for key in carried if key.startswith("gen_ai.")} == listed
        assert set(re.findall(r"`(langsmith\.metadata\.sgd_(?:tier|attempt))`", page)) <= set(
            carried
        )
    root = attributes(collector.named("SGDRunnable"))
    assert not any(key.startswith("gen_ai.usage") for key in root)


@pytest.mark.parametrize("face", [SGDRunnable, ChatSGD])
async def test_tokens_are_counted_once(face: Any, collector: Collector) -> None:
    with collector():
        async for _ in face(**stage().pair()).astream("Why?"):
            pass
    used = [attributes(span).get("gen_ai.usage.total_tokens", 0) for span in collector.spans]
    assert sum(used) == 110 + 3 * 42


async def test_a_nested_question_keeps_its_parent(collector: Collector) -> None:
    sgd = SGDRunnable(**stage().pair())

    async def outer(question: str) -> str:
        return (await sgd.ainvoke(question)).text

    with collector():
        await RunnableLambda(outer).ainvoke("Why?")
    assert collector.parents == {"outer": None, "SGDRunnable": "outer", **BELOW}
