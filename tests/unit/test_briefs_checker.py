"""The checker must accept every right answer and name what is wrong with each wrong one."""

from __future__ import annotations

import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.checker import (
    Share,
    Tally,
    check,
    check_section,
    section_chance,
    split,
)
from langchain_sgd.embedded.briefs.texts import SECTIONS

seeds = st.integers(0, 2**32 - 1)


def brief_with(*headings: str) -> domain.Brief:
    return next(
        b for b in domain.briefs(0, held_out=True) if all(h in b.headings for h in headings)
    )


def sections_of(brief: domain.Brief, seed: int, **changed: dict[str, str]) -> dict[str, str]:
    """Right sections, some of them written with other facts."""
    rng = random.Random(seed)
    facts = brief.invent(rng)
    return {
        h: grammar.render(SECTIONS[h], {**facts, **changed.get(h, {})}, rng)[0]
        for h in brief.order(rng)
    }


def joined(sections: dict[str, str]) -> str:
    return "\n\n".join(f"## {h}\n\n{text}" for h, text in sections.items())


@given(seeds)
def test_right_answers_are_exact(seed: int) -> None:
    brief = next(domain.briefs(seed, held_out=True))
    checked = check(brief.question, joined(sections_of(brief, seed)))
    assert checked.exact
    assert all(s.right and s.agreeing == s.repeated for s in checked.sections)


@given(seeds)
def test_right_short_answers_are_exact_and_others_are_not(seed: int) -> None:
    plain = next(domain.plains(seed, held_out=True))
    text, _ = grammar.render(plain.slots, plain.facts, random.Random(seed))
    assert check(plain.question, f"{text}\n").exact
    assert not check(plain.question, text.replace(text.split()[-1], "nothing.")).exact
    assert not check(plain.question, "").exact


@given(seeds, st.data())
def test_any_changed_word_or_number_is_found(seed: int, data: st.DataObject) -> None:
    brief = next(domain.briefs(seed, held_out=True))
    answer = joined(sections_of(brief, seed))
    words = list(re.finditer(r"[A-Za-z]+|\d+", answer))
    word = data.draw(st.sampled_from(words))
    changed = str(int(word[0]) + 100) if word[0].isdigit() else f"{word[0]}x"
    assert not check(brief.question, answer[: word.start()] + changed + answer[word.end() :]).exact


@pytest.mark.parametrize(
    ("heading", "fact", "value", "wrong"),
    [
        ("Slogan", "name", "Lucky Fox", "agreeing"),
        ("Invitation", "date", "29 May", "agreeing"),
        ("Invitation", "town", "Paris", "question_facts"),
        ("Price", "price", "99", "possible"),
        ("Name", "colour", "beige", "possible"),
        ("Name", "name", "Fox Lucky", "possible"),
        ("Launch", "date", "30 February", "possible"),
        ("Launch", "place", "Park Maple", "possible"),
        ("Slogan", "adj1", "stupid", "possible"),
        ("Delivery", "total", "7", "sums"),
        ("Offer", "club", "1", "sums"),
        ("Bundle", "bundle", "1", "sums"),
        ("Bundle", "save", "1", "sums"),
    ],
)
def test_a_wrong_fact_is_named(heading: str, fact: str, value: str, wrong: str) -> None:
    brief = brief_with(heading)
    checked = check(brief.question, joined(sections_of(brief, 3, **{heading: {fact: value}})))
    section = next(s for s in checked.sections if s.heading == heading)
    assert section.read
    assert not section.right
    faults = {
        "question_facts": not section.question_facts,
        "possible": not section.possible,
        "sums": not section.sums,
        "agreeing": section.agreeing < section.repeated,
    }
    assert faults.pop(wrong)
    assert not any(faults.values())
    assert not checked.exact


def test_missing_surplus_and_repeated_sections_are_named() -> None:
    brief = brief_with("Invitation")
    sections = sections_of(brief, 1)
    text = joined(sections)
    missing = {h: t for h, t in sections.items() if h != "Invitation"}
    checked = check(brief.question, joined(missing))
    assert [s.heading for s in checked.sections if not s.found] == ["Invitation"]
    unwanted = next(h for h in domain.NEEDS if h not in brief.headings)
    for extra in (unwanted, "Invitation", "Weather"):
        checked = check(brief.question, f"{text}\n\n## {extra}\n\nSome text.")
        assert checked.surplus == (extra,)
        assert not checked.exact


def test_facts_of_a_section_that_nobody_can_read_agree_with_nothing() -> None:
    brief = brief_with("Slogan")
    sections = sections_of(brief, 1) | {"Name": "The name is a secret."}
    slogan = next(
        s for s in check(brief.question, joined(sections)).sections if s.heading == "Slogan"
    )
    assert slogan.read
    assert (slogan.agreeing, slogan.repeated) == (0, 1)


def test_an_empty_answer_is_all_wrong_and_other_questions_are_refused() -> None:
    brief = brief_with("Slogan")
    checked = check(brief.question, "")
    assert not checked.exact
    assert not any(s.found for s in checked.sections)
    with pytest.raises(ValueError, match="capital of France"):
        check("What is the capital of France?", "Paris.")


def test_a_section_alone_is_checked_against_given_facts() -> None:
    brief = brief_with("Offer")
    rng = random.Random(0)
    facts = brief.invent(rng)
    text, _ = grammar.render(SECTIONS["Offer"], facts, rng)
    assert check_section("Offer", text, facts).right
    assert not check_section("Offer", text, facts | {"price": "1"}).right


def test_split_takes_headings_and_texts() -> None:
    assert split("Before.\n\n## A\n\none\n\ntwo\n\n## B\n\nthree") == [
        ("A", "one\n\ntwo"),
        ("B", "three"),
    ]
    assert split("no heading") == []


def test_chance_is_what_a_writer_without_the_other_sections_reaches() -> None:
    brief = brief_with("Slogan", "Reminder")
    assert section_chance(brief, "Name") == 1
    assert section_chance(brief, "Slogan") == pytest.approx(1 / 3840)
    assert section_chance(brief, "Reminder") == pytest.approx(1 / (192 * 7 * 336))


def test_a_tally_counts_sections_facts_and_answers() -> None:
    brief = brief_with("Slogan")
    right = sections_of(brief, 1)
    wrong = right | {"Slogan": "Nothing."}
    tally = Tally()
    tally.add(brief.question, joined(right))
    tally.add(brief.question, joined(wrong))
    count = len(brief.headings)
    repeated = sum(len(domain.inherited(h)) for h in brief.headings)
    lost = [h for h in brief.headings if h == "Slogan" or "Slogan" in domain.NEEDS[h]]
    adjectives = sum(
        fact in domain.inherited(h) for h in lost if h != "Slogan" for fact in ("adj1", "adj2")
    )
    assert tally.exactness.value == 0.5
    assert tally.section_accuracy.value == pytest.approx(1 - len(lost) / (2 * count))
    assert tally.fact_consistency.value == pytest.approx(1 - (1 + adjectives) / (2 * repeated))
    assert 0 < tally.section_accuracy.chance < 1
    assert tally.exactness.chance < 1e-6
    assert set(tally.summary()) == {"section accuracy", "fact consistency", "exactness"}


def test_wilson_interval() -> None:
    low, high = Share(8, 10).interval
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert Share(0, 20).interval[0] == 0
    assert Share(20, 20).interval[1] == 1
    assert math.isnan(Share(0, 0).value)
