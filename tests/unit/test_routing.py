from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from langchain_sgd.errors import InvalidInputError
from langchain_sgd.routing import ShareRouter, ThresholdRouter, path_up
from langchain_sgd.skeleton import Node, NodeId
from langchain_sgd.tiers import Tier

DIFFICULTIES = range(1, 6)


def node(difficulty: int) -> Node:
    return Node(id=NodeId("7"), heading="Costs", difficulty=difficulty)


def tiers(count: int) -> list[str]:
    return [f"tier{n}" for n in range(count)]


class TestThreshold:
    @given(st.integers(1, 8), st.integers(1, 6))
    def test_harder_nodes_never_go_lower(self, count: int, threshold: int) -> None:
        names = tiers(count)
        router = ThresholdRouter(names, threshold)
        places = [names.index(router(node(d))) for d in DIFFICULTIES]
        assert places == sorted(places)
        assert all(
            (place == 0) == (d < threshold) or count == 1
            for d, place in zip(DIFFICULTIES, places, strict=True)
        )

    @pytest.mark.parametrize(
        ("count", "threshold", "places"),
        [
            (1, 3, [0, 0, 0, 0, 0]),
            (2, 3, [0, 0, 1, 1, 1]),
            (2, 1, [1, 1, 1, 1, 1]),
            (2, 6, [0, 0, 0, 0, 0]),
            (3, 2, [0, 1, 1, 2, 2]),
            (4, 3, [0, 0, 1, 2, 3]),
            (5, 2, [0, 1, 2, 3, 4]),
        ],
    )
    def test_places(self, count: int, threshold: int, places: list[int]) -> None:
        router = ThresholdRouter(tiers(count), threshold)
        assert [int(router(node(d)).removeprefix("tier")) for d in DIFFICULTIES] == places

    def test_all_tiers_are_used_while_there_are_levels_for_them(self) -> None:
        for count in range(2, 5):
            router = ThresholdRouter(tiers(count), 3)
            assert {router(node(d)) for d in DIFFICULTIES} == set(tiers(count))


class TestShare:
    @given(
        st.integers(0, 20).map(lambda n: n / 20),
        st.lists(st.integers(0, 4), min_size=5, max_size=5).filter(any),
        st.integers(0, 99),
    )
    def test_the_share_comes_out_and_the_hardest_go_up(
        self, share: float, weights: list[int], seed: int
    ) -> None:
        rng = random.Random(seed)
        router = ShareRouter(["small", "medium", "large"], share)
        drawn = rng.choices(DIFFICULTIES, weights, k=3_000)
        routed = [router(node(d)) for d in drawn]
        assert set(routed) <= {"small", "large"}
        assert abs(routed.count("large") / len(routed) - share) < 0.05
        # Once the distribution is known, one difficulty at most is split between the tiers.
        settled = list(zip(drawn, routed, strict=True))[1_000:]
        rates = [
            sum(tier == "large" for d, tier in settled if d == level) / drawn[1_000:].count(level)
            for level in DIFFICULTIES
            if level in drawn[1_000:]
        ]
        assert all(b >= a - 0.15 for a, b in itertools.pairwise(rates))

    @pytest.mark.parametrize(("share", "tier"), [(0.0, "small"), (1.0, "large")])
    def test_none_and_all(self, share: float, tier: str) -> None:
        router = ShareRouter(["small", "large"], share)
        rng = random.Random(3)
        assert {router(node(rng.randint(1, 5))) for _ in range(500)} == {tier}

    def test_equal_nodes_are_split_evenly(self) -> None:
        router = ShareRouter(["small", "large"], 0.25)
        routed = [router(node(3)) for _ in range(400)]
        assert routed.count("large") == 100
        assert all(routed[i : i + 4].count("large") == 1 for i in range(0, 400, 4))


class TestPathUp:
    TIERS = tuple(Tier(name, RunnableLambda(str)) for name in ("small", "medium", "large"))

    def test_the_chosen_tier_and_the_larger_ones(self) -> None:
        assert [t.name for t in path_up(self.TIERS, "medium", node(1))] == ["medium", "large"]
        assert [t.name for t in path_up(self.TIERS, "large", node(1))] == ["large"]

    def test_a_tier_that_does_not_exist(self) -> None:
        with pytest.raises(InvalidInputError) as caught:
            path_up(self.TIERS, "huge", node(1))
        assert str(caught.value) == (
            "The router chose 'huge' for node 7 ('Costs'); the tiers are 'small', 'medium', 'large'"
        )
