from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_sgd.errors import SkeletonError
from langchain_sgd.planning.drafts import ALL_EARLIER, Draft, Repairer
from langchain_sgd.skeleton import DEFAULT_DIFFICULTY, Node, NodeId, Skeleton
from tests.support.skeletons import skeleton, skeletons


def chains(value: Skeleton) -> Iterator[tuple[Node, ...]]:
    """Every path of dependent nodes, whatever its length."""

    def up(node: Node) -> Iterator[tuple[Node, ...]]:
        yield (node,)
        for dependency in node.dependencies:
            for path in up(value[dependency]):
                yield (*path, node)

    for node in value.nodes:
        yield from up(node)


def ancestors(value: Skeleton, node: Node) -> set[str]:
    found: set[str] = set()
    for dependency in node.dependencies:
        found |= {dependency, *ancestors(value, value[dependency])}
    return found


class TestNode:
    def test_numbers_become_ids(self) -> None:
        node = Node.model_validate({"id": 3, "heading": "H", "dependencies": [1, "2"]})
        assert (node.id, node.dependencies) == ("3", ("1", "2"))

    @pytest.mark.parametrize("bad", ["", "-1", "a b", "x" * 33, "é", True, None, 1.5, "1\n"])
    def test_an_unusable_id_is_refused(self, bad: Any) -> None:
        with pytest.raises(ValidationError):
            Node(id=bad, heading="H")

    @pytest.mark.parametrize("bad", [0, 6, -1, "hard", 2.5, None])
    def test_a_difficulty_out_of_range_is_refused(self, bad: Any) -> None:
        with pytest.raises(ValidationError):
            Node(id=NodeId("1"), heading="H", difficulty=bad)

    def test_heading_and_scope_are_one_line(self) -> None:
        node = Node(id=NodeId("1"), heading=" Two\n lines\t", scope="a\r\nb")
        assert (node.heading, node.scope) == ("Two lines", "a b")

    def test_a_blank_heading_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            Node(id=NodeId("1"), heading=" \n ")

    def test_a_dependency_named_twice_is_one(self) -> None:
        node = Node(id=NodeId("3"), heading="H", dependencies=(NodeId("2"), NodeId("1")) * 2)
        assert node.dependencies == ("2", "1")

    def test_it_is_a_value(self) -> None:
        one, other = skeleton("1").nodes[0], skeleton("1").nodes[0]
        assert one == other
        assert hash(one) == hash(other)
        with pytest.raises(ValidationError):
            one.heading = "changed"  # type: ignore[misc]

    def test_a_misspelt_field_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            Node.model_validate({"id": "1", "heading": "H", "dependancies": []})


def test_one_without_nodes_is_false_and_has_no_length() -> None:
    none = Skeleton(nodes=())
    assert not none
    assert (none.depth, none.width, none.critical_path()) == (0, 0, ((), 0.0))
    assert (none.roots, none.sinks, none.to_mermaid()) == ((), (), "graph TD\n")


class TestParse:
    def test_it_takes_a_skeleton_its_dump_a_mapping_nodes_and_mappings(self) -> None:
        whole = skeleton("1", "2 <- 1")
        dumped = whole.model_dump(mode="json")
        for value in (
            whole,
            dumped,
            MappingProxyType(dumped),
            whole.nodes,
            list(whole.nodes),
            dumped["nodes"],
            [whole.nodes[0], dumped["nodes"][1]],
        ):
            assert Skeleton.parse(value) == whole

    @pytest.mark.parametrize(
        ("value", "parts"),
        [
            ([], ["nodes", "at least 1"]),
            ({"nodes": []}, ["nodes", "at least 1"]),
            (Skeleton(nodes=()), ["nodes", "at least 1"]),
            ({}, ["nodes", "Field required"]),
            ("1|a|b|-|3", ["skeleton", "dictionary"]),
            (b"1", ["skeleton", "dictionary"]),
            (None, ["skeleton", "dictionary"]),
            ([{"id": "1"}], ["nodes.0.heading", "Field required"]),
            ([{"id": "1", "heading": "A", "difficulty": 9}], ["nodes.0.difficulty", "5"]),
            (
                [{"id": "1", "heading": "A"}, {"id": "1", "heading": "B"}],
                ["node '1' stands twice"],
            ),
            (
                [
                    {"id": "1", "heading": "A"},
                    {"id": "2", "heading": "B", "dependencies": ["3"]},
                    {"id": "3", "heading": "C"},
                ],
                ["node '2' depends on '3'", "earlier nodes: 1"],
            ),
            (
                [{"id": "1", "heading": "A", "dependencies": ["1"]}],
                ["node '1' depends on '1'", "earlier nodes: none"],
            ),
            ([{"id": "1", "heading": "", "surplus": 1}], ["nodes.0.heading", "nodes.0.surplus"]),
        ],
    )
    def test_the_message_names_place_and_reason(self, value: Any, parts: list[str]) -> None:
        with pytest.raises(SkeletonError) as caught:
            Skeleton.parse(value)
        for part in parts:
            assert part in str(caught.value)
        assert "Value error" not in str(caught.value)

    @given(skeletons(min_nodes=1))
    def test_json_and_back(self, value: Skeleton) -> None:
        assert Skeleton.model_validate_json(value.model_dump_json()) == value


