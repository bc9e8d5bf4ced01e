"""The journal of a run, kept with the LangGraph checkpointer in force."""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.types import interrupt
from pydantic import BaseModel

from langchain_sgd.journal import Forgetful, Journal
from langchain_sgd.options import Options, nested_in
from langchain_sgd.question import Question, digest
from langchain_sgd.tiers import described

# Keys that LangGraph puts into the config of what runs inside a graph; it exports no names for them.
TASK_KEY, CHECKPOINTER_KEY = "__pregel_task_id", "__pregel_checkpointer"


class SavedJournal:
    """A journal kept with a LangGraph checkpointer, by key, beside the checkpoints of the graph around it.

    Args:
        checkpointer: Where.
        thread_id: The caller's thread.
        namespace: The place in the caller's graph, and the question.
        ask: Asks a human.
    """

    def __init__(
        self,
        checkpointer: BaseCheckpointSaver[Any],
        thread_id: str,
        namespace: str,
        ask: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        self._saver = _alongside(checkpointer)
        self._config: RunnableConfig = {
            "configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}
        }
        self._saved: RunnableConfig | None = None
        """Where the values go; None until there is a place for them."""
        self._waiting: list[tuple[str, Any]] = []
        self._lock = asyncio.Lock()
        self.ask = ask
        self.kept: dict[str, Any] = {}

    async def load(self) -> None:
        """Read what an earlier life has kept."""
        saved = await self._saver.aget_tuple(self._config)
        if saved is not None:
            self._saved = saved.config
            self.kept = {channel: value for _, channel, value in saved.pending_writes or ()}

    def note(self, key: str, value: Any) -> None:
        """Keep a value before any that is kept later."""
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        self._waiting.append((key, plain))

    async def keep(self, key: str, value: Any) -> None:
        """Keep a value; it is safe once this returns."""
        self.note(key, value)
        async with self._lock:  # whoever comes first saves for all who have come meanwhile
            waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            try:
                await self._write(waiting)
            except BaseException:
                self._waiting[:0] = waiting  # those who came with us have still to be saved
                raise

    async def _write(self, values: Sequence[tuple[str, Any]]) -> None:
        if self._saved is None:
            self._saved = await self._saver.aput(
                self._config, empty_checkpoint(), {"source": "fork", "step": 0}, {}
            )
        # All in one write, since each costs its trip. The task's name is one that no other write has:
        # writes of one task are numbered, and found by number.
        names = [name for name, _ in values]
        await self._saver.aput_writes(self._saved, values, digest(names))


def _alongside(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """The saver, with a way of its own to its pool of connections, if it has one.

    `AsyncPostgresSaver` lets one caller at a time to its pool, so what is finished would wait until all
    graphs of the process have saved and read theirs: for seconds on a busy server. A run saves one thing
    after the other by itself.
    """
    pool, lock = getattr(saver, "conn", None), getattr(saver, "lock", None)
    if not (hasattr(pool, "getconn") and isinstance(lock, asyncio.Lock)):
        return saver
    own = copy.copy(saver)
    own.lock = asyncio.Lock()  # type: ignore[attr-defined]
    return own


async def journal_here(
    config: RunnableConfig, question: Question, options: Options
) -> tuple[Journal, str | None]:
    """The journal of a question asked in the LangGraph node whose config this is, and its thread."""
    configurable = config.get("configurable") or {}
    saver = configurable.get(CHECKPOINTER_KEY)
    context = contextvars.copy_context()

    def ask(pending: Mapping[str, Any]) -> Any:
        return context.run(interrupt, dict(pending))

    if not isinstance(saver, BaseCheckpointSaver):
        nothing = Forgetful()
        if TASK_KEY in configurable:
            nothing.ask = ask  # type: ignore[method-assign]
        return nothing, None
    thread = str(configurable["thread_id"])
    # The node's own place is in its namespace: another step, another fork has another one.
    place = configurable.get("checkpoint_ns") or ""
    namespace = f"{place}|sgd:{digest([question.key, fingerprint(options)])}"
    journal = SavedJournal(saver, thread, namespace, ask)
    await journal.load()
    return journal, thread


def fingerprint(options: Options) -> str:
    """What decides an answer beside the question: models, prompts, options."""
    return digest(
        [
            [[tier.name, _described(tier.model)] for tier in options.tiers_by_size],
            described(options.planning_tier.model),
            options.prompts.model_dump(),
            [options.max_nodes, options.mode, options.seed],
        ]
    )


def _described(model: Any) -> Any:
    inner = nested_in(model)
    return described(model) if inner is None else fingerprint(inner)
