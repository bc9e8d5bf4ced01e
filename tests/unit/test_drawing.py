from __future__ import annotations

import itertools
import random
import re
import time
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_sgd.costs import Price, Pricing
from langchain_sgd.drawing import report_html, skeleton_html, skeleton_svg, timeline_svg
from langchain_sgd.drawing.colors import tier_colors
from langchain_sgd.drawing.layout import Box, layout
from langchain_sgd.drawing.markup import element, fitted, text_width, to_text, wrapped
from langchain_sgd.drawing.timeline import _nice
from langchain_sgd.drawing.words import one_unit, seconds
from langchain_sgd.report import Attempt, NodeReport, Report
from langchain_sgd.skeleton import NodeId, Skeleton
from langchain_sgd.terminal import report_line
from tests.support.reports import WILD, attempt, every_case, plain, wild_reports, wild_skeletons
from tests.support.skeletons import random_skeleton, skeleton

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own picture


def texts(root: ET.Element) -> list[str]:
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]


def overlap(a: Box, b: Box) -> bool:
    return (
        a.x < b.x + b.width
        and b.x < a.x + a.width
        and a.y < b.y + b.height
        and b.y < a.y + a.height
    )


def boxes(root: ET.Element) -> list[Box]:
    return [
        Box(*(float(rect.get(name, "nan")) for name in ("x", "y", "width", "height")))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("class") == "sgd-node"
    ]


# -- any input


@settings(max_examples=30, deadline=None)
@given(wild_skeletons(), st.none() | WILD)
def test_any_skeleton_is_drawn_well_formed_without_overlaps(
    made: Skeleton, tier: str | None
) -> None:
    tiers = None if tier is None else {str(node.id): tier for node in made.nodes}
    root = parsed(skeleton_svg(made, tiers))
    drawn = boxes(root)
    assert len(drawn) == len(made)
    assert not any(overlap(a, b) for a, b in itertools.combinations(drawn, 2))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for box in drawn:
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height


@settings(max_examples=30, deadline=None)
@given(wild_reports())
@example(every_case())
@example(plain())
def test_any_report_is_drawn_well_formed(report: Report) -> None:
    for text in (timeline_svg(report), report_html(report)):
        root = parsed(text)
        assert "<script" not in text
        text.encode()
        for rect in root.iter(f"{SVG}rect"):
            assert float(rect.get("width", "nan")) > 0
            assert float(rect.get("height", "nan")) > 0


def _is_shown(char: str) -> bool:
    """Taken by XML, no control, and nothing that turns the text behind it around."""
    return char in "\t\n\r" or (
        32 <= ord(char) < 127
        or (
            ord(char) >= 160
            and not re.match("[\ufffe\uffff\u202a-\u202e\u2066-\u2069\ud800-\udfff]", char)
        )
    )


@given(WILD)
@example("\r\n")
def test_markup_gives_texts_back_as_they_were(text: str) -> None:
    root = parsed(to_text(element("p", text, title=text)))
    cleaned = "".join(c if _is_shown(c) else "\ufffd" for c in text)
    # XML readers turn each end of a line into \n.
    assert root.text == (re.sub("\r\n?", "\n", cleaned) or None)


@given(WILD, st.floats(40, 300), st.integers(1, 4))
def test_wrapped_texts_fit_and_lose_nothing_but_the_end(
    text: str, width: float, lines: int
) -> None:
    out = wrapped(text, width, 12, lines)
    assert len(out) <= lines
    assert all(text_width(line, 12) <= width for line in out)
    whole, shown = "".join(text.split()), "".join("".join(out).split())
    assert whole == shown or whole.startswith(shown.removesuffix("…"))


# -- the graph


def test_a_node_stands_right_of_all_that_it_needs() -> None:
    made = skeleton("1", "2", "3 <- 1", "4 <- 3,2", "5 <- 1")
    x = {str(node_id): box.x for node_id, box in layout(made).boxes.items()}
    assert all(x[d] < x[node.id] for node in made.nodes for d in node.dependencies)
    assert x["1"] == x["2"]
    assert x["3"] == x["5"]


def test_lines_do_not_cross_where_they_need_not() -> None:
    made = skeleton("1", "2", "3", "6 <- 3", "5 <- 2", "4 <- 1")
    y = {str(node_id): box.y for node_id, box in layout(made).boxes.items()}
    pairs = [("1", "4"), ("2", "5"), ("3", "6")]
    by_root = sorted(pairs, key=lambda pair: y[pair[0]])
    assert by_root == sorted(pairs, key=lambda pair: y[pair[1]])


