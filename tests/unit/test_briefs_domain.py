"""The domain of the bundled models: questions, skeletons, texts, the split."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.bundled import BRIEFS_PROMPTS
from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.texts import (
    BRIEF_QUESTIONS,
    NAME_PARTS,
    PLACE_PARTS,
    PLAIN_QUESTIONS,
    SCOPES,
    SECTIONS,
    VALUES,
)
from langchain_sgd.embedded.briefs.turns import node_prompt, planner_prompt, skeleton_text
from langchain_sgd.planning.drafts import Repairer
from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.planning.reading import example_drafts

seeds = st.integers(0, 2**32 - 1)


def a_brief(seed: int) -> domain.Brief:
    return next(domain.briefs(seed, held_out=False))


def test_every_sentence_of_a_slot_states_the_same_facts() -> None:
    slots = itertools.chain(*SECTIONS.values(), *(answers for _, answers in PLAIN_QUESTIONS))
    for slot in slots:
        assert len({grammar.facts_of(sentence) for sentence in slot}) == 1, slot[0]


def test_no_fact_follows_an_article_that_it_would_have_to_agree_with() -> None:
    sentences = [s for slots in SECTIONS.values() for slot in slots for s in slot]
    sentences += [*BRIEF_QUESTIONS, *(q for questions, _ in PLAIN_QUESTIONS for q in questions)]
    vowels = tuple("aeiouAEIOU")
    for article, unfit in (("a", True), ("an", False)):
        for sentence in sentences:
            for fact in grammar.facts_of(sentence):
                if f" {article} {{{fact}}}" in f" {sentence}":
                    assert all(v.startswith(vowels) != unfit for v in VALUES[fact]), sentence


def test_a_section_repeats_only_facts_of_sections_that_it_can_read() -> None:
    for heading, needs in domain.NEEDS.items():
        readable = set().union(*(grammar.facts_of_slots(SECTIONS[n]) for n in needs))
        assert set(domain.inherited(heading)) <= readable, heading
    assert set(domain.NEEDS) == set(SECTIONS) == set(SCOPES) == set(domain.DIFFICULTY)


def test_the_number_of_alternatives_is_what_can_be_invented() -> None:
    assert domain.ALTERNATIVES["name"] == len(NAME_PARTS[0]) * len(NAME_PARTS[1])
    assert domain.ALTERNATIVES["place"] == len(PLACE_PARTS[0]) * len(PLACE_PARTS[1])
    for fact in ("colour", "material", "years", "day", "hour"):
        assert domain.ALTERNATIVES[fact] == len(VALUES[fact])
    for heading in domain.NEEDS:
        assert set(domain.inherited(heading)) <= set(domain.ALTERNATIVES)


def test_answers_have_the_promised_size_depth_and_width() -> None:
    sets = domain.wanted_sets()
    assert set(sets) == {2, 3, 4}
    for depth, wanted_of_depth in sets.items():
        for wanted in wanted_of_depth:
            headings = domain.closure(wanted)
            assert domain.depth(headings) == depth
            assert domain.MIN_SECTIONS <= len(headings) <= domain.MAX_SECTIONS
            assert 2 <= domain.skeleton(headings).width <= domain.MAX_WIDTH
    assert sum(map(len, sets.values())) > 300


def test_questions_are_as_deep_as_the_shares_say() -> None:
    asked = itertools.islice(domain.briefs(3, held_out=False), 2000)
    depths = Counter(domain.depth(brief.headings) for brief in asked)
    for depth, share in domain.DEPTHS.items():
        assert depths[depth] / 2000 == pytest.approx(share, abs=0.04)


@given(seeds)
def test_a_question_is_read_as_it_was_made(seed: int) -> None:
    brief = a_brief(seed)
    read = domain.read_question(brief.question)
    assert isinstance(read, domain.Brief)
    assert (dict(read.facts), read.wanted) == (dict(brief.facts), brief.wanted)
    plain = next(domain.plains(seed, held_out=True))
    assert domain.read_question(plain.question) == plain


def test_other_questions_are_not_read() -> None:
    assert domain.read_question("What is the capital of France?") is None
    unknown = BRIEF_QUESTIONS[0].format(
        product="lamp", town="Arden", audience="pilots", limit=60, fee=4, wanted="design, weather"
    )
    assert domain.read_question(unknown) is None


@given(seeds)
def test_facts_are_read_back_from_every_section(seed: int) -> None:
    rng = random.Random(seed)
    brief = a_brief(seed)
    facts = brief.invent(rng)
    for heading, slots in SECTIONS.items():
        text, spans = grammar.render(slots, facts, rng)
        assert grammar.read(slots, text) == {f: facts[f] for f in domain.facts_of(heading)}
        assert all(text[s.start : s.end] == facts[s.fact] for s in spans)
        assert {s.fact for s in spans} == domain.facts_of(heading)
        assert 25 <= len(text.split()) <= 60, text


@given(seeds)
def test_sums_follow_from_what_was_invented(seed: int) -> None:
    facts = a_brief(seed).invent(random.Random(seed))
    price, fee, cut = int(facts["price"]), int(facts["fee"]), int(facts["cut"])
    assert int(facts["limit"]) - 20 < price < int(facts["limit"])
    assert int(facts["total"]) == price + fee
    assert int(facts["club"]) == price - cut > 0
    assert int(facts["bundle"]) == int(facts["three"]) + fee == 3 * price + fee
    assert int(facts["save"]) == 3 * fee - fee


@given(seeds)
def test_sections_stand_after_those_they_need_in_every_order(seed: int) -> None:
    brief = a_brief(seed)
    order = brief.order(random.Random(seed))
    assert sorted(order) == sorted(brief.headings)
    for index, heading in enumerate(order):
        assert set(domain.NEEDS[heading]) <= set(order[:index])


def test_orders_are_shuffled() -> None:
    brief = a_brief(0)
    rng = random.Random(0)
    assert len({brief.order(rng) for _ in range(50)}) > 10


def test_the_split_is_by_question_and_about_one_in_32() -> None:
    for held_out in (False, True):
        some = itertools.islice(domain.briefs(5, held_out=held_out), 50)
        assert {domain.is_held_out(b.question) for b in some} == {held_out}
    share = sum(domain.is_held_out(f"question {i}") for i in range(4000)) / 4000
    assert share == pytest.approx(1 / 32, abs=0.01)


def test_the_stream_is_the_seed() -> None:
    def first(seed: int) -> list[str]:
        return [b.question for b in itertools.islice(domain.briefs(seed, held_out=False), 20)]

    assert first(3) == first(3) != first(4)


@given(seeds)
def test_the_package_reads_the_trained_skeleton_without_mending_anything(seed: int) -> None:
    brief = a_brief(seed)
    skeleton = domain.skeleton(brief.order(random.Random(seed)))
    parser, repairer = SkeletonParser(), Repairer(16)
    for draft in [*parser.feed(skeleton_text(skeleton)), *parser.close()]:
        repairer.admit(draft)
    assert tuple(repairer.nodes) == skeleton.nodes
    assert repairer.warnings == []


def test_prompts_are_short_and_the_question_comes_first() -> None:
    brief = a_brief(1)
    skeleton = domain.skeleton(brief.headings)
    last = skeleton.nodes[-1]
    given = {h: f"The text of {h}." for h in domain.NEEDS[last.heading]}
    prompt = node_prompt(brief.question, skeleton, last.heading, given)
    parts = "".join(
        f"\n\n## {n.heading}\n\nThe text of {n.heading}."
        for n in skeleton.nodes
        if n.heading in given
    )
    assert prompt == f"{brief.question}{parts}\n\n## {last.heading}\n\n"
    assert node_prompt(brief.question, skeleton, last.heading, {}) == (
        f"{brief.question}\n\n## {last.heading}\n\n"
    )
    assert planner_prompt(brief.question) == f"{brief.question}\n\nPlan"


def test_a_node_goes_on_where_the_section_that_it_needs_first_ended() -> None:
    brief = next(b for b in domain.briefs(1, held_out=True) if "Slogan" in b.headings)
    skeleton = domain.skeleton(brief.headings)
    name = node_prompt(brief.question, skeleton, "Name", {})
    slogan = node_prompt(brief.question, skeleton, "Slogan", {"Name": "It is called Wild Owl."})
    assert slogan.startswith(f"{name}It is called Wild Owl.")


def test_the_bundled_models_keep_the_form_that_they_were_trained_on() -> None:
    assert planner_prompt("A brief?") == "A brief?\n\nPlan"
    for brief in itertools.islice(domain.briefs(3, held_out=True), 20):
        wanted = domain.skeleton(brief.headings)
        text = skeleton_text(wanted)
        assert BRIEFS_PROMPTS.grammar is not None
        assert re.fullmatch(BRIEFS_PROMPTS.grammar, text)
        repairer = Repairer(16)
        for draft in example_drafts(text):
            repairer.admit(draft)
        assert (tuple(repairer.nodes), repairer.warnings) == (wanted.nodes, [])
