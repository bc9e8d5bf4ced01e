"""Tiers: named models, and what every user of a model shares in this process.

Configured copies of an `SGDRunnable`, and other runnables on the same model, find the same `Shared` by the
model itself: calls in flight are counted together, and a router's memory goes on.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.runnables import Runnable, RunnableBinding

from langchain_sgd.limits import Limit

SMALL, LARGE, PLANNER = "small", "large", "planner"


class Endpoint(Protocol):
    """A server with its options, such as a `TGIEndpoint`."""

    @property
    def url(self) -> str:
        """Where it listens."""
        ...


ModelLike = str | Runnable[Any, Any] | Endpoint
"""What names a model: a chat model or another Runnable from messages to message, a name such as
"openai:gpt-6-luna", a URL, an endpoint."""


@dataclass(slots=True)
class Shared:
    """What is known of one model, whoever uses it."""

    limit: Limit = field(default_factory=lambda: Limit(None))
    """Counts the calls in flight; bounds them where the model says how many its server takes."""
    memory: dict[Any, Any] = field(default_factory=dict)
    """State of routers, by what distinguishes them."""
    opens_thoughts: bool = False
    """Its answers begin inside a thought that its chat template has opened."""
    goes_on: bool = True
    """A begun answer was not refused yet, where its server is known to go on with one."""
    tells_endings: bool = False
    """Its streams say how they ended: one that does not was broken off."""


_known: dict[int, Shared] = {}
_lock = threading.Lock()


def shared_by(model: Any) -> Shared:
    """What all users of this very model object share; forgotten with the model."""
    model = innermost(model)
    with _lock:
        if (shared := _known.get(id(model))) is None:
            shared = Shared()
            try:
                weakref.finalize(model, _known.pop, id(model), None)
            except TypeError:  # an object that cannot be watched shares nothing
                return shared
            limit = getattr(model, "in_flight_limit", None)
            size = getattr(model, "max_concurrent_requests", None)
            if isinstance(limit, Limit):
                shared.limit = limit
            elif isinstance(size, int):
                # Whoever holds a slot does not queue inside the client, where it would seem silent.
                shared.limit = Limit(size)
            _known[id(model)] = shared
        return shared


def innermost(model: Any) -> Any:
    """The model itself, without what `bind` and `with_config` put around it."""
    while isinstance(model, RunnableBinding):
        model = model.bound
    return model


def described(model: Any) -> Any:
    """What a chat model says of itself to tracers: no address of an object, no secret.

    But for its name: a model may learn that from its server, and must not be another one then.
    """
    params = getattr(model, "_get_ls_params", None)
    named = dict(params()) if callable(params) else {}
    if (name := getattr(model, "model", None) or getattr(model, "model_name", None)) is not None:
        named["ls_model_name"] = name
    return [type(model).__qualname__, sorted((k, str(v)) for k, v in named.items())]


@dataclass(frozen=True, slots=True)
class Tier:
    """A named model; tiers are ordered from the smallest to the largest."""

    name: str
    model: Runnable[Any, Any]
    """Messages in, message out: a chat model, or anything that behaves like one."""
    limit: Limit = field(default_factory=lambda: Limit(None))
    """The user's bound of calls in flight."""
    shared: Shared = field(default_factory=Shared)

    @classmethod
    def of(cls, name: str, model: Runnable[Any, Any], limit: Limit | None = None) -> Tier:
        """A tier with what is known of its model."""
        return cls(name, model, limit or Limit(None), shared_by(model))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What a call holds a slot of, in the order in which it takes them."""
        return (self.limit, self.shared.limit)
