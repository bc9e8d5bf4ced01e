"""On which event loop a chat model's asynchronous client lives, and how it is called on all others.

A pooled client keeps its connections for the loop that opened them, and gives them to any other: then
calls fail, on both loops. So the first loop on which such a client is used owns it. Where another loop
calls (that of synchronous calls, a second `asyncio.run`, another thread's), the model's own synchronous
client does the work in a thread, while callbacks, retries, fallbacks and patience stay on the loop. Models
without one, and those that keep clients for every loop, as those of this package do, are called as ever.
"""

from __future__ import annotations

import asyncio
import inspect
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import cache
from typing import Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_sgd.models.options import class_names
from langchain_sgd.planning.wrappers import is_configurable, unwrapped
from langchain_sgd.threaded import InThread

_OF_EVERY_LOOP: Final = frozenset({"ChatTGI", "ChatEndpoint", "ChatSGD"})
"""Our own, and what is made of them."""
_CLIENTS: Final = ("root_async_client", "_async_client", "async_client")
"""Where chat models keep their asynchronous client."""
_STATE: Final = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
"""All that a pydantic model holds."""
_DEPTH: Final = 3
"""How many clients may stand around that which has the connections."""

_Ref = Callable[[], Any]
_owners: dict[int, _Ref] = {}
"""Whose each client is, by its id. It stays with a loop that has ended, whose connections it still has; in a
forked child, with the parent's loop."""


def for_this_loop(model: Any, config: RunnableConfig | None = None) -> Any:
    """The model as the running loop may call it: itself, or one whose calls are made in threads.

    Args:
        model: Anything that is called like a model.
        config: Of the call: a configurable model may be another one for it.
    """
    loop = asyncio.get_running_loop()
    return _each(model, config or {}, lambda leaf: _is_owned_by(loop, leaf))


def disown(model: Any, config: RunnableConfig | None = None) -> None:
    """Somebody else uses the clients of these models on another loop: call them in threads from now on."""

    def note(leaf: BaseChatModel) -> bool:
        client = _client_of(leaf)
        _set_owner(leaf if client is None else client, _nobody)
        return True

    _each(model, config or {}, note)


def _nobody() -> None:
    return None


def _is_owned_by(loop: asyncio.AbstractEventLoop, leaf: BaseChatModel) -> bool:
    client = _client_of(leaf)
    if client is None:  # nothing is known to be bound to a loop, until a call says otherwise
        return id(leaf) not in _owners
    if (owner := _owners.get(id(client))) is None:
        owner = _set_owner(client, weakref.ref(loop))
    return owner() is loop


def _set_owner(client: Any, owner: _Ref) -> _Ref:
    """Note a client's owner; if another thread was faster, that one's stays."""
    if id(client) not in _owners:
        try:
            weakref.finalize(client, _owners.pop, id(client), None).atexit = False
        except TypeError:  # who cannot be watched is nobody's for long
            return owner
    if owner is _nobody:
        _owners[id(client)] = owner
    return _owners.setdefault(id(client), owner)


def _client_of(leaf: BaseChatModel) -> Any:
    """What has the connections; several models may share one. None where no such client is known."""
    for name in _CLIENTS:
        found = getattr(leaf, name, None)
        for _ in range(_DEPTH):
            found = getattr(found, "_client", found)
        if hasattr(found, "aclose"):
            return found
    return None


def _each(model: Any, config: RunnableConfig, keeps: Callable[[BaseChatModel], bool]) -> Any:
    """The model with its leaves called in threads, but for those that are kept as they are."""
    if is_configurable(model):
        try:
            made = model._model(config)  # with all that was bound to it  # noqa: SLF001
        except Exception:  # noqa: BLE001 - the call itself tells what is missing
            return model
        return model if (new := _each(made, config, keeps)) is made else new
    inner = unwrapped(model)
    names = class_names(model)
    if isinstance(inner, list):
        first, *others = news = [_each(each, config, keeps) for each in inner]
        if all(new is old for new, old in zip(news, inner, strict=True)):
            return model
        if "RunnableWithFallbacks" in names:
            return model.model_copy(update={"runnable": first, "fallbacks": others})
        named = [n for n, each in model.alternatives.items() if isinstance(each, Runnable)]
        alternatives = {**model.alternatives, **dict(zip(named, others, strict=True))}
        return model.model_copy(update={"default": first, "alternatives": alternatives})
    if inner is not None:
        if (new := _each(inner, config, keeps)) is inner:
            return model
        place = "bound" if "RunnableBindingBase" in names else "default"
        return model.model_copy(update={place: new})
    if "RunnableSequence" in names:
        steps = [_each(each, config, keeps) for each in model.steps]
        if all(new is old for new, old in zip(steps, model.steps, strict=True)):
            return model
        first, *middle, last = steps
        return model.model_copy(update={"first": first, "middle": middle, "last": last})
    return _each_leaf(model, keeps)


def _each_leaf(leaf: Any, keeps: Callable[[BaseChatModel], bool]) -> Any:
    if not isinstance(leaf, BaseChatModel) or not _has_both_ways(type(leaf)) or keeps(leaf):
        return leaf
    made = _in_threads(type(leaf))
    other = made.__new__(made)
    for name in _STATE:  # shared: counters, renewed tokens and clients are the model's own
        object.__setattr__(other, name, getattr(leaf, name))
    return other


@cache
def _has_both_ways(cls: type[BaseChatModel]) -> bool:
    """Whether the class has an asynchronous client, and does the same without it."""
    if _OF_EVERY_LOOP & {base.__name__ for base in cls.__mro__}:
        return False
    if _overrides(cls, "_astream"):
        return _overrides(cls, "_stream")
    return _overrides(cls, "_agenerate") and not _overrides(cls, "_stream")


def _overrides(cls: type[BaseChatModel], name: str) -> bool:
    return getattr(cls, name) is not getattr(BaseChatModel, name)


@cache
def _in_threads(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    """The class, its calls made by its synchronous methods in threads; to traces it is the same."""

    async def _astream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        def make() -> Iterator[Any]:
            managed = _managed(self._stream, run_manager)
            return cast("Iterator[Any]", self._stream(messages, stop=stop, **managed, **options))

        begun = False
        try:
            async with aclosing(InThread(make)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk
        except NotImplementedError:  # its synchronous method is there to say so only
            if begun:
                raise
            async for chunk in cls._astream(self, messages, stop=stop, **options):
                yield chunk

    async def _agenerate(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> Any:
        def make() -> Iterator[Any]:
            managed = _managed(self._generate, run_manager)
            yield self._generate(messages, stop=stop, **managed, **options)

        try:
            async with aclosing(InThread(make)) as results:
                return await anext(results)
        except NotImplementedError:
            return await cls._agenerate(self, messages, stop=stop, **options)

    own: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if _overrides(cls, "_astream"):
        own["_astream"] = _astream
    if _overrides(cls, "_agenerate"):
        own["_agenerate"] = _agenerate
    return cast(
        "type[BaseChatModel]",
        types.new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(own)),
    )


def _managed(method: Callable[..., Any], manager: Any) -> dict[str, Any]:
    """The run's manager for a synchronous method, if there is one and the method takes it."""
    if manager is None or "run_manager" not in inspect.signature(method).parameters:
        return {}
    return {"run_manager": manager.get_sync()}
