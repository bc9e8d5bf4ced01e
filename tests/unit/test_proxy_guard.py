"""Who may ask, and what every answer carries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from langchain_sgd.arguments import USAGE
from langchain_sgd.cli import main
from langchain_sgd.commands.proxy import _extra
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.proxy import Limits, make_app, serve
from langchain_sgd.proxy.guard import Guard, check_exposure
from langchain_sgd.runnable import SGDRunnable
from tests.support.asgi import Asked, ask
from tests.support.models import Say, Stage

BODY = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}


def an_app(**options: Any) -> Any:
    return make_app(SGDRunnable(**Stage({"plain": Say("Hello.")}).pair()), **options)


# -- the key


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/api/runs", "/v1/chat/completions"])
async def test_without_the_key_nothing_is_told(path: str) -> None:
    app = an_app(key="a-secret")
    body = BODY if path.endswith("completions") else None
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a-secret"}):
        refused = await ask(app, path, body, headers=headers)
        assert refused.status == 401
        assert refused.json["error"]["code"] == "invalid_api_key"
        assert b"a-secret" not in refused.body
    allowed = await ask(app, path, body, headers={"authorization": "Bearer a-secret"})
    assert allowed.status == 200


@pytest.mark.parametrize("path", ["/", "/health", "/page/app.js", "/api/config"])
async def test_the_page_itself_needs_no_key(path: str) -> None:
    assert (await ask(an_app(key="a-secret"), path)).status == 200


def test_an_app_shows_its_key_nowhere() -> None:
    assert "a-secret" not in repr(vars(an_app(key="a-secret")))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])  # noqa: S104
def test_beyond_loopback_there_must_be_a_key(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SGD_PROXY_API_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="must send a key"):
        check_exposure(host, None, "put one into X")
    assert main(["proxy", "--host", host, "--large", "http://127.0.0.1:9"]) == USAGE
    assert "SGD_PROXY_API_KEY" in capsys.readouterr().err


def test_a_named_variable_must_be_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    assert main(["proxy", "--require-key-env", "MY_KEY", "--large", "http://127.0.0.1:9"]) == USAGE
    assert "MY_KEY" in capsys.readouterr().err


def test_a_small_model_alone_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "--small", "http://127.0.0.1:9"]) == USAGE
    assert "--large" in capsys.readouterr().err


def test_a_missing_extra_is_named() -> None:
    with (
        pytest.raises(InvalidInputError, match=r"langchain-sgd\[server\]"),
        _extra("server", "uvicorn"),
    ):
        raise ModuleNotFoundError(name="uvicorn")
    with pytest.raises(ModuleNotFoundError), _extra("server", "uvicorn"):
        raise ModuleNotFoundError(name="something_else")


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> Any:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("langchain_sgd.proxy.serve.socket.create_server", taken)
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port 8400: Address already"):
        serve.listening("127.0.0.1", 8400)


# -- hosts and origins


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8400", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8400", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
async def test_only_known_host_names_are_answered_to(host: str, status: int) -> None:
    app = an_app(hosts={"127.0.0.1", "localhost", "::1"})
    assert (await ask(app, "/health", headers={"host": host})).status == status


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("MyMac.local", "mymac.local:8400"),
        ("mymac.local", "MyMac.local"),
        ("mymac.local:8400", "mymac.local:8400"),
        (" http://mymac.local:8400/ ", "mymac.local"),
        ("fd00::7", "[fd00::7]:8400"),
        ("[FD00::7]:1", "[fd00::7]"),
        ("bücher.local", "xn--bcher-kva.local"),
    ],
)
async def test_a_host_is_allowed_however_it_is_written(allowed: str, host: str) -> None:
    app = an_app(hosts={"127.0.0.1", allowed})
    assert (await ask(app, "/health", headers={"host": host})).status == 200
    assert (await ask(app, "/health", headers={"host": "evil.example"})).status == 403


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": [""]},
        {"hosts": ["http://"]},
        {"cors_origins": ["chat.example"]},
        {"cors_origins": ["https://chat.example:port"]},
        {"key": "two\nlines"},
    ],
)
def test_what_can_never_match_is_refused(options: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"is no|holds no") as caught:
        an_app(**options)
    assert "lines" not in str(caught.value)


async def test_a_key_from_a_file_with_a_line_end_is_the_key() -> None:
    asked = await ask(an_app(key="abc\n"), "/v1/models", headers={"authorization": "Bearer abc"})
    assert asked.status == 200


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://127.0.0.1:8400", (), 200),
        ("https://evil.example", (), 403),
        ("null", (), 403),
        ("http://[::1", (), 403),
        ("http://127.0.0.1:9999", (), 403),
        ("https://chat.example", ("https://chat.example",), 200),
        ("https://evil.example", ("https://chat.example",), 403),
        ("https://evil.example", ("*",), 200),
        ("https://chat.example", ("https://Chat.example/",), 200),
        ("https://chat.example", ("https://chat.example:443",), 200),
        ("https://chat.example:8443", ("https://chat.example:8443/chat",), 200),
        ("https://chat.example:8443", ("https://chat.example",), 403),
    ],
)
async def test_pages_elsewhere_may_not_ask(origin: str, allowed: Any, status: int) -> None:
    app = an_app(cors_origins=allowed)
    answer = await ask(app, "/v1/chat/completions", BODY, headers={"origin": origin})
    assert answer.status == status
    assert ("access-control-allow-origin" in answer.headers) == (bool(allowed) and status == 200)


async def test_cors_is_off_unless_it_is_allowed() -> None:
    headers = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    path = "/v1/chat/completions"
    off = await ask(an_app(), path, headers=headers, method="OPTIONS")
    assert off.status == 403
    assert "access-control-allow-origin" not in off.headers
    app = an_app(cors_origins=["https://chat.example"], key="a-secret")
    on = await ask(app, path, headers=headers, method="OPTIONS")
    assert on.status == 200
    assert on.headers["access-control-allow-origin"] == "https://chat.example"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_form_of_a_page_elsewhere_is_no_request(kind: str) -> None:
    answer = await ask(an_app(), "/v1/chat/completions", BODY, headers={"content-type": kind})
    assert answer.status == 415


# -- sizes and times


async def test_a_long_request_is_refused_whatever_it_says_of_its_length() -> None:
    app = an_app(limits=Limits(body_bytes=50))
    said = await ask(app, "/v1/chat/completions", BODY, headers={"content-length": "51"})
    assert said.status == 413
    assert said.json["error"]["message"] == "The request is longer than 50 bytes."
    unsaid = await ask(app, "/v1/chat/completions", {**BODY, "user": "x" * 50})
    assert unsaid.status == 413
    odd = await ask(app, "/v1/chat/completions", BODY, headers={"content-length": "many"})
    assert odd.status == 413


async def test_an_app_that_knows_nothing_of_our_errors_is_guarded_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        try:
            await receive()
        finally:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    answer = await ask(Guard(app, body_bytes=50), "/mcp", b"x" * 51)
    assert answer.status == 413
    assert b"longer than 50 bytes" in answer.body


async def test_a_history_counts_its_questions() -> None:
    app = an_app(limits=Limits(history_bytes=1000))
    for _ in range(3):
        asked = {"model": "plain", "messages": [{"role": "user", "content": "x" * 800}]}
        await ask(app, "/v1/chat/completions", asked)
    assert len((await ask(app, "/api/runs")).json["runs"]) == 1


async def test_a_request_that_does_not_arrive_is_given_up() -> None:
    app = an_app(limits=Limits(body_s=0.01))
    async with Asked(app, "/v1/chat/completions", BODY, arrives=False) as asked:
        await asked.done()
    assert asked.status == 408


# -- what every answer carries


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/v1/models", "/nothing", "/v1/chat/completions"]
)
async def test_every_answer_carries_the_security_headers(path: str) -> None:
    answer = await ask(an_app(), path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/page/../app.py", "GET", 404),
        ("/page/nothing.js", "GET", 404),
        ("/v1/chat/completions", "GET", 405),
        ("/v1/models", "POST", 405),
        ("/api/runs/nothing", "GET", 404),
        ("/api/runs/nothing/page", "GET", 404),
    ],
)
async def test_errors_of_the_way_have_openais_form_too(path: str, method: str, status: int) -> None:
    answer = await ask(an_app(), path, method=method)
    assert answer.status == status
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    assert answer.json["error"]["type"] == kind


async def test_sockets_of_other_kinds_are_not_taken() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await an_app()({"type": "websocket"}, asyncio.Queue().get, send)
    assert not sent
