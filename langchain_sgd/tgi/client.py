"""`TGIClient`: the text-generation client's interface on a pooled, retrying transport.

From text-generation 0.7.0 come the class, its types and its errors. Its transport is replaced: it opens
a connection for each call, its timeout cuts streams that are alive, it cannot stream chat, and it loses
the message of most errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Self, TypeVar

from pydantic import SecretStr, ValidationError
from text_generation import AsyncClient
from text_generation.types import Grammar, Parameters, Response, StreamResponse

from langchain_sgd.tgi import endpoint, schemas
from langchain_sgd.tgi.endings import ChatEnding, GenerateEnding
from langchain_sgd.tgi.errors import NotTGIError, TGIUnavailableError
from langchain_sgd.tgi.retries import Patience
from langchain_sgd.tgi.schemas import MAX_GRAMMAR_STATES
from langchain_sgd.tgi.server import ServerInfo
from langchain_sgd.tgi.transport import Answer, Transport

_CHAT: Final = "/v1/chat/completions"
_GENERATE_PARAMETERS: Final = frozenset({*Parameters.model_fields, "adapter_id"})

T = TypeVar("T")


class TGIClient(AsyncClient):  # type: ignore[misc]
    """A client of one TGI server; safe to share between tasks, event loops and threads.

    Connections are pooled per event loop, and closed by `aclose`, by `async with`, or with their loop.
    See `Transport` for what is repeated after a failure.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: SecretStr | str | None = None,
        headers: Mapping[str, SecretStr | str] | None = None,
        patience: Patience | None = None,
        max_concurrent_requests: int | None = None,
        max_grammar_states: int | None = MAX_GRAMMAR_STATES,
        verify: endpoint.Verify = True,
        proxy: SecretStr | str | None = None,
    ) -> None:
        """Say how to reach the server; nothing is sent yet.

        Args:
            base_url: `http://host:port`; a trailing `/` or `/v1` is dropped.
            api_key: Sent as `Authorization: Bearer`. Neither it nor the headers' values stand in any
                attribute of the base class, in a repr or in an error.
            headers: Further headers, for gateways.
            patience: Timeouts and retries.
            max_concurrent_requests: Requests in flight on one event loop; None asks `/info` as soon
                as it matters, and stays a little below the server's own limit.
            max_grammar_states: Largest automaton that the grammar or the tools of a body may make on the
                server; None is no bound. See `ChatTGI`.
            verify: Path of a CA file or folder, or an `ssl.SSLContext`; False checks no certificate.
            proxy: URL of a proxy; None takes the environment's, "" none.

        Raises:
            InvalidInputError: The URL is no http or https URL, or holds credentials.
        """
        super().__init__(endpoint.base_url(base_url))
        self._transport = Transport(
            self.base_url,
            secret_headers=_secret_headers(api_key, headers or {}),
            patience=patience or Patience(),
            max_concurrent_requests=max_concurrent_requests,
            verify=verify,
            proxy=endpoint.checked_proxy(proxy),
        )
        self._info: ServerInfo | None = None
        self._max_grammar_states = max_grammar_states

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __deepcopy__(self, _memo: object) -> Self:
        """Give itself: it may be shared, and connections cannot be copied."""
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        await self._transport.aclose()

    async def info(self, *, refresh: bool = False) -> ServerInfo:
        """Ask what the server is and what it takes; the answer is kept.

        Raises:
            NotTGIError: Something else answered.
            TGIError: The server could not be asked.
        """
        if self._info is None or refresh:
            body = await self._transport.once("/info")
            if not isinstance(body, Mapping) or "model_id" not in body:
                msg = "its /info holds no model_id"
                raise NotTGIError(msg, endpoint=self.base_url)
            self._info = ServerInfo.from_json(body)
        return self._info

    async def health(self) -> bool:
        """Ask whether the model behind the server works.

        Raises:
            TGIError: Nothing answered; an unhealthy server is `False`.
        """
        try:
            await self._transport.once("/health")
        except TGIUnavailableError as error:
            if error.status is None:
                raise
            return False
        return True

    async def tokenize(self, text: str) -> list[dict[str, Any]]:
        """Ask for the tokens of a text, each with its `id`, `text`, `start` and `stop`.

        Those that the tokenizer puts around every prompt are among them; they are empty.

        Raises:
            TGIError: The server could not be asked, or has no such route.
        """
        return self._tokens(await self._transport.once("/tokenize", {"inputs": text}))

    async def chat_tokenize(self, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Ask for the tokens of a chat body's prompt, as the server's template makes it.

        Raises:
            TGIError: The server could not be asked, or has no such route.
        """
        body = await self._transport.once("/chat_tokenize", payload)
        return self._tokens(body.get("tokenize_response") if isinstance(body, Mapping) else None)

    def _tokens(self, body: Any) -> list[dict[str, Any]]:
        if isinstance(body, list) and all(isinstance(token, dict) for token in body):
            return body
        msg = "the answer is no list of tokens"
        raise NotTGIError(msg, endpoint=self.base_url, status=200)

    async def chat(self, payload: Mapping[str, Any]) -> Answer:
        """Post a body to `/v1/chat/completions` as it is and give the whole answer.

        Raises:
            TGIGrammarError: Its grammar or its tools would harm the server; it was not sent.
            TGIError: The call failed, after its retries.
        """
        schemas.check_body(payload, self._max_grammar_states)
        answer = await self._transport.post(_CHAT, payload)
        choices = answer.body.get("choices")
        if not isinstance(choices, list) or not choices:
            msg = "the chat answer holds no choices"
            raise NotTGIError(msg, endpoint=self.base_url, status=200)
        return answer

    def chat_stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Post a body to `/v1/chat/completions` and yield the chunks as they come.

        Closing the iterator closes the connection, which frees the request's place in the server.

        Raises:
            TGIGrammarError: As of `chat`, at once.
            TGIError: The call failed: before the first chunk after its retries, later at once.
        """
        return _one_by_one(self.chat_batches(payload))

    def chat_batches(self, payload: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]]]:
        """As `chat_stream`; chunks that arrived together come as one list."""
        schemas.check_body(payload, self._max_grammar_states)
        ending = ChatEnding(tools=bool(payload.get("tools")))
        return self._transport.events(_CHAT, {**payload, "stream": True}, ending)

    async def generate(self, prompt: str, **parameters: Any) -> Response:
        """Continue a text.

        Args:
            prompt: The text, as it is: no chat template is applied.
            **parameters: Those of TGI's `/generate`, by name; `stop_sequences` is taken for `stop`.

        Raises:
            TypeError: A parameter that TGI does not have.
            TGIGrammarError: As of `chat`.
            TGIError: The call failed, after its retries.
        """
        payload = {"inputs": prompt, "parameters": generate_parameters(parameters)}
        return self._typed(Response, (await self.generate_raw(payload)).body)

    async def generate_stream(
        self, prompt: str, **parameters: Any
    ) -> AsyncGenerator[StreamResponse]:
        """Continue a text and yield its tokens; arguments and errors are those of `generate`."""
        payload = {"inputs": prompt, "parameters": generate_parameters(parameters)}
        events = _one_by_one(self.generate_batches(payload))
        async with contextlib.aclosing(events):
            async for event in events:
                yield self._typed(StreamResponse, event)

    async def generate_raw(self, payload: Mapping[str, Any]) -> Answer:
        """Post a body to `/generate` as it is and give the whole answer, as `chat` does."""
        schemas.check_body(payload, self._max_grammar_states)
        answer = await self._transport.post("/generate", payload)
        if not isinstance(answer.body.get("generated_text"), str):
            msg = "the answer of /generate holds no generated_text"
            raise NotTGIError(msg, endpoint=self.base_url, status=200)
        return answer

    def generate_batches(self, payload: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]]]:
        """Post a body to `/generate_stream` as it is and yield its events; see `chat_batches`."""
        schemas.check_body(payload, self._max_grammar_states)
        return self._transport.events("/generate_stream", payload, GenerateEnding())

    def _typed(self, model: type[T], body: dict[str, Any]) -> T:
        try:
            return model(**body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            msg = f"the answer does not fit text-generation's {model.__name__} at {where!r}"
            raise NotTGIError(msg, endpoint=self.base_url, status=200) from None


def generate_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Make the `parameters` of a `/generate` body: known names only, nothing that is None, details on.

    Raises:
        TypeError: A parameter that TGI does not have.
    """
    named = {("stop" if k == "stop_sequences" else k): v for k, v in parameters.items()}
    unknown = named.keys() - _GENERATE_PARAMETERS
    if unknown:
        msg = (
            f"TGI's /generate has no parameter {', '.join(sorted(map(repr, unknown)))}; "
            f"it has {', '.join(sorted(_GENERATE_PARAMETERS))}"
        )
        raise TypeError(msg)
    grammar = named.get("grammar")
    if isinstance(grammar, Grammar):
        named["grammar"] = grammar.model_dump(mode="json")
    return {"details": True, **{k: v for k, v in named.items() if v is not None}}


async def _one_by_one(batches: AsyncGenerator[list[T]]) -> AsyncGenerator[T]:
    async with contextlib.aclosing(batches):
        async for batch in batches:
            for each in batch:
                yield each


def _secret_headers(
    api_key: SecretStr | str | None, headers: Mapping[str, SecretStr | str]
) -> dict[str, SecretStr]:
    secrets = {
        name: value if isinstance(value, SecretStr) else SecretStr(value)
        for name, value in headers.items()
    }
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key and key.strip():
        secrets = {
            name: value for name, value in secrets.items() if name.lower() != "authorization"
        }
        secrets["Authorization"] = SecretStr(f"Bearer {key.strip()}")
    return secrets