class TestGraph:
    @given(skeletons(min_nodes=1, max_nodes=8))
    def test_width_is_the_largest_antichain(self, value: Skeleton) -> None:
        above = {node.id: ancestors(value, node) for node in value.nodes}
        widest = max(
            size
            for size in range(1, len(value) + 1)
            for group in itertools.combinations(value.nodes, size)
            if all(a.id not in above[b.id] for a, b in itertools.permutations(group, 2))
        )
        assert value.width == widest

    def test_width_of_a_long_chain_does_not_exhaust_the_stack(self) -> None:
        nodes = ["1", *(f"{n} <- {n - 1}" for n in range(2, 301))]
        assert skeleton(*nodes).width == 1

    @given(skeletons(min_nodes=1, max_nodes=7), st.data())
    def test_the_critical_path_is_the_dearest_chain(
        self, value: Skeleton, data: st.DataObject
    ) -> None:
        numbers = st.integers(0, 9).map(float)
        seconds = {node.id: data.draw(numbers) for node in value.nodes}
        released = {node.id: data.draw(numbers) for node in value.nodes}
        for release in (None, released):
            best = max(
                (release[path[0].id] if release else 0.0) + sum(seconds[n.id] for n in path)
                for path in chains(value)
            )
            ids, length = value.critical_path(seconds, release)
            assert length == best
            assert tuple(value[i] for i in ids) in set(chains(value))
            assert (release[ids[0]] if release else 0.0) + sum(seconds[i] for i in ids) == best

    @given(skeletons(min_nodes=1))
    def test_the_critical_path_without_times_counts_nodes(self, value: Skeleton) -> None:
        ids, length = value.critical_path()
        assert length == len(ids) == max(len(path) for path in chains(value))

    @given(skeletons(min_nodes=1))
    def test_roots_and_sinks(self, value: Skeleton) -> None:
        used = {d for node in value.nodes for d in node.dependencies}
        assert value.roots == tuple(n for n in value.nodes if not n.dependencies)
        assert value.sinks == tuple(n for n in value.nodes if n.id not in used)
        assert value.roots
        assert value.sinks

    def test_lookups(self) -> None:
        value = skeleton("1", "2", "3 <- 1")
        assert value["2"].heading == "Heading 2"
        assert len(value) == 3
        assert value.up_to(value["2"]) == value.nodes[:2]
        with pytest.raises(KeyError, match="9"):
            value["9"]
        with pytest.raises(ValueError, match="no node '9'"):
            value.up_to(skeleton("9").nodes[0])


class TestMermaid:
    def test_a_small_graph(self) -> None:
        assert skeleton("1", "b.2 <- 1").to_mermaid({"1": "small", "b.2": "my large!"}) == (
            "graph TD\n"
            '    n1["1: Heading 1 (2)"]:::small\n'
            '    n2["b.2: Heading b.2 (2)"]:::my_large\n'
            "    n1 --> n2\n"
        )

    @given(st.text(min_size=1), st.text(max_size=12))
    def test_no_text_breaks_out_of_its_label(self, heading: str, tier: str) -> None:
        drafts = [Draft("1", heading, difficulty=1), Draft("2", "Other", "", ("1",), 2)]
        repairer = Repairer(9)
        nodes = tuple(node for draft in drafts if (node := repairer.admit(draft)))
        lines = Skeleton(nodes=nodes).to_mermaid({"1": tier}).splitlines()
        label = re.fullmatch(r' {4}n1\["([^"]*)"\]:::[A-Za-z0-9_]+', lines[1])
        assert label is not None
        assert not set(label[1]) & set('"<>[]{}|`\\*_&=~^$%@+')
        assert re.sub(r"#\d+;", "", label[1]).count("#") == 0
        assert len(lines) == 1 + len(nodes) + (len(nodes) - 1)

    def test_escapes_say_the_same_characters(self) -> None:
        heading = 'say "no" <b>#35;</b> — 😀'
        text = Skeleton.parse([{"id": 1, "heading": heading}]).to_mermaid()
        assert re.sub(r"#(\d+);", lambda m: chr(int(m[1])), text).count(heading) == 1


