"""Where a server is to listen, looked at before it takes time to make one."""

from __future__ import annotations

import os
import socket

from langchain_sgd.errors import InvalidInputError


def check_port(host: str, port: int) -> None:
    """See that a server can listen there, before it takes time to make one.

    Raises:
        InvalidInputError: It cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":  # as servers do: a port that was just given up is free
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        msg = f"nothing can listen at {host}, port {port}: {error.strerror}; give another --port or --host"
        raise InvalidInputError(msg) from error
