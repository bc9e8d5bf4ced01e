"""The benches' pages: they stand alone, say what they show, and show texts as texts."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_sgd.bench import _embedded_figures as figures
from langchain_sgd.bench import _endpoints_page as endpoints_page
from langchain_sgd.bench import _html as html
from langchain_sgd.bench._embedded_page import embedded_page
from langchain_sgd.bench._html import Bar
from langchain_sgd.drawing.markup import element, to_text
from langchain_sgd.skeleton import Skeleton
from tests.support.bench import Page, has_nan, report, row
from tests.support.briefs import brief_row, short_row
from tests.support.reports import WILD, every_case, plain

EVIL = "<script>alert('x')</script> & \"co\" [/b]"
NAN = math.nan
Rows = list[dict[str, Any]]

STEPS = [
    {
        "streams": n,
        "tokens_per_step": n * 0.9,
        "step_ms": 1.5,
        "wall_per_step_ms": 1.75,
        "tokens_per_s": 1000.0 * n,
    }
    for n in (1, 4)
]


def number(shape: ET.Element, name: str) -> float:
    return float(shape.get(name, "nan"))


def shapes(root: ET.Element, tag: str) -> list[ET.Element]:
    """Elements with this tag, in a picture as it was made or inside a page's markup."""
    return [each for each in root.iter() if each.tag.rpartition("}")[2] == tag]


def texts(root: ET.Element) -> list[str]:
    return ["".join(each.itertext()) for each in shapes(root, "text")]


# -- charts


def test_a_chart_has_a_title_an_axis_labels_and_figures() -> None:
    bars = [Bar("plain", 1, 1, 1), Bar("SGD", 1.8, 1.5, 2.1, chance=0.5)]
    root = html.chart("Times faster", bars, unit="x", line=1.0)
    title, told = root[0], root[1]
    assert (title.tag, title.text) == ("title", "Times faster")
    assert (told.tag, told.text) == ("desc", "plain: 1.00x; SGD: 1.80x")
    assert root.get("aria-labelledby") == f"{title.get('id')} {told.get('id')}"
    shown = texts(root)
    assert shown[:5] == ["0x", "0.6x", "1.2x", "1.8x", "2.4x"]
    assert {"plain", "SGD", "1.8x  [1.5, 2.1]"} <= set(shown)
    assert len(shapes(root, "rect")) == 2
    assert sum(line.get("stroke-dasharray") is not None for line in shapes(root, "line")) == 1


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar("a", 1, 1, 1), Bar("b", 2, 1, 4), Bar("c", 4, 4, 4)]
    root = html.chart("Speed", bars, top=4.0)
    widths = [number(rect, "width") for rect in shapes(root, "rect")]
    assert widths == pytest.approx([widths[2] / 4, widths[2] / 2, widths[2]])
    tops = [number(rect, "y") for rect in shapes(root, "rect")]
    assert tops == sorted(tops)


def test_what_was_not_found_is_a_dash() -> None:
    bars = [Bar("a", NAN, NAN, NAN), Bar("b", 1.0, 0.5, 1.5)]
    root = html.chart("Speed", bars, unit="x")
    assert len(shapes(root, "rect")) == 1
    assert "-" in texts(root)
    assert root[1].text == "a: -; b: 1.00x"
    assert not has_nan(to_text(root))


@pytest.mark.parametrize("bars", [[], [Bar("a", NAN, NAN, NAN)], [Bar("a", 0.0, 0.0, 0.0)]])
def test_with_nothing_to_draw_there_still_is_a_chart(bars: list[Bar]) -> None:
    root = html.chart("Nothing", bars)
    assert root[0].text == "Nothing"
    assert not has_nan(to_text(root))


figure = st.floats(-1e3, 1e6) | st.just(NAN)


@given(
    st.lists(st.tuples(WILD, figure, figure, figure), max_size=4), WILD, st.none() | st.just(1.0)
)
@settings(max_examples=30)
def test_any_bars_stay_inside_the_picture(
    values: list[tuple[str, float, float, float]], title: str, line: float | None
) -> None:
    bars = [Bar(*each) for each in values]
    text = to_text(html.chart(title, bars, line=line))
    root = ET.fromstring(text)  # noqa: S314 - our own picture
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for shape in [*shapes(root, "rect"), *shapes(root, "line")]:
        for name, value in shape.items():
            if name in {"x", "x1", "x2", "width"}:
                assert 0 <= float(value) <= width
            if name in {"y", "y1", "y2", "height"}:
                assert 0 <= float(value) <= height


@given(st.floats(1e-6, 1e9))
def test_axes_end_at_a_round_number_above(value: float) -> None:
    end = html._nice(value)
    assert value * (1 - 1e-8) <= end < value * 1.34
    assert re.fullmatch(r"[1-9](\.\d)?e[+-]\d\d", f"{end:.1e}") is not None


