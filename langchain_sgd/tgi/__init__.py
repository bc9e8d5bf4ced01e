"""TGI servers as LangChain chat models: `ChatTGI`, its client, its errors.

Nothing in the package's core imports this room until a TGI URL is used, because it brings aiohttp and
text-generation with it.
"""

import langchain_sgd.tgi._extra  # noqa: F401 - says first which extra is missing
from langchain_sgd.tgi.chat import ChatTGI, chat_model
from langchain_sgd.tgi.client import TGIClient
from langchain_sgd.tgi.endpoint import TGIEndpoint
from langchain_sgd.tgi.errors import (
    NotTGIError,
    TGIAuthError,
    TGIBadRequestError,
    TGIContextError,
    TGIError,
    TGIGenerationError,
    TGIGrammarError,
    TGIOverloadedError,
    TGIStreamBrokenError,
    TGITimeoutError,
    TGIUnavailableError,
    to_error,
)
from langchain_sgd.tgi.huggingface import from_huggingface, huggingface_faults
from langchain_sgd.tgi.retries import Patience
from langchain_sgd.tgi.server import ServerInfo

__all__ = [
    "ChatTGI",
    "NotTGIError",
    "Patience",
    "ServerInfo",
    "TGIAuthError",
    "TGIBadRequestError",
    "TGIClient",
    "TGIContextError",
    "TGIEndpoint",
    "TGIError",
    "TGIGenerationError",
    "TGIGrammarError",
    "TGIOverloadedError",
    "TGIStreamBrokenError",
    "TGITimeoutError",
    "TGIUnavailableError",
    "chat_model",
    "from_huggingface",
    "huggingface_faults",
    "to_error",
]
