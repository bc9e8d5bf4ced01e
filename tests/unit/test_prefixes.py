"""Marks and keys that tell hosted APIs what prompts share; with real clients in `tests/ecosystem`."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from langchain_sgd import Prompts
from langchain_sgd.decoding import prefixes
from langchain_sgd.decoding.prefixes import cache_style, with_hints
from langchain_sgd.models.endpoint import ChatEndpoint
from langchain_sgd.skeleton import Node, NodeId
from tests.support.models import ScriptedChat, Stage

LONG = "Why is that? " * 400
NODES = [Node(id=NodeId(i), heading=f"Heading {i}", difficulty=2) for i in "123"]
PROMPTS = Prompts()
OUTLINE = PROMPTS.outline + "".join(map(PROMPTS.line_of, NODES))
MARK = {"type": "ephemeral"}
MARKS = {"cache_control", "prompt_cache_breakpoint"}


class ChatAnthropic(ScriptedChat):
    """Known by its name."""


CLAUDE: Any = ChatAnthropic(name="claude", stage=Stage())
OTHER: Any = ScriptedChat(name="other", stage=Stage())
GPT: Any = ChatOpenAI(model="gpt-5-nano", api_key="none")
NEW_GPT: Any = ChatOpenAI(model="gpt-6-sol", api_key="none")
ONLY_MARKED: Any = {"mode": "explicit"}


def gpt(name: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=name, api_key="none", **options)


@pytest.mark.parametrize(
    ("model", "style"),
    [
        (CLAUDE, "marks"),
        (CLAUDE.bind(top_k=1).with_retry(), "marks"),
        (CLAUDE.with_fallbacks([CLAUDE]), "marks"),
        (CLAUDE.with_fallbacks([OTHER]), None),
        (CLAUDE.with_fallbacks([GPT]), None),
        (CLAUDE.bind(cache_control=MARK).with_retry(), None),
        (GPT, "key"),
        (GPT.with_retry(), "key"),
        (GPT.bind(prompt_cache_key="mine"), None),
        (ChatOpenAI(model="m", api_key="none", model_kwargs={"prompt_cache_key": "mine"}), None),
        (ChatOpenAI(model="m", api_key="none", base_url="https://eu.api.openai.com/v1"), "key"),
        (
            ChatOpenAI(model="m", api_key="none", base_url="https://api.openai.com.evil.example"),
            None,
        ),
        (ChatOpenAI(model="m", api_key="none", base_url="http://gpu-1:8000/v1"), None),
        (
            AzureChatOpenAI(
                azure_endpoint="https://lab.openai.azure.com",
                azure_deployment="m",
                api_version="2025-01-01",
                api_key="none",
            ),
            None,
        ),
        (ChatEndpoint(url="https://api.openai.com#gpt-5-nano"), "key"),
        (ChatEndpoint(url="http://gpu-1:8000"), None),
        (gpt("gpt-5.6"), "breakpoints"),
        (gpt("gpt-5.10-mini").with_retry(), "breakpoints"),
        (gpt("gpt-6-sol-2026-10-01", base_url="https://eu.api.openai.com/v1"), "breakpoints"),
        (ChatEndpoint(url="https://api.openai.com#gpt-6-sol"), "breakpoints"),
        (ChatEndpoint(url="https://api.openai.com"), "key"),
        (gpt("gpt-5.5-pro"), "key"),
        (gpt("gpt-5"), "key"),
        (gpt("gpt-4o"), "key"),
        (gpt("gpt-oss-120b"), "key"),
        (gpt("o3"), "key"),
        (gpt("gpt-6-sol", base_url="http://gpu-1:8000/v1"), None),
        (gpt("gpt-6-sol", base_url="https://openrouter.ai/api/v1"), None),
        # An older model may be the one that answers, and refuses what it does not know.
        (NEW_GPT.with_fallbacks([GPT]), "key"),
        (NEW_GPT.bind(model="gpt-5-nano"), "key"),
        (NEW_GPT.with_fallbacks([CLAUDE]), None),
        (NEW_GPT.bind(prompt_cache_options=ONLY_MARKED), None),
        (gpt("gpt-6-sol", prompt_cache_options={"ttl": "12h"}), None),
        (
            ChatEndpoint(
                url="https://api.openai.com#gpt-6-sol", options={"prompt_cache_key": "mine"}
            ),
            None,
        ),
        (OTHER, None),
    ],
)
def test_who_is_told_how(model: Any, style: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    assert cache_style(model) == style


def node_prompt(conversation: Any, number: int = 0) -> list[Any]:
    return PROMPTS.for_node(conversation, NODES[number], planned=NODES, answers={})


def shown(messages: Any) -> list[tuple[str, str | None, bool]]:
    """By block: the type of its message, its text, whether it is marked."""
    return [
        (message.type, block.get("text"), not block.keys().isdisjoint(MARKS))
        for message in messages
        for block in (
            [{"text": message.content}] if isinstance(message.content, str) else message.content
        )
    ]


def marked(
    conversation: Any, messages: Any, outline: str = OUTLINE, model: Any = CLAUDE
) -> list[Any]:
    before = [m.model_dump_json() for m in (*conversation, *messages)]
    out, options = with_hints(model, conversation, messages, outline=outline)
    options.pop("prompt_cache_key", None)
    assert options == ({"prompt_cache_options": ONLY_MARKED} if model is NEW_GPT else {})
    assert [m.model_dump_json() for m in (*conversation, *messages)] == before
    assert [str(m.text) for m in out] == [str(m.text) for m in messages]
    return out


def test_conversations_that_end_with_an_answer_are_kept_to_their_end() -> None:
    conversation = [HumanMessage("Go on."), AIMessage(LONG)]
    planner = marked(conversation, PROMPTS.for_planner(conversation, max_nodes=9), "")
    node = marked(conversation, node_prompt(conversation))
    assert shown(planner)[:2] == shown(node)[:2]
    assert shown(node)[1] == ("ai", LONG, True)
    assert [mark for *_, mark in shown(node)[2:]] == [True, False]


def test_pictures_stay_and_the_last_text_is_marked() -> None:
    picture = {"type": "image", "url": "https://example.org/a.png"}
    conversation = [HumanMessage([picture, {"type": "text", "text": LONG}])]
    planner = marked(conversation, PROMPTS.for_planner(conversation, max_nodes=9), "")
    node = marked(conversation, node_prompt(conversation))
    assert shown(planner)[:2] == shown(node)[:2] == [("human", None, False), ("human", LONG, True)]
    assert node[0].content[0] == picture
    last = [HumanMessage([{"type": "text", "text": LONG}, picture])]
    assert shown(marked(last, node_prompt(last)))[:2] == [
        ("human", LONG, False),
        ("human", None, False),
    ]


def test_own_marks_and_short_prompts_are_left_alone() -> None:
    own = [SystemMessage([{"type": "text", "text": "Be kind.", "cache_control": MARK}])]
    own_conversation = [*own, HumanMessage(LONG)]
    prompt = node_prompt(own_conversation)
    assert marked(own_conversation, prompt) == prompt
    short = [HumanMessage("Why?")]
    bare = Prompts(writer_examples=()).for_node(short, NODES[0], planned=NODES, answers={})
    assert marked(short, bare) == bare


def test_the_examples_before_a_short_question_are_marked() -> None:
    short = [HumanMessage("Why?")]
    *turns, last = shown(marked(short, node_prompt(short)))
    assert [kind for kind, text, mark in turns if mark] == ["ai", "human"]
    assert [text for _, text, _ in turns[-2:]] == ["Why?", OUTLINE]
    assert last[1] == PROMPTS.node.format(
        id="1", heading="Heading 1", scope="", length="one paragraph", difficulty=2
    )
    assert not last[2]


def test_a_key_leads_the_turns_of_one_conversation_to_one_machine() -> None:
    def key(conversation: Any, messages: Any = None) -> Any:
        return with_hints(GPT, conversation, messages or conversation)[1].get("prompt_cache_key")

    first = [SystemMessage("Be kind."), HumanMessage(LONG)]
    later = [*first, AIMessage("So."), HumanMessage("And then?")]
    assert key(first) == key(later) == key(first, node_prompt(first)) is not None
    assert key(first) != key([SystemMessage("Be brief."), HumanMessage(LONG)])
    assert "Why" not in key(first)
    short = [HumanMessage("Why?")]
    assert key(short, PROMPTS.for_planner(short, max_nodes=9)) is None


def test_of_newer_models_of_openai_answers_carry_no_mark_and_the_turn_before_is_found() -> None:
    conversation = [SystemMessage(LONG), HumanMessage("Why?"), AIMessage("So."), HumanMessage(LONG)]
    before = marked(conversation[:2], conversation[:2], "", NEW_GPT)
    assert shown(before) == [("system", LONG, True), ("human", "Why?", True)]
    node = shown(marked(conversation, node_prompt(conversation), model=NEW_GPT))
    assert [(kind, mark) for kind, _, mark in node] == [
        ("system", True),
        ("human", True),
        ("ai", False),
        *[("human", mark) for mark in (True, True, False)],
    ]
    short = [HumanMessage("Why?")]
    for prompt in (node_prompt(short), PROMPTS.for_planner(short, max_nodes=9)):
        turns = shown(marked(short, prompt, OUTLINE, NEW_GPT))
        examples = turns[: turns.index(("human", "Why?", False))]
        assert [(kind, mark) for kind, _, mark in examples[-2:]] == [("human", True), ("ai", False)]


def test_what_is_too_short_to_be_kept_is_left_to_openai() -> None:
    short = [HumanMessage("Why?")]
    bare = Prompts(writer_examples=()).for_node(short, NODES[0], planned=NODES, answers={})
    assert with_hints(NEW_GPT, short, bare)[0] == bare
    assert "prompt_cache_options" not in with_hints(NEW_GPT, short, bare)[1]


@pytest.mark.parametrize(
    ("version", "style"), [("1.3.5", "breakpoints"), ("1.3.4", "key"), ("1.10.0", "breakpoints")]
)
def test_an_older_client_is_given_no_breakpoints(
    version: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(metadata, "version", {"langchain-openai": version}.__getitem__)
    prefixes._client_sends_breakpoints.cache_clear()
    try:
        assert cache_style(NEW_GPT) == style
    finally:
        prefixes._client_sends_breakpoints.cache_clear()