def test_colors_go_round() -> None:
    found = [html.color(n) for n in range(20)]
    assert len(set(found)) == 6
    assert found[0] == found[6]


# -- tables, timelines, pages


def test_tables_show_texts_as_texts() -> None:
    root = html.table(("", EVIL), [(EVIL, 1), ("b", None)])
    assert [cell.text for cell in shapes(root, "td")] == [EVIL, "1", "b", "None"]
    assert [cell.get("scope") for cell in shapes(root, "th")] == ["col", "col"]
    assert "<script" not in to_text(root)


def test_timelines_share_one_scale() -> None:
    parts = html.timelines({"long": every_case().to_json(), "short": plain().to_json()})
    assert [part.text for part in parts[::2]] == ["long: 5.10 s", "short: 0.35 s"]
    ends = [max(number(rect, "x") for rect in shapes(part, "rect")) for part in parts[1::2]]
    assert ends[1] < ends[0]
    ticks = [[t for t in texts(part) if re.fullmatch(r"\d+ s", t)] for part in parts[1::2]]
    assert ticks[0] == ticks[1] != []
    assert html.timelines({}) == []


@given(WILD, WILD, WILD)
@settings(max_examples=20)
def test_any_page_is_well_formed_and_loads_nothing(title: str, command: str, text: str) -> None:
    parts = html.section(text, element("p", text), told=command)
    made = html.page(title, command, parts)
    assert 'charset="utf-8"' in made
    found = Page(made)
    assert found.tags["title"] == found.tags["h1"] == 1
    made.encode()


def test_a_page_says_where_when_and_how_to_repeat_it() -> None:
    found = Page(html.page("Results", f"bench {EVIL}", []))
    assert found.all("title") == found.all("h1") == ["Results"]
    assert found.all("code") == [f"bench {EVIL}"]
    assert re.match(r"\d{4}-\d\d-\d\d · .*\d+ cores · Python 3", found.all("p")[0])


# -- bench embedded


def summary(rows: Rows, **more: Any) -> tuple[dict[str, Any], Any]:
    found = figures.summary(rows, **{"checked": True, **more})
    reports = found.pop("reports")
    options = {"engine": "xllamacpp", "slots": 8}
    return {"options": options, "steps": STEPS, **found}, reports


def test_the_embedded_page_shows_every_figure() -> None:
    methods = (figures.PLAIN, figures.SOT, figures.SGD, figures.ADAPTIVE)
    rows = [brief_row(m, n, 3.0 - k / 2) for k, m in enumerate(methods) for n in range(3)]
    rows += [short_row(m, n, 1.0) for m in methods for n in range(2)]
    page = Page(embedded_page(*summary(rows), "langchain-sgd bench embedded"))
    assert page.all("h2")[:3] == [
        "In short",
        "Speed: 3 questions that decompose",
        "Quality: the same answers",
    ]
    # Speed, three of quality, short answers, and a timeline for each method.
    assert page.tags["svg"] == 5 + len(methods)
    assert page.tags["desc"] >= page.tags["svg"]
    assert len(page.ids) == len(set(page.ids))
    for method in methods:
        assert page.all("text").count(method) >= 5
        assert any(each.startswith(f"{method}: ") for each in page.all("h3"))
    assert {"1.20x", "1x", "0x"} & set(page.all("text"))
    assert {"SGD large: whole answer, times sooner than plain large", "1.50x"} <= set(
        page.all("td")
    )
    assert "plain large: 1.00x" in page.all("desc")[0]
    assert not any(map(has_nan, page.texts))


def test_the_embedded_page_without_quality_and_with_failures_only() -> None:
    failed = [
        brief_row(figures.SGD, n, error=EVIL, report=None, answer="", path_tokens=None, steps=0)
        for n in range(2)
    ]
    rows = [brief_row(figures.PLAIN, n) for n in range(2)]
    page = Page(embedded_page(*summary(rows + failed, checked=False), f"bench {EVIL}"))
    assert "Quality: the same answers" not in page.all("h2")
    assert page.all("code") == [f"bench {EVIL}"]
    assert "-" in page.all("td")
    assert not any(map(has_nan, page.texts))
    nothing = Page(embedded_page(*summary([]), "bench"))
    assert "Speed: 0 questions that decompose" in nothing.all("h2")


def test_an_engine_that_counts_no_cached_tokens_has_dashes() -> None:
    rows = [brief_row(m, n) for m in (figures.PLAIN, figures.SGD) for n in range(2)]
    found, reports = summary(rows)
    for work in found["work"].values():
        for name in ("prefill_computed", "prefill_cached", "node_prompts_cached"):
            work[name] = NAN
    assert not any(map(has_nan, Page(embedded_page(found, reports, "bench")).texts))