def test_a_chain_is_a_straight_line() -> None:
    places = layout(skeleton("1", "2 <- 1", "3 <- 2"))
    assert len({box.y for box in places.boxes.values()}) == 1


def test_a_line_passes_over_a_column_beside_its_boxes() -> None:
    places = layout(skeleton("1", "2 <- 1", "3 <- 2", "4 <- 1,3"))
    for start, end in places.line("1", "4"):  # type: ignore[arg-type]
        for box in places.boxes.values():
            middle = ((start.x + end.x) / 2, (start.y + end.y) / 2)
            inside = box.x < middle[0] < box.x + box.width and box.y < middle[1] < box.y + box.height  # fmt: skip
            assert not inside


@pytest.mark.parametrize("seed", range(5))
def test_a_line_begins_and_ends_at_its_boxes(seed: int) -> None:
    made = random_skeleton(random.Random(seed))
    places = layout(made)
    for node in made.nodes:
        box = places.boxes[node.id]
        for dependency in node.dependencies:
            line = places.line(dependency, node.id)
            begin = places.boxes[dependency]
            assert line[0][0] == (begin.x + begin.width, begin.y + begin.height / 2)
            assert line[-1][1] == (box.x, box.y + box.height / 2)
            assert all(a[1] == b[0] for a, b in itertools.pairwise(line))
            assert {*line} <= {*places.strokes[dependency]}


def test_a_hundred_dense_nodes_are_laid_out_in_a_moment() -> None:
    rng = random.Random(7)
    ids = [str(n) for n in range(100)]
    made = Skeleton.parse(
        [
            {"id": i, "heading": "x", "dependencies": [d for d in ids[:n] if rng.random() < 0.5]}
            for n, i in enumerate(ids)
        ]
    )
    began = time.process_time()
    layout(made)
    assert time.process_time() - began < 3


def test_headings_are_escaped_and_whole_in_the_hint() -> None:
    heading = "<script>alert('x')</script> & a rather long rest that no box can hold at all"
    made = Skeleton.parse([{"id": "1", "heading": heading}])
    text = skeleton_svg(made)
    assert "<script" not in text
    hints = ["".join(title.itertext()) for title in parsed(text).iter(f"{SVG}title")]
    assert any(heading in hint for hint in hints)


def test_a_picture_says_in_words_what_it_shows() -> None:
    root = parsed(skeleton_svg(skeleton("1", "2 <- 1"), {"1": "small"}))
    assert root.get("role") == "img"
    ids = {each.get("id"): "".join(each.itertext()) for each in root}
    told = " ".join(ids[name] for name in root.get("aria-labelledby", "").split())
    assert "2 nodes" in told
    assert "needs 1" in told
    assert "small" in told


def test_pictures_fetch_nothing_and_follow_the_page_colors() -> None:
    text = report_html(every_case())
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in text
    assert 'fill="currentColor"' in text
    assert "white" not in text.replace("white-space", "")


# -- the timeline


def test_the_timeline_shows_what_became_of_each_node() -> None:
    root = parsed(timeline_svg(every_case()))
    shown = " ".join(texts(root))
    for word in ("✂ cut short", "✕ failed", "∅ skipped", "first text 0.40 s", "1,300 tokens"):
        assert word in shown
    assert "◆ 5 Advice" in " ".join(texts(root))
    assert "◆ 3" not in shown


def test_bars_lie_where_the_times_say() -> None:
    report = every_case()
    root = parsed(timeline_svg(report))
    rows = {
        "".join(g.find(f"{SVG}title").itertext()).split("\n")[0]: g  # type: ignore[union-attr]
        for g in root.iter(f"{SVG}g")
        if g.find(f"{SVG}title") is not None
    }
    rects = list(rows["2 Costs (critical path)"].iter(f"{SVG}rect"))
    first, writing = ((float(r.get("x", 0)), float(r.get("width", 0))) for r in rects)
    lines = list(rows["2 Costs (critical path)"].iter(f"{SVG}line"))
    waits, queued = ((float(each.get("x1", 0)), float(each.get("x2", 0))) for each in lines)
    assert all(each.get("stroke-dasharray") for each in lines)
    scale = 500 / 5.1

    def at(seconds_: float) -> Any:
        return pytest.approx(220 + seconds_ * scale, abs=0.1)

    assert waits[1] == queued[0] == at(1.6)
    assert queued[1] == at(1.7)
    assert first[0] == at(1.7)
    assert writing[0] == at(1.9)
    assert sum(writing) == at(3.5)


