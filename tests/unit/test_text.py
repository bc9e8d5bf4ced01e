from __future__ import annotations

import itertools
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_sgd import surrogates, text, thoughts
from langchain_sgd.planning.drafts import Draft
from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.surrogates import Repair, repaired
from langchain_sgd.text import AnswerFilter
from langchain_sgd.thoughts import ThoughtFilter, without_thoughts
from tests.support.chunks import cut, pieces, two_cuts

FRAGMENTS = (
    *("<think>", "</think>", "<thinking>", "</thinking>", "<thought>", "</reasoning>", "<th", "<"),
    *(
        "\n",
        "\r\n",
        " ",
        "    ",
        "word",
        "## Costs",
        "1. **Costs:**",
        "Costs",
        "Cos",
        "42",
        "---",
        "é",
    ),
    *("`", "```", "~~~", '"', "> ", "- ", ".", "[THINK]", "[/THINK]", "\ufeff", "\ud83d", "\ude00"),
)
TAGS = r"</?(think|thinking|thought|reasoning)>|\[/?THINK\]"
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=12).map("".join)


def through(filter_: ThoughtFilter | AnswerFilter, chunks: Iterable[str]) -> str:
    """What a reader has seen at the end, who drops what counts no longer."""
    shown, restarted = "", False
    for step in (*(lambda c=chunk: filter_.feed(c) for chunk in chunks), filter_.close):
        text = step()
        if filter_.restarted is not restarted:
            shown, restarted = "", filter_.restarted
        shown += text
    return shown


def words_of(line: str) -> list[str]:
    """Words by letters and digits alone, in one form for all that look or mean the same."""
    bare = (c for c in line if not unicodedata.category(c).startswith("M"))
    folded = "".join(f"{c}" if c.isalnum() else " " for c in bare)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", folded).casefold())
    return "".join(c for c in folded if c.isalnum() or c == " ").split()


def behind_labels(words: list[str]) -> list[str]:
    """What the words may say, without one label or more: "Part 2.1: costs" is "costs"."""
    labels = [*itertools.takewhile(text._LABEL.fullmatch, words[:4])]
    numbers = [at for at, word in enumerate(labels, 1) if text._NUMBER.fullmatch(word)]
    return ["".join(words[at:]) for at in (0, *numbers)]


def as_answer(answer: str, heading: str) -> str:
    """What `AnswerFilter` does behind the thoughts, over the whole text."""
    answer = through(ThoughtFilter(), [answer]).lstrip()
    line, newline, rest = answer.partition("\n")
    whole, *without = behind_labels(words_of(heading))
    wanted = (without[-1] if without else whole) or whole
    is_text = line[:1] in set("|`~$<{\\") or len(line) > len(heading) + 40
    if newline and wanted and not is_text and wanted in behind_labels(words_of(line)):
        rule = r"(?:([-=*_—─━═])\1+[^\S\n]*(?:\n|\Z))?"
        answer = re.sub(rf"\A{rule}", "", rest.lstrip()).lstrip()
    return answer.rstrip()


LITERAL = [
    "stray</think>, as they say",
    "It writes `<think>` first.",
    "It ends with `</think>` and goes on.",
    "The </think> tag ends it.",
    'It writes "</think>" at the end.',
    "> </think>\nis quoted",
    "```\n<think>\nhello\n</think>\n```\nrest",
    "~~~html\n</think>\n~~~\n",
    "- ```\n  </think>\n  ```\n",
    "```` md\n```\n</think>\n````\n",
    "Like this:\n\n    <think>\n    steps\n",
    "Write it like this:\n\n<reasoning>\nyour steps here\n\nThen more text.",
    "a\n> <think>\nb",
    'a\n"<think>"\nb',
    "a < b, x <thin",
    "<thin",
    "<think",
    "<Think>kept</Think>",
    "[link](x) and [THINKING]",
    "plain",
    "",
]


