"""What `help` shows first of the two classes that people use."""

from __future__ import annotations

import inspect
import pydoc
import re
import textwrap
from typing import Any

import pytest

from langchain_sgd import ChatSGD, SGDRunnable

SCREEN = 40
"""Lines of a terminal."""


def first_of_help(value: Any) -> list[str]:
    """What stands before the methods, as lines of a wide terminal.

    Without a signature of many lines: since Python 3.13 each parameter of a long one has a line of its own.
    """
    text = pydoc.plain(pydoc.render_doc(value)).partition("Method resolution order")[0]
    text = re.sub(r"^ \|  \w+\(\n.*?^ \|  \)[^\n]*\n", "", text, flags=re.MULTILINE | re.DOTALL)
    return [part for line in text.splitlines() for part in textwrap.wrap(line, 120) or [""]]


@pytest.mark.parametrize("value", [SGDRunnable, ChatSGD])
def test_what_it_is_and_an_example_come_first(value: Any) -> None:
    lines = (inspect.getdoc(value) or "").partition("\nArgs:")[0].splitlines()
    assert len(lines) <= SCREEN
    assert lines[0].startswith("Skeleton Graph Decoding")
    assert any(">>> from langchain_sgd import" in line for line in first_of_help(value)[:SCREEN])


def test_the_options_are_seen_on_the_first_screen_each_in_one_group() -> None:
    screen = "\n".join(first_of_help(SGDRunnable)[:SCREEN])
    groups = re.findall(r"- [a-z ]+: (.*)", screen)
    listed = re.findall(r"`([a-z_]+)`", " ".join(groups))
    options = set(SGDRunnable.model_fields) - {"name"}
    assert sorted(listed) == sorted(options)
    assert all(SGDRunnable.model_fields[name].description for name in options)


def test_help_tells_what_each_option_means_in_a_sentence_of_its_description() -> None:
    told = (inspect.getdoc(SGDRunnable) or "").partition("\nArgs:\n")[2]
    entries = dict(re.findall(r"^    ([a-z_]+): ((?:.+\n?)(?:        .+\n?)*)", told, re.MULTILINE))
    for name in set(SGDRunnable.model_fields) - {"name"}:
        meaning = " ".join(entries[name].split())
        assert (SGDRunnable.model_fields[name].description or "").startswith(meaning)
        assert meaning.endswith(".")
    assert max(map(len, told.splitlines())) <= 100


def test_the_signature_has_every_option_with_its_default() -> None:
    parameters = inspect.signature(SGDRunnable).parameters
    assert list(parameters) == list(SGDRunnable.model_fields)
    assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["threshold"].default == SGDRunnable.model_fields["threshold"].default
    assert len(str(inspect.signature(SGDRunnable))) < 1000
