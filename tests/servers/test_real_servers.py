"""What the package believes of servers, asked of real ones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_sgd import Prompts, Report, SGDRunnable
from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.models import ChatEndpoint, resolve
from langchain_sgd.planning.forms import Grammar, bound, form_of, with_options
from langchain_sgd.planning.kinds import continues

pytestmark = [
    pytest.mark.timeout(600),
    # Providers' clients leave their own connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LINES = Grammar(
    regex=r"1 [a-z]+\n2 [a-z]+",
    gbnf='root ::= "1 " [a-z]+ "\\n2 " [a-z]+',
    schema={
        "type": "object",
        "properties": {"parts": {"type": "array", "items": {"type": "string"}}},
        "required": ["parts"],
        "additionalProperties": False,
    },
    name="plan",
)
DIGITS = Grammar(
    regex="[0-9]{3}",
    gbnf="root ::= [0-9] [0-9] [0-9]",
    schema={
        "type": "object",
        "properties": {"number": {"type": "integer", "enum": [123, 456]}},
        "required": ["number"],
        "additionalProperties": False,
    },
    name="number",
)


async def streamed(model: Any, text: str) -> Any:
    whole: Any = None
    async for chunk in model.astream(text):
        whole = chunk if whole is None else whole + chunk
    return whole


@pytest.fixture
def model(url: str) -> ChatEndpoint:
    made = resolve(url)
    assert isinstance(made, ChatEndpoint)
    return made


async def test_it_is_known_for_what_it_is(model: ChatEndpoint) -> None:
    server = await model.aserver()
    assert server.kind != "other"
    name = server.model(model.address.model)
    if server.kind in {"tgi", "vllm", "llama.cpp"}:
        assert server.version
        assert server.contexts[name] > 0


async def test_it_goes_on_with_a_begun_answer(model: ChatEndpoint) -> None:
    server = await model.aserver()
    if server.kind in {"litellm", "openai", "other"}:
        pytest.skip(f"{server.kind} is not known to go on")
    assert await continues(model)
    asked = HumanMessage("Count from one to twenty, in words.")
    whole = await bound(model, max_tokens=32, temperature=0.0).ainvoke([asked])
    middle = whole.text.rfind(" ", 0, len(whole.text) // 2)
    begun, rest = whole.text[:middle], whole.text[middle:]
    assert begun.strip()
    going, options = with_options(model, max_tokens=8, temperature=0.0, continuing=True)
    said = await going.ainvoke([asked, AIMessage(begun)], **options)
    new = said.text.removeprefix(begun)  # llama.cpp says it again
    # An engine that computes in another order may differ from some token on.
    assert new.strip()[:6] == rest.strip()[:6]


async def test_it_streams_text_and_usage_and_its_models_name(model: ChatEndpoint) -> None:
    whole = await streamed(bound(model, max_tokens=8, temperature=0.0), "Count from one to fifty.")
    assert whole.text
    assert 0 < whole.usage_metadata["output_tokens"] <= 8
    assert whole.response_metadata["model_name"]


async def test_options_of_a_call_are_kept(model: ChatEndpoint) -> None:
    asked = bound(model, max_tokens=24, temperature=0.0, seed=7)
    first = (await streamed(asked, "Name some animals.")).text
    assert (await asked.ainvoke("Name some animals.")).text == first
    # A whole word: TGI looks for a stop text at the ends of tokens only.
    words = [word for word in first.split()[1:] if word.isalpha()]
    word = max(words, key=len, default=None)
    if word is not None:
        stopped = bound(model, max_tokens=24, temperature=0.0, seed=7, stop=[word])
        assert (await streamed(stopped, "Name some animals.")).text == first[: first.index(word)]


@pytest.mark.parametrize(
    ("grammar", "pattern"), [(DIGITS, "[0-9]{3}"), (LINES, "1 [a-z]+\n2 [a-z]+")]
)
async def test_its_form_is_followed(model: ChatEndpoint, grammar: Grammar, pattern: str) -> None:
    form = await form_of(model)
    assert form.constrains
    text = (await streamed(bound(model, form, grammar, max_tokens=60), "Say hello.")).text
    if form.writes == "json":
        assert set(json.loads(text)) == set(grammar.schema["properties"])
    else:
        # Nothing but a limit bounds a field, so the limit may cut the second line.
        assert re.fullmatch(pattern, text) or text.startswith(("1 ", "2 "))


async def test_it_plans_and_answers(model: ChatEndpoint) -> None:
    server = await model.aserver()
    # The bundled model has no room for the package's own prompts, and knows others.
    small = 0 < server.contexts.get(server.model(model.address.model), 0) < 2048
    prompts = BRIEFS_PROMPTS if small else Prompts()
    sgd = SGDRunnable(large=model, mode="always", max_nodes=4, prompts=prompts)
    plan = await sgd.aplan("Compare trains, planes and cars for a trip to Rome.")
    assert not [warning for warning in plan.warnings if "refused" in warning]
    plain = SGDRunnable(large=bound(model, max_tokens=16), mode="never")
    report = Report.from_message(await plain.ainvoke("What is a train?"))
    (answer,) = report.nodes
    assert answer.usage is not None
    assert 0 < answer.usage.output_tokens <= 16
