"""What a server at a URL is, told from its answers."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

import httpx
from langchain_core.exceptions import (
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
)

from langchain_sgd.errors import SkeletonGraphError
from langchain_sgd.models.urls import Address
from langchain_sgd.redaction import describe

Kind = Literal["tgi", "vllm", "sglang", "llama.cpp", "ollama", "litellm", "openai", "other"]
"""Who serves: `openai` is OpenAI itself, `other` anything else that speaks its protocol."""

_SHOWN: Final = 6
_NO_ROUTE: Final = frozenset({404, 405, 501})
_OWNERS: Final[Mapping[str, Kind]] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "me": "llama.cpp",  # llama-cpp-python's server
    "library": "ollama",
}
"""`owned_by` of a model in `/v1/models`, which gateways pass on as it is."""

Get = Callable[[str], Awaitable[httpx.Response]]
"""Asks a URL."""


class EndpointError(SkeletonGraphError, ModelNotFoundError):
    """Something answers at a URL, but not the model that is wanted."""


class EndpointKeyError(SkeletonGraphError, ModelAuthenticationError):
    """A server wants a key, or another one."""


class EndpointUnreachableError(SkeletonGraphError, ModelConnectionError):
    """Nothing answers at a URL, or nothing but a failure."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server said of itself."""

    url: str
    kind: Kind
    api: str
    """Base of the OpenAI-style routes, mostly `url` and `/v1`."""
    models: tuple[str, ...] = ()
    """The models that it lists; hosted ones are not asked."""
    version: str | None = None
    contexts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Tokens of question and answer together, by model, where the server tells."""

    def model(self, wanted: str | None) -> str:
        """The name by which the server knows the wanted model.

        Raises:
            EndpointError: It has none of that name, or several and none was chosen.
        """
        if wanted is None:
            if len(self.models) == 1:
                return self.models[0]
            example = self.models[0] if self.models else "MODEL"
            found = f"serves {self._listed()}" if self.models else "lists no models"
            msg = f"{self.url} ({self.kind}) {found}: choose one with {self.url}#{example}"
            raise EndpointError(msg)
        if wanted in self.models or not self._lists_all:
            return wanted
        if self.kind == "ollama" and f"{wanted}:latest" in self.models:
            return f"{wanted}:latest"
        msg = f"{self.url} ({self.kind}) has no model {wanted!r}; it serves {self._listed()}"
        raise EndpointError(msg)

    @property
    def _lists_all(self) -> bool:
        """Whether a model that is not listed is not there; gateways route more than they list."""
        return bool(self.models) and self.kind in {"vllm", "sglang", "ollama"}

    def _listed(self) -> str:
        shown = ", ".join(self.models[:_SHOWN])
        more = len(self.models) - _SHOWN
        return f"{shown} and {more} more" if more > 0 else shown


async def identified(address: Address, get: Get, *, has_key: bool) -> Server:
    """Ask `/info` and `/v1/models`, then what tells more of the kind that answered."""
    url = address.url
    async with asyncio.TaskGroup() as group:
        info_task = group.create_task(_asked(get, f"{url}/info"))
        models_task = group.create_task(_asked(get, f"{url}/v1/models"))
    info, listed = info_task.result(), models_task.result()
    if (tgi := _tgi(url, _object(info))) is not None:
        return tgi
    api = f"{url}/v1"
    if _models(listed) is None and "/" in url.partition("://")[2]:
        other = await _asked(get, f"{url}/models")  # an API whose base does not end in /v1
        if _models(other) is not None:
            api, listed = url, other
    found = _models(listed)
    if found is None:
        if (unlisted := await _unlisted(address, listed, get)) is not None:
            return unlisted
        raise _unknown(url, info, listed, has_key=has_key)
    return await _openai_style(url, api, found, listed, get)


def _tgi(url: str, info: Mapping[str, Any] | None) -> Server | None:
    """TGI, by its `/info`; the embeddings' server has one too, without a total of tokens."""
    if info is None or not isinstance(info.get("model_id"), str):
        return None
    total = info.get("max_total_tokens")
    if total is None and "max_concurrent_requests" not in info:
        return None
    name = info["model_id"]
    contexts = {name: total} if isinstance(total, int) else {}
    return Server(url, "tgi", f"{url}/v1", (name,), _text(info.get("version")), contexts)


async def _unlisted(address: Address, listed: Any, get: Get) -> Server | None:
    """A server that lists no models, if one was named, and its route for chats is there."""
    if address.model is None or getattr(listed, "status_code", 0) not in _NO_ROUTE:
        return None
    for api in (f"{address.url}/v1", address.url):
        answer = await _asked(get, f"{api}/chat/completions")
        if isinstance(answer, httpx.Response) and answer.status_code == 405:  # it wants a POST
            return Server(address.url, "other", api)
    return None


