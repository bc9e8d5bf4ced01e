"""How questions are decoded: every option of an `SGDRunnable`, checked once, with what follows from it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

from langchain_core.caches import BaseCache
from langchain_core.runnables import Runnable
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SkipValidation,
    ValidationInfo,
    field_validator,
    model_validator,
)

from langchain_sgd.costs import Price, PriceLike
from langchain_sgd.limits import Limit
from langchain_sgd.models import resolve
from langchain_sgd.planning.planner import Mode
from langchain_sgd.prompts import Prompts
from langchain_sgd.retry import Backoff
from langchain_sgd.routing import Router, ShareRouter, ThresholdRouter
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import LARGE, PLANNER, SMALL, ModelLike, Tier, innermost

_THRESHOLD = 3
Accept = Callable[[Node, str], bool]
"""The user's own test of a node's answer; False sends the node to the next larger tier."""
Expand = Callable[[Node], bool]
"""The user's own test whether a node is split further."""


class Options(BaseModel):
    """The options, as fields; `tiers_by_size`, `planning_tier` and `route` are what follows from them.

    Options never change: a copy with changes is checked anew.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    large: SkipValidation[ModelLike | None] = Field(
        default=None,
        description="The large model: a chat model, a Runnable from messages to message, a name such as"
        ' "openai:gpt-5-nano", or the URL of a server.',
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
        description="Chooses a node's tier by name; instead of `threshold` and `large_share`.",
    )
    threshold: int = Field(
        default=_THRESHOLD,
        ge=1,
        le=6,
        description="Difficulty from which a node leaves the first tier; 1 sends all up, 6 none.",
    )
    large_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Wanted share of nodes for the largest tier, the hardest first; instead of"
        " `threshold`.",
    )
    limits: Mapping[str, int | SkipValidation[Limit]] = Field(
        default_factory=dict,
        description="Most calls in flight for each tier, by name (`planner` too), in this process.",
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
        description="What a run may cost, in the currency of `prices`, which it needs: no node is started"
        " with which the run would pass it. What was paid, what is being written and the node itself"
        " count, as far as is known. An undivided answer is one call, and is not bounded by it.",
    )
    cache_hints: bool = Field(
        default=True,
        description="Tell hosted APIs which beginning the prompts of a run share: `cache_control` marks for"
        " `ChatAnthropic`, a `prompt_cache_key` for OpenAI itself. Other models are told nothing.",
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
        description='How sure the planner must be that a question stays whole (with `mode="auto"` only), as'
        " the probability of its first token: a higher value splits more questions. It needs a server that"
        " gives log-probabilities; None takes the planner's word.",
    )
    busy: int | Callable[[], bool] | None = Field(
        default=None,
        description='Under load, answer undivided instead of asking the planner (with `mode="auto"` only):'
        " from this many calls in flight to the planner and the largest tier in this process, or when"
        " your own test says so. Splitting pays only while the batch has much room: take a quarter of the"
        " server's slots.",
    )
    opening: bool = Field(
        default=True,
        description="Begin the plain answer beside the planner, and show its first sentence at once, as the"
        " opening of the answer. A question that is not split goes on from there, as soon as by plain"
        " decoding; of one that is, the call is stopped after that sentence. It never waits for a slot, and"
        " an agent or graph gives no opening. From the first text on, a fallback can no longer take over.",
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
        " deeper: those that are to have at least this many words, or those that your own test takes. A"
        " part that the planner leaves whole is written as usual.",
    )
    expand_depth: int = Field(
        default=1, ge=1, le=3, description="How many levels of parts `expand` may add."
    )
    length: int | None = Field(
        default=None,
        ge=10,
        description="Words of the whole answer; each part is told its share. Without it: what the question"
        " asks for, else a solid paragraph a part.",
    )
    prompts: Prompts = Field(
        default_factory=Prompts,
        description="Every text that goes to a model beside the conversation. Writers are shown two example"
        " parts, about 300 tokens that servers with a prefix cache compute once;"
        " `Prompts(writer_examples=())` leaves them out.",
    )
    constrain: bool = Field(
        default=True,
        description="Constrain the planner's decoding by a grammar where the server takes one.",
    )
    plan_cache: bool | SkipValidation[BaseCache] = Field(
        default=False,
        description="Reuse the plan of an equal question, from a LangChain cache of your own, or, with True,"
        " from the one of `set_llm_cache`. The parts are written anew.",
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
        description="Repeats of a failed call on the same tier, before the next larger one is tried.",
    )
    stall_timeout_s: float | None = Field(
        default=120.0,
        gt=0,
        description="Longest silence of a model, before the first token too; None waits for ever.",
    )
    node_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Time of one node with all its attempts, from its first call on.",
    )
    deadline_s: float | None = Field(
        default=None,
        gt=0,
        description="Time of the whole run; what is finished then is the answer.",
    )
    on_node_error: Literal["partial", "raise"] = Field(
        default="partial",
        description="A node without an answer: name the gap and go on, or raise once its siblings have"
        " ended.",
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

    least_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A smaller tier's part with fewer of the words that it was asked for goes to the next"
        " larger tier, unseen: small models leave some parts nearly empty. 0 takes every text.",
    )

    approve: bool = Field(
        default=False,
        description="Interrupt after planning, so that a human accepts, edits or rejects the skeleton.",
    )
    execution: Literal["pipelined", "planned", "superstep"] = Field(
        default="pipelined",
        description='For comparison only: "planned" plans first, "superstep" runs the literal graph level'
        " by level.",
    )

    backoff: ClassVar[Backoff] = Backoff()
    read_line: ClassVar[Any] = None
    """Reads the planner's lines (a `ReadLine`), if not the wire format. A subclass may be another method."""
    whole_outline: ClassVar[bool] = False
    """Whether every node sees all that is planned, not only what is planned before it."""

    _tiers: tuple[Tier, ...] = PrivateAttr(default=())
    _planner: Tier = PrivateAttr()
    _router: Router = PrivateAttr()

    @field_validator("large", "small", "planner", mode="before")
    @classmethod
    def _model(cls, value: Any, info: ValidationInfo) -> Any:
        return None if value is None else resolve(value, what=str(info.field_name))

    @field_validator("tiers", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: resolve(model, what=str(name)) for name, model in value.items()}

    @field_validator("busy", mode="before")
    @classmethod
    def _busy_from(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int) and value < 1):
            msg = f"busy must be a whole number of calls from 1 on, or a function, not {value!r}"
            raise ValueError(msg)
        return value

    @field_validator("expand", mode="before")
    @classmethod
    def _expand_from(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int) and value < 1):
            msg = f"expand must be a number of words from 1 on, or a function, not {value!r}"
            raise ValueError(msg)
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _shared_limits(cls, value: Any) -> Any:
        """Limits become objects once, so that configured copies share their slots."""
        if not isinstance(value, Mapping):
            return value
        for name, size in value.items():
            if (
                isinstance(size, bool)
                or not isinstance(size, int | Limit)
                or (isinstance(size, int) and size < 1)
            ):
                msg = f"limits[{name!r}] must be a whole number from 1 on, not {size!r}"
                raise ValueError(msg)
        return {n: size if isinstance(size, Limit) else Limit(size) for n, size in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_subclasses(cls, given: Any) -> Any:
        """A default that a subclass sets is read like a given value: a URL becomes a model there too."""
        if not isinstance(given, dict):
            return given
        own = {
            name: cls.model_fields[name].default
            for name in ("large", "small", "planner", "tiers", "limits")
            if name not in given
            and cls.model_fields[name].default not in (None, ...)
            and cls.model_fields[name].default_factory is None
        }
        return {**own, **given}

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.tiers is not None and (self.small is not None or self.large is not None):
            msg = "give either tiers={name: model, ...} or small= and large=, not both"
            raise ValueError(msg)
        if self.tiers is None and self.large is None:
            msg = (
                "no model: give large= (and small=), each a chat model, a name such as"
                " 'openai:gpt-5-nano' or a URL such as 'http://localhost:8080', or"
                " tiers={name: model, ...}"
            )
            raise ValueError(msg)
        if self.tiers is not None and not self.tiers:
            msg = "tiers is empty; give at least one model"
            raise ValueError(msg)
        if self.tiers is not None and PLANNER in self.tiers:
            msg = (
                f"a tier must not be named {PLANNER!r}: the planner's calls, limits and prices go by that"
                " name; give it another one, and the model as planner= if it is to plan"
            )
            raise ValueError(msg)
        if self.planner is not None and nested_in(self.planner):
            msg = "planner must be a model; an SGDRunnable plans for itself, and can be a tier"
            raise ValueError(msg)
        for name in ("router", "accept", "busy", "expand"):
            if _is_async(getattr(self, name)):
                msg = (
                    f"{name} must not be async: it is asked between two pieces of work, and at once"
                )
                raise ValueError(msg)
        if self.router is not None and self.large_share is not None:
            msg = "give either router= or large_share=, not both"
            raise ValueError(msg)
        if self.large_share is not None and self.threshold != _THRESHOLD:
            msg = "give either threshold= or large_share=, not both"
            raise ValueError(msg)
        names = {*self._named_models(), PLANNER}
        if unknown := set(self.limits) - names:
            msg = f"limits for {sorted(unknown)}, but the tiers are {sorted(names)}"
            raise ValueError(msg)
        self._check_prices(names)
        return self

    def _check_prices(self, names: set[str]) -> None:
        """All or none: with a price missing, a total would be a lie."""
        if self.prices is None:
            if self.max_cost is not None:
                msg = "max_cost needs prices: give prices={tier: (input, output)} per million tokens too"
                raise ValueError(msg)
            return
        if unknown := set(self.prices) - names:
            msg = f"prices for {sorted(unknown)}, but the tiers are {sorted(names)}"
            raise ValueError(msg)
        needed = names if self.planner is not None else names - {PLANNER}
        if missing := needed - set(self.prices):
            msg = f"prices are missing for {sorted(missing)}; give one for every tier"
            raise ValueError(msg)

    def _named_models(self) -> dict[str, Runnable[Any, Any]]:
        named = {SMALL: self.small, LARGE: self.large} if self.tiers is None else dict(self.tiers)
        # Names have become models when they were read.
        return {n: cast("Runnable[Any, Any]", model) for n, model in named.items() if model}

    def model_post_init(self, context: Any, /) -> None:
        """What follows from the options."""
        super().model_post_init(context)
        limits: Mapping[str, Any] = self.limits if isinstance(self.limits, Mapping) else {}
        self._tiers = tuple(
            Tier.of(name, model, limits.get(name)) for name, model in self._named_models().items()
        )
        if not self._tiers:
            return  # the validator that follows says what is missing
        largest = self._tiers[-1]
        while (
            inner := nested_in(largest.model)
        ) is not None:  # it plans by what it plans with itself
            largest = inner.planning_tier
        self._planner = (
            Tier(PLANNER, largest.model, limits.get(PLANNER) or largest.limit, largest.shared)
            if self.planner is None
            else Tier.of(PLANNER, cast("Runnable[Any, Any]", self.planner), limits.get(PLANNER))
        )
        self._router = self._make_router()

    def _make_router(self) -> Router:
        names = tuple(tier.name for tier in self._tiers)
        if self.router is not None:
            return self.router
        if self.large_share is None:
            return ThresholdRouter(names, self.threshold)
        # Its counts belong to the model, so that a copy for one question goes on where others stopped.
        key = (names, self.large_share)
        router: Router = self.largest.shared.memory.setdefault(
            key, ShareRouter(names, self.large_share)
        )
        return router

    @property
    def tiers_by_size(self) -> tuple[Tier, ...]:
        """From the smallest to the largest; the last one plans by default and answers undivided."""
        return self._tiers

    @property
    def largest(self) -> Tier:
        """The tier of undivided answers."""
        return self._tiers[-1]

    @property
    def planning_tier(self) -> Tier:
        """The planner's model under its own name."""
        return self._planner

    @property
    def known_faults(self) -> tuple[str, ...]:
        """What is known to go wrong with these models, for the report."""
        models = {id(tier.model): tier for tier in (self.planning_tier, *reversed(self._tiers))}
        named = [t for t in models.values() if type(t.model).__name__ == "ChatHuggingFace"]
        if not named:
            return ()
        # Loads the HTTP client, which `import langchain_sgd` must not.
        from langchain_sgd.tgi import huggingface_faults  # noqa: PLC0415

        return tuple(f"{t.name}: {fault}" for t in named for fault in huggingface_faults(t.model))

    def route(self, node: Node) -> str:
        """The name of the tier that is to decode a node."""
        return self._router(node)

    def is_busy(self) -> bool:
        """Whether a run that begins now should not be split for the load's sake."""
        if self.busy is None or callable(self.busy):
            return self.busy is not None and bool(self.busy())
        counts: dict[int, int] = {}
        for tier in (self.planning_tier, self.largest):  # one model may be both
            known = max(limit.in_flight for limit in tier.limits)
            counts[id(tier.shared)] = max(known, counts.get(id(tier.shared), 0))
        return sum(counts.values()) >= self.busy

    @property
    def all_prices(self) -> Mapping[str, Price] | None:
        """With the planner's, which is the largest tier's unless it is a model of its own."""
        if self.prices is None:
            return None
        prices = cast(
            "Mapping[str, Price]", self.prices
        )  # tuples have become prices when they were read
        return {PLANNER: prices[self.largest.name], **prices}


def nested_in(model: Any) -> Options | None:
    """The options of the `SGDRunnable` that a model is, or, as a `ChatSGD`, is made of."""
    model = innermost(model)
    model = model if isinstance(model, Options) else getattr(model, "sgd", None)
    return model if isinstance(model, Options) else None


def _is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine: functions, their partials, and objects that are called."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method is looked at, not called
    )
