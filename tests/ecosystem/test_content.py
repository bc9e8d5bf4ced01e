"""Citations, thoughts, token details and call options, through Anthropic's and OpenAI's own clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI

from langchain_sgd import ChatSGD, NodeDecodeError, Report, SGDRunnable
from langchain_sgd.report import Usage
from tests.ecosystem.recorder import Block, Recorder, text

PLAN = "1 Trains\n2 Planes\n"
FACTS = {"1": "Trains are slow.", "2": "Planes are loud."}
ANSWER = "## Trains\n\nTrains are slow.\n\n## Planes\n\nPlanes are loud."
WHERE = {"type": "url_citation", "title": "Facts", "url": "https://e.org/facts"}


def claude(recorder: Recorder, **options: Any) -> ChatAnthropic:
    return ChatAnthropic(model="claude", api_key="none", base_url=recorder.url, **options)


def gpt(recorder: Recorder, **options: Any) -> ChatOpenAI:
    """By the responses protocol, in which thoughts and citations come."""
    url = f"{recorder.url}/v1"
    return ChatOpenAI(model="gpt", api_key="none", base_url=url, use_responses_api=True, **options)


def anthropics(fact: str) -> dict[str, Any]:
    place = {"start_char_index": 3, "end_char_index": 9, "document_index": 0}
    return {"type": "char_location", "cited_text": fact, "document_title": "Facts", **place}


def openais(fact: str) -> dict[str, Any]:
    return {**WHERE, "start_index": 0, "end_index": len(fact)}


def cited_by(cite: Callable[[str], dict[str, Any]]) -> Callable[[dict[str, Any]], list[Block]]:
    """Parts that think, then say a fact and cite where it stands."""

    def replies(body: dict[str, Any]) -> list[Block]:
        prompt = json.dumps(body.get("messages") or body["input"])
        for part, fact in FACTS.items():
            if f"Write only part {part}," in prompt:
                thought = {"type": "thinking", "thinking": f"because {part}"}
                return [thought, text(fact, cite(fact))]
        return [text(PLAN)]

    return replies


every_client = pytest.mark.parametrize(
    ("client", "cite"), [(claude, anthropics), (gpt, openais)], ids=["anthropic", "openai"]
)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["invoked", "streamed"])


async def answered(model: Any, *, streamed: bool) -> Any:
    """The answer; as a message, so that its blocks are read from what was kept."""
    if not streamed:
        return await model.ainvoke("Train or plane?")
    whole: Any = None
    async for chunk in model.astream("Train or plane?"):
        whole = chunk if whole is None else whole + chunk
    return AIMessage(
        whole.content,
        response_metadata=whole.response_metadata,
        additional_kwargs=whole.additional_kwargs,
        usage_metadata=whole.usage_metadata,
    )


def chat(model: Any, **options: Any) -> ChatSGD:
    given = {"opening": False, "constrain": False, "least_share": 0, **options}
    return ChatSGD(large=model, **given)


@both_ways
@every_client
@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_citations_and_thoughts_survive_into_the_answer(
    client: Any, cite: Any, version: str, *, streamed: bool
) -> None:
    with Recorder(cited_by(cite)) as recorder:
        message = await answered(chat(client(recorder), output_version=version), streamed=streamed)
    assert message.text == ANSWER
    if version == "v1":
        assert {"reasoning", "text"} == {block["type"] for block in message.content}
    (thought,) = [b["reasoning"] for b in message.content_blocks if b["type"] == "reasoning"]
    assert thought == "## Trains\n\nbecause 1\n\n## Planes\n\nbecause 2"
    cited = [c for b in message.content_blocks for c in b.get("annotations", ())]
    assert [(c["type"], c["title"]) for c in cited] == [("citation", "Facts")] * 2
    said = (
        [c["cited_text"] for c in cited]
        if client is claude
        else [ANSWER[c["start_index"] : c["end_index"]] for c in cited]
    )
    assert said == list(FACTS.values())


@both_ways
@every_client
async def test_token_details_add_up_and_the_model_is_named(
    client: Any, cite: Any, *, streamed: bool
) -> None:
    with Recorder(cited_by(cite)) as recorder:
        model = chat(client(recorder), count_usage=True)
        message = await answered(model, streamed=streamed)
    assert len(recorder.bodies) == 3
    read = {
        "claude": Usage(cache_write_tokens=150),
        "gpt": Usage(cache_write_tokens=90, reasoning_tokens=12),
    }
    name = message.response_metadata["models"]["large"]
    assert Report.from_message(message).total_usage == read[name] + Usage(
        input_tokens=480, output_tokens=21, cached_tokens=300
    )
    assert message.usage_metadata["input_token_details"]["cache_read"] == 300


@both_ways
@pytest.mark.parametrize("by_responses", [False, True], ids=["completions", "responses"])
@pytest.mark.parametrize("service", ["default", "flex", "priority"])
async def test_tokens_cost_the_same_in_whatever_service_tier_they_were_counted(
    service: str, *, by_responses: bool, streamed: bool
) -> None:
    with Recorder(cited_by(openais), service) as recorder:
        url = f"{recorder.url}/v1"
        large = ChatOpenAI(
            model="gpt",
            api_key="none",
            base_url=url,
            use_responses_api=by_responses,
            stream_usage=True,
            service_tier=service,
        )
        model = chat(large, count_usage=True, prices={"large": (1, 1, 0.1, 2)})
        message = await answered(model, streamed=streamed)
    report = Report.from_message(message)
    assert report.total_usage == Usage(
        input_tokens=480,
        output_tokens=21,
        cached_tokens=300,
        cache_write_tokens=90,
        reasoning_tokens=12,
    )
    assert report.costs is not None
    assert report.costs.total == pytest.approx((90 + 300 * 0.1 + 90 * 2 + 21) / 1_000_000)
    assert message.usage_metadata["input_token_details"]["cache_read"] == 300


@both_ways
@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
async def test_thoughts_survive_in_whatever_form_a_tier_gives_them(
    version: Any, *, streamed: bool
) -> None:
    with Recorder(cited_by(openais)) as recorder:
        message = await answered(chat(gpt(recorder, output_version=version)), streamed=streamed)
    assert message.text == ANSWER
    (thought,) = [b["reasoning"] for b in message.content_blocks if b["type"] == "reasoning"]
    assert thought == "## Trains\n\nbecause 1\n\n## Planes\n\nbecause 2"


async def test_call_options_reach_the_writers_under_the_clients_own_names() -> None:
    options: dict[str, Any] = {"temperature": 0.5, "stop": ["END"]}
    for client, cite, limit in (
        (claude, anthropics, "max_tokens"),
        (gpt, openais, "max_output_tokens"),
    ):
        with Recorder(cited_by(cite)) as recorder:
            model = chat(client(recorder, **({} if client is claude else {"max_retries": 0})))
            await model.bind(max_tokens=64).ainvoke("Train or plane?", **options)
        planner, *writers = recorder.bodies
        assert planner.get("temperature") != 0.5
        assert [(body["temperature"], body[limit]) for body in writers] == [(0.5, 64)] * 2


async def test_tokens_are_counted_by_the_large_models_client(monkeypatch: Any) -> None:
    counted: list[str] = []

    def count(self: Any, text: str, *_: Any) -> list[int]:
        counted.append(self.model_name)
        return [1] * len(text.split())

    monkeypatch.setattr(ChatOpenAI, "get_token_ids", count)
    with Recorder() as recorder:
        assert chat(gpt(recorder)).get_num_tokens("one two three") == 3
    assert counted == ["gpt"]


async def test_a_bound_of_the_cost_holds_with_a_real_client() -> None:
    with Recorder(cited_by(anthropics)) as recorder:
        sgd = SGDRunnable(
            large=claude(recorder),
            opening=False,
            constrain=False,
            least_share=0,
            prices={"large": (0, 1_000_000)},
            max_cost=10,  # the plan is 7
        )
        with pytest.raises(NodeDecodeError, match="not started: with it the run would cost"):
            await sgd.ainvoke("Train or plane?")
    assert len(recorder.bodies) == 1


@every_client
async def test_the_large_model_calls_tools_and_fills_schemas_without_a_stream(
    client: Any, cite: Any
) -> None:
    del cite
    with Recorder(lambda _: [text('{"name": "Bonn"}')]) as recorder:
        model = chat(client(recorder))
        said = await model.bind_tools([look_up], tool_choice="auto").ainvoke("Train or plane?")
        assert said.text == '{"name": "Bonn"}'
        assert said.usage_metadata is not None
        assert said.usage_metadata["input_tokens"] == 160
        schema = {
            "title": "Town",
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        }
        form = model.with_structured_output(schema, method="json_schema")
        assert await form.ainvoke("Where?") == {"name": "Bonn"}
    assert len(recorder.bodies) == 2
    assert not any(body.get("stream") for body in recorder.bodies)


def look_up(item: str) -> str:
    """Look something up."""
    return item