def test_an_opening_has_a_row_of_its_own_and_was_not_lost() -> None:
    report = every_case()
    assert report.planner is not None
    stopped = attempt("large", 0.0, 0.2, 0.7, error="stopped: the question is split")
    planner = report.planner.model_copy(update={"hedge": stopped})
    opened = report.model_copy(update={"planner": planner, "opening": "It is so."})
    shown = texts(parsed(timeline_svg(opened)))
    assert shown.index("planner") < shown.index("opening")
    assert timeline_svg(opened).count("l6 6m0 -6l-6 6") == 3
    unopened = report.model_copy(update={"planner": planner})
    assert "opening" not in texts(parsed(timeline_svg(unopened)))


def test_attempts_that_were_not_taken_are_crossed() -> None:
    text = timeline_svg(every_case())
    # One of node 3, one of node 6, one in the legend; the cut text of node 4 counts.
    assert text.count("l6 6m0 -6l-6 6") == 3


def test_a_plain_run_names_its_reason_and_has_no_graph() -> None:
    text = report_html(plain())
    assert "Answered undivided: it is short." in text
    assert text.count("<svg") == 1
    assert "undivided answer" in text


def test_a_moment_without_length_is_drawn() -> None:
    report = Report(status="plain", nodes=(), wall_s=0.0)
    assert "<svg" in timeline_svg(report)
    node = (
        plain()
        .nodes[0]
        .model_copy(
            update={"attempts": (attempt("large", 0.0, 0.0, 0.0),), "ended_s": 0.0, "ready_s": 0.0}
        )
    )
    parsed(timeline_svg(report.model_copy(update={"nodes": (node,)})))


def test_the_numbers_stand_in_a_table_too() -> None:
    root = parsed(report_html(every_case()))
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert rows[0][0] == "node"
    assert all(len(row) == len(rows[0]) for row in rows)
    costs = next(row for row in rows if "Costs" in row[0])
    assert costs[1:4] == ["complete", "large", "lab/large"]
    failed = next(row for row in rows if "Luggage" in row[0])
    assert failed[-1] == "ConnectError: refused"


def test_costs_are_shown_where_there_are_prices() -> None:
    pricing = Pricing(
        prices={name: Price(input=0, output=1000) for name in ("planner", "small", "large")},
        plain_tier="large",
        question_tokens=10,
    )
    priced = every_case().model_copy(update={"pricing": pricing})
    assert "cost" not in report_line(every_case())
    # 1900 tokens at 1000 a million.
    assert "cost 1.9 (plain: about " in report_line(priced)
    assert ">1.9 (plain: about " in report_html(priced)


def test_values_draw_themselves_in_notebooks() -> None:
    report = every_case()
    assert report._repr_html_() == report_html(report)
    assert report.skeleton._repr_html_() == skeleton_html(report.skeleton)


def test_a_skeleton_without_nodes_is_drawn_empty() -> None:
    assert "0 nodes" in skeleton_svg(plain().skeleton)
    assert plain().skeleton._repr_html_() == skeleton_html(plain().skeleton)


# -- one language


def legend(root: ET.Element) -> list[str]:
    return ["".join(g.itertext()) for g in root.iter(f"{SVG}g") if g.get("class") == "sgd-legend"]


def test_every_picture_explains_its_signs() -> None:
    report = every_case()
    (said,) = legend(parsed(timeline_svg(report)))
    for word in ("planner", "small", "large", "waits for other parts", "writes", "not taken"):
        assert word in said
    (said,) = legend(parsed(skeleton_svg(report.skeleton, {"1": "small", "2": "large"})))
    for word in ("small", "large", "difficulty, 1 to 5", "its text is needed"):
        assert word in said


def test_what_is_not_there_is_not_explained() -> None:
    (said,) = legend(parsed(timeline_svg(plain())))
    assert not re.search("small|other parts|not taken|critical|planned", said)
    (said,) = legend(parsed(skeleton_svg(skeleton("1"))))
    assert said == "difficulty, 1 to 5"


