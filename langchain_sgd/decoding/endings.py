"""How a model's text ended, from the metadata that its client hands on; pure.

Providers say it under different names and with different words:

    finish_reason   OpenAI and its kin, TGI, Mistral, Groq, DeepSeek, Gemini, Cohere
    stop_reason     Anthropic, Bedrock, watsonx           stopReason        Bedrock's Converse
    done_reason     Ollama                                completionReason  Bedrock's Titan
    status          OpenAI's Responses, with the reason in incomplete_details
    stop_type       llama.cpp

What is unknown, missing or of another type says nothing: a text is never lost for its metadata.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

Ending = Literal["complete", "cut", "refused"]
"""`complete`: the model ended it; `cut`: a limit or a fault did; `refused`: a filter or the model itself."""

_COMPLETE = """
stop end_turn eos eos_token stop_sequence stop_token complete completed finish finished end_of_turn endoftext
word tool_call tool_calls tool_use function_call"""
_CUT = """
length max_token max_tokens max_length max_new_tokens max_output_tokens max_completion_tokens model_length
token_limit limit model_context_window_exceeded context_length context_length_exceeded context_window
incomplete not_finished abort aborted cancel cancelled canceled user_cancel timeout time_limit error
error_limit failed network_error insufficient_system_resource pause_turn repetition other language
malformed_model_output malformed_tool_use malformed_function_call unexpected_tool_call"""
_REFUSED = """
content_filter content_filtered content_policy refusal refused safety recitation blocklist blocked
prohibited_content spii image_safety model_armor guardrail_intervened guardrails error_toxic sensitive"""
_WORDS: dict[str, Ending] = {
    **dict.fromkeys(_COMPLETE.split(), "complete"),
    **dict.fromkeys(_CUT.split(), "cut"),
    **dict.fromkeys(_REFUSED.split(), "refused"),
}
_GRAVITY: dict[Ending, int] = {"complete": 0, "cut": 1, "refused": 2}

_KEYS = (
    "finish_reason",
    "finishReason",
    "native_finish_reason",
    "stop_reason",
    "stopReason",
    "done_reason",
    "completion_reason",
    "completionReason",
    "stop_type",
    "status",
)
_INSIDE = (
    ("incomplete_details", "reason"),
    ("messageStop", "stopReason"),
    ("finish_reason", "type"),
)
"""Reasons that stand one level down: Responses, Converse's stream, SGLang."""
_BLOCKED = ("prompt_feedback", "block_reason")
"""Gemini's word for a question that it does not answer; any reason is one."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_REPEATED = re.compile(r"(.+?)\1*")
_LONGEST = 99
"""Characters of a word that is looked at for repeats."""


def ending_of(metadata: Mapping[str, Any]) -> Ending | None:
    """How the text ended; the worst of what is said, None if nothing known is said.

    A tool call is a complete ending: whether it is an answer is another question.

    Args:
        metadata: The `response_metadata` of a message, or of the chunk of a stream that has it.
    """
    found = [_meaning(reason) for reason in _reasons(metadata)]
    ending = functools.reduce(worse, found, None)
    block = _inside(metadata, *_BLOCKED)
    if block and isinstance(block, str) and not block.upper().endswith("UNSPECIFIED"):
        return "refused"
    if metadata.get("stopped_limit") is True:  # llama.cpp, older
        return worse(ending, "cut")
    return ending


def worse(one: Ending | None, other: Ending | None) -> Ending | None:
    """Of what two pieces of a stream say, the graver; None if neither says anything."""
    said = [ending for ending in (one, other) if ending is not None]
    return max(said, key=_GRAVITY.__getitem__, default=None)


def _reasons(metadata: Mapping[str, Any]) -> Iterator[str]:
    values = [metadata.get(key) for key in _KEYS]
    values += [_inside(metadata, *keys) for keys in _INSIDE]
    for value in values:
        # Clients of Google's give an enumeration's member.
        word = value if isinstance(value, str) else getattr(value, "name", None)
        if isinstance(word, str) and word:
            yield word


def _inside(metadata: Mapping[str, Any], outer: str, inner: str) -> Any:
    value = metadata.get(outer)
    return value.get(inner) if isinstance(value, Mapping) else getattr(value, inner, None)


def _meaning(reason: str) -> Ending | None:
    word = _CAMEL.sub("_", reason.rpartition(".")[2]).strip()
    word = re.sub(r"[\s-]+", "_", word).casefold()
    if (known := _WORDS.get(word)) is not None:
        return known
    # Joining the chunks of a stream joins their words too: "stopstop".
    once = _REPEATED.fullmatch(word) if len(word) <= _LONGEST else None
    return _WORDS.get(once[1]) if once else None
