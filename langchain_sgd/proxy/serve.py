"""Running an application in the foreground, until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

_GRACE_S = 3
"""How long answers may go on after Ctrl-C."""


def serve(app: ASGIApp, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` gets the URL once the server listens.

    Raises:
        OSError: It cannot listen there; the message names the place.
    """
    with listening(host, port) as place:
        tell(url_of(place))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="auto",  # the MCP app begins its sessions with it
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        with suppress(KeyboardInterrupt):  # uvicorn ends in order, and then raises it again
            uvicorn.Server(config).run(sockets=[place])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises:
        OSError: It cannot listen there; the message names the place.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        msg = f"cannot listen on {host} port {port}: {error.strerror or error}; name another --port"
        raise OSError(msg) from error


def url_of(place: socket.socket) -> str:
    """Where a listening socket is found."""
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
