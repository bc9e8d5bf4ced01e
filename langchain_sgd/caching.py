"""LangChain's cache of model answers, for streams too, and without answers that have gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import BaseModel

from langchain_sgd.report import REPORT_KEY

_WHOLE = frozenset({"complete", "plain"})


def cache_of(model: BaseChatModel) -> BaseCache | None:
    """The cache in force: the model's own, or the global one unless the model refuses it."""
    if model.cache is False:
        return None
    return model.cache if isinstance(model.cache, BaseCache) else get_llm_cache()


class WholeAnswers(BaseCache):
    """A cache into which no answer with gaps is put: the next asking may fill them."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache

    def lookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """What is kept, or None."""
        return self._cache.lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> Sequence[Generation] | None:
        """What is kept, or None."""
        return await self._cache.alookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer, if it is whole."""
        if _are_whole(return_val):
            self._cache.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep an answer, if it is whole."""
        if _are_whole(return_val):
            await self._cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Forget everything."""
        self._cache.clear(**kwargs)


def _are_whole(generations: Sequence[Generation]) -> bool:
    return all(
        _is_whole(g.message.response_metadata) for g in generations if isinstance(g, ChatGeneration)
    )


def _is_whole(metadata: Mapping[str, Any]) -> bool:
    if report := metadata.get(REPORT_KEY):
        return report.get("status") in _WHOLE and not report.get("restarted")
    # A run that a stop text ended has no report, and nobody knows whether a part was missing.
    return not metadata.get("stop_sequence")


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where `BaseChatModel` keeps the answer to one call."""

    cache: BaseCache
    prompt: str
    model: str

    @classmethod
    def of(cls, cache: BaseCache, messages: Sequence[BaseMessage], model: str) -> Self:
        """The place of these messages; their ids do not count."""
        return cls(
            cache, dumps([message.model_copy(update={"id": None}) for message in messages]), model
        )

    def look(self) -> bool:
        """Whether an answer is kept there."""
        return self.cache.lookup(self.prompt, self.model) is not None

    async def alook(self) -> bool:
        """Whether an answer is kept there."""
        return await self.cache.alookup(self.prompt, self.model) is not None

    def keep(self, chunks: Sequence[AIMessageChunk]) -> None:
        """Put a streamed answer there."""
        self.cache.update(self.prompt, self.model, _joined(chunks))

    async def akeep(self, chunks: Sequence[AIMessageChunk]) -> None:
        """Put a streamed answer there."""
        await self.cache.aupdate(self.prompt, self.model, _joined(chunks))


def _joined(chunks: Sequence[AIMessageChunk]) -> list[Generation]:
    whole = chunks[0] + list(chunks[1:])
    return [ChatGeneration(message=message_chunk_to_message(whole))]


def identity(value: Any, token: str) -> Any:
    """What tells a model or an option apart in cache keys; `token` stands for what nothing tells apart."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: identity(item, token) for key, item in value.items()}
    if isinstance(value, BaseChatModel):
        # What LangChain itself tells this model's cached answers apart by.
        return value._get_llm_string()  # noqa: SLF001
    if isinstance(value, RunnableBinding):
        return [identity(value.bound, token), repr(sorted(value.kwargs.items()))]
    if isinstance(value, BaseModel) and not isinstance(value, Runnable):
        return value.model_dump_json()
    # Another Runnable or a function: equal to nothing but itself.
    return f"{type(value).__qualname__}@{token}"
