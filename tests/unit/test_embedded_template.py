"""The chat template of a model file, which may come from anywhere."""

from __future__ import annotations

import pytest

from langchain_sgd.embedded._text import Chats
from langchain_sgd.embedded._tokenizer import Controls
from langchain_sgd.embedded.engine import EngineError, EngineInputError

HELLO = [{"role": "user", "content": "Hello <b>"}]


def template(source: str, *, strip_bos: bool = True) -> Chats:
    return Chats(source, Controls({"<s>": 1, "</s>": 2}, bos=1, eos=2, adds_bos=strip_bos))


def test_messages_come_out_as_they_are_and_the_assistant_is_asked() -> None:
    source = (
        "{{ messages[0]['content'] }}{{ eos_token }}{% if add_generation_prompt %}A:{% endif %}"
    )
    assert template(source).render(HELLO, None) == "Hello <b></s>A:"


def test_the_beginning_token_is_left_to_the_tokenizer_that_adds_it() -> None:
    source = "{{ bos_token }}{{ messages[0]['content'] }}"
    assert template(source).render(HELLO, None) == "Hello <b>"
    assert template(source, strip_bos=False).render(HELLO, None) == "<s>Hello <b>"


def test_tools_are_shown_as_plain_json() -> None:
    rendered = template("{{ tools | tojson }}").render(HELLO, [{"name": "a<b"}])
    assert rendered == '[{"name": "a<b"}]'


def test_no_tools_is_none() -> None:
    assert template("{{ tools is none }}").render(HELLO, []) == "True"


def test_what_the_template_refuses_is_the_callers_fault() -> None:
    with pytest.raises(EngineInputError, match="roles must alternate"):
        template("{{ raise_exception('roles must alternate') }}").render(HELLO, None)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[7].content }}",
        "{{ messages + 1 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
    ],
    ids=["missing", "types", "escape", "mutation"],
)
def test_what_the_template_cannot_do_is_an_input_error(source: str) -> None:
    with pytest.raises(EngineInputError, match="cannot render"):
        template(source).render(HELLO, None)


def test_a_template_that_is_no_jinja_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match=r"not valid.*line 1"):
        template("{% if %}").render(HELLO, None)


@pytest.mark.parametrize(
    ("source", "uses"),
    [("{% if tools %}{{ tools }}{% endif %}", True), ("{{ raise_exception('no tools') }}", False)],
)
def test_whether_a_template_shows_tools_is_known(source: str, uses: bool) -> None:  # noqa: FBT001
    assert template(source).uses_tools is uses
