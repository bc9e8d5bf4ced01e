"""Every option of an `SGDRunnable` as a field, with its description; `Options` checks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from langchain_core.caches import BaseCache
from pydantic import ConfigDict, Field, SkipValidation

from langchain_sgd.costs import PriceLike
from langchain_sgd.discreet import Discreet
from langchain_sgd.limits import Limit
from langchain_sgd.planning.planner import Mode
from langchain_sgd.prompts import Prompts
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import ModelLike

DEFAULT_THRESHOLD = 3
Accept = Callable[[Node, str], bool]
"""The user's own test of a node's answer; False sends the node to the next larger tier."""
Expand = Callable[[Node], bool]
"""The user's own test whether a node is split further."""


@runtime_checkable
class Store(Protocol):
    """As much of a LangGraph store as is asked here."""

    async def aget(self, namespace: tuple[str, ...], key: str) -> Any:
        """What is kept, with its `value`; or None."""

    async def aput(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: dict[str, Any],
        index: Literal[False] | list[str] | None = None,
    ) -> None:
        """Keep it; with `index=False`, where no search by meaning finds it."""

    async def asearch(self, namespace_prefix: tuple[str, ...], /) -> Any:
        """Not asked here: it tells a store from a checkpointer."""


class OptionFields(Discreet):
    """What a user can set."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    large: SkipValidation[ModelLike | None] = Field(
        default=None,
        description="The large model: a chat model, a Runnable from messages to message, a name such as"
        ' "openai:gpt-6-luna", or the URL of a server.',
    )
    small: SkipValidation[ModelLike | None] = Field(
        default=None,
        description="The small model, named like the large one; without it every node goes to `large`.",
    )
    tiers: Mapping[str, SkipValidation[ModelLike]] | None = Field(
        default=None,
        description="Instead of `small` and `large`: any number of models by name, from the smallest to"
        " the largest.",
    )
    planner: SkipValidation[ModelLike | None] = Field(
        default=None,
        description="The model that writes the skeleton; the largest tier if not given.",
    )

    router: Callable[[Node], str] | None = Field(
        default=None,
        description="Your own function from a node to the name of its tier; instead of `threshold` and"
        " `large_share`.",
    )
    threshold: int = Field(
        default=DEFAULT_THRESHOLD,
        ge=1,
        le=6,
        description="Nodes of this difficulty (1 to 5) and above go to the large model: with 1 all nodes,"
        " with 6 none. With more than two tiers, they are shared among all but the first. Beside `router` or"
        " `large_share`, which go in its place, only the default is taken.",
    )
    large_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="About this share of the nodes goes to the largest tier, the hardest first; instead of"
        " `threshold`.",
    )
    limits: Mapping[str, int | SkipValidation[Limit]] = Field(
        default_factory=dict,
        description='The most calls in flight for each tier, such as `{"large": 8}` (`planner` too), in this'
        " process.",
    )
    prices: Mapping[str, PriceLike] | None = Field(
        default=None,
        description="Per million tokens, `(input, output)`, `(input, output, cached)` or"
        " `(input, output, cached, cache_write)` by tier, `planner` too if it is a model of its own: the"
        " report then says what the run cost.",
    )
    max_cost: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="What a run may cost, in the currency of `prices`, which it needs. No node is started"
        " that would take the run past this sum. The sum counts what was paid, what is being written,"
        " and the node itself, as far as these are known. An undivided answer is one call, and is not"
        " bounded by it.",
    )
    cache_hints: bool = Field(
        default=True,
        description="Tell hosted APIs which beginning the prompts of a run share: `cache_control` marks for"
        " `ChatAnthropic`, a `prompt_cache_key` for OpenAI itself, with breakpoints from gpt-5.6 on. Other"
        " models are told nothing.",
    )

    mode: Mode = Field(
        default="auto",
        description='Split a question if the planner says so ("auto"), whenever it can ("always"), or'
        ' "never".',
    )
    plain_above: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description='How sure the planner must be that a question stays whole (with `mode="auto"` only): from'
        " this probability of the plain word on, it does. A higher value splits more questions, a lower one"
        " fewer; 0.5 is about what the planner would do anyway. It needs a server that gives the"
        " log-probabilities of the first token and its alternatives; None takes the planner's word.",
    )
    busy: int | Callable[[], bool] | None = Field(
        default=None,
        description='Under load, answer undivided instead of asking the planner (with `mode="auto"` only):'
        " from this many calls in flight to the planner and the largest tier in this process, or when"
        " your own test says so. Splitting pays only while the batch has much room: a quarter of the server's"
        " slots is a good value.",
    )
    opening: bool = Field(
        default=True,
        description="Begin the plain answer beside the planner, and show its first sentence at once, as the"
        " opening of the answer. If the question is not split, the answer goes on from there, and comes as"
        " soon as with plain decoding. If it is split, that call is stopped after its first sentence. It"
        " never waits for a slot. An agent or a graph as the large model gives no opening. From the first"
        " text on, a fallback can no longer take over.",
    )
    max_nodes: int = Field(
        default=12,
        ge=2,
        le=99,
        description="Nodes taken from the planner; the rest of its plan is left out with a warning.",
    )
    expand: int | Expand | None = Field(
        default=None,
        description="Which parts are planned and written in parts themselves, under headings one level"
        " deeper: those planned with at least this many words, or those that your own test takes. A"
        " part that the planner leaves whole is written as usual.",
    )
    expand_depth: int = Field(
        default=1, ge=1, le=3, description="How many levels of parts `expand` may add."
    )
    length: int | None = Field(
        default=None,
        ge=10,
        description="Words of the whole answer; each part is told its share. Without it, the length is what"
        " the question asks for, else the system prompt, else a solid paragraph for each part.",
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description="Every text that goes to a model beside the conversation. Writers that are told about"
        " their part are shown two examples, about 300 tokens that servers with a prefix cache compute once;"
        " `Prompts(writer_examples=())` leaves them out.",
    )
    continue_message: bool = Field(
        default=True,
        description="Have parts written by going on from the answer's first sentence and the part's heading"
        " (assistant prefill), where the server is known to go on with a last message of the model's own:"
        " TGI, vLLM, SGLang, llama.cpp, Ollama. Parts wait a moment for that sentence. False: each writer is"
        " told about its part, as on all other servers, and as with a `writer` or `node` prompt of your own.",
    )
    constrain: bool = Field(
        default=True,
        description="Constrain the planner's decoding by a grammar where the server takes one.",
    )
    plan_cache: bool | SkipValidation[BaseCache | Store] = Field(
        default=False,
        description="Reuse the plan of an equal question, from a LangChain cache or a LangGraph store of your"
        " own, or, with True, from the cache of `set_llm_cache`. The parts are written anew.",
    )
    headings: bool = Field(default=True, description="Put each part under its heading.")
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Passed to the models as `seed`, a different one derived for each node.",
    )

    retries: int = Field(
        default=2,
        ge=0,
        description="How often a failed call is repeated on the same tier, before the next larger one is"
        " tried.",
    )
    stall_timeout_s: float | None = Field(
        default=120.0,
        gt=0,
        description="The longest silence of a model, also before its first token; None means no limit.",
    )
    node_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="The time for one node with all its attempts, from its first call on.",
    )
    deadline_s: float | None = Field(
        default=None,
        gt=0,
        description="The time for the whole run; what is finished by then is the answer.",
    )
    on_node_error: Literal["partial", "raise"] = Field(
        default="partial",
        description='If a node has no answer: name the gap and go on ("partial"), or raise an error once the'
        ' others have ended ("raise").',
    )
    count_usage: bool = Field(
        default=False,
        description="Put the total of all calls into the message's `usage_metadata`. Tracers that add up"
        " every run's tokens then count them twice; the report has the total in any case.",
    )
    accept: Accept | None = Field(
        default=None,
        description="Your own test `(node, text) -> bool` of an answer; False tries the next larger tier.",
    )

    cut_repeats: bool = Field(
        default=False,
        description="Leave a sentence out if earlier parts have most of its words in the same order. Each"
        " part but the first is then shown when it is whole, not as it is written. The report's nodes say"
        " what was left out. The literal graph (`build_graph`) does not do it.",
    )

    least_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="How much a smaller tier must write, as a share of the words that it was asked for. A"
        " part with less is written by the next larger tier instead, and is not shown: small models leave"
        " some parts nearly empty. 0 takes every text.",
    )

    approve: bool = Field(
        default=False,
        description="Stop after planning (a LangGraph interrupt), so that a human accepts, edits or refuses"
        " the skeleton.",
    )
    execution: Literal["pipelined", "planned", "superstep"] = Field(
        default="pipelined",
        description='For comparison only: "planned" plans first, "superstep" runs the literal graph level'
        " by level.",
    )
