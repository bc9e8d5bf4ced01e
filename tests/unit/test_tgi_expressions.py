from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.expression_syntax import ExpressionError
from langchain_sgd.expressions import Expression, states_of


@pytest.mark.parametrize(
    ("text", "states"),
    [
        # Measured with what TGI compiles by, interegular 0.3.3.
        ("a", 2),
        ("ab*c", 4),
        ("[0-9]{3}", 4),
        ("(red|green|blue)", 13),
        ("a{0,79}", 80),
        ("(ab){2,5}", 11),
        ("(a?){3}", 4),
        ("(a*)*b", 3),
        ("(a|b)*a(a|b){4}", 33),
        (r"[^\n]{1,20}\|[1-5]", 60),
        ("(a{1,3}){1,3}", 10),
        ("(?:a|)b", 3),
        ("(?P<n>a)", 2),
        ('{"a"}', 6),
        ("", 1),
    ],
)
def test_states(text: str, states: int) -> None:
    assert states_of(text, 1000) == states
    if states > 2:
        assert states_of(text, states - 2) == states - 1


@pytest.mark.parametrize(
    "bomb", ["a{100000000}", "(a{1,999}){1,999}b", "(a|b)*a(a|b){40}", "a{0,4000}", "a" * 5000]
)
def test_what_is_far_too_large_is_known_soon(bomb: str) -> None:
    began = time.process_time()
    assert states_of(bomb, 300) == 301
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("^ab$", "the anchor ^ at character 1"),
        ("ab$", "the anchor $ at character 3"),
        (r"a\b", r"the anchor \b"),
        ("[0-9", "opens a class"),
        ("(?=a)b", "looks ahead or behind"),
        ("(?<!a)b", "looks ahead or behind"),
        ("(?i)ab", "flags"),
        ("(?>a)", "extension"),
        ("(?P<>a)", "without a name"),
        (r"(a)\1", "refers back"),
        (r"\p{L}", r"\p, which TGI does not know"),
        (r"\u00e9", r"\u, which TGI does not know"),
        (r"\x4", "hexadecimal"),
        ("a++", "repeats what is repeated"),
        ("*a", "repeats nothing"),
        ("a{", "counts nothing"),
        ("a{,}", "counts nothing"),
        ("a{3,1}", "counts down"),
        ("a)", "closes nothing"),
        ("(a", "opens a group"),
        ("[]a]", "empty class"),
        ("[z-a]", "range"),
        ("a\\", "escape"),
        ("(" * 5000, "groups"),
    ],
)
def test_what_tgi_cannot_take_is_named_with_the_way_out(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        states_of(text, 300)
    assert words in str(caught.value)
    assert str(caught.value).count(".") >= 1


@given(st.text(st.sampled_from(r"ab01()[]{}|*+?.^$\-,dnx"), max_size=12))
def test_what_is_taken_is_an_expression_of_python_too(text: str) -> None:
    try:
        states = states_of(text, 200)
    except ExpressionError:
        return
    assert 1 <= states <= 201
    if "[" not in text:  # a [ inside a class is a warning there
        re.compile(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a|", "(?:a)?"),
        ("|a", "(?:a)?"),
        ("(|)", ""),
        ("a||b", "(?:a|b)?"),
        ("x(a|)y", "x(?:(?:a)?)y"),
        ("a{,3}", "a{0,3}"),
        ("a{0}b", "b"),
        ("(a?)*", "(?:a{0,1})*"),
        ("[\n]", r"\u000a"),
        ("[\r\t]", r"[\u0009\u000d]"),
        ("{", r"\u007b"),
        (r"\/", r"\u002f"),
        (r"\x41b", "Ab"),  # xgrammar takes every hexadecimal digit for one of the number
        (".", r"[^\u0000\u000a]"),
        (r"[^\x00-\x1f]", r"[^\u0000-\u001f]"),
        ("[\0-\x1f]", r"[\u0001-\u001f]"),
        ("a|\0", "a"),
        ("a(\0b)?", "a"),
        ("[\ud800-\ue000]", "\ue000"),
        ("(?P<n>é)", "é"),
    ],
)
def test_an_expression_is_written_in_what_all_engines_read_alike(text: str, same: str) -> None:
    assert Expression(text).text == same


@pytest.mark.parametrize("text", ["\0", r"a\x00b", "[\0]+", r"[^\s\S]", r"a(b[^\d\D])c", "\ud800"])
def test_what_nothing_matches_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="nothing matches it"):
        Expression(text)


@given(
    st.text(st.sampled_from(r"ab01()[]{}|*+?.\-,ndx"), max_size=10),
    st.lists(st.text("ab01-,\n|x", max_size=5), max_size=8),
)
def test_what_is_written_matches_the_same(text: str, found: list[str]) -> None:
    try:
        written = Expression(text).text
    except ExpressionError:
        return
    # Python takes a { that counts nothing, and a [ in a class, for something else or warns of it.
    if "[" not in text and "{" not in text:
        for each in found:
            same = re.fullmatch(text, each) is None
            assert (re.fullmatch(written, each) is None) == same
    re.compile(written)


def test_what_would_break_a_json_string_is_seen() -> None:
    assert Expression(".*").can_match_any_of('"')
    assert Expression(r"a[^b]").can_match_any_of("\\")
    assert not Expression(r"[a-z]{2}\d").can_match_any_of('"\\\n')
