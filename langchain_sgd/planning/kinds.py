"""Which server stands behind a model: by its class, or by what its URL said when it was asked, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError, SkeletonGraphError
from langchain_sgd.models.identify import Server, version_before
from langchain_sgd.models.options import class_names
from langchain_sgd.models.servers import ENDPOINTS, Endpoints
from langchain_sgd.planning.wrappers import (
    inner_model,
    is_openai_style,
    leaves_of,
    openai_address,
)

Kind = Literal["tgi", "vllm", "vllm-guided", "sglang", "llama.cpp", "ollama", "openai", "examples"]
"""`vllm-guided` is vLLM before 0.11; `examples` is one that is not known, or takes no form."""

_AGAIN_AFTER_S: Final = 60.0
"""How long a URL that could not be asked is not asked again."""
_STRUCTURED_OUTPUTS: Final = (0, 11)
"""The first vLLM that takes `structured_outputs`."""
_CONTINUE: Final = {"continue_final_message": True, "add_generation_prompt": False}
CONTINUES: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "tgi": {},
    "vllm": _CONTINUE,
    "vllm-guided": _CONTINUE,
    "sglang": {"continue_final_message": True},
    "llama.cpp": {},
    "ollama": {},
}
"""Servers that go on with a last message of the model's own, and what they are told for it."""


SHAPING: Final = frozenset({"tools", "functions", "response_format", "format", "guided_json"})
"""Options that shape a whole answer: one that is begun already cannot have the shape."""


async def continues(model: Runnable[Any, Any], *, endpoints: Endpoints = ENDPOINTS) -> bool:
    """Whether every model that may answer is known to go on with a last message of its own.

    One that was given tools or a form of its answer is not. Looks through the same wrappers as
    `forms.form_of`, and asks as it does.
    """
    leaves = [*leaves_of(model)]
    if any(SHAPING & _bound_to(each).keys() for each in (model, *leaves)):
        return False
    for leaf in leaves:
        await ask(leaf, endpoints)
    kinds = [kind_and_place(inner_model(leaf), endpoints)[0] for leaf in leaves]
    return bool(kinds) and all(kind in CONTINUES for kind in kinds)


def _bound_to(model: Any) -> dict[str, Any]:
    """What `bind` has put around a model."""
    options: dict[str, Any] = {}
    while isinstance(model, RunnableBinding):
        options |= model.kwargs
        model = model.bound
    return options


async def ask(leaf: Any, endpoints: Endpoints) -> None:
    """See that the leaf's server is known, if it is one that must be asked."""
    model = inner_model(leaf)
    try:
        if "ChatEndpoint" in class_names(model):
            await model.aserver()
        elif is_openai_style(model) and (address := openai_address(model)) is not None:
            key = getattr(model, "openai_api_key", None)
            headers = getattr(model, "default_headers", None) or {}
            await endpoints.ask(
                address,
                key=key if isinstance(key, SecretStr) else None,
                headers={name: text for name, text in headers.items() if isinstance(text, str)},
                http=getattr(model, "http_async_client", None),
                again_after_s=_AGAIN_AFTER_S,
            )
    except SkeletonGraphError:
        return


def kind_and_place(model: Any, endpoints: Endpoints) -> tuple[Kind, str]:
    """The server by class, or by what it said; and what names server and model."""
    names = class_names(model)
    name = str(getattr(model, "model_name", None) or getattr(model, "model", ""))
    if "ChatEndpoint" in names:
        server = model.known
        wanted = model.address.model or ""
        return (
            ("examples", "") if server is None else (_by_server(server), f"{server.url} {wanted}")
        )
    if "ChatTGI" in names:
        return "tgi", f"{model.base_url} {name}"
    if "ChatHuggingFace" in names:
        url = getattr(model.llm, "endpoint_url", None)
        return ("tgi", f"{url} {name}") if url else ("examples", "")
    if "ChatOllama" in names:
        return "ollama", f"{model.base_url} {name}"
    if is_openai_style(model):
        try:
            address = openai_address(model)
        except InvalidInputError:
            return "examples", ""
        if address is None:
            known = "ChatOpenAI" in names or "AzureChatOpenAI" in names
            return ("openai", name) if known else ("examples", "")
        server = endpoints.get(address.url)
        return ("examples", "") if server is None else (_by_server(server), f"{server.url} {name}")
    return "examples", ""


def _by_server(server: Server) -> Kind:
    if server.kind == "vllm":
        return "vllm-guided" if version_before(server.version, _STRUCTURED_OUTPUTS) else "vllm"
    if server.kind in {"litellm", "other"}:
        return "examples"
    return server.kind  # type: ignore[return-value]