class TestThoughtFilter:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("<think>a</think>b", "b"),
            ("<think>a</think>\n\nb", "\n\nb"),
            ("a\n  <thinking>x</think></thinking>b", "a\n  b"),
            ("<think>a</think><think>b</think>c", "c"),
            ("    <think>a</think>c", "    c"),
            ("<reasoning>never closed", ""),
            ("[THINK]a[/THINK]b", "b"),
            ("◁think▷a◁/think▷b", "b"),
            ("<think>say `</think>` or not</think>b", "b"),
            ("\ufeff<think>a</think>b", "b"),
            # Templates that open the thought themselves: all before the closing tag is one.
            ("Hm.\nOK.\n</think>\n\nb", "b"),
            ("Hm</think>b", "b"),
            ("Hm. </think> b", "b"),
            ("</think>b", "b"),
            ("Hm\n</think>\n<think>more</think>b", "b"),
            ("Hm\n</think>\n\nSay `</think>`.", "Say `</think>`."),
            ("Hm\n</think>\n\nb\n</think>\nc", "b\n</think>\nc"),
            # Nothing follows: what stands there is all there is.
            ("The answer.</think>", "The answer."),
            ("The answer.\n</think>\n \n", "The answer.\n"),
            *((each, each) for each in LITERAL),
        ],
    )
    def test_what_is_shown_however_it_is_cut(self, text: str, shown: str) -> None:
        for chunks in two_cuts(text):
            assert through(ThoughtFilter(), chunks) == shown, chunks
        assert through(ThoughtFilter(), text) == shown
        assert without_thoughts(text) == shown

    @given(data=st.data(), text=texts, opened=st.booleans())
    def test_chunks_do_not_matter(self, data: st.DataObject, text: str, *, opened: bool) -> None:
        thought: dict[bool, list[str]] = {True: [], False: []}
        by_chunks = ThoughtFilter(opened, thought[True].append)
        at_once = ThoughtFilter(opened, thought[False].append)
        assert through(by_chunks, data.draw(cut(text))) == through(at_once, [text])
        assert by_chunks.thinking is at_once.thinking
        assert by_chunks.restarted is at_once.restarted
        assert "".join(thought[True]) == "".join(thought[False])

    @given(texts)
    def test_nothing_is_lost_but_tags(self, text: str) -> None:
        thought: list[str] = []
        filter_ = ThoughtFilter(on_thought=thought.append)
        shown = through(filter_, [text])
        assume(not filter_.restarted)  # what was given counts as handed out

        def bare(text: str) -> list[str]:
            return sorted("".join(re.sub(TAGS, "", text).split()))

        assert bare(repaired(text.lstrip("\ufeff"))) == bare(f"{shown} {''.join(thought)}")

    @given(st.text(st.characters(exclude_characters="<[◁\ufeff", exclude_categories=["Cs"])))
    def test_text_without_tags_stays_as_it_is(self, text: str) -> None:
        assert through(ThoughtFilter(), list(text)) == text

    def test_text_without_tags_passes_at_once(self) -> None:
        thoughts = ThoughtFilter()
        assert [thoughts.feed(c) for c in ("a", " < ", "b[0]", "c")] == ["a", " < ", "b[0]", "c"]

    def test_a_possible_tag_is_held_no_longer_than_needed(self) -> None:
        thoughts = ThoughtFilter()
        assert [thoughts.feed(c) for c in ("<", "th", "e x")] == ["", "", "<the x"]
        assert [thoughts.feed(c) for c in (" <", "/div", "> </think", ">", " x")] == [
            " ",
            "</div",
            "> ",
            "",
            "</think> x",
        ]

    def test_a_thought_is_handed_out_as_it_comes(self) -> None:
        thought: list[str] = []
        thoughts = ThoughtFilter(on_thought=thought.append)
        chunks = ["<think>It seems to be 4", ", and it", " is.</think>Four."]
        assert [thoughts.feed(c) for c in chunks] == ["", "", "Four."]
        assert len(thought) > 1
        assert "".join(thought) == "It seems to be 4, and it is."

    def test_a_thought_that_was_cut_is_told(self) -> None:
        thoughts = ThoughtFilter()
        assert through(thoughts, ["<think>Hm", " so"]) == ""
        assert thoughts.thinking

    def test_what_was_given_is_called_back_when_the_answer_begins(self) -> None:
        thoughts = ThoughtFilter()
        steps = [(thoughts.feed(c), thoughts.restarted) for c in ("Hm.\n", "</think>", "\n", "b")]
        assert steps == [("Hm.\n", False), ("", False), ("", False), ("b", True)]

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Hm.\n</think>\n\nb", "\n\nb"),
            ("<think>Hm.\n</think>b", "b"),
            ("no thought this time", "no thought this time"),
            ("<think>cut", ""),
        ],
    )
    def test_a_server_known_to_open_thoughts(self, text: str, shown: str) -> None:
        for chunks in two_cuts(text):
            thoughts = ThoughtFilter(opened=True)
            assert through(thoughts, chunks) == shown
            assert not thoughts.restarted


