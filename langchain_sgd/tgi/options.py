"""The options of a chat model on a TGI server, and the client that is made of them."""

from __future__ import annotations

import copy
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal, Self

from langchain_core.language_models import BaseChatModel
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, field_validator, model_validator

from langchain_sgd.discreet import Discreet
from langchain_sgd.tgi import endpoint
from langchain_sgd.tgi.client import TGIClient
from langchain_sgd.tgi.payloads import BASE_MODEL, GENERATE_SAMPLING
from langchain_sgd.tgi.retries import Patience
from langchain_sgd.tgi.schemas import MAX_GRAMMAR_STATES

_SCALE_UP_S: Final = 600.0
"""How long Hugging Face's own endpoints may start, where nothing is said."""


class TGIOptions(Discreet, BaseChatModel):
    """What `ChatTGI` is told: checked once, copied and pickled without its connections."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        protected_namespaces=(),
    )

    base_url: str
    """`http://host:port` of the server; a trailing `/` or `/v1` is dropped."""
    api_key: SecretStr | None = Field(default=None, repr=False)
    """Sent as `Authorization: Bearer`. Without one, `TGI_API_KEY` of the environment is taken, and on
    Hugging Face's own hosts `HF_TOKEN`."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """Further headers for a gateway, kept secret."""
    model: str = Field(
        default=BASE_MODEL, validation_alias=AliasChoices("model", "model_name", "adapter_id")
    )
    """`tgi` is the server's own model; TGI takes any other name for a LoRA adapter, and silently runs
    its own model where it has no such adapter."""
    mode: Literal["chat", "generate"] = "chat"
    """`chat` applies the server's chat template; `generate` sends the messages' texts as raw prompt, for
    base models."""
    temperature: float | None = Field(default=None, ge=0)
    """0 is greedy decoding."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, gt=0)
    """Mode `generate` only, as are `typical_p` and `repetition_penalty`."""
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=0, lt=2**64)
    max_tokens: int | None = Field(
        default=None, gt=0, validation_alias=AliasChoices("max_tokens", "max_new_tokens")
    )
    """None is what is left of the model's context. Keep it at 1024 or less beside a grammar: TGI works
    in pieces of 1024 tokens and begins the grammar anew with each."""
    stop: list[str] = Field(
        default_factory=list, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    """Texts that end the answer; TGI takes 4. They are not part of the answer."""
    timeout: float | None = Field(default=600.0, gt=0)
    """Seconds for a whole call, waiting and retries included."""
    stall_timeout_s: float | None = Field(default=60.0, gt=0)
    """Seconds that a stream may go without a token."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds for a TCP connection."""
    max_retries: int = Field(default=2, ge=0)
    """How often a request that the server did not begin is repeated."""
    max_concurrent_requests: int | None = Field(default=None, ge=1)
    """Requests in flight on one event loop, together with other models of this URL. None asks the
    server's `/info` as soon as it matters."""
    streaming: bool = False
    """Whether `invoke` streams behind the scenes."""
    logprobs: bool | None = None
    """Whether `response_metadata["logprobs"]` holds each token's logarithmic probability."""
    top_logprobs: int | None = Field(default=None, ge=0, le=5)
    """How many likelier tokens stand beside each of them."""
    max_grammar_states: int | None = Field(default=MAX_GRAMMAR_STATES, ge=1)
    """Largest automaton that an expression, a schema or a set of tools may make on the server; larger
    ones are refused before they are sent. A real TGI takes 0.1 to 0.2 s for each state, during which it
    answers nobody: 30 to 60 s at the default, once for each grammar, of which it keeps 32. A smaller bound
    has `with_structured_output` tell the model the schema, and hold it to JSON of any form, which takes
    20 states for each level of nesting. None is no bound, for servers that compile fast."""
    verify: endpoint.Verify = Field(default=True, exclude=True)
    """Path of a file or folder of CA certificates, or an `ssl.SSLContext` (which no pickle takes); False
    checks no certificate."""
    proxy: SecretStr | None = Field(default=None, repr=False)
    """URL of a proxy, kept secret. None takes the environment's, an empty one none."""
    scale_up_timeout_s: float | None = Field(default=None, ge=0)
    """Seconds for which 503 is taken for a server that starts, and asked again, within `timeout`. None is
    600 s on Hugging Face's own hosts and 0 elsewhere."""

    @field_validator("base_url")
    @classmethod
    def _clean_url(cls, value: str) -> str:
        return endpoint.base_url(value)

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        return endpoint.checked_proxy(value)

    @field_validator("stop", mode="before")
    @classmethod
    def _list_stop(cls, value: Any) -> Any:
        if value is None:
            return []
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _settle(self) -> Self:
        if self.mode == "chat":
            for name in GENERATE_SAMPLING:
                if getattr(self, name) is not None:
                    msg = (
                        f"TGI's chat route has no {name}: leave it out, or use mode='generate' with a "
                        "prompt that holds the chat template."
                    )
                    raise ValueError(msg)
        if self.api_key is None:
            self.api_key = endpoint.key_from_environment(self.base_url)
        return self

    @cached_property
    def client(self) -> TGIClient:
        """The client behind this model: `info()`, `health()`, raw calls, `aclose()`."""
        return TGIClient(
            self.base_url,
            api_key=self.api_key,
            headers=self.headers,
            patience=Patience(
                connect_timeout_s=self.connect_timeout_s,
                timeout_s=self.timeout,
                stall_timeout_s=self.stall_timeout_s,
                max_retries=self.max_retries,
                scale_up_timeout_s=self._scale_up_s,
            ),
            max_concurrent_requests=self.max_concurrent_requests,
            max_grammar_states=self.max_grammar_states,
            verify=self.verify,
            proxy=self.proxy,
        )

    @property
    def _scale_up_s(self) -> float | None:
        if self.scale_up_timeout_s is None:
            return _SCALE_UP_S if endpoint.is_hugging_face(self.base_url) else None
        return self.scale_up_timeout_s or None

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the connections out of a pickle; the key is in it."""
        state = dict(super().__getstate__())
        state["__dict__"] = {k: v for k, v in state["__dict__"].items() if k != "client"}
        return state

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the settings; the copy connects for itself, and a TLS context is shared."""
        memo = {} if memo is None else memo
        if isinstance(self.verify, ssl.SSLContext):
            memo[id(self.verify)] = self.verify
        copied = super().__deepcopy__(memo)
        copied.__dict__.pop("client", None)
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the settings, some of them changed; the copy connects for itself."""
        source = copy.deepcopy(self) if deep else self
        copied = super(TGIOptions, source).model_copy(update=update)
        copied.__dict__.pop("client", None)
        return copied

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
