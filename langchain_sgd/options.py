"""How questions are decoded: the options, checked once, with what follows from them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, cast

from langchain_core.caches import BaseCache
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr, ValidationInfo, field_validator, model_validator

from langchain_sgd.costs import Price
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.limits import Limit
from langchain_sgd.models import resolve
from langchain_sgd.option_fields import DEFAULT_THRESHOLD, OptionFields, Store
from langchain_sgd.retry import Backoff
from langchain_sgd.routing import Router, ShareRouter, ThresholdRouter
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import LARGE, PLANNER, SMALL, Tier, innermost

_FOR_WRITERS = (
    "give it with each call, or bind it, as in .bind({name}=...): then it goes to the models that write. Or"
    " give a model object that has it, as in large=ChatOpenAI(..., {name}=...)"
)
_TIMES = "set stall_timeout_s, node_timeout_s or deadline_s"
_THE_MODEL = "name the model as large= (and small=)"
_ITS_OWN = "give a model object that has it, as in large=ChatOpenAI(..., {name}=...)"
_OF_MODELS = {
    **dict.fromkeys(("temperature", "top_p", "top_k", "frequency_penalty"), _FOR_WRITERS),
    **dict.fromkeys(("presence_penalty", "logit_bias", "stop_sequences"), _FOR_WRITERS),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens"), f"{_FOR_WRITERS}; length= is for words"
    ),
    **dict.fromkeys(("timeout", "request_timeout"), _TIMES),
    "max_retries": "set retries",
    **dict.fromkeys(("model", "model_name", "llm"), _THE_MODEL),
    **dict.fromkeys(("api_key", "base_url", "model_kwargs", "reasoning_effort"), _ITS_OWN),
}
"""What chat models are made with, and its place here."""
_NOT_ASYNC = "{} must not be async: it is asked between two pieces of work, and at once"


class Options(OptionFields):
    """The options; `tiers_by_size`, `planning_tier` and `route` are what follows from them.

    Options never change: a copy with changes is checked anew.
    """

    backoff: ClassVar[Backoff] = Backoff()
    read_line: ClassVar[Any] = None
    """Reads the planner's lines (a `ReadLine`), if not the wire format. A subclass may be another method."""

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

    @field_validator("busy", "expand", mode="before")
    @classmethod
    def _number_or_test(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) or (isinstance(value, int) and value < 1):
            name, what = info.field_name, "calls" if info.field_name == "busy" else "words"
            msg = f"{name} must be a whole number of {what} from 1 on, or a function, not {value!r}"
            raise ValueError(msg)
        return value

    @field_validator("plan_cache", mode="before")
    @classmethod
    def _cache_or_store(cls, value: Any) -> Any:
        if isinstance(value, bool | BaseCache | Store):
            return value
        msg = (
            "plan_cache must be True, a LangChain cache or a LangGraph store (with aget and aput), not a"
            f" {type(value).__name__}"
        )
        raise ValueError(msg)

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
    def _options_of_models(cls, given: Any) -> Any:
        """What a chat model is made with has another place here."""
        for name in given if isinstance(given, dict) else ():
            if name in cls.model_fields or name not in _OF_MODELS:
                continue
            msg = f"{name} is no option here: {_OF_MODELS[name].format(name=name)}"
            raise ValueError(msg)
        return given

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
                " 'openai:gpt-6-luna' or a URL such as 'http://localhost:8080', or"
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
                raise ValueError(_NOT_ASYNC.format(name))
        if self.router is not None and self.large_share is not None:
            msg = "give either router= or large_share=, not both"
            raise ValueError(msg)
        other = "large_share" if self.large_share is not None else "router"
        if getattr(self, other) is not None and self.threshold != DEFAULT_THRESHOLD:
            msg = f"give either threshold= or {other}=, not both"
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

    def _remade(self, changes: Mapping[str, Any] | None = None) -> Self:
        """A copy, checked anew; it shares the models and whatever hangs on them."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **(changes or {})})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes, checked like a new one; the models are shared, `deep` or not."""
        del deep
        return self._remade(update)

    def __copy__(self) -> Self:
        return self._remade()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        del memo
        return self._remade()

    def __reduce__(self) -> tuple[Any, ...]:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return _made, (type(self), given)

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
        name: str = answer_of("router", self._router, node)
        return name

    def is_busy(self) -> bool:
        """Whether a run that begins now should not be split for the load's sake."""
        if self.busy is None or callable(self.busy):
            return self.busy is not None and bool(answer_of("busy", self.busy))
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


def _made(cls: type[Options], given: Mapping[str, Any]) -> Options:
    """Options from a pickle."""
    return cls(**given)


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


def answer_of(name: str, function: Callable[..., Any], /, *about: Any) -> Any:
    """What a function of the user's says.

    Raises:
        InvalidInputError: It gave something to be awaited, which would pass for a yes.
    """
    answer = function(*about)
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise InvalidInputError(_NOT_ASYNC.format(name))
    return answer
