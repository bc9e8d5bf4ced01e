from __future__ import annotations

import json
import re

import interegular
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from langchain_sgd.planning.drafts import ALL_EARLIER, Draft, Repairer
from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.skeleton import HARD, Skeleton
from langchain_sgd.wire import (
    MIN_NODES,
    PLAIN_WORD,
    as_json,
    planner_max_tokens,
    skeleton_gbnf,
    skeleton_regex,
    skeleton_schema,
)
from tests.support.chunks import cut
from tests.support.skeletons import skeletons

_MOST_STATES = 100
"""A server may take 0.2 s for each state of the automaton, and answer nobody meanwhile."""


def read(chunks: list[str]) -> tuple[list[Draft], SkeletonParser]:
    parser = SkeletonParser()
    drafts = [draft for chunk in chunks for draft in parser.feed(chunk)]
    return drafts + parser.close(), parser


def lines_of(value: Skeleton) -> str:
    """A skeleton as the wire format spells it."""
    return "\n".join(
        f"{n.id} {n.heading}"
        + (f" <{','.join(n.dependencies)}" if n.dependencies else "")
        + (" *" if n.difficulty == HARD else "")
        for n in value.nodes
    )


class TestRegex:
    @pytest.mark.parametrize("plain", [True, False])
    def test_its_automaton_is_small(self, *, plain: bool) -> None:
        automaton = interegular.parse_pattern(skeleton_regex(plain=plain)).to_fsm()
        assert len(automaton.reduce().states) <= _MOST_STATES  # type: ignore[no-untyped-call]

    @pytest.mark.parametrize("plain", [True, False])
    def test_it_counts_no_characters_and_has_no_anchors(self, *, plain: bool) -> None:
        expression = skeleton_regex(plain=plain)
        assert "{" not in expression
        assert "(?" not in expression
        assert "$" not in expression

    @settings(max_examples=50)
    @given(st.from_regex(skeleton_regex(plain=False), fullmatch=True), st.data())
    def test_every_line_it_accepts_is_read_as_one_node(
        self, text: str, data: st.DataObject
    ) -> None:
        lines = text.split("\n")
        drafts, parser = read(data.draw(cut(text)))
        if any(len(line) >= 400 or re.search(r"[\r<]\s*\Z", line) for line in lines):
            return  # what runs on is cut
        if not all(line.split(" ", 1)[1].isprintable() for line in lines):
            return  # a heading of control characters is none
        assert (parser.plain, parser.unread) == (False, [])
        numbers = [int(line.split(" ", 1)[0]) for line in lines]
        if numbers[6:] == list(range(7, len(lines) + 1)):
            assert [draft.id for draft in drafts] == [str(n) for n in numbers]

    @given(skeletons(min_nodes=2), st.data())
    def test_under_it_no_dependency_is_dropped_and_no_node_renumbered(
        self, value: Skeleton, data: st.DataObject
    ) -> None:
        text = lines_of(value)
        ahead = any(int(d) > 6 for n in value.nodes for d in n.dependencies)
        assert bool(re.fullmatch(skeleton_regex(), text)) is not ahead
        drafts, _ = read(data.draw(cut(text)))
        repairer = Repairer(20)
        nodes = [repairer.admit(draft) for draft in drafts]
        assert repairer.warnings == []
        assert [(n.id, n.heading, n.dependencies) for n in nodes if n] == [
            (n.id, n.heading, n.dependencies) for n in value.nodes
        ]
        assert [n.difficulty == HARD for n in nodes if n] == [
            n.difficulty == HARD for n in value.nodes
        ]

    @pytest.mark.parametrize("count", [1, MIN_NODES, 7, 30])
    def test_how_many_lines(self, count: int) -> None:
        text = "\n".join(f"{n} Heading" for n in range(1, count + 1))
        assert bool(re.fullmatch(skeleton_regex(), text)) is (count >= MIN_NODES)

    def test_plain_only_where_it_is_allowed(self) -> None:
        assert re.fullmatch(skeleton_regex(), PLAIN_WORD)
        assert not re.fullmatch(skeleton_regex(plain=False), PLAIN_WORD)

    @pytest.mark.parametrize(
        "line",
        [
            "3 H",
            "1 H",
            "2  H",
            "2 **H",
            "2 H <2",
            "2 H <3",
            "2 H <1,1",
            "2 H <",
            "2 H * <1",
            "2 H | scope",
            "2. H",
        ],
    )
    def test_what_it_refuses(self, line: str) -> None:
        assert re.fullmatch(skeleton_regex(), "1 H\n2 H")
        assert not re.fullmatch(skeleton_regex(), f"1 H\n{line}")

    @pytest.mark.parametrize("line", ["2 Größe und Gewicht <1 *", "2 尺寸 <all", "2 H*", "2 H<1*"])
    def test_what_it_takes(self, line: str) -> None:
        assert re.fullmatch(skeleton_regex(), f"1 H\n{line}")

    def test_needs_are_ascending(self) -> None:
        before = "1 A\n2 B\n3 C\n4 D\n5 E\n6 F <"
        assert re.fullmatch(skeleton_regex(), before + "1,3,5")
        assert not re.fullmatch(skeleton_regex(), before + "3,1")
        assert read([before + ALL_EARLIER])[0][-1].dependencies == (ALL_EARLIER,)

    def test_it_is_the_same_text_each_time(self) -> None:
        # Servers cache a compiled grammar by its bytes.
        assert skeleton_regex() is skeleton_regex()
        assert skeleton_gbnf() is skeleton_gbnf()


class TestGBNF:
    @pytest.mark.parametrize("plain", [True, False])
    def test_every_rule_that_is_named_is_given_and_used(self, *, plain: bool) -> None:
        text = skeleton_gbnf(plain=plain)
        rules = dict(line.split(" ::= ") for line in text.splitlines())
        bare = {
            name: re.sub(r'"[^"]*"|\[(?:\\.|[^\]\\])*\]', " ", rule) for name, rule in rules.items()
        }
        named = {word for rule in bare.values() for word in re.findall(r"[a-z]\w*", rule)}
        assert named | {"root"} == set(rules)
        assert (PLAIN_WORD in text) is plain


class TestSchema:
    def test_it_is_strict_and_small(self) -> None:
        schema = skeleton_schema()
        Draft202012Validator.check_schema(schema)
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
        text = json.dumps(schema)
        assert not re.search(r"\$ref|max|min|pattern", text)

    def test_it_may_be_changed_by_who_got_it(self) -> None:
        skeleton_schema()["properties"].clear()
        assert skeleton_schema()["properties"]

    @given(skeletons(), st.data())
    def test_what_it_accepts_is_read_back(self, value: Skeleton, data: st.DataObject) -> None:
        text = as_json(lines_of(value))
        Draft202012Validator(skeleton_schema()).validate(json.loads(text))
        drafts, parser = read(data.draw(cut(text)))
        assert parser.ended
        assert [(d.id, d.heading, d.dependencies) for d in drafts] == [
            (n.id, n.heading, n.dependencies) for n in value.nodes
        ]

    def test_no_parts_mean_plain(self) -> None:
        text = as_json(PLAIN_WORD)
        Draft202012Validator(skeleton_schema()).validate(json.loads(text))
        assert read(list(text))[1].plain


class TestTokens:
    def test_more_lines_may_take_more_up_to_a_bound(self) -> None:
        bounds = [planner_max_tokens(n) for n in (1, 2, 8, 12, 99)]
        assert bounds == sorted(bounds)
        assert bounds[0] == bounds[1]
        assert bounds[-1] == 1024
        assert planner_max_tokens(5, "json") > planner_max_tokens(5)
