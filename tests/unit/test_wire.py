from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from langchain_sgd.planning.parsing import SkeletonParser
from langchain_sgd.planning.wire import MIN_NODES, skeleton_regex, skeleton_schema
from langchain_sgd.prompts import PLAIN_WORD
from langchain_sgd.skeleton import Draft, Skeleton
from tests.support.chunks import cut
from tests.support.skeletons import skeletons

LINE = "{}|Heading|scope|-|3"


def read(chunks: list[str]) -> tuple[list[Draft], SkeletonParser]:
    parser = SkeletonParser()
    drafts = [draft for chunk in chunks for draft in parser.feed(chunk)]
    return drafts + parser.close(), parser


class TestRegex:
    @settings(max_examples=25)
    @given(st.from_regex(skeleton_regex(6, plain=False), fullmatch=True), st.data())
    def test_every_line_it_accepts_is_read_as_one_node(
        self, text: str, data: st.DataObject
    ) -> None:
        drafts, parser = read(data.draw(cut(text)))
        lines = text.removesuffix("\n").split("\n")
        assert len(drafts) == len(lines)
        assert (parser.plain, parser.unread) == (False, [])
        for draft, line in zip(drafts, lines, strict=True):
            number, heading, _, needed, difficulty = line.split("|")
            assert (draft.id, draft.difficulty) == (number, int(difficulty))
            assert draft.heading
            assert draft.heading in heading
            assert draft.dependencies == (() if needed == "-" else tuple(needed.split(",")))

    @pytest.mark.parametrize("max_nodes", [2, 3, 12, 99])
    def test_bounds(self, max_nodes: int) -> None:
        expression = re.compile(skeleton_regex(max_nodes, plain=False))
        for count in (1, MIN_NODES, max_nodes, max_nodes + 1):
            text = "\n".join(LINE.format(n) for n in range(1, count + 1))
            fits = MIN_NODES <= count <= max_nodes
            assert bool(expression.fullmatch(text)) is fits
            assert bool(expression.fullmatch(text + "\n")) is fits

    def test_plain_only_where_it_is_allowed(self) -> None:
        assert re.fullmatch(skeleton_regex(5, plain=True), PLAIN_WORD)
        assert not re.fullmatch(skeleton_regex(5, plain=False), PLAIN_WORD)

    @pytest.mark.parametrize(
        "line",
        [
            "0|H|s|-|3",
            "100|H|s|-|3",
            "1||s|-|3",
            "1| H|s|-|3",
            "1|**|s|-|3",
            "1|H|s||3",
            "1|H|s|-|6",
            "1|H|s|-|33",
            "1|H|s|1,|3",
            f"1|{'x' * 81}|s|-|3",
            f"1|H|{'x' * 241}|-|3",
        ],
    )
    def test_what_it_refuses(self, line: str) -> None:
        expression = skeleton_regex(5, plain=False)
        assert re.fullmatch(expression, f"{LINE.format(1)}\n{LINE.format(2)}")
        assert not re.fullmatch(expression, f"{LINE.format(1)}\n{line}")

    @given(skeletons(min_nodes=2))
    def test_it_accepts_what_the_prompt_asks_for(self, value: Skeleton) -> None:

        text = "\n".join(
            f"{n.id}|{n.heading}|{n.scope}|{','.join(n.dependencies) or '-'}|{n.difficulty}"
            for n in value.nodes
        )
        assert re.fullmatch(skeleton_regex(9, plain=True), text)

    def test_it_is_the_same_text_each_time(self) -> None:
        # Servers cache a compiled grammar by its bytes.
        assert skeleton_regex(7, plain=True) is skeleton_regex(7, plain=True)
        assert skeleton_schema(7) is skeleton_schema(7)


class TestSchema:
    def test_it_is_a_schema_without_references(self) -> None:
        schema = skeleton_schema(5)
        Draft202012Validator.check_schema(schema)
        assert "$ref" not in json.dumps(schema)
        node = schema["properties"]["nodes"]["items"]
        assert node["required"] == list(node["properties"])

    @given(skeletons(max_nodes=5), st.data())
    def test_what_it_accepts_is_read_back(self, value: Skeleton, data: st.DataObject) -> None:

        nodes = [
            {
                "id": int(n.id),
                "heading": n.heading,
                "scope": n.scope,
                "dependencies": [int(d) for d in n.dependencies],
                "difficulty": n.difficulty,
            }
            for n in value.nodes
        ]
        Draft202012Validator(skeleton_schema(5)).validate({"nodes": nodes})
        drafts, _ = read(data.draw(cut(json.dumps({"nodes": nodes}))))
        assert [(d.id, d.heading, d.scope, d.dependencies, d.difficulty) for d in drafts] == [
            (n.id, n.heading, n.scope, n.dependencies, n.difficulty) for n in value.nodes
        ]

    def test_no_nodes_mean_plain(self) -> None:
        Draft202012Validator(skeleton_schema(5)).validate({"nodes": []})
        assert read(['{"nodes":', "[]}"])[1].plain

    @pytest.mark.parametrize(
        "change", [{"id": 6}, {"difficulty": 0}, {"dependencies": [0]}, {"surplus": 1}]
    )
    def test_what_it_refuses(self, change: dict[str, object]) -> None:
        node = {"id": 1, "heading": "H", "scope": "", "dependencies": [], "difficulty": 1}
        validator = Draft202012Validator(skeleton_schema(5))
        assert validator.is_valid({"nodes": [node]})
        assert not validator.is_valid({"nodes": [node | change]})
