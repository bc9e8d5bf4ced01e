"""A secret in the wrong place is shown by no error, however it is read."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Self

import pytest
from pydantic import ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from langchain_sgd import ChatSGD, SGDRunnable
from langchain_sgd.discreet import Discreet
from langchain_sgd.models import ChatEndpoint
from langchain_sgd.tgi import ChatTGI
from tests.support.models import Stage

SECRET = "SECRET"
URL, KEY = f"http://user:PW{SECRET}@host", f"K{SECRET}"
SGD = SGDRunnable(**Stage().pair())


def assigned(made: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(made, name, value)


def made(cls: Any, *given: Any, **options: Any) -> Any:
    return cls(*given, **options)


class Own(SGDRunnable):
    """A user's own option, checked with all the others."""

    api_token: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.api_token:
            msg = "this token is not taken"
            raise ValueError(msg)
        return self


@pytest.mark.parametrize(
    "act",
    [
        lambda: made(Own, large=SGD.large, api_token=KEY),
        lambda: made(SGDRunnable, large=URL),
        lambda: made(SGDRunnable, large=SGD.large, api_key=KEY),
        lambda: made(SGDRunnable, large="openai:gpt", openai_api_key=KEY),
        lambda: made(SGDRunnable, tiers={"a": URL}),
        lambda: made(SGDRunnable, large={"url": URL}),
        lambda: SGDRunnable.model_validate({"large": URL}),
        lambda: SGD.model_copy(update={"large": URL}),
        lambda: assigned(SGD, large=URL),
        lambda: assigned(SGD, api_key=KEY),
        lambda: made(ChatSGD, large=URL),
        lambda: made(ChatSGD, large=SGD.large, api_keyy=KEY),
        lambda: made(ChatSGD, SGD, stop={"x": KEY}),
        lambda: made(ChatTGI, base_url=URL),
        lambda: made(ChatTGI, base_url="http://host", api_keyy=KEY),
        lambda: made(ChatEndpoint, url=URL),
        lambda: made(ChatEndpoint, url="http://host", api_keyy=KEY),
    ],
)
def test_no_error_shows_it(act: Callable[[], Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        act()
    error = caught.value
    told = [
        str(error),
        repr(error),
        repr(error.errors()),
        "".join(traceback.format_exception(error)),
    ]
    told += [error.json(), repr(error.__context__)]
    assert not [text for text in told if SECRET in text]


def test_the_error_stays_what_it_was() -> None:
    class Options(Discreet):
        number: int
        name: str = ""

        @field_validator("name")
        @classmethod
        def _named(cls, value: str) -> str:
            raise PydanticCustomError("no_name", "{name} is none", {"name": len(value)})

    with pytest.raises(ValidationError, match="2 validation errors for Options") as caught:
        Options(number=1.5, name="abc")
    number, name = caught.value.errors(include_url=False)
    assert number == {
        "type": "int_from_float",
        "loc": ("number",),
        "msg": "Input should be a valid integer, got a number with a fractional part",
        "input": 1.5,
    }
    assert name == {"type": "no_name", "loc": ("name",), "msg": "3 is none", "input": "str"}
