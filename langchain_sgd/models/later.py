"""A model that is made when it is first called, with what was bound to it before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_sgd.models.options import call_options

if TYPE_CHECKING:
    from langchain_sgd.models.endpoint import ChatEndpoint

CALL_OPTIONS: Final = ("max_tokens", "temperature", "seed", "stop")


class Later(Runnable[Any, Any]):
    """What a chat model's declarative methods give, made when the client is there."""

    def __init__(
        self,
        endpoint: ChatEndpoint,
        calls: tuple[tuple[str, tuple[Any, ...], Mapping[str, Any]], ...],
    ) -> None:
        self.bound = endpoint
        self._calls = calls

    def _made(self, client: BaseChatModel) -> Runnable[Any, Any]:
        made: Any = client
        for name, args, kwargs in self._calls:
            made = getattr(made, name)(*args, **kwargs)
        return cast("Runnable[Any, Any]", made)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Later:
        """With tools bound too."""
        return Later(self.bound, (*self._calls, ("bind_tools", (tools,), kwargs)))

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Later:
        """Answering in the form of a schema."""
        return Later(self.bound, (*self._calls, ("with_structured_output", (schema,), kwargs)))

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Make it, and ask it."""
        client = self.bound.client()
        with self.bound.watched():
            return self._made(client).invoke(input, config, **translated(client, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Make it, and ask it."""
        client = await self.bound.aclient()
        with self.bound.watched():
            return await self._made(client).ainvoke(input, config, **translated(client, kwargs))

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[Any]:
        """Make it, and let it stream."""
        client = self.bound.client()
        with self.bound.watched():
            yield from self._made(client).stream(input, config, **translated(client, kwargs))

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> AsyncIterator[Any]:
        """Make it, and let it stream."""
        client = await self.bound.aclient()
        stream = self._made(client).astream(input, config, **translated(client, kwargs))
        with self.bound.watched():
            async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                async for chunk in chunks:
                    yield chunk


def translated(client: BaseChatModel, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Call options under the client's own names."""
    named = {name: kwargs[name] for name in CALL_OPTIONS if kwargs.get(name) is not None}
    others = {name: value for name, value in kwargs.items() if name not in CALL_OPTIONS}
    return call_options(client, others, **named)
