"""`ChatEndpoint`: a chat model known by its URL; who serves there is asked at the first call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Final, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from langchain_sgd.discreet import Discreet
from langchain_sgd.keys import checked_key
from langchain_sgd.limits import Limit
from langchain_sgd.models.clients import client_class, headers_of, make_client
from langchain_sgd.models.identify import EndpointError, Server
from langchain_sgd.models.later import CALL_OPTIONS, Later, translated
from langchain_sgd.models.pools import Clients, close_after, close_after_sync
from langchain_sgd.models.servers import ENDPOINTS, Endpoints
from langchain_sgd.models.urls import Address, address_of, key_for
from langchain_sgd.portal import run_sync
from langchain_sgd.schema_argument import check_schema

_OF_THE_URL: Final = (
    "model",
    "model_name",
    "base_url",
    "openai_api_base",
    "api_key",
    "openai_api_key",
)
"""Fields of clients that come from the endpoint's own."""


class ChatEndpoint(Discreet, BaseChatModel):
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

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    url: str
    """`http://host:port`, and `#model` where it serves several."""
    api_key: SecretStr | None = Field(default=None, repr=False)
    """Sent as `Authorization: Bearer`. Without one, `SGD_API_KEY` of the environment is taken (or
    `SGD_LARGE_API_KEY` and so on, by `what`), and a company's own variable on its own hosts."""
    what: str = "large"
    """What the model is for: names the environment variable of its key."""
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Further fields of the client, such as `temperature`, `max_tokens`, `extra_body`. `default_headers`, and
    an `http_client` or `http_async_client` of your own, carry the question who serves, too."""

    _clients: Clients = PrivateAttr(default_factory=Clients)
    _endpoints: Endpoints = PrivateAttr(default_factory=lambda: ENDPOINTS)

    @field_validator("url")
    @classmethod
    def _clean_url(cls, value: str) -> str:
        return str(address_of(value))

    @field_validator("api_key")
    @classmethod
    def _clean_key(cls, value: SecretStr | None) -> SecretStr | None:
        return checked_key(value, "api_key")

    @field_validator("options")
    @classmethod
    def _of_the_client(cls, value: dict[str, Any]) -> dict[str, Any]:
        if found := [name for name in _OF_THE_URL if name in value]:
            msg = f"{found[0]} is no option: the URL names the model (http://host#model), api_key=... the key"
            raise ValueError(msg)
        return value

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
        return client_class(server, self.options)

    async def aserver(self) -> Server:
        """What serves at the URL, asked once.

        Raises:
            EndpointUnreachableError: Nothing answers.
            EndpointKeyError: The key is missing or wrong.
            EndpointError: What answers is no model server that is known here.
        """
        return await self._asked("http_client", "http_async_client")

    async def aserved_model(self) -> str:
        """The model's name, as its server tells it; errors are those of `aclient`."""
        return (await self.aserver()).model(self.address.model)

    async def _asked(self, *own: str) -> Server:
        """What serves, asked through the user's own connections if these options name some."""
        if (known := self.known) is not None:
            return known
        return await self._endpoints.ask(
            self.address,
            key=self.key,
            headers=headers_of(self.options),
            http=next((found for name in own if (found := self.options.get(name))), None),
        )

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
            client = self._clients.keep(loop, server, made)
            if pool is not None and client is made:
                await close_after(made, pool)
            elif pool is not None:
                await pool.aclose()  # somebody else was faster
        return client

    def client(self) -> BaseChatModel:
        """The client of synchronous calls; errors are those of `aclient`."""
        # Connections of asynchronous calls belong to another loop than this one.
        server = self.known or run_sync(lambda: self._asked("http_client"))
        if (client := self._clients.get(None, server)) is None:
            made, pool = self._make(server, pooled=False)
            if pool is not None:
                close_after_sync(made, pool)
            client = self._clients.keep(None, server, made)
        return client

    def _make(self, server: Server, *, pooled: bool) -> tuple[BaseChatModel, Any]:
        given = {**self._inherited(), **self.options}
        with self.watched():
            return make_client(server, self.address, self.key, given, pooled=pooled)

    def _inherited(self) -> dict[str, Any]:
        """What every chat model has and the client does in this one's place: cache, limiter, tags."""
        given = self.model_fields_set & BaseChatModel.model_fields.keys()
        return {name: getattr(self, name) for name in given}

    # -- calls: the client's own, so that its class and model stand in traces

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Ask the client."""
        client = await self.aclient()
        with self.watched():
            return await client.ainvoke(input, config, **translated(client, kwargs))

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the client's chunks; closing the iterator closes its connection."""
        client = await self.aclient()
        stream = client.astream(input, config, **translated(client, kwargs))
        with self.watched():
            async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Ask the client."""
        client = self.client()
        with self.watched():
            return client.invoke(input, config, **translated(client, kwargs))

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream the client's chunks."""
        client = self.client()
        with self.watched():
            yield from client.stream(input, config, **translated(client, kwargs))

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Ask the client."""
        client = self.client()
        with self.watched():
            return client.generate(messages, *args, **translated(client, kwargs))

    async def agenerate(
        self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Ask the client."""
        client = await self.aclient()
        with self.watched():
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
        """As the client's, which is made at the first call.

        Raises:
            InvalidInputError: What is given is no schema, such as `list[Item]`.
        """
        if schema is not None:
            check_schema(schema)
        return Later(self, (("with_structured_output", (schema,), kwargs),))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Forget a server that does not know the model, so that a later call asks anew."""
        try:
            yield
        except Exception as error:
            if isinstance(error, EndpointError) or getattr(error, "status_code", None) == 404:
                self._endpoints.forget(self.address.url)
            raise

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> ChatEndpoint:
        """Copy the settings, some of them changed; the copy connects for itself."""
        copied = super().model_copy(update=update, deep=deep)
        copied._clients = Clients()  # noqa: SLF001 - of the same class
        return copied

    @property
    def _llm_type(self) -> str:
        return "chat-endpoint"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"url": self.url, **{k: v for k, v in self.options.items() if k in CALL_OPTIONS}}
