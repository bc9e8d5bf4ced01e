"""Tells hosted APIs which beginning a run's prompts share, so that they compute and bill it once.

Servers of one's own find equal beginnings by themselves. Anthropic's API keeps a beginning only where a
block carries a mark; OpenAI's finds it by itself, but only on the machine to which a key leads. Its models
since gpt-5.6 find one only up to a mark, and set their own behind the last message, where no two parts are
equal; what they keep is paid. The texts stay as they are: a prompt is cut into blocks at the places where
prompts part from each other.

    planner, long conversation    system | conversation | how to plan
    node, long conversation       system | conversation | writer, outline | its own part
    planner, short question       system | examples | question
    node, short question          system | writer, examples | question | outline | its own part
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable

from langchain_sgd.conversation import leading_systems
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models.options import class_names
from langchain_sgd.planning.wrappers import (
    inner_model,
    is_openai_style,
    leaves_of,
    openai_address,
    unwrapped,
)
from langchain_sgd.question import digest

Style = Literal["marks", "key", "breakpoints"]
"""How an API is told: marks of Anthropic's, a key of OpenAI's, or the key and marks of its newer models."""

_MARKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "marks": {"cache_control": {"type": "ephemeral"}},
    "breakpoints": {"prompt_cache_breakpoint": {"mode": "explicit"}},
}
_ONLY_MARKED: Final = {"mode": "explicit"}
"""Of OpenAI's: keep, and charge for, nothing but what ends with a mark."""
_LEAST: Final = 1024
"""Characters; neither keeps a beginning of fewer tokens, so a shorter one needs no mark."""


def with_hints(
    model: Any,
    conversation: Sequence[BaseMessage],
    messages: Sequence[BaseMessage],
    *,
    outline: str = "",
) -> tuple[list[BaseMessage], dict[str, Any]]:
    """A prompt with its marks, and the call options; without either for models that know none.

    Nobody's message is changed. Who has set marks or a key of his own is left alone.

    Args:
        model: Whom to ask.
        conversation: System prompt, history and question, as the user gave them.
        messages: The prompt made of it.
        outline: The prompt's outline, where it holds one.
    """
    style = cache_style(model)
    out, options = list(messages), dict[str, Any]()
    # What stands before every question is found by itself, and best where all runs look for it.
    if style in {"key", "breakpoints"} and _inserted(conversation, messages) <= 0:
        options["prompt_cache_key"] = _key(conversation)
    if style in {"marks", "breakpoints"} and not any(map(_is_marked, messages)):
        out = _marked(conversation, messages, outline, style)
        if style == "breakpoints" and any(map(_is_marked, out)):
            options["prompt_cache_options"] = dict(_ONLY_MARKED)
    return out, options


def _key(conversation: Sequence[BaseMessage]) -> str:
    """The same for all calls of a run, and for the turns of one conversation."""
    until = next(
        (n for n, m in enumerate(conversation, 1) if isinstance(m, HumanMessage)), len(conversation)
    )
    return f"sgd-{digest([(m.type, m.content) for m in conversation[:until]])}"


def _inserted(conversation: Sequence[BaseMessage], messages: Sequence[BaseMessage]) -> int:
    """How many messages stand between the system prompt and the conversation."""
    added = not isinstance(conversation[-1], HumanMessage) and messages[-1] is not conversation[-1]
    return len(messages) - len(conversation) - added


def _is_marked(message: BaseMessage) -> bool:
    content = message.content
    return not isinstance(content, str) and any(map(_carries_mark, content))


def _carries_mark(block: Any) -> bool:
    return isinstance(block, dict) and any(mark.keys() & block.keys() for mark in _MARKS.values())


def _marked(
    conversation: Sequence[BaseMessage], messages: Sequence[BaseMessage], outline: str, style: Style
) -> list[BaseMessage]:
    systems, inserted = leading_systems(conversation), _inserted(conversation, messages)
    if inserted < 0 or systems == len(conversation):
        return list(messages)  # prompts of the user's own, of another build
    question = len(conversation) - 1 + inserted
    ends = {systems - 1, systems + inserted - 1 if inserted else question}
    kinds: tuple[type[BaseMessage], ...] = (AIMessage, SystemMessage, HumanMessage)
    if style == "breakpoints":
        kinds = (SystemMessage, HumanMessage)  # what is an answer cannot carry one
        if not inserted:  # the turn before ended with its own mark, and is found at that alone
            ends.add(question - 1)
        ends = {_last_of(kinds, messages[: end + 1]) for end in ends}
    mark, out, length = _MARKS[style], list[BaseMessage](), 0
    for number, message in enumerate(messages):
        if number == question and isinstance(message, HumanMessage):
            asked = conversation[-1].content
            blocks = _blocks(message.content, asked, outline, mark=number in ends)
            out.append(_of_blocks(message, blocks, length, mark))
        elif number in ends and isinstance(message, kinds):
            blocks = _blocks(message.content, message.content, "")
            out.append(_of_blocks(message, blocks, length, mark))
        elif number > question:  # what is said to a model after a message that is no human's
            blocks = _blocks(message.content, "", outline)
            out.append(_of_blocks(message, blocks, length, mark))
        else:
            out.append(message)
        length += len(str(message.text))
    return out


