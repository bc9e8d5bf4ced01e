"""Plans kept in LangChain's cache or LangGraph's store, so that an equal question is planned once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation
from pydantic import TypeAdapter, ValidationError

from langchain_sgd.option_fields import Store
from langchain_sgd.options import Options
from langchain_sgd.planning.planner import Plan
from langchain_sgd.portal import answers
from langchain_sgd.question import Question, digest
from langchain_sgd.skeleton import Node
from langchain_sgd.tiers import described

T = TypeVar("T")

_NODES = TypeAdapter(list[Node])


@dataclass(frozen=True, slots=True)
class PlanCache:
    """Where the plan of one question is kept; errors of the cache or store are raised as they are."""

    cache: BaseCache | Store
    question: str
    planner: str

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], options: Options) -> Self | None:
        """The place of a question; None where no cache is wanted, or there is none."""
        cache = get_llm_cache() if options.plan_cache is True else options.plan_cache or None
        if cache is None:
            return None
        # Whatever a plan is made from, beside the question.
        planner = digest(
            [
                described(options.planning_tier.model),
                options.prompts.model_dump(),
                [options.max_nodes, options.mode, options.constrain, options.plain_above],
                options.seed,
            ]
        )
        # What an answer to the question is made from does not count here: no call options.
        return cls(cache, f"sgd plan: {Question(tuple(messages)).key}", f"sgd planner: {planner}")

    async def look(self) -> Plan | None:
        """The plan that is kept there; None too for what cannot be read."""
        found = await self._kept()
        if found is None:
            return None
        try:
            kept = json.loads(found) if isinstance(found, str) else found
            return Plan(_NODES.validate_python(kept["nodes"]), kept["plain"], cached=True)
        except (ValueError, ValidationError, KeyError, TypeError):
            return None

    async def keep(self, plan: Plan) -> None:
        """Keep a plan, if nothing is wrong with it."""
        if plan.failed or plan.needless or plan.cut or plan.warnings:
            return
        said = {"nodes": _NODES.dump_python(plan.nodes, mode="json"), "plain": plan.plain}
        if isinstance(self.cache, BaseCache):
            text = Generation(text=json.dumps(said))
            await self.cache.aupdate(self.question, self.planner, [text])
        else:
            store = self.cache
            # Nobody searches for plans: they are not embedded, which would cost a model call.
            await _asked(
                store, lambda: store.aput((self.planner,), self.question, said, index=False)
            )

    async def _kept(self) -> Any:
        if isinstance(self.cache, BaseCache):
            found = await self.cache.alookup(self.question, self.planner)
            return found[0].text if found else None
        store = self.cache
        item = await _asked(store, lambda: store.aget((self.planner,), self.question))
        return None if item is None else item.value


_ANSWERS_WITHIN_S = 1.0
"""Planning anew takes about as long as a longer wait."""


async def _asked(store: Store, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask a store on its own loop: LangGraph's stores with connections live on the one that made them."""

    async def there() -> T:
        return await ask()

    loop = getattr(store, "_loop", None)
    if not isinstance(loop, asyncio.AbstractEventLoop) or loop is asyncio.get_running_loop():
        return await ask()
    if not (
        loop.is_running() and await asyncio.to_thread(answers, loop, within_s=_ANSWERS_WITHIN_S)
    ):
        msg = f"the event loop of {type(store).__name__} has ended, or is blocked"
        raise RuntimeError(msg)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop))
