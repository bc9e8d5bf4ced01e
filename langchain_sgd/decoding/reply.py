"""What came of one model call: read off the pieces that it streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from langchain_sgd.decoding.endings import Ending, ending_of, worse
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.failures import is_timeout
from langchain_sgd.redaction import describe
from langchain_sgd.report import REPORT_KEY, Attempt, Usage

_CACHE_WRITES = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Tokens put into a prefix cache; who tells for how long does not count them under the first name too."""
_THOUGHTS_BESIDE = frozenset({"reasoning_content", "reasoning"})
"""Where `content_blocks` finds thoughts beside the content."""
_SILENT_SHARE = 0.1
"""Of the time since its first text: a model that was silent for less was no silent one."""
_CHARACTERS_A_TOKEN = 4


class NoAnswerError(InvalidInputError):
    """What a tier gave is no answer: it asked for a tool or a human, or gave no text or message."""

    is_retryable = False


@dataclass(slots=True)
class Reply:
    """What came of one model call; filled while it runs. Times are the loop's."""

    tier: str
    began_at: float | None = None
    """When its slots were free and the call went out; None if it never did."""
    first_at: float | None = None
    """When the first text came."""
    last_at: float | None = None
    """When the last piece came."""
    ended_at: float | None = None
    model: str | None = None
    """The model's own name, as its server gave it."""
    ending: Ending | None = None
    """How the model says that its text ended; None if it does not say."""
    usage: Usage | None = None
    error: BaseException | None = None
    pieces: int = 0
    """Pieces of text that came; with most servers tokens."""
    streamed: bool = False
    """Its text came as a stream's chunk."""
    stopped: bool = False
    """Whoever took the text had enough of it."""
    first_logprobs: Mapping[str, float] | None = None
    """What the first token might have been, with log-probabilities, where they were asked for and given."""
    last_usage: Usage | None = None
    """What the last piece that counted said."""
    reasoning: str = ""
    """What came as a thought beside the text."""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """Citations and the like."""
    tools: list[str] = field(default_factory=list)
    """What the model called; nobody does that for a tier, so the text before it is no answer."""
    report: Mapping[str, Any] | None = None
    """Of a call that was a whole run: its report."""

    @property
    def asked_for(self) -> str:
        """Of `tools`: what became of the call, in words that follow "the model"."""
        return f"asked for a tool ({', '.join(self.tools)}) instead of answering"

    @property
    def ran_on(self) -> bool:
        """Whether its time ended while text still came: another call would take as long."""
        if self.error is None or self.first_at is None or self.last_at is None:
            return False
        ended = self.last_at if self.ended_at is None else self.ended_at
        brief = ended - self.last_at < _SILENT_SHARE * (ended - self.first_at)
        return brief and is_timeout(self.error)

    def attempt(self, clock: Callable[[float], float], problem: str | None = None) -> Attempt:
        """The call for the report.

        Args:
            clock: From loop time to seconds since the run began.
            problem: Why its text was not taken; the call's own error if there is one.
        """
        ended = self.ended_at if self.ended_at is not None else (self.began_at or 0.0)
        return Attempt(
            tier=self.tier,
            model=self.model,
            started_s=clock(self.began_at if self.began_at is not None else ended),
            first_token_s=None if self.first_at is None else clock(self.first_at),
            ended_s=clock(ended),
            usage=self.usage,
            error=problem if self.error is None else describe(self.error),
        )


def tokens_of(messages: Sequence[BaseMessage]) -> int:
    """About how many tokens a conversation has."""
    return characters_of(messages) // _CHARACTERS_A_TOKEN


def characters_of(messages: Sequence[BaseMessage]) -> int:
    """How many characters a conversation has."""
    return sum(len(str(message.text)) for message in messages)


def usage_when_stopped(reply: Reply, messages: Sequence[BaseMessage]) -> Usage:
    """The tokens of a call that we ended: its server had not counted all of them yet.

    Some servers count the prompt at the beginning and what they wrote at the end only.
    """
    counted = reply.usage or Usage()
    if reply.usage is not None and counted.output_tokens >= reply.pieces:
        return counted
    return counted.model_copy(
        update={
            "input_tokens": counted.input_tokens or tokens_of(messages),
            "output_tokens": max(counted.output_tokens, reply.pieces),
            "estimated": True,
        }
    )