def mended(*drafts: Draft, max_nodes: int = 9) -> tuple[list[Node], list[str]]:
    repairer = Repairer(max_nodes)
    for draft in drafts:
        repairer.admit(draft)
    return repairer.nodes, repairer.warnings


def draft(id: str, heading: str, *dependencies: str, difficulty: int | None = None) -> Draft:
    return Draft(id, heading, "", dependencies, difficulty)


class TestRepairer:
    def test_a_sound_plan_is_taken_as_it_is(self) -> None:
        nodes, warnings = mended(draft("1", "A"), draft("2", "B", "1"))
        assert nodes == [
            Node(id=NodeId("1"), heading="A"),
            Node(id=NodeId("2"), heading="B", dependencies=(NodeId("1"),)),
        ]
        assert warnings == []

    def test_each_mending_has_its_warning(self) -> None:
        cases: dict[str, list[Draft]] = {
            "'7', which is not an earlier node": [draft("1", "A", "7")],
            "on itself": [draft("1", "A", "1")],
            "difficulty 9; 5 is taken": [draft("1", "A", difficulty=9)],
            "difficulty -2; 1 is taken": [draft("1", "A", difficulty=-2)],
            "'1' is taken": [draft("1", "A"), draft("1", "B")],
            "'' is no usable id": [draft("", "A")],
            "no heading; 'Part 1'": [draft("1", " ")],
            "no heading; 'the scope'": [Draft("1", "", "the scope", (), 3)],
            "repeats node 1": [draft("1", "A"), draft("2", " a ")],
        }
        for wanted, drafts in cases.items():
            _, warnings = mended(*drafts)
            assert len(warnings) == 1, (wanted, warnings)
            assert wanted in warnings[0]
        _, warnings = mended(draft("1", "A"), draft("2", "B"), draft("3", "C"), max_nodes=2)
        assert warnings == ["left out node '3' ('C'): the limit is 2"]

    def test_references_follow_a_renumbered_node(self) -> None:
        # The second "1" takes the number 2, so the true 2 must move on, and with it what names it.
        nodes, _ = mended(
            draft("1", "A"),
            draft("1", "B"),
            draft("2", "C"),
            draft("3", "D", "2"),
            draft("4", "E", "1"),
        )
        by_heading = {node.heading: node for node in nodes}
        assert by_heading["D"].dependencies == (by_heading["C"].id,)
        assert by_heading["E"].dependencies == (by_heading["A"].id,)

    def test_a_plan_that_numbers_every_line_with_one_is_counted(self) -> None:
        nodes, _ = mended(draft("1", "A"), draft("1", "B"), draft("1", "C", "1", "2"))
        assert [node.id for node in nodes] == ["1", "2", "3"]
        assert nodes[2].dependencies == ("1", "2")

    def test_references_to_a_repeated_node_mean_the_first(self) -> None:
        nodes, warnings = mended(draft("1", "A"), draft("2", "A"), draft("3", "B", "2"))
        assert nodes[1].dependencies == ("1",)
        assert len(warnings) == 1

    def test_counting_from_zero_and_zero_for_none(self) -> None:
        nodes, warnings = mended(draft("0", "A", "0"), draft("1", "B", "0"))
        assert nodes[1].dependencies == ("0",)
        assert warnings == ["dropped a dependency of node 0 on itself"]
        nodes, warnings = mended(draft("1", "A", "0"))
        assert (nodes[0].dependencies, warnings) == ((), [])

    def test_all_means_every_earlier_node(self) -> None:
        nodes, warnings = mended(draft("1", "A"), draft("2", "B"), draft("3", "C", ALL_EARLIER))
        assert (nodes[2].dependencies, warnings) == (("1", "2"), [])

    def test_a_cycle_cannot_be_written(self) -> None:
        nodes, warnings = mended(draft("1", "A", "2"), draft("2", "B", "1"))
        assert [node.dependencies for node in nodes] == [(), ("1",)]
        assert len(warnings) == 1

    @given(
        st.lists(
            st.builds(
                Draft,
                id=st.sampled_from(["1", "2", "3", "4", " 2 ", "", "x-1", "ü", "1\n", "x" * 40])
                | st.text(max_size=3),
                heading=st.sampled_from(["A", "a", "B", "", " "]) | st.text(max_size=4),
                scope=st.sampled_from(["", "s", "s\n t"]) | st.text(max_size=3),
                dependencies=st.lists(
                    st.sampled_from(["0", "1", "2", "3", "4", "9", "all", "", "x-1"]), max_size=4
                ).map(tuple),
                difficulty=st.none() | st.integers(-3, 9),
            ),
            max_size=9,
        ),
        st.integers(1, 6),
    )
    def test_whatever_comes_the_nodes_are_a_skeleton(
        self, drafts: list[Draft], max_nodes: int
    ) -> None:
        repairer = Repairer(max_nodes)
        for item in drafts:
            before, said = len(repairer.nodes), len(repairer.warnings)
            full = repairer.full
            node = repairer.admit(item)
            assert repairer.nodes[before:] == ([] if node is None else [node])
            if node is None:
                assert len(repairer.warnings) == said + 1
                continue
            assert not full
            as_written = (
                node.id == item.id.strip()
                and node.difficulty
                == (DEFAULT_DIFFICULTY if item.difficulty is None else item.difficulty)
                and bool(item.heading.strip())
                and all(d in {*node.dependencies, "0", ALL_EARLIER} for d in item.dependencies)
            )
            renumbered_before = any("renumbered" in w or "repeats" in w for w in repairer.warnings)
            assert as_written or renumbered_before or len(repairer.warnings) > said
        assert len(repairer.nodes) <= max_nodes
        if repairer.nodes:
            assert Skeleton.parse(repairer.nodes).nodes == tuple(repairer.nodes)
        pairs = [(node.heading.casefold(), node.scope) for node in repairer.nodes]
        assert len(set(pairs)) == len(pairs)

    def test_half_a_surrogate_pair_does_not_raise(self) -> None:
        nodes, _ = mended(Draft("\ud83d", "A \ud83d", "\ude00", ("\ud83d",), 3))
        assert nodes[0].heading == "A ?"


