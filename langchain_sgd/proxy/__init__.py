"""SGD as a server: OpenAI's chat completions, and a page that shows the answer grow.

    langchain-sgd proxy --small http://gpu-1:8080 --large http://gpu-2:8080

`make_app` gives the same as an ASGI application, for a server of your own.
"""

from langchain_sgd.proxy.app import make_app
from langchain_sgd.proxy.guard import Guard
from langchain_sgd.proxy.limits import Limits

__all__ = ["Guard", "Limits", "make_app"]
