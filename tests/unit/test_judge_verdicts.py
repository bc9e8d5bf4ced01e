from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_sgd.judging import outcome_of, parse_verdict
from langchain_sgd.judging.verdicts import Verdict

FORMS = (
    "{}",
    "**{}**",
    "`{}`",
    '"{}"',
    "Verdict: {}",
    "**Verdict:** {}",
    "**Verdict: {}**",
    "verdict - {}.",
    "Final verdict: {}",
    "### Verdict: {}",
    "[[{}]]",
    "So my final verdict is {}.",
    '{{"verdict": "{}"}}',
    "Verdict: {}, because the other one contradicts itself.",
    "Verdict: {} (by a small margin)",
)
VERDICTS: tuple[Verdict, ...] = ("A", "B", "tie")


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("form", FORMS)
def test_the_verdict_is_found_in_every_form(form: str, verdict: Verdict) -> None:
    assert parse_verdict(form.format(verdict)) == verdict
    assert parse_verdict(form.format(verdict).lower()) == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Answer B is better.", "B"),
        ("Answer A is clearly better than answer B", "A"),
        ("B is better than A.", "B"),
        ("I prefer response A.", "A"),
        ("The better answer is B", "B"),
        ("The winner is Assistant A!", "A"),
        ("It is a tie.", "tie"),
        ("A tie", "tie"),
        ("Verdict: a draw", "tie"),
        ("Answers A and B are equally good.", "tie"),
        ("[[C]]", "tie"),
        ("Therefore [[A]].", "A"),
        ("Verdict: B\n\nI hope this helps!", "B"),
        ("Verdict: A\n```", "A"),
        ("Verdict: A\nNo, wait.\nVerdict: B", "B"),
        ("<think>\nVerdict: A\n</think>\nVerdict: B", "B"),
        ("Verdict: A\nNo, wait.\nSo my final verdict is B.", "B"),
        ("Verdict: B\nOverall, it is a much better answer.", "B"),
        ("Verdict: B\n\nIn conclusion, this is a good one.", "B"),
        ("Verdict: B\nA better answer.", "B"),
        ("Verdict: tie\nI would say it is a good answer.", "tie"),
        ("[[B]]\nA is a good answer, too.", "B"),
        ("Answer B is a better answer.", "B"),
        ("B is a much better answer.", "B"),
        ("A is a good answer.", "A"),
        ("answer a is better", "A"),
        ("the winner is a", "A"),
        ("A better than B", "A"),
        ("B is a better answer.", "B"),
        ("A better answer is B", "B"),
    ],
)
def test_what_judges_write(text: str, verdict: Verdict) -> None:
    assert parse_verdict(text) == verdict


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize(
    "form",
    [
        "{} clearly wins.",
        "**{}** clearly wins",
        "{} much better.",
        "{} slightly better",
        "Answer {} clearly wins.",
        "Assistant {} preferred",
        "{}, clearly.",
        "Overall: {} clearly better.",
        "{} \u2014 much better",
        "{} preferred",
        "{} good.",
        "Answer {}: better answer.",
    ],
)
def test_what_describes_a_side_is_read_alike_for_both(form: str, side: Verdict) -> None:
    assert parse_verdict(form.format(side)) == side


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        "Both have merits, and I would need to know more.",
        "Verdict: A, B or tie",
        "Verdict: A or B",
        "A, B, tie",
        "A or B",
        "A is not better",
        "A is worse than B",
        "A good answer names its sources.",
        "[[A]] or [[B]]",
        "Verdict:",
        "Verdict: C",
        "<think>\nVerdict: A",
        "Verdict: A\n1\n2\n3",
        "A and B",
        "Overall, it is a better response.",
        "The response is a good one.",
        "I judge the answer a good one.",
        "I prefer a better one",
        "A better answer.",
    ],
)
def test_what_is_no_clear_verdict(text: str) -> None:
    assert parse_verdict(text) is None


@given(st.text(), st.sampled_from(FORMS), st.sampled_from(VERDICTS))
def test_prose_before_the_last_line_changes_nothing(
    prose: str, form: str, verdict: Verdict
) -> None:
    if "<" not in prose:  # it may open a thought that never ends
        assert parse_verdict(f"{prose}\n{form.format(verdict)}\n") == verdict


@given(st.text(alphabet="ABab tieTIE.:[]*\nordanwl<>think/"))
@example("than")
def test_any_text_has_one_verdict_or_none(text: str) -> None:
    assert parse_verdict(text) in {"A", "B", "tie", None}


@given(st.sampled_from((*VERDICTS, None)), st.sampled_from((*VERDICTS, None)))
def test_sides_that_swap_swap_the_outcome(one: Verdict | None, two: Verdict | None) -> None:
    mirrored = {"win": "lose", "lose": "win", "tie": "tie"}
    assert outcome_of(two, one) == mirrored[outcome_of(one, two)]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("A", "B", "win"),
        ("B", "A", "lose"),
        ("A", "A", "tie"),
        ("B", "B", "tie"),
        ("A", "tie", "tie"),
        ("tie", "tie", "tie"),
        (None, "B", "tie"),
        (None, None, "tie"),
    ],
)
def test_only_both_orders_together_decide(
    first: Verdict | None, second: Verdict | None, outcome: str
) -> None:
    assert outcome_of(first, second) == outcome
