"""Constrained decoding of the skeleton, in the form that each kind of server takes.

The parser never relies on it: llama.cpp's TGI backend accepts a grammar and ignores it, others refuse it.
Models are known by their class names, so that no client is imported for a look.
"""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import Runnable, RunnableBinding

from langchain_sgd.planning.wire import planner_max_tokens, skeleton_regex, skeleton_schema


def constrained(
    model: Runnable[Any, Any], *, max_nodes: int, plain: bool, grammar: str | None = None
) -> Runnable[Any, Any] | None:
    """The model bound to the skeleton's grammar; None where no form is known for it.

    `grammar` is an expression of one's own, for servers that take one. TGI takes the regular
    expression, ChatHuggingFace on a TGI URL TGI's JSON form, OpenAI-style servers (vLLM, SGLang,
    llama.cpp) a JSON schema as `response_format`.
    """
    names = {base.__name__ for base in type(_innermost(model)).__mro__}
    bind = getattr(model, "bind", None)
    if bind is None:
        return None
    tokens = planner_max_tokens(max_nodes)
    if "ChatTGI" in names:
        expression = grammar or skeleton_regex(plain=plain)
        return _bound(bind, {"type": "regex", "value": expression}, max_tokens=tokens)
    if grammar is not None:
        return None
    if "ChatHuggingFace" in names and getattr(_innermost(model).llm, "endpoint_url", None):
        wanted = skeleton_schema()
        return _bound(bind, {"type": "json", "value": wanted}, max_tokens=tokens)
    if "BaseChatOpenAI" in names:
        schema = {"name": "skeleton", "schema": skeleton_schema(), "strict": True}
        return _bound(bind, {"type": "json_schema", "json_schema": schema})
    return None


def _innermost(model: Runnable[Any, Any]) -> Any:
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model


def _bound(bind: Any, response_format: dict[str, Any], **options: Any) -> Runnable[Any, Any]:
    bound: Runnable[Any, Any] = bind(response_format=response_format, **options)
    return bound
