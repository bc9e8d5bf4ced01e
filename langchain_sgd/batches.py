"""Several questions at once, under one limit, for every face of the engine."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.limits import Limit
from langchain_sgd.portal import iterate_sync, run_sync
from langchain_sgd.streams import all_of, as_completed

_LIMIT_KEY = "__sgd_limit"
"""Where a batch keeps its common limit in `configurable`; dunder keys reach no trace."""


class Batches(Runnable[Any, AIMessage]):
    """The four ways to ask several questions, each made of `ainvoke`."""

    @abstractmethod
    def loop_for_sync(self, config: Any) -> asyncio.AbstractEventLoop | None:
        """Where a synchronous call is to run; None for a loop of its own."""

    def _asking(self, inputs: Sequence[Any], config: Any, options: dict[str, Any]) -> Any:
        configs = sharing_a_limit(config, len(inputs))

        def ask(index: int) -> Coroutine[Any, Any, AIMessage]:
            return self.ainvoke(inputs[index], configs[index], **options)

        return ask

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[AIMessage]:
        """Answer several questions; `max_concurrency` bounds the model calls of all of them."""
        ask = self._asking(inputs, config, options)
        done = await all_of(ask, len(inputs), return_exceptions=return_exceptions)
        return cast("list[AIMessage]", done)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[AIMessage]:
        """`abatch`, waited for."""
        return run_sync(
            lambda: self.abatch(inputs, config, return_exceptions=return_exceptions, **options),
            on=self.loop_for_sync(config),
        )

    def abatch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> AsyncGenerator[tuple[int, AIMessage | Exception]]:
        """Answer several questions, each given with its index when it is done."""
        ask = self._asking(inputs, config, options)
        return as_completed(ask, len(inputs), return_exceptions=return_exceptions)

    def batch_as_completed(  # type: ignore[override]
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """`abatch_as_completed`, waited for."""
        return iterate_sync(
            lambda: self.abatch_as_completed(
                inputs, config, return_exceptions=return_exceptions, **options
            ),
            on=self.loop_for_sync(config),
        )


def limit_of(config: RunnableConfig) -> Limit:
    """The limit that a run shares with the others of its batch, or one of its own.

    Raises:
        InvalidInputError: `max_concurrency` is no whole number from 1 on.
    """
    shared = (config.get("configurable") or {}).get(_LIMIT_KEY)
    return shared if isinstance(shared, Limit) else _own_limit(config)


def _own_limit(config: RunnableConfig) -> Limit:
    size = config.get("max_concurrency")
    if size is not None and (not isinstance(size, int) or size < 1):
        msg = f"max_concurrency must be a whole number from 1 on, not {size!r}"
        raise InvalidInputError(msg)
    return Limit(size)


def sharing_a_limit(config: Any, count: int) -> list[RunnableConfig]:
    """A config for each input of a batch, so that `max_concurrency` bounds the model calls of all.

    Configs with different values have limits of their own.
    """
    configs = get_config_list(config, count)
    limits: dict[int | None, Limit] = {}
    return [
        {
            **one,
            "configurable": {
                **(one.get("configurable") or {}),
                _LIMIT_KEY: limits.setdefault(one.get("max_concurrency"), _own_limit(one)),
            },
        }
        for one in configs
    ]