class TestRepair:
    @given(st.data(), st.text(st.sampled_from("a\ud83d\ude00\ud800\udfff\ufeff😀é")))
    def test_every_text_can_be_encoded_however_it_is_cut(
        self, data: st.DataObject, text: str
    ) -> None:
        repair = Repair()
        made = "".join([*map(repair.feed, data.draw(cut(text))), repair.close()])
        assert made == repaired(text.lstrip("\ufeff"))
        made.encode()

    def test_halves_are_joined_and_lone_ones_replaced(self) -> None:
        assert repaired("a\ud83d\ude00b\ud83dc\ude00") == "a😀b\ufffdc\ufffd"
        assert repaired("\ud83d\ud83d\ude00\ud83d") == "\ufffd😀\ufffd"

    def test_half_a_pair_waits(self) -> None:
        repair = Repair()
        assert [repair.feed(c) for c in ("a\ud83d", "\ude00b")] == ["a", "😀b"]

    def test_a_mark_at_the_beginning_takes_nothing_with_it(self) -> None:
        assert through(AnswerFilter("Costs"), ["\ufeff", "## Costs\n", "They rise.\ufeff"]) == (
            "They rise.\ufeff"
        )


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
            ("Costs", "They want costs.\n</think>\n\n## Costs\n\nx", "x"),
            ("Costs", "## Costs\nHm.\n</think>\n\n## Costs\n\nx", "x"),
            ("Costs", "## Costs\n## Costs\nx", "## Costs\nx"),
            ("A - b", "## A - b:\nx", "x"),
            ("3 ways to save", "## 3 ways to save\nx", "x"),
            ("2024", "## 2024\nx", "x"),
            ("2024", "2025\nx", "2025\nx"),
            ("Straße", "## STRASSE\nx", "x"),
            # Signs, accents, widths and quotation marks do not count.
            ("成本", "**成本：**\nx", "x"),  # noqa: RUF001
            ("成本", "【成本】\nx", "x"),
            ("成本", "《成本》\nx", "x"),
            ("Costs", '"Costs" –\nx', "x"),  # noqa: RUF001
            ("Café", "Cafe\u0301\nx", "x"),
            ("Don't panic", "Don’t panic!\nx", "x"),  # noqa: RUF001
            ("What is tea?", "## What Is Tea\nx", "x"),
            ("ＡＩ 2", "## AI ②\nx", "x"),  # noqa: RUF001
            ("파트 둘", unicodedata.normalize("NFD", "파트 둘") + "\nx", "x"),
            # Nor do numbers in front.
            ("成本", "1、成本\nx", "x"),
            ("成本", "一、成本\nx", "x"),
            ("成本", "第一部分：成本\nx", "x"),  # noqa: RUF001
            ("Costs", "Part 1: Costs\nx", "x"),
            ("Costs", "Chapter 2.1 – Costs\nx", "x"),  # noqa: RUF001
            ("Costs", "1.2.3.4 Costs\nx", "x"),
            ("Costs", "1.2.3.4.5 Costs\nx", "1.2.3.4.5 Costs\nx"),
            ("Costs", "II. Costs\nx", "x"),
            ("Kosten", "Teil 1: Kosten\nx", "x"),
            ("Coûts", "Partie 1 : Coûts\nx", "x"),
            ("Koszty", "Część 1. Koszty\nx", "x"),
            ("Расходы", "Часть 1. Расходы\nx", "x"),
            ("비용", "제1부: 비용\nx", "x"),
            ("Part 2: Costs", "Costs\nx", "x"),
            ("Section 230", "## Section 230\nx", "x"),
            ("Section 230", "Section 231\nx", "Section 231\nx"),
            ("Part-time work", "Part-time work\nx", "x"),
            # A heading's underline, or a rule, goes with it.
            ("Costs", "Costs\n=====\nx", "x"),
            ("Costs", "Costs\r\n-----  \r\n\r\nx", "x"),
            ("Costs", "## Costs\n\n---\n\nx", "x"),
            ("Costs", "Costs\n=====", ""),
            ("Costs", "Costs\n==-\nx", "==-\nx"),
            ("Costs", "Costs\n== =\nx", "== =\nx"),
            ("Costs", "Costs\n- x\n- y", "- x\n- y"),
            ("Costs", "Costs\n**They** rise.", "**They** rise."),
            ("Costs", "Costs\n-----\n-----\nx", "-----\nx"),
            ("Costs", "=====\nx", "=====\nx"),
            # What goes on is text, and so are tables and code.
            ("Costs", "**Costs:** They rise.\nx", "**Costs:** They rise.\nx"),
            ("Costs", "Part 1 costs\nmore", "more"),
            ("Costs", "Part of the costs\nx", "Part of the costs\nx"),
            ("成本", "成本很低。\nx", "成本很低。\nx"),
            ("JSON", "```json\n{}\n```", "```json\n{}\n```"),
            ("Costs", "| Costs |\n|---|\n| 5 |", "| Costs |\n|---|\n| 5 |"),
            ("?!", "?!\nx", "?!\nx"),
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
        cuts = two_cuts(text) if len(text) < 50 else [[text], list(text)]
        for chunks in cuts:
            assert through(AnswerFilter(heading), chunks) == shown, chunks

    @given(
        st.data(), texts, st.sampled_from(["", "Costs", "1. Costs", "42", "é", "-", "a <b", "Word"])
    )
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
        for first in (
            "A",
            "De",
            "In",
            "Il",
            "It",
            "For",
            "This",
            "When",
            "Les",
            "Der",
            "Ein",
            "长城",
        ):
            assert AnswerFilter("Costs").feed(first) == first
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

    def test_an_answer_that_was_cut_in_its_thought_is_told(self) -> None:
        answer = AnswerFilter("Costs")
        assert through(answer, ["<think>", "Hm"]) == ""
        assert answer.thinking

    def test_thoughts_are_handed_out(self) -> None:
        thought: list[str] = []
        answer = AnswerFilter("", on_thought=thought.append)
        assert through(answer, ["<think>Hm", "</think>b"]) == "b"
        assert "".join(thought) == "Hm"


