"""JSON of any form as a small grammar, for schemas that TGI itself cannot compile in seconds, or at all.

Its automaton has 19 states for each level of nesting, whatever the fields are. So the model must be told the
schema, and the answer checked against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import convert_to_messages
from langchain_core.prompt_values import PromptValue

from langchain_sgd.tgi.schema_parts import Schema

_TEXT: Final = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*"'
_BARE: Final = "[-+.0-9A-Za-z]+"
DEEPEST: Final = 6
"""Levels of objects and lists inside one another; the expression doubles with each."""


def depth(fit: Schema) -> int:
    """How many objects and lists a value holds inside one another; of a schema without references."""
    kinds = {"object", "array"} & {fit.get("type")} or fit.keys() & {"properties", "items"}
    return bool(kinds) + max((depth(part) for part in _parts(fit)), default=0)


def _parts(fit: Schema) -> Iterator[Schema]:
    for name in ("items", "additionalProperties"):
        if isinstance(part := fit.get(name), dict):
            yield part
    for name in ("anyOf", "prefixItems"):
        yield from fit.get(name, ())
    yield from fit.get("properties", {}).values()


def expression(levels: int, *, is_object: bool) -> str:
    """The expression of a JSON value with so many levels at most; brackets need not be of a kind."""
    if is_object:
        return _box(levels, r"\{", r"\}")
    return _value(levels)


def _box(levels: int, opened: str, closed: str) -> str:
    item = rf"(?:{_TEXT}: ?)?{_value(levels - 1)}"
    return rf"{opened} ?(?:(?:{item}, ?)*{item} ?)?{closed}"


def _value(levels: int) -> str:
    box = "|" + _box(levels, r"[\[{]", r"[\]}]") if levels else ""
    return f"(?:{_TEXT}|{_BARE}{box})"


def ask(given: LanguageModelInput, schema: Schema) -> list[BaseMessage]:
    """Messages that end with what the answer is to look like."""
    words = f"Answer with JSON alone, in one line, that fits this schema: {_shown(schema)}"
    if isinstance(given, PromptValue):
        messages = given.to_messages()
    else:
        messages = convert_to_messages([given] if isinstance(given, str) else list(given))
    last = messages[-1] if messages else None
    if isinstance(last, HumanMessage) and isinstance(last.content, str):
        return [*messages[:-1], last.model_copy(update={"content": f"{last.content}\n\n{words}"})]
    return [*messages, HumanMessage(words)]


def _shown(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