async def _openai_style(
    url: str, api: str, found: list[Mapping[str, Any]], listed: Any, get: Get
) -> Server:
    owners = {str(model.get("owned_by")) for model in found}
    kind = next((_OWNERS[owner] for owner in sorted(owners) if owner in _OWNERS), None)
    if kind is None and _header(listed, "server").startswith("llama.cpp"):
        kind = "llama.cpp"
    version: str | None = None
    if kind is None or kind == "ollama":
        version = _text((_object(await _asked(get, f"{url}/api/version")) or {}).get("version"))
        kind = "ollama" if version is not None else None
    if kind is None:
        ready = _object(await _asked(get, f"{url}/health/readiness")) or {}
        version = _text(ready.get("litellm_version"))
        kind = "other" if version is None else "litellm"
    contexts = {
        str(model["id"]): length
        for model in found
        if isinstance(length := model.get("max_model_len"), int)
    }
    if kind == "vllm":
        version = _text((_object(await _asked(get, f"{url}/version")) or {}).get("version"))
    elif kind == "llama.cpp":
        props = _object(await _asked(get, f"{url}/props")) or {}
        version = _text(props.get("build_info"))
        length = (props.get("default_generation_settings") or {}).get("n_ctx")
        if isinstance(length, int):
            contexts = {str(model["id"]): length for model in found}
    return Server(url, kind, api, tuple(str(m["id"]) for m in found), version, contexts)


def version_before(version: str | None, wanted: tuple[int, ...]) -> bool:
    """Whether a version is known and older than another."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version or "")[: len(wanted)])
    return bool(numbers) and numbers < wanted


# -- answers


async def _asked(get: Get, url: str) -> httpx.Response | httpx.HTTPError:
    try:
        return await get(url)
    except httpx.HTTPError as error:
        return error
    except httpx.InvalidURL:
        return httpx.UnsupportedProtocol("the URL is malformed")


def _object(answer: httpx.Response | httpx.HTTPError) -> Mapping[str, Any] | None:
    """The JSON object of a good answer."""
    if isinstance(answer, httpx.HTTPError) or not answer.is_success:
        return None
    try:
        value = answer.json()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _models(answer: Any) -> list[Mapping[str, Any]] | None:
    data = (_object(answer) or {}).get("data")
    if not isinstance(data, list):
        return None
    return [model for model in data if isinstance(model, dict) and model.get("id")]


def _header(answer: Any, name: str) -> str:
    return answer.headers.get(name, "") if isinstance(answer, httpx.Response) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _unknown(url: str, info: Any, listed: Any, *, has_key: bool) -> Exception:
    """What to say of a server that could not be identified."""
    answers = [a for a in (listed, info) if isinstance(a, httpx.Response)]
    if not answers:
        if (fault := _tls_fault(listed)) is not None:
            return EndpointUnreachableError(_about_tls(url, fault))
        msg = f"Nothing answers at {url} ({describe(listed)}). Start the server, or correct the URL"
        return EndpointUnreachableError(msg)
    statuses = [answer.status_code for answer in answers]
    if any(status in {401, 403} for status in statuses):
        said = "refuses the key" if has_key else "wants a key"
        msg = (
            f"{url} {said} (HTTP {next(s for s in statuses if s in {401, 403})}). Put the right one into"
            " SGD_API_KEY, or SGD_LARGE_API_KEY and so on for one model, or pass api_key=..."
        )
        return EndpointKeyError(msg)
    if any(status == 429 or status >= 500 for status in statuses):
        msg = (
            f"{url} answered /v1/models with HTTP {statuses[0]}: it may be loading its model, or a gateway"
            " finds no server behind it. Look at its log, and try again"
        )
        return EndpointUnreachableError(msg)
    if moved := _header(answers[0], "location"):
        msg = f"{url} sends elsewhere (HTTP {statuses[0]}), {_advice(url, answers[0], moved)}"
        return EndpointError(msg)
    who = _header(answers[0], "server") or _header(answers[0], "content-type") or "unknown"
    msg = (
        f"What answers at {url} ({who}) is no model server that is known here: /v1/models gave HTTP"
        f" {statuses[0]} and /info none of TGI's fields. Give the base URL of a server that speaks"
        " OpenAI's or TGI's protocol, or a LangChain chat model"
    )
    return EndpointError(msg)


def _advice(url: str, answer: httpx.Response, moved: str) -> str:
    """Where a server sends whoever asks, without the route that was asked."""
    asked = str(answer.request.url)
    try:
        parts = urlsplit(urljoin(asked, moved))
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    except ValueError:
        return "to a place that is no URL"
    path, route = parts.path.rstrip("/"), asked.removeprefix(url)
    base = f"{place}{path.removesuffix(route)}"
    if not path.endswith(route):  # to a page of its own, such as one to log in
        return f"to {place}{path}. Give the base URL of the model server's API, and the key that it wants"
    if base == url:
        return f"to {place}{parts.path}: it does not speak OpenAI's protocol at {route}"
    return f"to {base}: give that URL"


def _tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    """What was wrong with an encrypted connection, if that was it."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _about_tls(url: str, fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return (
            f"{url} answers, but its certificate is not trusted here ({fault.verify_message}). Put the file"
            " of the authority that signed it into SSL_CERT_FILE, or correct the URL"
        )
    why = getattr(fault, "reason", "") or type(fault).__name__
    return (
        f"{url} answers, but not over TLS as it is spoken here ({why})."
        " Give http:// if the server does not encrypt, or correct its certificate"
    )
