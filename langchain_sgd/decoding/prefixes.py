"""Tells hosted APIs which beginning a run's prompts share, so that they compute and bill it once.

Servers of one's own find equal beginnings by themselves. Anthropic's API keeps a beginning only where a
block carries a mark; OpenAI's finds it by itself, but only on the machine to which a key leads. The texts
stay as they are: a prompt is cut into blocks at the places where prompts part from each other.

    planner, long conversation    system | conversation | how to plan
    node, long conversation       system | conversation | writer, outline | its own part
    planner, short question       system | examples | question
    node, short question          system | writer, examples | question | outline | its own part
"""

from __future__ import annotations

from collections.abc import Sequence
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

_MARK: Final = {"type": "ephemeral"}
_LEAST: Final = 1024
"""Characters; Anthropic keeps no beginning of fewer tokens, so a shorter one needs no mark."""


def with_hints(
    model: Any,
    conversation: Sequence[BaseMessage],
    messages: Sequence[BaseMessage],
    *,
    outline: str = "",
) -> tuple[list[BaseMessage], dict[str, Any]]:
    """A prompt with its marks, or the call options with the key; neither for models that know none.

    Nobody's message is changed. Who has set marks or a key of his own is left alone.

    Args:
        model: Whom to ask.
        conversation: System prompt, history and question, as the user gave them.
        messages: The prompt made of it.
        outline: The prompt's outline, where it holds one.
    """
    style = cache_style(model)
    if style == "key":
        # What stands before every question is found by itself, and best where all runs look for it.
        examples_first = _inserted(conversation, messages) > 0
        return list(messages), {} if examples_first else {"prompt_cache_key": _key(conversation)}
    if style == "marks" and not any(map(_is_marked, messages)):
        return _marked(conversation, messages, outline), {}
    return list(messages), {}


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
    return not isinstance(content, str) and any(
        isinstance(block, dict) and "cache_control" in block for block in content
    )


def _marked(
    conversation: Sequence[BaseMessage], messages: Sequence[BaseMessage], outline: str
) -> list[BaseMessage]:
    systems, inserted = leading_systems(conversation), _inserted(conversation, messages)
    if inserted < 0 or systems == len(conversation):
        return list(messages)  # prompts of the user's own, of another build
    question = len(conversation) - 1 + inserted
    ends = {systems - 1, systems + inserted - 1 if inserted else question}
    out: list[BaseMessage] = []
    length = 0
    for number, message in enumerate(messages):
        if number == question and isinstance(message, HumanMessage):
            asked = conversation[-1].content
            blocks = _blocks(message.content, asked, outline, mark=number in ends)
            out.append(_of_blocks(message, blocks, length))
        elif number in ends and isinstance(message, AIMessage | SystemMessage | HumanMessage):
            out.append(_of_blocks(message, _blocks(message.content, message.content, ""), length))
        elif number > question:  # what is said to a model after a message that is no human's
            out.append(_of_blocks(message, _blocks(message.content, "", outline), length))
        else:
            out.append(message)
        length += len(str(message.text))
    return out


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


def _of_blocks(message: BaseMessage, blocks: _Blocks, before: int) -> BaseMessage:
    """The message with marks on blocks of text that end a long enough beginning; else the message itself."""
    content: list[Any] = []
    for block, ends in blocks:
        is_text = isinstance(block, dict) and block.get("type") == "text"
        before += len(block["text"]) if is_text else 0
        marked = ends and is_text and before >= _LEAST and block["text"].strip()
        content.append({**block, "cache_control": dict(_MARK)} if marked else block)
    changed = any(isinstance(block, dict) and "cache_control" in block for block in content)
    # A block of blanks only is refused.
    whole = all(block["text"].strip() for block in content if "text" in block)
    return message.model_copy(update={"content": content}) if changed and whole else message


_OPENAI_HOST: Final = "api.openai.com"
_CACHE_HINTS: Final = frozenset({"cache_control", "prompt_cache_key"})


def cache_style(model: Runnable[Any, Any]) -> Literal["marks", "key"] | None:
    """How a model's API is told what prompts have in common: `cache_control` marks, or `prompt_cache_key`.

    None where no way is known, where models that may answer differ, and where a user has bound a hint.
    """
    if _binds(model, _CACHE_HINTS):
        return None
    styles = {_cache_style(inner_model(leaf)) for leaf in leaves_of(model)}
    return styles.pop() if len(styles) == 1 else None


def _cache_style(model: Any) -> Literal["marks", "key"] | None:
    if "ChatAnthropic" in class_names(model):
        return "marks"
    if "ChatEndpoint" in class_names(model):
        address = model.address
    elif not is_openai_style(model) or getattr(model, "azure_endpoint", None):
        return None  # Azure takes a key from some of its API versions on only
    else:
        try:
            address = openai_address(model)
        except InvalidInputError:
            return None
    if address is None:
        return "key" if "ChatOpenAI" in class_names(model) else None
    is_openai = address.host == _OPENAI_HOST or address.host.endswith(f".{_OPENAI_HOST}")
    return "key" if is_openai else None


def _binds(model: Any, names: frozenset[str]) -> bool:
    """Whether one of these options is set somewhere, around the model or in it."""
    given = {
        **(getattr(model, "kwargs", None) or {}),
        **(getattr(model, "model_kwargs", None) or {}),
    }
    inner = unwrapped(model)
    inside = inner if isinstance(inner, list) else [] if inner is None else [inner]
    return bool(names & given.keys()) or any(_binds(each, names) for each in inside)
