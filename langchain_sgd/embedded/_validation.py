"""TGI's rules for requests that have the right shape, in its order and with its texts.

Source: `router/src/validation.rs` of text-generation-inference 3.3.7.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from langchain_sgd.embedded._bodies import Parameters
from langchain_sgd.embedded._errors import Kind, ProtocolError
from langchain_sgd.embedded._grammar import BadExpressionError, grammar_regex, read_schema
from langchain_sgd.embedded.engine import EngineInputError, Grammar, Sampling

_GREATEST_TEMPERATURE: Final = 1e6
"""From here on all tokens are as likely as each other anyway."""

_POSITIVE: Final = "must be strictly positive"
_BOUNDS: Final[Sequence[tuple[str, Callable[[Any], bool], str]]] = (
    ("temperature", lambda it: it > 0, _POSITIVE),
    (
        "temperature",
        lambda it: it >= 0.0001,
        "must be at least 0.0001: below, numbers overflow. Leave it out (chat: send 0) to decode greedily",
    ),
    ("repetition_penalty", lambda it: it > 0, _POSITIVE),
    ("frequency_penalty", lambda it: abs(it) <= 2, "must be >= -2.0 and <= 2.0"),
    ("top_p", lambda it: 0 < it < 1, "must be > 0.0 and < 1.0"),
    ("typical_p", lambda it: 0 < it < 1, "must be > 0.0 and < 1.0"),
    ("top_k", lambda it: it > 0, _POSITIVE),
    ("max_new_tokens", lambda it: it > 0, _POSITIVE),
)
"""What is true of a parameter that is given, and what is said where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one served model accepts; `/info` shows the same numbers."""

    max_total_tokens: int
    """Prompt and new tokens of one request together."""
    max_concurrent_requests: int = 128
    """Requests in flight; one more is overloaded at once."""
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    """Engines here report of a token's rivals nothing: of the likeliest tokens the chosen one is shown."""
    max_client_batch_size: int = 4
    """Prompts in one call of `/v1/completions`."""

    @property
    def max_input_tokens(self) -> int:
        """Longest prompt: room for one new token is left."""
        return self.max_total_tokens - 1


def _fail(message: str) -> NoReturn:
    raise ProtocolError(Kind.VALIDATION, message) from None


def check_stream(parameters: Parameters) -> None:
    """Rules that hold for streams only; TGI applies them before it counts the request."""
    if (parameters.best_of if parameters.best_of is not None else 1) != 1:
        _fail("`best_of` != 1 is not supported when streaming tokens")
    if parameters.decoder_input_details:
        _fail("`decoder_input_details` == true is not supported when streaming tokens")


def check_best_of(best_of: int, limits: Limits) -> None:
    """The bound on sequences that are generated to choose the best of."""
    if best_of > limits.max_best_of:
        _fail(f"`best_of` must be > 0 and <= {limits.max_best_of}. Given: {best_of}")


def check_parameters(parameters: Parameters, inputs: str, limits: Limits) -> None:
    """Rules that need no tokenizer, in TGI's order.

    Raises:
        ProtocolError: The first rule that is broken.
    """
    p = parameters
    several = p.best_of is not None and p.best_of > 1
    drawn = (p.temperature, p.top_k, p.top_p, p.typical_p)
    if several and not p.do_sample and all(value is None for value in drawn):
        _fail("you must use sampling when `best_of` is > 1")
    for name, fits, text in _BOUNDS:
        value = getattr(p, name)
        if value is not None and not fits(value):
            _fail(f"`{name}` {text}")
    if len(p.stop) > (most := limits.max_stop_sequences):
        _fail(f"`stop` supports up to {most} stop sequences. Given: {len(p.stop)}")
    if several and p.seed is not None:
        _fail("`seed` must not be set when `best_of` > 1")
    if (p.top_n_tokens or 0) > (most := limits.max_top_n_tokens):
        _fail(f"`top_n_tokens` must be >= 0 and <= {most}. Given: {p.top_n_tokens}")
    if not inputs:
        _fail("`inputs` cannot be empty")
    longest = limits.max_input_tokens
    if p.truncate is not None and not 0 < p.truncate <= longest:
        _fail(f"`truncate` {_POSITIVE} and less than {longest}. Given: {p.truncate}")


def new_tokens(parameters: Parameters, input_length: int, limits: Limits) -> int:
    """Tokens that the request may generate; all that is left where it names no number, or more.

    Raises:
        ProtocolError: The prompt does not fit.
    """
    wanted, left = parameters.max_new_tokens, limits.max_total_tokens - input_length
    if input_length > limits.max_input_tokens:
        _fail(
            f"`inputs` must have less than {limits.max_input_tokens} tokens. Given: {input_length}"
        )
    return left if wanted is None else min(wanted, left)


def sampling(parameters: Parameters) -> Sampling:
    """How the engine draws tokens; a request that samples without a seed is given one."""
    p = parameters
    penalties: dict[str, Any] = {
        "repetition_penalty": p.repetition_penalty,
        "frequency_penalty": p.frequency_penalty,
    }
    cuts: dict[str, Any] = {"top_k": p.top_k, "top_p": p.top_p, "typical_p": p.typical_p}
    # As in TGI's shard: a temperature of 1 alone is no reason to sample.
    warped = p.temperature not in (None, 1.0) or any(each is not None for each in cuts.values())
    if p.greedy or not (p.do_sample or warped):
        return Sampling(**penalties)
    return Sampling(
        temperature=min(1.0 if p.temperature is None else p.temperature, _GREATEST_TEMPERATURE),
        seed=random.getrandbits(32) if p.seed is None else p.seed,
        **cuts,
        **penalties,
    )


# --- grammars


def compile_grammar(form: Grammar) -> Grammar | None:
    """Check a grammar as TGI's router and server do before any token is made.

    None is the empty expression, which constrains nothing.

    Raises:
        ProtocolError: The regular expression or the schema cannot be used; the text says why.
    """
    if form == Grammar("regex", ""):
        return None
    try:
        grammar = Grammar("json", read_schema(form.value)) if form.kind == "json" else form
        grammar_regex(grammar)
    except BadExpressionError as error:
        # The router does not look at expressions; the server behind it stumbles over them.
        raise ProtocolError(Kind.GENERATION, f"Server error: {error}") from None
    except EngineInputError as error:
        _fail(str(error))
    return grammar
