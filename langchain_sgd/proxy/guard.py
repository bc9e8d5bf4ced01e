"""Who may ask: host names, origins, the key, and how much may be sent. Plain ASGI, around any app."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import checked_key
from langchain_sgd.proxy.errors import ProxyError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PORTS = {"http": 80, "https": 443}


def check_exposure(host: str, key: SecretStr | None, remedy: str) -> None:
    """Refuse to open models to a network without a key.

    Raises:
        InvalidInputError: It would.
    """
    if host not in LOOPBACK and (key is None or not key.get_secret_value()):
        msg = f"--host {host} opens the models to the network, so clients must send a key: {remedy}"
        raise InvalidInputError(msg)


class Guard:
    """Checks that stand before every request.

    Args:
        app: What is guarded.
        key: What clients must send as a bearer token.
        hosts: Names under which the server may be addressed, so that no web page can make a browser talk to
            it under a name of its own; None checks none. A port does not count.
        origins: Other origins whose web pages may send requests; "*" is all.
        open_paths: What needs no key: nothing there tells anything.
        body_bytes: Longest request.

    Raises:
        InvalidInputError: A host is no name, an origin no origin, or no header can carry the key.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: SecretStr | None = None,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        open_paths: Callable[[str], bool] = lambda _: False,
        body_bytes: int = 20 * 2**20,
        on_refusal: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._app = app
        self._key = checked_key(key, "key")
        self._hosts = None if hosts is None else {*map(host_name, hosts)}
        self._origins = {*map(origin_of, origins)}
        self._open_paths = open_paths
        self._body_bytes = body_bytes
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with an error."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSockets here
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_origin(headers)
            if not self._open_paths(scope["path"]):
                self._check_key(headers)
            declared = headers.get("content-length", "0")
            if not declared.isdecimal() or int(declared) > self._body_bytes:
                raise self._too_long()
        except ProxyError as error:
            self._on_refusal(error.status)
            await error.response()(scope, receive, send)
            return
        body = _Body(receive, self._body_bytes, self._too_long)

        async def sending(message: Message) -> None:
            if body.refused is None:
                await send(message)

        try:
            await self._app(scope, body, sending)
        except Exception:
            if body.refused is None:
                raise
        if body.refused is not None:  # whatever the app made of it
            await body.refused.response()(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        if self._hosts is None:
            return
        host = _name_of(f"//{headers.get('host', '')}")
        if host not in self._hosts:
            msg = f"This server does not answer to the host name {host!r}; --allow-host adds one."
            raise ProxyError(403, msg, code="host")

    def _check_origin(self, headers: Headers) -> None:
        """A web page elsewhere could send what it may not read."""
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return
        try:
            place = urlsplit(origin).netloc
        except ValueError:
            place = ""
        if place != headers.get("host"):
            msg = f"Pages of {origin} may not use this server; --cors-origin allows one."
            raise ProxyError(403, msg, code="origin")

    def _check_key(self, headers: Headers) -> None:
        if self._key is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        wanted = self._key.get_secret_value().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted):
            raise ProxyError(
                401,
                "This server needs its key as a bearer token (api_key= of OpenAI's clients).",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _too_long(self) -> ProxyError:
        return ProxyError(413, f"The request is longer than {self._body_bytes:,} bytes.")


class _Body:
    """What is received, up to a bound: for bodies that do not say how long they are."""

    def __init__(self, receive: Receive, most: int, too_long: Callable[[], ProxyError]) -> None:
        self._receive = receive
        self._left = most
        self._too_long = too_long
        self.refused: ProxyError | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.refused = self._too_long()
            raise self.refused
        return message


def host_name(text: str) -> str:
    """A host's name as browsers send it, of `name`, `name:port` or a URL.

    Raises:
        InvalidInputError: There is none in it.
    """
    text = text.strip()
    place = text if "://" in text else f"//[{text}]" if _is_ipv6(text) else f"//{text}"
    if not (name := _name_of(place)):
        msg = f"{text!r} is no host name: give a name such as mymachine.local"
        raise InvalidInputError(msg)
    return name


def origin_of(text: str) -> str:
    """An origin as browsers send it: in small letters, without a path or the scheme's own port.

    Raises:
        InvalidInputError: It is none; "*" and "null" are.
    """
    text = text.strip()
    if text in {"*", "null"}:
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.scheme or not (name := _name_of(text)):
        msg = f"{text!r} is no origin of web pages: give one such as https://chat.example"
        raise InvalidInputError(msg)
    place = f"[{name}]" if ":" in name else name
    own = port is None or port == _PORTS.get(parts.scheme)
    return f"{parts.scheme}://{place}" if own else f"{parts.scheme}://{place}:{port}"


def _is_ipv6(text: str) -> bool:
    return text.count(":") > 1 and not text.startswith("[")


def _name_of(url: str) -> str:
    try:
        name = urlsplit(url).hostname or ""
        return name if name.isascii() else name.encode("idna").decode()
    except ValueError:  # also what has no form in ASCII
        return ""


def security_headers(app: ASGIApp, headers: dict[str, str]) -> ASGIApp:
    """The app with these headers on every answer that has not its own."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", [])}
                more = [pair for pair in raw if pair[0] not in given]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return wrapped