def _last_of(kinds: tuple[type[BaseMessage], ...], messages: Sequence[BaseMessage]) -> int:
    """The place of the last of these kinds; -1 if there is none."""
    return max((n for n, each in enumerate(messages) if isinstance(each, kinds)), default=-1)


_Blocks = list[tuple[Any, bool]]
"""Blocks of a message, and whether a beginning that is shared ends with each."""


def _blocks(
    content: str | list[Any], shared: str | list[Any], outline: str, *, mark: bool = True
) -> _Blocks:
    """A message cut where the shared content ends, and where the outline does."""
    if isinstance(content, str):
        at = content.find(shared) if isinstance(shared, str) and shared else -1
        cut = at + len(shared) if at >= 0 else 0
        return [*_text(content[:cut], mark=mark), *_cut(content[cut:], outline)]
    if isinstance(shared, str) or not shared:
        return [(block, False) for block in content]
    last = next((n for n, block in enumerate(content) if block is shared[-1]), -1)
    blocks: _Blocks = [(block, mark and n == last) for n, block in enumerate(content)]
    if last < len(content) - 1 and isinstance(text := blocks[-1][0].get("text"), str):
        blocks[-1:] = _cut(text, outline)
    return blocks


def _cut(text: str, outline: str) -> _Blocks:
    """What follows the shared content, cut behind the outline."""
    at = text.find(outline) if outline else -1
    cut = at + len(outline) if at >= 0 else 0
    return [*_text(text[:cut], mark=True), *_text(text[cut:], mark=False)]


def _text(text: str, *, mark: bool) -> _Blocks:
    return [({"type": "text", "text": text}, mark)] if text else []


def _of_blocks(
    message: BaseMessage, blocks: _Blocks, before: int, mark: Mapping[str, Any]
) -> BaseMessage:
    """The message with marks on blocks of text that end a long enough beginning; else the message itself."""
    content: list[Any] = []
    for block, ends in blocks:
        is_text = isinstance(block, dict) and block.get("type") == "text"
        before += len(block["text"]) if is_text else 0
        marked = ends and is_text and before >= _LEAST and block["text"].strip()
        content.append({**block, **{k: dict(v) for k, v in mark.items()}} if marked else block)
    changed = any(map(_carries_mark, content))
    # A block of blanks only is refused.
    whole = all(block["text"].strip() for block in content if "text" in block)
    return message.model_copy(update={"content": content}) if changed and whole else message


_OPENAI_HOST: Final = "api.openai.com"
_CACHE_HINTS: Final = frozenset({"cache_control", "prompt_cache_key", "prompt_cache_options"})
_MODEL: Final = frozenset({"model", "model_name"})
_GPT: Final = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?:-|$)")


def cache_style(model: Runnable[Any, Any]) -> Style | None:
    """How a model's API is told what prompts have in common.

    None where no way is known, where models that may answer differ, and where a user has set a hint.
    """
    if _binds(model, _CACHE_HINTS):
        return None
    styles = {_cache_style(inner_model(leaf)) for leaf in leaves_of(model)}
    if styles == {"key", "breakpoints"} or (styles == {"breakpoints"} and _binds(model, _MODEL)):
        return "key"  # an older model, which may answer too, refuses the others' marks
    return styles.pop() if len(styles) == 1 else None


def _cache_style(model: Any) -> Style | None:
    if "ChatAnthropic" in class_names(model):
        return "marks"
    if "ChatEndpoint" in class_names(model):
        if _CACHE_HINTS & model.options.keys():
            return None
        address, name = model.address, model.address.model
    elif not is_openai_style(model) or getattr(model, "azure_endpoint", None):
        return None  # Azure takes a key from some of its API versions on only
    else:
        name = model.model_name
        try:
            address = openai_address(model)
        except InvalidInputError:
            return None
    if address is None:
        is_openai = "ChatOpenAI" in class_names(model)
    else:
        is_openai = address.host == _OPENAI_HOST or address.host.endswith(f".{_OPENAI_HOST}")
    if not is_openai or getattr(model, "prompt_cache_options", None) is not None:
        return None
    return "breakpoints" if _has_breakpoints(name or "") else "key"


def _has_breakpoints(name: str) -> bool:
    """Whether a model of OpenAI's takes breakpoints, and its client sends them."""
    found = _GPT.match(name)
    since = found is not None and (int(found[1]), int(found[2] or 0)) >= (5, 6)
    return since and _client_sends_breakpoints()


@functools.cache
def _client_sends_breakpoints() -> bool:
    """Older clients drop them, or refuse the option."""
    try:
        numbers = re.findall(r"\d+", metadata.version("langchain-openai"))
    except metadata.PackageNotFoundError:
        return False
    return [int(number) for number in numbers[:3]] >= [1, 3, 5]


def _binds(model: Any, names: frozenset[str]) -> bool:
    """Whether one of these options is set somewhere, around the model or in it."""
    given = {
        **(getattr(model, "kwargs", None) or {}),
        **(getattr(model, "model_kwargs", None) or {}),
    }
    inner = unwrapped(model)
    inside = inner if isinstance(inner, list) else [] if inner is None else [inner]
    return bool(names & given.keys()) or any(_binds(each, names) for each in inside)