class TestPlans:
    @pytest.mark.parametrize(
        "thought",
        [
            "I will plan:\n1|X|draft|-|1\nno, better\n",
            '{"nodes": [{"id": 1, "heading": "X", "scope": "x"}, {"id": 2, "he',
            "1|X|draft\n```\n1|Y|z|-|1\n```\n",
        ],
    )
    def test_a_draft_in_a_thought_that_the_template_opened_counts_no_longer(
        self, thought: str
    ) -> None:
        text = f"{thought}\n</think>\n\n1|A|a|-|1\n2|B|b|1|2\n"
        for places in (range(len(text)), [len(text) // 2], []):
            parser, drafts = SkeletonParser(), list[Draft]()
            for chunk in [*pieces(text, places), None]:
                voided = parser.voided
                read = parser.close() if chunk is None else parser.feed(chunk)
                drafts = read if parser.voided > voided else drafts + read
            assert [draft.heading for draft in drafts] == ["A", "B"]
            assert parser.unread == []


# -- the cost


FILES = {surrogates.__file__, text.__file__, thoughts.__file__}


def work(filter_: AnswerFilter, chunks: Iterable[str]) -> int:
    """Lines that run, each as much as the text that it can reach, so that copies count too."""
    done = 0

    def measure(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal done
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            done += 1 + sum(len(v) for v in frame.f_locals.values() if isinstance(v, str))
        return measure

    before = sys.gettrace()
    sys.settrace(measure)
    try:
        for chunk in chunks:
            filter_.feed(chunk)
        filter_.close()
    finally:
        sys.settrace(before)
    return done


JUNK = (
    *("<", "\n", "*", "<think", "\n<", "a\n", "<think>\n", "- ", " ", "`</think>` ", "</think>\n"),
    *("a</think", "`", "```\n", "[THINK", "\ud83d", '"</think>"', "<think>a</think>", "."),
)


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("begin", ["", "x", "`", "<think>", "a\n<think>"])
def test_each_token_costs_the_same(begin: str, junk: str) -> None:
    def cost(size: int) -> int:
        return work(AnswerFilter("Costs"), [begin, *(junk * size)[:size]])

    assert cost(800) < 2.3 * cost(400) + 5_000


@pytest.mark.parametrize("char", ["h", ".", " ", "ß", "1", "i "])
def test_a_long_heading_costs_each_token_the_same(char: str) -> None:
    def cost(size: int) -> int:
        return work(AnswerFilter("h" + char * size + "q"), ["h", *(char * (size + 60))])

    assert cost(800) < 2.3 * cost(400) + 20_000


@pytest.mark.parametrize("junk", [*JUNK, "a" + " " * 40_000 + "b", "x" + "-" * 40_000 + "x"])
@pytest.mark.parametrize("begin", ["", "x"])
def test_the_cost_of_a_text_that_comes_at_once_is_linear(begin: str, junk: str) -> None:
    text = begin + junk * max(100_000 // len(junk), 1)
    began = time.process_time()
    through(AnswerFilter("Costs"), [text])
    # Linear work takes a tenth of this; quadratic work, ten times as long.
    assert time.process_time() - began < 2.0


def test_an_answer_has_begun_before_it_is_shown() -> None:
    written = AnswerFilter("Costs of rent")
    for blank in ("", "\n ", "<think>Costs", " high</think>\n"):
        assert written.feed(blank) == ""
        assert not written.begun
    assert written.feed("Costs of") == ""
    assert written.begun
    assert written.feed(" living") == "Costs of living"
    assert written.begun
