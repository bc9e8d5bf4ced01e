"""`ChatEndpoint`: a chat model known by its URL; who serves there is asked at the first call."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from langchain_sgd._extras import MissingExtraError
from langchain_sgd.limits import Limit
from langchain_sgd.models.identify import Server
from langchain_sgd.models.later import CALL_OPTIONS, Later, translated
from langchain_sgd.models.servers import ENDPOINTS, Endpoints
from langchain_sgd.models.urls import Address, address_of, key_for
from langchain_sgd.portal import run_sync

_EXTRAS: Final = {
    "langchain_sgd.tgi": "tgi",
    "langchain_openai": "openai",
    "langchain_ollama": "ollama",
}
"""Modules of clients, and the extra of this package that installs them."""
_NO_KEY: Final = "none"
"""Said to clients that insist on a key, lest they take OpenAI's from the environment."""


class _Clients:
    """The clients of one `ChatEndpoint`, by event loop; copies and pickles begin with none."""

    def __init__(self) -> None:
        self._made: dict[asyncio.AbstractEventLoop | None, tuple[Server, BaseChatModel]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _Clients, ()

    def get(self, loop: asyncio.AbstractEventLoop | None, server: Server) -> BaseChatModel | None:
        """The loop's client of this server; None is the loop of synchronous calls."""
        found = self._made.get(loop)
        return found[1] if found is not None and found[0] is server else None

    def keep(
        self, loop: asyncio.AbstractEventLoop | None, server: Server, client: BaseChatModel
    ) -> BaseChatModel:
        """Keep a client; if somebody else was faster, that one is given back."""
        if (faster := self.get(loop, server)) is not None:
            return faster
        for other in [loop for loop in self._made if loop is not None and loop.is_closed()]:
            del self._made[other]
        self._made[loop] = (server, client)
        return client


class ChatEndpoint(BaseChatModel):
    """A chat model behind a URL: TGI, vLLM, SGLang, llama.cpp, Ollama, LiteLLM, a hosted API.

    Example:
        >>> model = ChatEndpoint(url="http://gpu-1:8000")
        >>> model.invoke("Name a prime number.").content  # doctest: +SKIP
        '7'

    Nothing is sent when it is made. The first call asks the URL what it is (`EndpointError` if it is no
    model server) and makes the client that suits and is installed: `ChatTGI`, `ChatOllama`, else
    `ChatOpenAI`. Calls go to that client, so traces, prices and caches see the real class and the real
    model. Connections are pooled for each event loop and closed with it.

    Call options have the same names for every server: `max_tokens`, `temperature`, `seed`, `stop`; others
    are the client's own.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    url: str
    """`http://host:port`, and `#model` where it serves several."""
    api_key: SecretStr | None = Field(default=None, repr=False)
    """Sent as `Authorization: Bearer`. Without one, `SGD_API_KEY` of the environment is taken (or
    `SGD_LARGE_API_KEY` and so on, by `what`), and a company's own variable on its own hosts."""
    what: str = "large"
    """What the model is for: names the environment variable of its key."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the client, such as `temperature`, `max_tokens` or `extra_body`."""

    _clients: _Clients = PrivateAttr(default_factory=_Clients)
    _endpoints: Endpoints = PrivateAttr(default_factory=lambda: ENDPOINTS)

    @field_validator("url")
    @classmethod
    def _clean_url(cls, value: str) -> str:
        return str(address_of(value))

    @property
    def address(self) -> Address:
        """The URL and the wanted model."""
        return address_of(self.url)

    @property
    def key(self) -> SecretStr | None:
        """The key that is sent to this URL."""
        return self.api_key or key_for(self.address, self.what)

    @property
    def in_flight_limit(self) -> Limit | None:
        """Slots for its calls, if its client is told how many there are."""
        size = self.options.get("max_concurrent_requests")
        return Limit(size) if isinstance(size, int) else None

    @property
    def known(self) -> Server | None:
        """What is known of the server; None before the first call."""
        return self._endpoints.get(self.address.url)

    def client_class(self, server: Server) -> str:
        """The class of the client that suits a server, by name; nothing is imported."""
        if server.kind == "ollama" and _has("langchain_ollama"):
            return "ChatOllama"
        # TGI speaks OpenAI's protocol too, for who has installed its client alone.
        if server.kind == "tgi" and (
            _has("aiohttp", "text_generation") or not _has("langchain_openai")
        ):
            return "ChatTGI"
        return "ChatOpenAI"

    async def aserver(self) -> Server:
        """What serves at the URL, asked once.

        Raises:
            EndpointUnreachableError: Nothing answers.
            EndpointKeyError: The key is missing or wrong.
            EndpointError: What answers is no model server that is known here.
        """
        return await self._endpoints.ask(self.address, key=self.key)

    async def aclient(self) -> BaseChatModel:
        """The client of the running event loop.

        Raises:
            EndpointError: See `aserver`, or the wanted model is not there.
            MissingExtraError: The client's package is not installed.
        """
        server = await self.aserver()
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop, server)
        if client is None:
            # In a thread: importing a client takes a second, its certificates are read from files.
            made, pool = await asyncio.to_thread(self._make, server, pooled=True)
            if pool is not None:
                await _close_with_loop(pool)
            return self._clients.keep(loop, server, made)
        return client

    def client(self) -> BaseChatModel:
        """The client of synchronous calls; errors are those of `aclient`."""
        server = self.known or run_sync(self.aserver)
        if (client := self._clients.get(None, server)) is None:
            client, pool = self._make(server, pooled=False)
            if pool is not None:
                weakref.finalize(client, pool.close)
            client = self._clients.keep(None, server, client)
        return client

    def _make(self, server: Server, *, pooled: bool) -> tuple[BaseChatModel, Any]:
        """A client, and the pool of connections that somebody must close."""
        options = {"max_retries": 0, **self._inherited(), **self.options}
        key = self.key
        client_class = self.client_class(server)
        if client_class == "ChatTGI":
            chat_tgi = _imported("langchain_sgd.tgi", "ChatTGI", server)
            return chat_tgi(base_url=server.url, api_key=key, **options), None
        model = server.model(self.address.model)
        if client_class == "ChatOllama":
            return self._ollama(server, model, key), None
        chat_openai = _imported("langchain_openai", "ChatOpenAI", server)
        openai = importlib.import_module("openai")
        kind = openai.DefaultAsyncHttpxClient if pooled else openai.DefaultHttpxClient
        pool = kind(trust_env=not self.address.is_loopback)
        if server.kind != "openai":
            options.setdefault("use_responses_api", False)
        client = chat_openai(
            base_url=server.api,
            model=model,
            api_key=key or _NO_KEY,
            **{"http_async_client" if pooled else "http_client": pool},
            **{"stream_usage": True, **options},
        )
        return client, pool

    def _inherited(self) -> dict[str, Any]:
        """What every chat model has and the client does in this one's place: cache, limiter, tags."""
        given = self.model_fields_set & BaseChatModel.model_fields.keys()
        return {name: getattr(self, name) for name in given}

    def _ollama(self, server: Server, model: str, key: SecretStr | None) -> BaseChatModel:
        chat_ollama = _imported("langchain_ollama", "ChatOllama", server)
        options = {**self._inherited(), **self.options}
        options.pop("max_retries", None)
        if "max_tokens" in options:
            options["num_predict"] = options.pop("max_tokens")
        kwargs: dict[str, Any] = {"trust_env": not self.address.is_loopback}
        if key is not None:
            kwargs["headers"] = {"Authorization": f"Bearer {key.get_secret_value()}"}
        made: BaseChatModel = chat_ollama(
            base_url=server.url, model=model, client_kwargs=kwargs, **options
        )
        return made

    # -- calls: the client's own, so that its class and model stand in traces

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Ask the client."""
        client = await self.aclient()
        with self._watched():
            return await client.ainvoke(input, config, **translated(client, kwargs))

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the client's chunks; closing the iterator closes its connection."""
        client = await self.aclient()
        stream = client.astream(input, config, **translated(client, kwargs))
        with self._watched():
            async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Ask the client."""
        client = self.client()
        with self._watched():
            return client.invoke(input, config, **translated(client, kwargs))

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream the client's chunks."""
        client = self.client()
        with self._watched():
            yield from client.stream(input, config, **translated(client, kwargs))

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Ask the client."""
        client = self.client()
        return client.generate(messages, *args, **translated(client, kwargs))

    async def agenerate(
        self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Ask the client."""
        client = await self.aclient()
        return await client.agenerate(messages, *args, **translated(client, kwargs))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the client makes its own
        **kwargs: Any,
    ) -> ChatResult:
        found = self.generate([messages], stop=stop, **kwargs)
        return ChatResult(
            generations=cast("Any", found.generations[0]), llm_output=found.llm_output
        )

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - as above
        **kwargs: Any,
    ) -> ChatResult:
        found = await self.agenerate([messages], stop=stop, **kwargs)
        return ChatResult(
            generations=cast("Any", found.generations[0]), llm_output=found.llm_output
        )

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """As the client's, which is made at the first call."""
        return Later(self, (("bind_tools", (tools,), kwargs),))

    def with_structured_output(
        self, schema: dict[str, Any] | type, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """As the client's, which is made at the first call."""
        return Later(self, (("with_structured_output", (schema,), kwargs),))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Forget a server that no longer knows its model, so that the next call asks anew."""
        try:
            yield
        except Exception as error:
            if getattr(error, "status_code", None) == 404:
                self._endpoints.forget(self.address.url)
            raise

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> ChatEndpoint:
        """Copy the settings, some of them changed; the copy connects for itself."""
        copied = super().model_copy(update=update, deep=deep)
        copied._clients = _Clients()  # noqa: SLF001 - of the same class
        return copied

    @property
    def _llm_type(self) -> str:
        return "chat-endpoint"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"url": self.url, **{k: v for k, v in self.options.items() if k in CALL_OPTIONS}}


_open_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncGenerator[None, None]]]
_open_pools = WeakKeyDictionary()


async def _close_with_loop(pool: Any) -> None:
    """Close a pool of connections when its event loop ends, which closes asynchronous generators."""

    async def hold() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await pool.aclose()

    holder = hold()
    await anext(holder)
    _open_pools.setdefault(asyncio.get_running_loop(), []).append(holder)


def _imported(module: str, name: str, server: Server) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        what = f"{server.url} is served by {server.kind}, and its client"
        raise MissingExtraError(what, _EXTRAS[module], error.name or module) from error


@functools.cache
def _has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
