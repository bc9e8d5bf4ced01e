from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.runnables import RunnableBinding, RunnableLambda

from langchain_sgd.planning.constrain import constrained
from langchain_sgd.planning.wire import planner_max_tokens, skeleton_regex, skeleton_schema


class ChatTGI(GenericFakeChatModel):
    """Known by its name, as the real one is."""


class BaseChatOpenAI(GenericFakeChatModel):
    pass


class ChatOpenAI(BaseChatOpenAI):
    pass


class ChatHuggingFace(GenericFakeChatModel):
    llm: Any = None


def bound_options(model: Any, *, plain: bool = True) -> Any:
    bound = constrained(model, max_nodes=5, plain=plain)
    assert isinstance(bound, RunnableBinding)
    return bound.kwargs


def test_tgi_takes_the_regular_expression() -> None:
    for plain in (True, False):
        assert bound_options(ChatTGI(messages=iter([])), plain=plain) == {
            "response_format": {"type": "regex", "value": skeleton_regex(plain=plain)},
            "max_tokens": planner_max_tokens(5),
        }


def test_openai_style_servers_take_the_schema() -> None:
    assert bound_options(ChatOpenAI(messages=iter([])))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "skeleton", "schema": skeleton_schema(), "strict": True},
    }


def test_huggingface_takes_tgis_json_on_an_endpoint_only() -> None:
    hub = ChatHuggingFace(messages=iter([]), llm=SimpleNamespace(endpoint_url=None))
    assert constrained(hub, max_nodes=5, plain=True) is None
    local = ChatHuggingFace(messages=iter([]), llm=SimpleNamespace(endpoint_url="http://x"))
    assert bound_options(local)["response_format"] == {
        "type": "json",
        "value": skeleton_schema(),
    }


@pytest.mark.parametrize(
    "model",
    [GenericFakeChatModel(messages=iter([])), RunnableLambda(lambda _: "text")],
)
def test_others_are_left_to_the_parser(model: Any) -> None:
    assert constrained(model, max_nodes=5, plain=True) is None


def test_what_the_user_bound_stays() -> None:
    model = ChatTGI(messages=iter([])).bind(temperature=0.5).with_config(tags=["mine"])
    bound = constrained(model, max_nodes=5, plain=True)
    assert isinstance(bound, RunnableBinding)
    assert bound.kwargs["temperature"] == 0.5
    assert bound.kwargs["response_format"]["type"] == "regex"
    assert bound.config["tags"] == ["mine"]