# -- bench endpoints


def endpoint_rows(*, users: tuple[int, ...] = (1, 4)) -> Rows:
    """Plain takes 2 s, SGD 1 s; one question at a time, a second apart."""
    evil = Skeleton.parse(
        [{"id": "1", "heading": EVIL, "scope": EVIL}, {"id": "2", "heading": "Other"}]
    )
    return [
        row(
            method,
            f"{question}/{EVIL}",
            wall_s,
            category=category,
            question=EVIL,
            users=count,
            began=1000.0 * count + 10 * question + (5 if method == "SGD large" else 0),
            report=told,
        )
        for count in users
        for question, category in ((1, "math"), (2, "math"), (3, EVIL))
        for method, wall_s, told in (
            ("plain large", 2.0, report(None, {"plain": 9}, wall_s=2.0)),
            ("SGD large", 1.0, report(evil, {"1": 5, "2": 4}, plan=3, wall_s=1.0)),
        )
    ]


NAMES = ["plain large", "SGD large"]


def test_the_endpoints_page_shows_loads_categories_and_one_question() -> None:
    found, reports = endpoints_page.summary(endpoint_rows(), {"seed": 1}, names_in_order=NAMES)
    assert found["questions"] == 3
    assert found["users"]["4"]["categories"][EVIL]["SGD large"]["median"] == 2
    made = endpoints_page.endpoints_page(found, reports, f"bench {EVIL}")
    page = Page(made)
    assert EVIL not in made
    assert page.all("h2") == [
        "Speed, one user",
        "By category, one user",
        "Speed, 4 users at the same time",
        "By category, 4 users at the same time",
        "One question, all methods",
    ]
    assert page.tags["svg"] == 6
    assert len(page.ids) == len(set(page.ids))
    assert EVIL in page.all("text")
    assert page.all("code") == [f"bench {EVIL}"]
    # 3 answers in 6 s and in 3 s of work.
    assert {"30.0", "60.0"} <= set(page.all("td"))
    assert not any(map(has_nan, page.texts))


def test_equal_pictures_have_ids_of_their_own() -> None:
    rows = [each for each in endpoint_rows(users=(1, 2)) if each["method"] == "plain large"]
    found, reports = endpoints_page.summary(rows, {}, names_in_order=["plain large"])
    ids = Page(endpoints_page.endpoints_page(found, reports, "bench")).ids
    assert len(ids) == len(set(ids))


def test_failures_are_shown_on_the_endpoints_page() -> None:
    rows = endpoint_rows(users=(1,))
    for each in rows:
        if each["method"] == "SGD large":
            each.update(error=EVIL, report=None, answer="", ttft_s=None)
    found, reports = endpoints_page.summary(rows, {}, names_in_order=NAMES)
    assert found["errors"] == [EVIL]
    page = Page(endpoints_page.endpoints_page(found, reports, "bench"))
    assert "Runs that failed" in page.all("h2")
    assert EVIL in page.all("td")
    assert page.all("td").count("3") == 1
    assert not any(map(has_nan, page.texts))


def test_nothing_measured_is_a_page_too() -> None:
    found, reports = endpoints_page.summary([], {}, names_in_order=NAMES)
    page = Page(endpoints_page.endpoints_page(found, reports, "bench"))
    assert page.all("h2") == ["One question, all methods"]
    endpoints_page.show_figures(found)


def test_the_endpoints_tables_name_users_methods_and_failures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rows = endpoint_rows()
    rows[-1].update(error="TGIError: refused", report=None)
    found, _ = endpoints_page.summary(rows, {}, names_in_order=NAMES)
    endpoints_page.show_figures(found)
    said = capsys.readouterr().out
    assert "3 questions, 4 users at the same time" in said
    assert "│ 2.00 │" in " ".join(said.split())
    assert EVIL in said
    assert "a run failed: TGIError: refused" in said
    assert not has_nan(said)


# -- answers a minute


def at(*spans: tuple[float, float], error: str | None = None) -> Rows:
    return [row("m", n, wall, began=began, error=error) for n, (began, wall) in enumerate(spans)]


def test_answers_a_minute_count_the_time_at_work() -> None:
    assert endpoints_page.per_minute(at((100, 10), (110, 10))) == 6
    # Side by side, one inside the other, and a pause of a day.
    assert endpoints_page.per_minute(at((100, 10), (105, 15), (106, 1))) == 9
    assert endpoints_page.per_minute(at((86_500, 10), (100, 10))) == 6


def test_failed_runs_take_time_and_are_no_answers() -> None:
    rows = [*at((0, 10)), *at((10, 10), error="Error: no")]
    assert endpoints_page.per_minute(rows) == 3
    assert endpoints_page.per_minute([]) == 0
