"""What answers at a URL: asked once, remembered for the process."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpx
from pydantic import SecretStr

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.keys import is_sendable
from langchain_sgd.models.clients import network
from langchain_sgd.models.identify import Get, Server, identified
from langchain_sgd.models.urls import Address, hosted_key

_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_OWN_TIMEOUT_S: Final = 10.0
_TOLD: Final = ("content-type", "location", "server")
"""Headers of an answer that are looked at."""
_FORGOTTEN_AFTER_S: Final = 5.0
"""How long an answer counts, whatever calls say: else each that fails would ask the server anew."""


class Endpoints:
    """What servers said of themselves, and which constrained forms they refused.

    One for a process (`ENDPOINTS`), since a server says the same to everybody; tests make their own.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember nothing yet.

        Args:
            transport: Carries the questions; a network of its own for tests.
            clock: Gives seconds, for `patience_s`.
        """
        self._transport = transport
        self._clock = clock
        self._servers: dict[str, Server] = {}
        self._answered: dict[str, float] = {}
        self._asking: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[str, asyncio.Future[None]]
        ] = WeakKeyDictionary()
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._refused: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _process_wide, ()

    def __deepcopy__(self, _memo: object) -> Endpoints:
        """Give itself: what is known is known to copies too."""
        return self

    def get(self, url: str) -> Server | None:
        """What is known of a server; nothing is asked."""
        return self._servers.get(url)

    def forget(self, url: str) -> None:
        """Ask a server again when it is next needed: it may serve another model by then.

        One that has answered a moment ago is not asked again.
        """
        if self._clock() - self._answered.get(url, -_FORGOTTEN_AFTER_S) >= _FORGOTTEN_AFTER_S:
            self._servers.pop(url, None)

    def clear(self) -> None:
        """Forget everything."""
        self._servers.clear()
        self._failed.clear()
        self._refused.clear()

    def refuse(self, key: str, why: str) -> None:
        """Remember that a server and model refused a form."""
        self._refused[key] = why

    def refused(self, key: str) -> str | None:
        """Why a form was refused; None if it was not."""
        return self._refused.get(key)

    async def ask(
        self,
        address: Address,
        *,
        key: SecretStr | None = None,
        headers: Mapping[str, str] | None = None,
        http: Any = None,
        again_after_s: float = 0.0,
    ) -> Server:
        """What serves at a URL; asked at most once at a time, and never again once it has answered.

        Args:
            address: The URL.
            key: Sent as a bearer token.
            headers: Further headers, for gateways; one of them may stand for the key.
            http: A client of httpx, or of its successor, that asks in place of one made here: it knows
                certificates, proxies and headers.
            again_after_s: Seconds for which a failure counts, so that it is not met at every call.

        Raises:
            EndpointUnreachableError: Nothing answers.
            EndpointKeyError: The key is missing or wrong.
            EndpointError: What answers is no model server that is known here.
            InvalidInputError: A header cannot be sent.
        """
        url = address.url
        loop = asyncio.get_running_loop()
        waiting = self._asking.setdefault(loop, {})
        if url in self._failed and self._clock() - self._failed[url][0] < again_after_s:
            raise self._failed[url][1]
        while (known := self._servers.get(url)) is None:
            if (asked := waiting.get(url)) is not None:
                await _settled(asked)
                continue
            asked = waiting[url] = loop.create_future()
            try:
                server = await self._ask(address, key, headers or {}, http)
            except Exception as error:
                self._failed[url] = (self._clock(), error)
                asked.set_exception(error)
                asked.exception()  # there may be nobody else who waits
                raise
            except BaseException:
                asked.cancel()
                raise
            else:
                self._servers[url] = server
                self._answered[url] = self._clock()
                asked.set_result(None)
            finally:
                del waiting[url]
        return known

    async def _ask(
        self, address: Address, key: SecretStr | None, headers: Mapping[str, str], http: Any
    ) -> Server:
        if hosted_key(address.host) == "OPENAI_API_KEY":
            return Server(address.url, "openai", f"{address.url}/v1")
        for name, value in headers.items():
            if not is_sendable(value):
                msg = f"{address.url}: the header {name} holds a line end, or what else no header can carry"
                raise InvalidInputError(msg)
        sent = httpx.Headers(
            {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
        )
        sent.update(headers)
        has_key = "Authorization" in sent
        if http is not None:
            return await identified(address, _through(http, sent), has_key=has_key)
        # In a thread: it reads the machine's certificates.
        client = await asyncio.to_thread(
            lambda: httpx.AsyncClient(
                headers=sent, timeout=_TIMEOUT, transport=self._transport, **network(address)
            )
        )
        async with client:
            return await identified(address, client.get, has_key=has_key)


def _through(http: Any, headers: httpx.Headers) -> Get:
    """Ask by somebody's own client, which may be of another generation of httpx, and synchronous."""

    async def get(url: str) -> httpx.Response:
        how = {"headers": dict(headers), "timeout": _OWN_TIMEOUT_S}
        try:
            if inspect.iscoroutinefunction(http.get):
                found = await http.get(url, **how)
            else:
                found = await asyncio.to_thread(http.get, url, **how)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise
        except Exception as error:  # of whatever library it is
            raise httpx.TransportError(str(error) or type(error).__name__) from error
        told = {name: found.headers[name] for name in _TOLD if name in found.headers}
        asked = httpx.Request("GET", str(found.url))
        return httpx.Response(found.status_code, headers=told, content=found.content, request=asked)

    return get


ENDPOINTS: Final = Endpoints()
"""What this process knows of servers."""


def _process_wide() -> Endpoints:
    """What a pickled model finds where it is read."""
    return ENDPOINTS


async def _settled(asked: asyncio.Future[None]) -> None:
    """Wait for somebody else's question; raises what it raised, but not that it was cancelled."""
    try:
        await asyncio.shield(asked)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not asked.cancelled() or (task is not None and task.cancelling()):
            raise
