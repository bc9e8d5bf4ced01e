"""Ends of sentences, and blocks that a text leaves open."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.prose import WORD, Blocks, closed, ends_sentence


@pytest.mark.parametrize(
    "word",
    [
        "end.",
        "Ja!",
        'so."',
        "gut.“",
        "gut.«",
        "so.)**",
        "so.[12]",
        "so.[^a]",
        "so.³",
        "so.(3)",
        "है।",
        "好。”",
    ],
)
def test_how_sentences_end(word: str) -> None:
    assert ends_sentence(word)


@pytest.mark.parametrize(
    "word",
    [
        "",
        "end",
        "3.",
        "e.g.",
        "Mio.",
        "(bzw.",
        "А.",  # noqa: RUF001
        "Mt.",
        "3.5",
        "a[1]",
        "“",
        "so:",
        "end,",
        "..x",
    ],
)
def test_how_they_do_not(word: str) -> None:
    assert not ends_sentence(word)


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("Text alone.", ""),
        ("```py\nx", "\n```"),
        ("- one\n  ```py\n  x", "\n```"),
        ("````\n```\nx", "\n````"),
        ("~~~\n```\nx", "\n~~~"),
        ("```py\nx\n```", ""),
        ("`code` and ```more``` in a line", ""),
        ("$$\nx = 5", "\n$$"),
        ("$$x = 5$$", ""),
        ("The formula is $$\nx", "\n$$"),
        ("It costs $5 or $$.", ""),
        ("$$\nx\n\nA new paragraph", ""),
        ("\\[\nx = 5", "\n\\]"),
        ("\\begin{align}\n\\begin{cases}\nx", "\n\\end{cases}\n\\end{align}"),
        ("\\begin{align}\nx\n\\end{align}", ""),
        ("<details>\n<summary>More</summary>\n```\nx", "\n```\n</details>"),
        ("<details>\nx\n</details>", ""),
        ("Write <table> in a line", ""),
        ("| a |\n|---|", ""),
    ],
)
def test_what_closes_a_text(text: str, closing: str) -> None:
    assert closed(text) == closing
    assert closed(text + closing) == ""


LINES = st.sampled_from(
    [
        "```",
        "````",
        "~~~",
        "$$",
        "\\[",
        "\\]",
        "\\begin{a}",
        "\\end{a}",
        "<details>",
        "</details>",
        "",
        "text",
        "| a |",
        "- ```",
        "x $$",
    ]
)


@given(st.lists(LINES, max_size=12))
def test_what_is_closed_leaves_nothing_open(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert closed(text + closed(text)) == ""


def test_the_head_of_a_table_is_open_until_its_first_row() -> None:
    blocks = Blocks()
    found = []
    for line in ("Text", "| a |", "|---|", "| 1 |", "| 2 |", "Text"):
        blocks.feed(line)
        found.append(blocks.is_open)
    assert found == [False, True, True, False, False, False]


def test_words_have_their_vowel_signs() -> None:
    assert WORD.findall("हिन्दी में") == ["हिन्दी", "में"]
    assert WORD.findall("Öl, 2nd") == ["Öl", "2nd"]


@pytest.mark.parametrize("junk", ["<pre ", "$$ ", "\\begin{a}", "</pre>", "|", "> "])
def test_the_cost_is_linear(junk: str) -> None:
    began = time.process_time()
    closed(junk * (200_000 // len(junk)))
    assert time.process_time() - began < 2.0
