"""What a `ChatHuggingFace` on a TGI URL loses on the way, and the `ChatTGI` that loses nothing.

As langchain-huggingface 1.2 and huggingface-hub 0.36 behave; known by attributes, so neither is imported.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.tgi import endpoint
from langchain_sgd.tgi.chat import ChatTGI

_NEVER_SENT: Final = (
    "top_p",
    "seed",
    "frequency_penalty",
    "top_k",
    "typical_p",
    "repetition_penalty",
)
_DEFAULT_TEMPERATURE: Final = 0.8
"""`HuggingFaceEndpoint`'s; it also replaces a 0 that was given to `ChatHuggingFace`."""


def huggingface_faults(model: Any) -> list[str]:
    """Say in plain words what a model's settings do not do; cheap, nothing is sent.

    Args:
        model: Any model; only a `ChatHuggingFace` with an `endpoint_url` has these faults.

    Returns:
        One sentence each, fit for a report; empty where there is nothing to say.
    """
    url = _endpoint_of(model)
    if url is None:
        return []
    host = urlsplit(url).hostname
    lost = {name: value for name in _NEVER_SENT if (value := _explicit(model, name)) is not None}
    faults = [
        f"ChatHuggingFace does not send {name}={value!r} to {host}." for name, value in lost.items()
    ]
    faults.extend(_temperature_faults(model, str(host)))
    if isinstance(model.stop, str):
        faults.append(f"stop={model.stop!r} is sent as a string, which TGI refuses: give a list.")
    elif model.stop:
        faults.append("The stop text stays at the end of the answer.")
    if not model.stream_usage:
        faults.append("Streams count no tokens: set stream_usage=True.")
    is_hf = endpoint.is_hugging_face(url)
    if getattr(model.llm, "huggingfacehub_api_token", None) and not is_hf:
        faults.append(f"huggingfacehub_api_token is not sent to {host}.")
    if os.environ.get("HF_TOKEN") and not is_hf:
        faults.append(f"The HF_TOKEN of this environment is sent to {host}.")
    if faults:
        faults.append(f"ChatTGI(base_url={url!r}, ...) has none of these faults.")
    return faults


def _temperature_faults(model: Any, host: str) -> list[str]:
    asked = _explicit(model.llm, "temperature")
    if asked == 0 and not model.temperature:
        return [f"temperature=0 is not sent to {host}: the server samples."]
    if asked is None and model.temperature == _DEFAULT_TEMPERATURE:
        default = f"temperature={_DEFAULT_TEMPERATURE} is sent to {host}"
        return [
            f"{default}: HuggingFaceEndpoint's default, even where ChatHuggingFace was given 0."
        ]
    return []


def from_huggingface(model: Any, **options: Any) -> ChatTGI:
    """Make the `ChatTGI` of a `ChatHuggingFace`: same server, all of its settings sent.

    A temperature of `HuggingFaceEndpoint`'s default 0.8 is left out: nobody can tell any more whether it
    was wanted, or 0 was. Pass `temperature=...` to be sure.

    Args:
        model: A `ChatHuggingFace` whose llm has an `endpoint_url`.
        **options: Fields of `ChatTGI`, which go before what is found.

    Raises:
        InvalidInputError: The model has no endpoint URL.
    """
    url = _endpoint_of(model)
    if url is None:
        msg = f"{type(model).__name__} is no ChatHuggingFace on an endpoint_url"
        raise InvalidInputError(msg)
    found: dict[str, Any] = {name: _explicit(model, name) for name in ("top_p", "seed")}
    found["frequency_penalty"] = _explicit(model, "frequency_penalty")
    found["max_tokens"] = model.max_tokens
    found["temperature"] = _explicit(model.llm, "temperature")
    if found["temperature"] is None and model.temperature != _DEFAULT_TEMPERATURE:
        found["temperature"] = model.temperature
    found["stop"] = model.stop
    found["api_key"] = getattr(model.llm, "huggingfacehub_api_token", None)
    settings = {name: value for name, value in found.items() if value is not None}
    return ChatTGI(base_url=url, **{**settings, **options})


def _endpoint_of(model: Any) -> str | None:
    if "ChatHuggingFace" not in {base.__name__ for base in type(model).__mro__}:
        return None
    url = getattr(model.llm, "endpoint_url", None)
    return url if isinstance(url, str) and url else None


def _explicit(model: Any, name: str) -> Any:
    """A setting that the user made, here or on the llm inside; defaults are None.

    `ChatHuggingFace` copies the llm's defaults into itself, so what equals them was not set here.
    """
    llm = getattr(model, "llm", None)
    if llm is not None and (found := _explicit(llm, name)) is not None:
        return found
    if name not in model.model_fields_set:
        return None
    value = getattr(model, name)
    copied = llm is not None and value == getattr(llm, name, None)
    return None if copied else value
