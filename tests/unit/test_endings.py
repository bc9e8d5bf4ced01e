from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from langchain_sgd.decoding.endings import ending_of


class FinishReason(enum.Enum):
    STOP = 1
    MAX_TOKENS = 2
    SAFETY = 3


COMPLETE: list[dict[str, Any]] = [
    {"finish_reason": "stop"},  # OpenAI, Mistral, Groq, vLLM
    {"finish_reason": "tool_calls"},
    {"finish_reason": "function_call"},
    {"status": "completed", "incomplete_details": None},  # OpenAI Responses
    {"stop_reason": "end_turn", "stop_sequence": None},  # Anthropic
    {"stop_reason": "stop_sequence"},
    {"stop_reason": "tool_use"},
    {"stopReason": "end_turn"},  # Bedrock Converse
    {"messageStop": {"stopReason": "end_turn"}},
    {"completionReason": "FINISH"},  # Bedrock Titan
    {"finish_reason": "STOP", "safety_ratings": []},  # Gemini
    {"finish_reason": FinishReason.STOP},
    {"finish_reason": "COMPLETE"},  # Cohere
    {"done": True, "done_reason": "stop"},  # Ollama
    {"finish_reason": "eos_token"},  # TGI
    {"finish_reason": "stop_sequence"},
    {"finish_reason": "eos"},  # Together
    {"stop_reason": "eos_token"},  # watsonx
    {"stop_type": "word", "stopped_limit": False},  # llama.cpp
    {"finish_reason": {"type": "stop", "matched": 151645}},  # SGLang
    {"finish_reason": "stop", "stop_reason": 151645},  # vLLM
    {"finish_reason": "stopstop"},
]
CUT: list[dict[str, Any]] = [
    {"finish_reason": "length"},
    {"finish_reason": "max_tokens"},
    {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"status": "incomplete"},
    {"status": "failed", "error": {"code": "server_error"}},
    {"stop_reason": "max_tokens"},
    {"stop_reason": "model_context_window_exceeded"},
    {"stop_reason": "pause_turn"},
    {"stopReason": "max_tokens"},
    {"stopReason": "model_context_window_exceeded"},
    {"messageStop": {"stopReason": "max_tokens"}},
    {"completionReason": "LENGTH"},
    {"finish_reason": "MAX_TOKENS"},
    {"finishReason": "MAX_TOKENS"},
    {"finish_reason": "FinishReason.MAX_TOKENS"},
    {"finish_reason": FinishReason.MAX_TOKENS},
    {"finish_reason": "OTHER"},
    {"finish_reason": "ERROR_LIMIT"},
    {"done_reason": "length"},
    {"finish_reason": "model_length"},  # Mistral
    {"finish_reason": "insufficient_system_resource"},  # DeepSeek
    {"finish_reason": "abort"},  # vLLM
    {"finish_reason": {"type": "length", "length": 128}},
    {"finish_reason": "error", "native_finish_reason": "stop"},  # OpenRouter
    {"stop_reason": "token_limit"},
    {"stop_reason": "time_limit"},
    {"stop_type": "limit"},
    {"stopped_limit": True},
    {"finish_reason": "lengthlength"},
]
REFUSED: list[dict[str, Any]] = [
    {"finish_reason": "content_filter"},
    {"finish_reason": "content-filter"},
    {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
    {"stop_reason": "refusal"},
    {"stopReason": "guardrail_intervened"},
    {"stopReason": "content_filtered"},
    {"completionReason": "CONTENT_FILTERED"},
    {"finish_reason": "ERROR_TOXIC"},
    {"finish_reason": "sensitive"},  # Zhipu
    {"prompt_feedback": {"block_reason": "SAFETY"}, "finish_reason": "STOP"},
    {"finish_reason": FinishReason.SAFETY},
    *(
        {"finish_reason": word}
        for word in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")
    ),
]
UNKNOWN: list[dict[str, Any]] = [
    {},
    {"finish_reason": None},
    {"finish_reason": ""},
    {"finish_reason": "unknown"},
    {"finish_reason": "FINISH_REASON_UNSPECIFIED"},
    {"finish_reason": 3},
    {"finish_reason": ["length"]},
    {"finish_reason": {"why": "length"}},
    {"status": "in_progress"},
    {"status": 200},
    {"done_reason": "load"},
    {"incomplete_details": "max_output_tokens"},
    {"prompt_feedback": {"block_reason": "BLOCK_REASON_UNSPECIFIED"}},
    {"prompt_feedback": {"block_reason": 0}},
]


@pytest.mark.parametrize("metadata", COMPLETE, ids=str)
def test_what_the_model_ended(metadata: dict[str, Any]) -> None:
    assert ending_of(metadata) == "complete"


@pytest.mark.parametrize("metadata", CUT, ids=str)
def test_what_was_cut(metadata: dict[str, Any]) -> None:
    assert ending_of(metadata) == "cut"


@pytest.mark.parametrize("metadata", REFUSED, ids=str)
def test_what_was_refused(metadata: dict[str, Any]) -> None:
    assert ending_of(metadata) == "refused"


@pytest.mark.parametrize("metadata", UNKNOWN, ids=str)
def test_what_says_nothing(metadata: dict[str, Any]) -> None:
    assert ending_of(metadata) is None


def test_joined_chunks_end_as_each_does() -> None:
    chunk = AIMessageChunk(content="", response_metadata={"finish_reason": "length"})
    assert ending_of((chunk + chunk + chunk).response_metadata) == "cut"


@given(
    st.dictionaries(
        st.sampled_from(["finish_reason", "status", "incomplete_details", "messageStop"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_metadata_is_taken(metadata: dict[str, Any]) -> None:
    assert ending_of(metadata) in {"complete", "cut", "refused", None}
