"""Models by name: a URL, `provider:model`, a chat model or any other Runnable.

Nothing here imports a provider's client until a model of it is used.
"""

from langchain_sgd.models.endpoint import ChatEndpoint
from langchain_sgd.models.identify import (
    EndpointError,
    EndpointKeyError,
    EndpointUnreachableError,
    Server,
)
from langchain_sgd.models.names import TIERS, name_from_environment, resolve
from langchain_sgd.models.servers import ENDPOINTS, Endpoints

__all__ = [
    "ENDPOINTS",
    "TIERS",
    "ChatEndpoint",
    "EndpointError",
    "EndpointKeyError",
    "EndpointUnreachableError",
    "Endpoints",
    "Server",
    "name_from_environment",
    "resolve",
]
