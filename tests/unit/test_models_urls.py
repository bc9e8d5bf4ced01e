from __future__ import annotations

import argparse

import pytest
from pydantic import SecretStr

from langchain_sgd.arguments import USAGE
from langchain_sgd.cli import main
from langchain_sgd.commands.models import given_key
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.models import ChatEndpoint, resolve
from langchain_sgd.models.urls import HOSTED, address_of, key_for


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*HOSTED.values(), "SGD_API_KEY", "SGD_LARGE_API_KEY", "SGD_SMALL_API_KEY"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "url", "model"),
    [
        ("http://gpu-1:8000", "http://gpu-1:8000", None),
        (" http://gpu-1:8000/v1/ ", "http://gpu-1:8000", None),
        ("https://x.org/team/a/", "https://x.org/team/a", None),
        ("http://h:1#qwen2.5:7b", "http://h:1", "qwen2.5:7b"),
        ("http://h:1/v1#lab/model%20two", "http://h:1", "lab/model two"),
        ("http://[::1]:8000/v1", "http://[::1]:8000", None),
    ],
)
def test_a_url_names_a_server_and_perhaps_a_model(text: str, url: str, model: str | None) -> None:
    address = address_of(text)
    assert (address.url, address.model) == (url, model)
    assert address_of(str(address)).url == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://x", "'ftp://x' is no URL of a model server"),
        ("http://", "is no URL"),
        ("http://x:port", "malformed"),
        ("http://x/?key=1", "query"),
    ],
)
def test_another_url_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says.replace("?", r"\?")):
        address_of(text)


@pytest.mark.parametrize(
    "text", ["http://user:s3cret@host:1", "http://s3cret@host", "ftp://user:s3cret@host"]
)
def test_no_secret_of_a_url_is_repeated(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        address_of(text)
    assert "s3cret" not in str(caught.value)


def key(url: str, what: str = "large") -> str | None:
    found = key_for(address_of(url), what)
    return found.get_secret_value() if found else None


def test_the_packages_own_variables_are_for_whatever_server_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert key("http://gpu:1") is None
    monkeypatch.setenv("SGD_API_KEY", "for all")
    monkeypatch.setenv("SGD_SMALL_API_KEY", "for the small")
    assert key("http://gpu:1") == "for all"
    assert key("http://gpu:1", "small") == "for the small"


@pytest.mark.parametrize("text", ["abc\n", "  abc\r\n", "abc"])
def test_a_key_has_no_line_end(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGD_API_KEY", text)
    assert key("http://gpu:1") == "abc"
    monkeypatch.setenv("MINE", text)
    given = given_key(argparse.Namespace(api_key_env="MINE"))
    assert given is not None
    assert given.get_secret_value() == "abc"
    model = ChatEndpoint(url="http://gpu:1", api_key=SecretStr(text))
    assert model.key == SecretStr("abc")


@pytest.mark.parametrize("text", ["s3cret\nX-Other: 1", "schlüss3cret"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGD_SMALL_API_KEY", text)
    for call in (
        lambda: key("http://gpu:1", "small"),
        lambda: resolve("http://gpu:1", what="small"),
    ):
        with pytest.raises(InvalidInputError, match="SGD_SMALL_API_KEY holds no key") as caught:
            call()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="api_key holds no key") as told:
        ChatEndpoint(url="http://gpu:1", api_key=SecretStr(text))
    assert "s3cret" not in str(told.value)
    urls = ["--large", "http://gpu:1", "--small", "http://gpu:1"]
    assert main(["plan", "Why?", *urls]) == USAGE
    monkeypatch.setenv("SGD_PROXY_API_KEY", text)
    monkeypatch.delenv("SGD_SMALL_API_KEY")
    assert main(["proxy", *urls]) == USAGE
    assert "s3cret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("host", ["gpu:8000", "api.openai.com.evil.org", "myapi.openai.com.evil"])
def test_a_companys_key_goes_to_no_other_host(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HOSTED.values():
        monkeypatch.setenv(name, "secret")
    assert key(f"https://{host}") is None
    assert key("http://api.openai.com") is None  # nor over an open line


def test_a_companys_key_goes_to_its_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert key("https://api.openai.com/v1") == "secret"
    assert key("https://eu.api.openai.com") == "secret"
    assert key("https://openrouter.ai/api") is None
