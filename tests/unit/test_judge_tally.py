from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.judging import Judged, by_category, by_method, tally
from langchain_sgd.judging.tally import Rates, net_rate, wilson
from langchain_sgd.judging.verdicts import Outcome

OUTCOMES: tuple[Outcome, ...] = ("win", "lose", "tie")


def judged(outcome: Outcome = "win", ratio: float | None = 1.0, **options: Any) -> Judged:
    common = {"method": "sgd", "against": "plain", "question_id": "1", "category": "writing"}
    return Judged(**{**common, "outcome": outcome, "length_ratio": ratio, **options})


some = st.builds(
    judged,
    st.sampled_from(OUTCOMES),
    st.none() | st.floats(0.01, 100),
    category=st.sampled_from(["writing", "math", "coding"]),
    verdicts=st.none() | st.tuples(*[st.sampled_from(["A", "B", "tie", None])] * 2),
)


def test_wilson_is_the_known_interval() -> None:
    found = wilson(8, 10)
    assert found is not None
    assert (found.value, round(found.low, 4), round(found.high, 4)) == (0.8, 0.4902, 0.9433)
    assert wilson(0, 0) is None


def test_net_rate_is_the_known_interval() -> None:
    # (wins + 1, losses + 1, pairs + 2) = (21, 11, 52): 10/52 and its spread by hand.
    found = net_rate(20, 10, 50)
    assert found is not None
    assert found.value == 0.2
    assert found.low == pytest.approx(10 / 52 - 1.959964 * 0.105466, abs=1e-4)
    assert found.high == pytest.approx(10 / 52 + 1.959964 * 0.105466, abs=1e-4)
    assert net_rate(0, 0, 0) is None


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_intervals_hold_their_figures_and_stay_in_bounds(wins: int, ties: int, losses: int) -> None:
    rates = Rates(wins, ties, losses)
    if not rates.pairs:
        assert rates.win is rates.lose is rates.net is None
        return
    assert rates.win
    assert rates.lose
    assert rates.net
    for share in (rates.win, rates.lose):
        assert 0 <= share.low <= share.value <= share.high <= 1
    assert -1 <= rates.net.low <= rates.net.value <= rates.net.high <= 1
    assert rates.net.low < rates.net.high
    mirrored = Rates(losses, ties, wins).net
    assert mirrored
    assert mirrored.low == pytest.approx(-rates.net.high)


@given(st.integers(0, 20), st.integers(0, 20))
def test_more_pairs_narrow_the_interval(wins: int, losses: int) -> None:
    few, many = net_rate(wins, losses, 40), net_rate(4 * wins, 4 * losses, 160)
    assert few
    assert many
    assert many.high - many.low < few.high - few.low


@given(st.lists(some))
def test_strata_and_categories_add_up(pairs: list[Judged]) -> None:
    found = tally(pairs)
    strata = (found.alike, found.shorter, found.longer)
    measured = [each for each in pairs if each.length_ratio is not None]
    assert found.rates.pairs == len(pairs)
    assert sum(each.pairs for each in strata) == len(measured)
    assert sum(each.wins for each in strata) == Rates.of(measured).wins
    categories = by_category(pairs).values()
    assert sum(each.rates.losses for each in categories) == found.rates.losses
    assert sum(each.unusable for each in categories) == found.unusable
    json.dumps(found.to_json(), allow_nan=False)


def test_length_control_keeps_pairs_within_a_fifth() -> None:
    ratios = (0.5, 0.83, 0.84, 1.0, 1.2, 1.21, None)
    outcomes: tuple[Outcome, ...] = ("lose", "lose", "tie", "win", "tie", "win", "win")
    found = tally([judged(o, r) for o, r in zip(outcomes, ratios, strict=True)])
    assert found.alike == Rates(wins=1, ties=2, losses=0)
    assert found.shorter == Rates(wins=0, ties=0, losses=2)
    assert found.longer == Rates(wins=1, ties=0, losses=0)
    assert found.length_ratio == pytest.approx(0.92)


def test_a_judge_of_places_is_told() -> None:
    found = tally([judged("tie", verdicts=("A", "A")), judged("tie", verdicts=("A", "tie"))])
    assert found.first_place == 1
    assert found.agreement == 0
    found = tally([judged("win", verdicts=("A", "B")), judged("tie", verdicts=("tie", None))])
    assert (found.first_place, found.agreement, found.unusable) == (0.5, 0.5, 1)
    found = tally([judged("tie", decided_by="identity"), judged("lose", decided_by="failure")])
    assert found.first_place is found.agreement is None
    assert (found.identical, found.missing) == (1, 1)


def test_methods_are_summed_apart() -> None:
    pairs = [judged(method="sot"), judged(method="sgd"), judged("lose", method="sot")]
    assert {name: len(group) for name, group in by_method(pairs).items()} == {"sot": 2, "sgd": 1}