@pytest.mark.parametrize(
    "heading",
    [
        *(
            "Conclusion",
            "Your verdict",
            "Fazit",
            "Synthèse",
            "Wniosek",
            "结论",
            "Final Recommendation",
        ),
        *(
            "الخاتمة",
            "توصيات",
            "Sonuç",
            "Öneriler",
            "निष्कर्ष",
            "सिफ़ारिशें",
            "Slutsats",
            "SAMMANFATTNING",
        ),
        *(
            "Závěr",
            "Doporučení",
            "Kết luận",
            "Kesimpulan",
            "Συστάσεις",
            "Рекомендации",
            "まとめ",
            "결론",
        ),
        *(unicodedata.normalize("NFD", "Kết luận"), "Summary and recommendations.", "总结和建议"),
        *("Fazit & Empfehlung", "الخاتمة والتوصيات", "Conclusión y recomendaciones:"),
    ],
)
def test_a_conclusion_rests_on_all_parts_before_it(heading: str) -> None:
    repairer = Repairer(8)
    for number, each in enumerate(["Rent", "Purchase", heading], 1):
        repairer.admit(Draft(str(number), each))

    assert [node.dependencies for node in repairer.nodes] == [(), (), ("1", "2")]
    assert not repairer.warnings


@pytest.mark.parametrize(
    "heading",
    [
        *("Conclusion of the treaty", "Summary dismissal", "Recommended tools", "The final"),
        *("Summary and costs", "Závěrečná práce", "总结会议"),
    ],
)
def test_a_heading_that_only_sounds_like_a_conclusion_rests_on_nothing(heading: str) -> None:
    repairer = Repairer(8)
    for number, each in enumerate(["Rent", "Purchase", heading], 1):
        repairer.admit(Draft(str(number), each))

    assert repairer.nodes[-1].dependencies == ()


def test_a_conclusion_keeps_the_dependencies_that_it_names() -> None:
    repairer = Repairer(8)
    for draft in (
        Draft("1", "Rent"),
        Draft("2", "Purchase"),
        Draft("3", "Verdict", dependencies=("2",)),
    ):
        repairer.admit(draft)

    assert repairer.nodes[-1].dependencies == ("2",)