def note_piece(piece: Any, reply: Reply) -> str:
    """The piece's text; its name, usage and ending go into the reply.

    Raises:
        NoAnswerError: The piece is neither text nor a message, or a whole message that asks for a tool.
    """
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, BaseMessage):
        msg = f"A tier must give text or a message; it gave {type(piece).__name__}"
        raise NoAnswerError(msg)
    if metadata := piece.response_metadata:
        _note_metadata(metadata, reply)
    if usage := getattr(piece, "usage_metadata", None):
        _note_usage(usage, reply, whole=not isinstance(piece, AIMessageChunk))
    content = piece.content
    if (not isinstance(content, str) and _has_more(content)) or (
        not _THOUGHTS_BESIDE.isdisjoint(piece.additional_kwargs)
    ):
        _note_blocks(piece, reply)
    text = content if isinstance(content, str) else str(piece.text)
    if isinstance(piece, AIMessageChunk):
        reply.tools += [str(call["name"]) for call in piece.tool_call_chunks if call.get("name")]
    elif isinstance(piece, AIMessage) and piece.tool_calls:
        reply.tools += [str(call.get("name")) for call in piece.tool_calls]
        msg = f"The tier {reply.asked_for}"
        raise NoAnswerError(msg)
    return text


def _has_more(content: Sequence[Any]) -> bool:
    """Whether there is something beside plain text."""
    plain = {"type", "text", "index", "id"}
    return any(
        isinstance(block, dict) and (block.get("type") != "text" or not plain.issuperset(block))
        for block in content
    )


def _note_blocks(piece: BaseMessage, reply: Reply) -> None:
    """Thoughts and citations, whatever the provider calls them."""
    for block in piece.content_blocks:
        if block["type"] == "reasoning":
            reply.reasoning += block.get("reasoning") or ""
        elif block["type"] == "text":
            reply.annotations += cast("list[dict[str, Any]]", block.get("annotations") or [])


def _note_metadata(metadata: Mapping[str, Any], reply: Reply) -> None:
    """What a server says of itself; whatever has a wrong type there says nothing."""
    for name in ("model_name", "model"):
        if isinstance(value := metadata.get(name), str) and value:
            reply.model = value
            break
    if isinstance(report := metadata.get(REPORT_KEY), Mapping):
        reply.report = report
    reply.ending = worse(reply.ending, ending_of(metadata))
    if reply.first_logprobs is None and "logprobs" in metadata:
        reply.first_logprobs = _first_logprobs(metadata["logprobs"])


def _first_logprobs(said: Any) -> Mapping[str, float] | None:
    """Of the first token and its alternatives, in the form that OpenAI gave to them all."""
    tokens = said.get("content") if isinstance(said, Mapping) else None
    first = tokens[0] if isinstance(tokens, Sequence) and tokens else None
    if not isinstance(first, Mapping):
        return None
    others = first.get("top_logprobs")
    found: dict[str, float] = {}
    for each in (*(others if isinstance(others, list | tuple) else ()), first):
        if isinstance(each, Mapping):
            text, value = each.get("token"), each.get("logprob")
            if isinstance(text, str) and isinstance(value, int | float):
                found[text] = float(value)
    return found or None


def _note_usage(said: Any, reply: Reply, *, whole: bool) -> None:
    """Chunks carry increments, or, from some servers, the sum so far each time; a message carries the sum."""
    if not isinstance(said, Mapping):
        return
    read, written = said.get("input_token_details"), said.get("output_token_details")
    counted = Usage(
        input_tokens=_count(said.get("input_tokens")),
        output_tokens=_count(said.get("output_tokens")),
        cached_tokens=token_detail(read, "cache_read"),
        cache_write_tokens=sum(token_detail(read, name) for name in _CACHE_WRITES),
        reasoning_tokens=token_detail(written, "reasoning"),
    )
    before, last = reply.usage, reply.last_usage
    reply.last_usage = counted
    if whole or before is None:
        reply.usage = counted
    elif last is not None and counted.input_tokens and counted.input_tokens == last.input_tokens:
        # A prompt is read once: a second count of it is the sum so far.
        most = {n: max(getattr(before, n), getattr(counted, n)) for n in Usage.model_fields}
        reply.usage = Usage(**{**most, "input_tokens": before.input_tokens})
    else:
        reply.usage = before + counted


def token_detail(details: Any, name: str) -> int:
    """A count among the details of `usage_metadata`.

    OpenAI's client puts the service tier before a name, as in `flex_cache_read`.
    """
    if not isinstance(details, Mapping):
        return 0
    named = (count for key, count in details.items() if f"_{key}".endswith(f"_{name}"))
    return sum(map(_count, named))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
