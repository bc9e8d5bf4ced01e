"""Citations, thoughts, token details and models' names of the tiers survive into the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_sgd import ChatSGD, Report, SGDRunnable
from langchain_sgd.report import Usage
from tests.support.chats import WAYS
from tests.support.models import ScriptedChat, part_of
from tests.unit.test_chains import ANSWER, stage

every_way = pytest.mark.parametrize("ask", WAYS)
PLAN = "1|Heading 1|s|-|2\n2|Heading 2|s|-|2\n"


class Citing(ScriptedChat):
    """Thinks, then cites, each in blocks of its own; its second part repeats its heading first."""

    kept_in: str = "content"

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        del args, options
        part = part_of("\n".join(f"{m.type}: {m.text}" for m in messages))
        for chunk in self.chunks(part):
            yield ChatGenerationChunk(message=chunk)

    def chunks(self, part: str) -> list[AIMessageChunk]:
        if part == "planner":
            return [AIMessageChunk(content=PLAN)]
        thought = f"because {part}"
        first = (
            AIMessageChunk(content=[{"type": "reasoning", "reasoning": thought, "index": 0}])
            if self.kept_in == "content"
            else AIMessageChunk(content="", additional_kwargs={"reasoning_content": thought})
        )
        heading = "## Heading 2\n\n" if part == "2" else ""
        text = f"{heading}A fact of {part}."
        place = {"start_index": len(heading), "end_index": len(text)}
        cited = {"type": "citation", "url": f"https://e.org/{part}", **place}
        return [
            first,
            AIMessageChunk(content=[{"type": "text", "text": text, "index": 1}]),
            AIMessageChunk(
                content=[{"type": "text", "text": "", "annotations": [cited], "index": 1}],
                response_metadata={"model_name": "citing-1"},
                usage_metadata={
                    "input_tokens": 100,
                    "output_tokens": 10,
                    "total_tokens": 110,
                    "input_token_details": {"cache_read": 60, "cache_creation": 30},
                    "output_token_details": {"reasoning": 4},
                },
            ),
        ]


def citing(**options: Any) -> Citing:
    return Citing(name="citing", stage=None, **options)


def blocks_of(message: AIMessage) -> list[dict[str, Any]]:
    whole = AIMessage(
        message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
    )
    return cast("list[dict[str, Any]]", whole.content_blocks)


@every_way
@pytest.mark.parametrize("face", ["runnable", "chat"])
async def test_citations_point_to_their_places_in_the_answer(ask: Any, face: str) -> None:
    sgd = SGDRunnable(large=citing(), opening=False)
    message = await ask(sgd if face == "runnable" else ChatSGD(sgd))
    text = str(message.text)
    assert text == "## Heading 1\n\nA fact of 1.\n\n## Heading 2\n\nA fact of 2."
    cited = [a for b in blocks_of(message) for a in b.get("annotations", ())]
    assert [a["url"] for a in cited] == ["https://e.org/1", "https://e.org/2"]
    said = [text[a["start_index"] : a["end_index"]] for a in cited]
    assert said == ["A fact of 1.", "A fact of 2."]


@every_way
@pytest.mark.parametrize("kept_in", ["content", "additional_kwargs"])
async def test_thoughts_stand_beside_the_answer_part_by_part(ask: Any, kept_in: str) -> None:
    message = await ask(SGDRunnable(large=citing(kept_in=kept_in)))
    (thought,) = [b for b in blocks_of(message) if b["type"] == "reasoning"]
    assert thought["reasoning"] == "## Heading 1\n\nbecause 1\n\n## Heading 2\n\nbecause 2"
    assert "because" not in message.text
    assert Report.from_message(message)["2"].reasoning == "because 2"


@every_way
async def test_token_details_add_up_and_models_are_named(ask: Any) -> None:
    message = await ask(ChatSGD(large=citing(), count_usage=True, opening=False))
    assert message.usage_metadata["input_token_details"] == {
        "cache_read": 120,
        "cache_creation": 60,
    }
    assert message.usage_metadata["output_token_details"] == {"reasoning": 8}
    assert message.response_metadata["models"] == {"large": "citing-1"}
    assert Report.from_message(message).total_usage == Usage(
        input_tokens=200,
        output_tokens=20,
        cached_tokens=120,
        cache_write_tokens=60,
        reasoning_tokens=8,
    )


async def test_plain_text_stays_plain_text() -> None:
    message = await SGDRunnable(**stage().pair()).ainvoke("Why?")
    assert (message.content, message.additional_kwargs) == (ANSWER, {})


@every_way
async def test_the_v1_output_version_gives_blocks(ask: Any) -> None:
    message = await ask(ChatSGD(SGDRunnable(**stage().pair()), output_version="v1"))
    assert isinstance(message.content, list)
    assert "".join(block["text"] for block in message.content) == ANSWER
    message = await ask(ChatSGD(large=citing(), output_version="v1"))
    types = [block["type"] for block in message.content]
    assert {"reasoning", "text"} <= {*types}