@pytest.mark.parametrize(
    ("ready_s", "started_s", "first_s", "told"),
    [
        (0.0, 0.0, 0.0, "writes"),
        (0.0, 0.0, 5.0, "waits for a token|writes"),
        (0.0, 5.0, 5.0, "waits for a free place|writes"),
        (5.0, 5.0, 5.0, "waits for other parts|writes"),
        (5.0, 5.0, None, "waits for other parts|waits for a token"),
    ],
)
def test_only_the_waits_that_can_be_seen_are_explained(
    ready_s: float, started_s: float, first_s: float | None, told: str
) -> None:
    attempt = Attempt(tier="large", started_s=started_s, first_token_s=first_s, ended_s=10.0)
    node = NodeReport(
        id=NodeId("1"),
        status="complete",
        tier="large",
        planned_s=0.0,
        ready_s=ready_s,
        ended_s=10.0,
        attempts=(attempt,),
    )
    report = Report(status="complete", skeleton=skeleton("1"), nodes=(node,), wall_s=10.0)
    (signs,) = (
        g for g in parsed(timeline_svg(report)).iter(f"{SVG}g") if g.get("class") == "sgd-legend"
    )
    words = ["".join(sign.itertext()) for sign in signs]
    assert "|".join(word for word in words if "wait" in word or word == "writes") == told


@settings(max_examples=20, deadline=None)
@given(wild_reports())
@example(every_case())
@example(plain())
def test_a_legend_stays_inside_its_picture(report: Report) -> None:
    pictures = [timeline_svg(report)]
    if report.skeleton:
        pictures.append(skeleton_svg(report.skeleton, {n.id: n.tier for n in report.nodes}))
    for picture in pictures:
        root = parsed(picture)
        _, _, width, height = map(float, root.get("viewBox", "").split())
        (signs,) = (g for g in root.iter(f"{SVG}g") if g.get("class") == "sgd-legend")
        for sign in signs:
            x, y = map(float, re.findall(r"-?[\d.]+", sign.get("transform", "")))
            text = sign.find(f"{SVG}text")
            assert text is not None
            room = text_width("".join(text.itertext()), 10.5)
            assert 0 <= x <= x + float(text.get("x", 0)) + room <= width
            assert y + 4 <= height


def test_dashes_are_waiting_and_nothing_else() -> None:
    root = parsed(report_html(every_case()))
    assert {e.tag for e in root.iter() if e.get("stroke-dasharray")} == {f"{SVG}line"}


def test_a_box_has_its_tiers_color_whatever_became_of_it() -> None:
    colors = tier_colors(["small", "large"])
    report = every_case()
    root = parsed(report_html(report))
    frames = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "sgd-node"]
    assert [f.get("stroke") for f in frames] == [colors[node.tier] for node in report.nodes]


@given(st.floats(1e-3, 1e5), st.lists(st.floats(0, 1), min_size=1))
def test_durations_of_one_picture_have_one_unit(span: float, shares: list[float]) -> None:
    said = [one_unit(span)(span * share) for share in shares]
    assert len({text.split()[1] for text in said}) == 1
    assert len({len(text.split()[0].partition(".")[2]) for text in said}) == 1


@pytest.mark.parametrize(
    ("span", "value", "text"),
    [
        (0.0421, 0.0421, "42.1 ms"),
        (0.9, 0.35, "350 ms"),
        (5.1, 0.4, "0.40 s"),
        (14.6, 4.44, "4.4 s"),
        (3600, 1234.5, "1,234 s"),
        (5, float("nan"), "?"),
    ],
)
def test_a_duration_in_its_picture(span: float, value: float, text: str) -> None:
    assert one_unit(span)(value) == text


# -- words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ms"), (0.0421, "42.1 ms"), (0.9994, "999 ms"), (0.9996, "1.00 s"), (12.345, "12.35 s"),
     (99.996, "100 s"), (3600, "3,600 s"), (float("nan"), "?")],
)  # fmt: skip
def test_durations_in_words(value: float, text: str) -> None:
    assert seconds(value) == text


@given(st.floats(1e-9, 1e9))
def test_steps_of_the_axis_are_round_and_not_smaller(step: float) -> None:
    nice = _nice(step)
    assert step * (1 - 1e-6) <= nice <= step * 5.01
    assert f"{nice:e}"[0] in "125"


def test_fitted_texts_keep_what_fits() -> None:
    assert fitted("short", 100, 12) == "short"
    assert fitted("a long text that does not fit", 60, 12).endswith("…")
