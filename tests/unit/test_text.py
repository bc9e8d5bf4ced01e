from __future__ import annotations

import re
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.text import AnswerFilter, ThoughtFilter
from tests.support.chunks import cut, pieces, two_cuts

FRAGMENTS = (
    *("<think>", "</think>", "<thinking>", "</thinking>", "<thought>", "</reasoning>", "<th", "<"),
    *("\n", "\r\n", " ", "word", "## Costs", "1. **Costs:**", "Costs", "Cos", "42", "---", "é"),
)
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=12).map("".join)


def without_thoughts(text: str) -> str:
    """What `ThoughtFilter` does, over the whole text and one character at a time."""
    shown, at = "", 0
    while at < len(text):
        tag = re.match(r"<(think|thinking|thought|reasoning)>", text[at:])
        if tag and not shown.rpartition("\n")[2].strip():
            end = text.find(f"</{tag[1]}>", at + len(tag[0]))
            at = len(text) if end < 0 else end + len(tag[0]) + 1
        else:
            shown += text[at]
            at += 1
    return shown


def as_answer(text: str, heading: str) -> str:
    """What `AnswerFilter` does, over the whole text."""
    text = without_thoughts(text).lstrip()
    line, newline, rest = text.partition("\n")
    marks = r"^[\s#*_>\d.()-]+|[\s*_:.#-]+$"
    if not re.sub(marks, "", heading):
        marks = r"^[\s#*_>]+|[\s*_:#]+$"
    wanted = re.sub(marks, "", heading).casefold()
    short = len(line) <= len(heading) + 40
    if newline and wanted and short and re.sub(marks, "", line).casefold() == wanted:
        text = rest.lstrip()
    return text.rstrip()


def through(filter_: ThoughtFilter | AnswerFilter, chunks: Iterable[str]) -> str:
    return "".join([*(filter_.feed(chunk) for chunk in chunks), filter_.close()])


class TestThoughtFilter:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain", "plain"),
            ("<think>a</think>b", "b"),
            ("<think>a</think>\n\nb", "\n\nb"),
            ("a\n  <thinking>x</think></thinking>b", "a\n  b"),
            ("<think>a</think><think>b</think>c", "c"),
            ("<reasoning>never closed", ""),
            ("a < b, x <thin", "a < b, x <thin"),
            ("<thin", "<thin"),
            ("<think", "<think"),
            ("<Think>kept</Think>", "<Think>kept</Think>"),
            ("It writes `<think>` first.", "It writes `<think>` first."),
            ("stray</think>", "stray</think>"),
            ("", ""),
        ],
    )
    def test_what_is_shown_however_it_is_cut(self, text: str, shown: str) -> None:
        for chunks in two_cuts(text):
            assert through(ThoughtFilter(), chunks) == shown, chunks

    @given(st.data(), texts)
    def test_chunks_do_not_matter(self, data: st.DataObject, text: str) -> None:
        assert through(ThoughtFilter(), data.draw(cut(text))) == without_thoughts(text)

    def test_text_without_tags_passes_at_once(self) -> None:
        thoughts = ThoughtFilter()
        assert [thoughts.feed(c) for c in ("a", " < ", "b<", "c")] == ["a", " < ", "b<", "c"]

    def test_a_possible_tag_is_held_no_longer_than_needed(self) -> None:
        thoughts = ThoughtFilter()
        assert [thoughts.feed(c) for c in ("<", "th", "e x")] == ["", "", "<the x"]


class TestAnswerFilter:
    @pytest.mark.parametrize(
        ("heading", "text", "shown"),
        [
            ("Costs", "## Costs\n\nThey rise.", "They rise."),
            ("Costs", "**3. Costs:**\r\n\r\nThey rise.\n", "They rise."),
            ("Costs", "costs\nThey rise.", "They rise."),
            ("Costs", "Costs rise.\n", "Costs rise."),
            ("Costs", "Costs", "Costs"),
            ("Costs", "Costs\n", ""),
            ("Costs", "## Costs" + "-" * 60 + "\nx", "## Costs" + "-" * 60 + "\nx"),
            ("Costs", "\n\n a  \n\n b \n\n", "a  \n\n b"),
            ("Costs", "<think>Costs\n</think>\n# Costs\nx", "x"),
            ("Costs", "## Costs\n## Costs\nx", "## Costs\nx"),
            ("3 ways to save", "## 3 ways to save\nx", "x"),
            ("2024", "## 2024\nx", "x"),
            ("2024", "2025\nx", "2025\nx"),
            ("Straße", "## STRASSE\nx", "x"),
            # A plain run has no heading: its first line is text, even if it is only a number.
            ("", "42\n", "42"),
            ("", "1.\n2.\n", "1.\n2."),
            ("", "---\n\nText", "---\n\nText"),
            ("", "", ""),
            ("", "  \n ", ""),
        ],
    )
    def test_what_is_shown_however_it_is_cut(self, heading: str, text: str, shown: str) -> None:
        assert as_answer(text, heading) == shown
        cuts = two_cuts(text) if len(text) < 40 else [[text], list(text)]
        for chunks in cuts:
            assert through(AnswerFilter(heading), chunks) == shown, chunks

    @given(st.data(), texts, st.sampled_from(["", "Costs", "1. Costs", "42", "é", "-", "a <b"]))
    def test_chunks_do_not_matter(self, data: st.DataObject, text: str, heading: str) -> None:
        chunks = data.draw(cut(text))
        assert through(AnswerFilter(heading), chunks) == as_answer(text, heading)

    @given(st.data(), st.text(min_size=1, max_size=12), st.text(max_size=6))
    def test_a_repeated_heading_is_dropped_whatever_it_is(
        self, data: st.DataObject, heading: str, text: str
    ) -> None:
        heading = " ".join(heading.split())
        whole = f"## {heading}\n{text}"
        chunks = data.draw(cut(whole))
        assert through(AnswerFilter(heading), chunks) == as_answer(whole, heading)

    def test_text_is_shown_as_soon_as_it_cannot_be_the_heading(self) -> None:
        answer = AnswerFilter("Costs")
        assert [answer.feed(c) for c in ("The", " cos", "ts", " rise")] == [
            "The",
            " cos",
            "ts",
            " rise",
        ]
        answer = AnswerFilter("Costs")
        assert [answer.feed(c) for c in ("Cos", "ts", " rise", " by 2")] == [
            "",
            "",
            "Costs rise",
            " by 2",
        ]

    def test_white_space_waits_for_text(self) -> None:
        answer = AnswerFilter("")
        assert [answer.feed(c) for c in ("a \n", "\n", " b", " ")] == ["a", "", " \n\n b", ""]
        assert answer.close() == ""


@pytest.mark.parametrize("junk", ["<", "\n", "*", "<think", "\n<", "a\n", "<think>\n", "- "])
@pytest.mark.parametrize("size", [1, 10_000])
def test_the_cost_is_linear(junk: str, size: int) -> None:
    text = junk * ((30_000 if size == 1 else 100_000) // len(junk))
    chunks = pieces(text, range(0, len(text), size))
    began = time.process_time()
    through(AnswerFilter("Costs"), chunks)
    # Linear work takes a tenth of this; quadratic work, ten times as long.
    assert time.process_time() - began < 2.0
