"""How fast a model writes, alone and beside others, and whether it computes a common beginning twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from langchain_core.runnables import Runnable

from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.findings import BATCHES, STREAMS, Finding, Speed
from langchain_sgd.probing import PART_TOKENS, PREFIX, Said, part_prompt, say, together
from langchain_sgd.redaction import describe, redacted

_FASTER: Final = 0.6
"""Of the time to a first token: a call that needs less had its prompt's beginning from a cache."""

_LEAST_TOKENS: Final = 5
_LEAST_PIECES: Final = 3
"""Of an answer, on average; from then on the time between its pieces tells how fast it is written."""
_TRIES: Final = 5
"""For an answer that tells it: small models may end one at once, busy machines send tokens together."""


async def speed_of(model: Runnable[Any, Any], tier: str) -> tuple[Finding, Speed | None]:
    """The speed of one stream and of four; None where it could not be measured."""
    name = f"{tier}: speed"
    try:
        for number in range(_TRIES):
            one = await say(model, part_prompt(number), PART_TOKENS)
            if (why := _unmeasured([one])) is None:
                break
        parts = [part_prompt(number) for number in range(1, STREAMS + 1)]
        four = await together(model, parts, PART_TOKENS)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
        return Finding(name, "failed", explained(error)), None
    if (why := why or _unmeasured(four)) is not None:
        return Finding(name, "note", f"not measured: {why}"), None
    # What a piece holds was written before it came: the first ones tell nothing of the speed.
    alone = one.later_tokens / (one.last - one.begun)
    took = max(s.last for s in four) - min(s.begun for s in four)
    speed = Speed(one.begun - one.began, alone, sum(s.later_tokens for s in four) / took)
    batches = speed.batching >= BATCHES
    finding = Finding(
        name,
        "ok" if batches else "note",
        f"{alone:.3g} tokens/s alone, {speed.together:.3g} with four streams"
        f" ({speed.batching:.1f} times)",
        ""
        if batches
        else "It gains little from several streams, which is what SGD lives on: use a server that"
        " batches (vLLM, SGLang, TGI, OpenVINO), or give it more slots.",
    )
    return finding, speed


def _unmeasured(answers: Sequence[Said]) -> str | None:
    """Why the speed cannot be told from these answers."""
    if sum(said.tokens for said in answers) < _LEAST_TOKENS * len(answers):
        return "its answers are too short"
    took = max(said.last for said in answers) - min(said.begun for said in answers)
    if sum(said.pieces for said in answers) < _LEAST_PIECES * len(answers) or took <= 0:
        return "it does not stream, or in few large pieces"
    return None


async def prefix_cache(model: Runnable[Any, Any]) -> Finding:
    """Whether the second call with the same beginning computes it again."""
    name = "prefix cache"
    # A beginning that nobody has sent before, so that the first call finds nothing.
    prefix = f"Note {uuid4().hex}. {PREFIX}"
    try:
        first = await say(model, f"{prefix}Name a river.", 4)
        second = await say(model, f"{prefix}Name a town.", 4)
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(name, "failed", explained(error))
    if second.cached:
        share = second.cached / max(second.prompt_tokens, second.cached)
        return Finding(name, "ok", f"{share:.0%} of a common beginning was not computed again")
    before, after = first.begun - first.began, second.begun - second.began
    faster = after < _FASTER * before
    return Finding(
        name,
        "ok" if faster else "note",
        f"not told by the server; first token after {before:.2g} s, then {after:.2g} s",
        "" if faster else "Switch it on if the server has one: parts share most of their prompts.",
    )


def explained(error: BaseException) -> str:
    """An error as a finding tells it."""
    text = redacted(" ".join(str(error).split()))
    return text if isinstance(error, SkeletonGraphError) and text else describe(error)
