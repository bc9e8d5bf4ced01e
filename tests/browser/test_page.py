"""The live page in a real browser: what a person sees, with scripted models behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from langchain_sgd.runnable import SGDRunnable
from tests.browser import scenes
from tests.browser.conftest import opened
from tests.support.models import Say, Stage

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def ask(page: Any, question: str = scenes.QUESTION, *, race: bool = False) -> None:
    page.fill("#question", question)
    page.set_checked("#race", race)
    page.click("#go")


def ended(page: Any) -> str:
    """Wait for the end, and give the sentence that is told."""
    page.wait_for_selector("#save:visible")
    page.wait_for_function("() => document.getElementById('result').textContent !== ''")
    told: str = page.text_content("#result")
    return told


def statuses(page: Any) -> dict[str, str]:
    """Each box's heading and its state."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('#graph g.node')].map((g) =>
        [g.querySelector('.heading').textContent, g.getAttribute('class').replace('node ', '')]))"""
    )
    return found


def boxes(page: Any, count: int) -> None:
    """Wait until the plan has as many boxes, and no more."""
    page.wait_for_function(
        "(count) => document.querySelectorAll('#graph g.node').length === count", arg=count
    )


def shown(page: Any, **counts: int) -> None:
    """Wait until the boxes are in these states."""
    wanted = {"waiting": 0, "running": 0, "complete": 0, **counts}
    page.wait_for_function(
        """(wanted) => Object.entries(wanted).every(([state, count]) =>
        document.querySelectorAll(`#graph g.${state}`).length === count)""",
        arg=wanted,
    )


# -- what it shows


def test_the_plan_grows_line_by_line_and_parts_light_up(serve: Any, new_page: Any) -> None:
    stage = scenes.ByHand()
    parts = ("1", "2", "3", "4", "5", "6")
    stage.hold("planner", *parts)
    page = new_page(serve(scenes.travel(0, stage=stage)))
    ask(page)
    stage.let("planner")  # one part alone would be no plan: nothing is shown yet
    for count in range(2, 6):
        stage.let("planner")
        boxes(page, count)
    stage.let("planner", 100)
    boxes(page, 6)
    shown(page, running=4, waiting=2)
    stage.let("2", 1000)
    shown(page, complete=1, running=3, waiting=2)
    assert statuses(page)["2 Going by plane"] == "complete"
    for part in parts:
        stage.let(part, 1000)
    told = ended(page)
    assert re.fullmatch(r"6 parts in \d+\.\d\d s, \d\.\d written at a time on average\.", told)
    shown(page, complete=6)
    assert page.locator("#graph .line").count() == 5
    assert page.locator("#timeline .row").count() == 7
    headings = page.locator(".answer h3").all_text_contents()
    assert headings[0] == "Going by train"
    assert headings[-1] == "Recommendation"
    assert page.locator(".answer table").count() == 1


def test_the_text_grows_in_order_while_later_parts_are_written(serve: Any, new_page: Any) -> None:
    stage = scenes.ByHand()
    stage.hold("1", "2")
    page = new_page(serve(scenes.travel(0, stage=stage)))
    ask(page)
    stage.let("1", 3)
    stage.let("2", 1000)
    shown(
        page, complete=3, running=1, waiting=2
    )  # 2, 3 and 5 are there, and nothing of them is shown
    page.wait_for_function("() => document.querySelectorAll('.answer h3').length === 1")
    assert page.text_content(".answer").startswith("Going by train")
    stage.let("1", 1000)
    ended(page)
    assert page.locator(".answer h3").count() == 6


def test_the_opening_stands_before_all_parts(serve: Any, new_page: Any) -> None:
    stage = scenes.ByHand()
    stage.hold("planner", "plain")  # a plain answer that were whole before the plan would be kept
    page = new_page(serve(scenes.opening(stage)))
    ask(page)
    stage.let("plain", 2)
    page.wait_for_function(
        "() => document.querySelector('.answer')?.textContent.trim() === 'All three ways take a day.'"
    )
    stage.let("planner", 100)
    ended(page)
    assert page.locator(".answer p").first.text_content() == "All three ways take a day."
    assert page.locator(".answer h3").count() == 6
    labels = page.locator("#timeline .row .label").all_text_contents()
    assert labels[:3] == ["planner", "opening", "1 Going by train"]


@pytest.mark.parametrize("scrolled", [False, True])
def test_the_text_is_followed_and_then_shown_from_its_beginning(
    serve: Any, new_page: Any, *, scrolled: bool
) -> None:
    stage = scenes.ByHand()
    stage.hold("plain")
    page = new_page(serve(scenes.long_answer(1000, 0, stage)))
    ask(page, "A long one?")
    stage.let("plain", 600)
    page.wait_for_function("() => document.querySelector('.answer')?.scrollTop > 400")
    if scrolled:  # whoever reads elsewhere is left there
        page.evaluate("document.querySelector('.answer').scrollTop = 200")
    stage.let("plain", 1000)
    ended(page)
    page.wait_for_function(
        "(top) => document.querySelector('.answer').scrollTop === top", arg=200 if scrolled else 0
    )
    assert page.evaluate("document.querySelector('.answer').scrollHeight") > 2000


def test_a_race_is_told_in_one_sentence_and_can_be_replayed(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.travel(0.01)))
    ask(page, race=True)
    told = ended(page)
    # Which of them wins is the machine's affair; the sentence itself is tested below.
    found = re.search(r"([\d.]+) s against ([\d.]+) s, (\d+) words against (\d+)\.", told)
    assert found, told
    mine, theirs, words, plain_words = map(float, found.groups())
    clocks = [float(text.removesuffix(" s")) for text in page.locator(".clock").all_text_contents()]
    assert [mine, theirs] == clocks
    assert words == plain_words
    assert page.locator(".lane").count() == 2
    assert page.locator("#timeline .row.lead .label").text_content() == "plain"
    assert page.locator("#timeline .bar.goal").count() == 8
    # One time for one run, wherever it stands.
    assert page.text_content("#timeline .row.lead .note") == f"{theirs:.2f} s"
    first, second = page.locator(".answer").all_text_contents()
    # Seen in the same moment: a short replay may be over before anybody looks.
    assert page.evaluate(
        "() => { const it = document.getElementById('replay'); it.click(); return it.disabled; }"
    )
    page.wait_for_selector("#replay:enabled")
    assert ended(page) == told
    assert page.locator(".answer").all_text_contents() == [first, second]


@pytest.mark.parametrize(
    ("status", "mine", "theirs", "told"),
    [
        ("complete", 2.0, 4.0, "SGD: whole answer 2.0\u00d7 sooner, 2.00 s against 4.00 s, 3 words against 2."),
        ("partial", 2.0, 4.0, "SGD: whole answer 2.0\u00d7 sooner, 2.00 s against 4.00 s, 3 words against 2. But parts of it are missing."),
        ("complete", 4.0, 2.0, "Plain decoding was 2.0\u00d7 sooner here: SGD 4.00 s against 2.00 s, 3 words against 2."),
        ("complete", 4.0, 4.1, "A draw: SGD 4.00 s against 4.10 s, 3 words against 2."),
        ("plain", 4.0, 2.0, "This question was answered in one piece, so there was nothing to win: 4.00 s against 2.00 s, 3 words against 2."),
    ],
)  # fmt: skip
def test_the_sentence_about_a_race(
    serve: Any, new_page: Any, status: str, mine: float, theirs: float, told: str
) -> None:
    page = new_page(serve(scenes.travel()))
    said = page.evaluate(
        """async ([status, mine, theirs]) => {
          const { verdict } = await import(new URL('page/run.js', location.href).href);
          const run = (wall_s, status, words) => ({ error: null, words, report: { wall_s, status } });
          return verdict(run(mine, status, 3), run(theirs, 'plain', 2));
        }""",
        [status, mine, theirs],
    )
    assert said == told


def test_a_race_at_the_same_time(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.travel(0.01)))
    page.click("summary")
    page.check("#together")
    ask(page, race=True)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.answer')].filter((a) => a.textContent).length === 2"
    )
    assert " s against " in ended(page)


def test_a_question_in_one_piece(serve: Any, new_page: Any) -> None:
    stage = Stage({"planner": Say("PLAIN"), "plain": Say("Four.")})
    page = new_page(serve(SGDRunnable(**stage.pair())))
    ask(page, "What is 2+2?")
    assert ended(page).startswith("Answered in one piece in ")
    assert page.text_content("#graph").startswith("No plan: ")
    assert page.text_content(".answer") == "Four."


def test_a_failing_part_is_seen_and_the_rest_is_there(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.failing()))
    ask(page)
    assert re.match(r"[1-5] of 6 parts were written, in ", ended(page))
    found = statuses(page)
    assert found["2 Going by plane"] == "failed"
    assert found["1 Going by train"] == "complete"
    assert page.locator("#timeline .bar.lost").count() >= 2
    assert "the GPU is on fire" in page.text_content(".warnings")
    # Part 4 waits for part 2 all the time, and never for a free place.
    assert page.locator("#timeline .row", has_text="4 Costs").locator(".bar").count() == 1
    lost = [state for state in found.values() if state in {"failed", "skipped"}]
    assert page.locator(".answer em", has_text="missing").count() == len(lost)


def test_a_run_that_fails_as_a_whole_says_why(serve: Any, new_page: Any) -> None:
    stage = Stage({"plain": Say("", error=ValueError("the GPU is on fire"))})
    page = new_page(serve(SGDRunnable(**stage.pair(), mode="never", retries=0)))
    ask(page)
    page.wait_for_selector(".problem:visible")
    assert "the GPU is on fire" in page.text_content("#result")
    page.wait_for_selector("#runs button")
    assert "failed" in page.text_content("#runs")


def test_twenty_parts_fit(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.twenty(0.001)))
    ask(page, "Twenty parts?")
    assert ended(page).startswith("20 parts in ")
    assert page.locator("#graph g.node.complete").count() == 20
    boxes = page.evaluate(
        "[...document.querySelectorAll('#graph g.node')].map((g) => g.getBoundingClientRect().toJSON())"
    )
    for index, a in enumerate(boxes):
        for b in boxes[index + 1 :]:
            apart = (
                a["right"] <= b["left"]
                or b["right"] <= a["left"]
                or a["bottom"] <= b["top"]
                or b["bottom"] <= a["top"]
            )
            assert apart
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- model text is never markup


def test_model_text_is_never_markup(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.injecting()))
    ask(page, "<img src=x onerror=window.hacked='question'>")
    ended(page)
    page.hover("#graph g.node >> nth=0")
    assert page.evaluate("window.hacked") is None
    for tag in ("script", "img", "iframe", "svg", "a", "b"):
        assert page.locator(f".answer {tag}").count() == 0
    assert page.locator("img").count() == 1  # the page's own
    text = page.text_content(".answer")
    for piece in ("<img src=x", "<script>window.hacked='script'", "javascript:window", "<iframe"):
        assert piece in text
    assert "<img src=x onerror=window.hacked='error'>" in page.text_content(".warnings")
    page.reload()
    page.click("#runs button")
    page.wait_for_selector(".answer h3")
    assert page.evaluate("window.hacked") is None


def test_the_policy_stops_scripts_that_would_get_in(serve: Any, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text))
    page.goto(serve(scenes.travel()))
    page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.hacked = 1';
          document.body.append(script);
          document.body.setAttribute('onclick', 'window.hacked = 2');
          document.body.click();
        }"""
    )
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in refused)
    context.close()


# -- using it


def test_history_shows_a_run_again_and_a_report_can_be_saved(
    serve: Any, new_page: Any, browser: Any, tmp_path: Path
) -> None:
    url = serve(scenes.travel(0.001))
    page = new_page(url)
    ask(page, race=True)
    ended(page)
    with page.expect_download() as saved:
        page.click("#save")
    file = tmp_path / saved.value.suggested_filename
    saved.value.save_as(file)
    page.reload()
    page.click("#runs button")
    ended(page)
    assert set(statuses(page).values()) == {"complete"}
    assert page.input_value("#question") == scenes.QUESTION
    page.click("#forget")
    page.wait_for_selector("#history", state="hidden")

    alone = browser.new_context(offline=True, java_script_enabled=False)
    shown = alone.new_page()
    shown.goto(file.as_uri())
    assert shown.text_content("h1") == scenes.QUESTION
    assert shown.locator("svg").count() == 3  # a graph and two timelines
    assert shown.locator("svg >> nth=0").bounding_box()["width"] > 300
    alone.close()


def test_history_shows_a_race_as_a_race_and_a_long_question_whole(
    serve: Any, new_page: Any
) -> None:
    page = new_page(serve(scenes.travel(0.001)))
    question = f"{scenes.QUESTION}\n{'Mind the children. ' * 30}"
    ask(page, question, race=True)
    told = ended(page)
    texts = page.locator(".answer").all_text_contents()
    page.select_option("#model", "plain")
    ask(page, "In one piece?")
    page.wait_for_function("() => document.querySelectorAll('#runs button').length === 2")
    assert page.locator("#runs .which").all_text_contents() == ["plain", "sgd · plain"]
    assert " s against " in page.locator("#runs .facts").last.text_content()
    page.reload()
    page.click("#runs button >> nth=1")
    assert ended(page) == told
    assert page.locator(".answer").all_text_contents() == texts
    assert page.locator("#timeline .row.lead .label").text_content() == "plain"
    assert page.input_value("#question") == question
    assert page.locator("#runs button[aria-current=true]").count() == 1
    page.click("#runs button >> nth=0")
    page.wait_for_function(
        "() => document.getElementById('graph').textContent === 'No plan: this is plain decoding.'"
    )
    assert page.locator(".lane").count() == 1


def signs(page: Any) -> list[str]:
    """The legend's words, after the tiers'."""
    found: list[str] = page.locator("#legend li:not(:has(.tier))").all_text_contents()
    return found


def test_the_legend_tells_what_is_there_and_nothing_else(serve: Any, new_page: Any) -> None:
    stage = scenes.ByHand()
    stage.hold("planner", "1", "plain")
    page = new_page(serve(scenes.travel(0, stage=stage)))
    page.select_option("#model", "plain")
    ask(page)
    stage.let("plain", 1000)
    ended(page)
    assert page.locator("#legend li:has(.tier)").all_text_contents() == ["large"]
    assert set(signs(page)) <= {"waits for a token", "writes"}
    page.select_option("#model", "sgd")
    ask(page)
    stage.let("planner", 3)
    boxes(page, 3)
    page.wait_for_function("() => document.querySelector('#timeline .bar.first')")
    page.wait_for_function("() => document.querySelector('#legend .first')")
    assert "its text is needed" not in signs(page)
    assert "waits for other parts" not in signs(page)
    stage.let("planner", 100)
    page.wait_for_function("() => document.querySelector('#legend .wait')")
    stage.let("1", 1000)
    ended(page)
    assert page.locator("#legend li:has(.tier)").all_text_contents() == [
        "planner",
        "small",
        "large",
    ]
    assert {"difficulty, 1 to 5", "its text is needed", "a part is planned", "writes"} <= set(
        signs(page)
    )
    assert not {"not taken", "first one done"} & set(signs(page))


def test_stop_ends_the_models_and_says_so(serve: Any, new_page: Any) -> None:
    stage = Stage({"plain": Say(["Some text"], hang=True)})
    page = new_page(serve(SGDRunnable(**stage.pair(), mode="never")))
    ask(page)
    page.wait_for_function("() => document.querySelector('.answer')?.textContent === 'Some text'")
    page.click("#stop")
    page.wait_for_selector("#go:visible")
    assert page.text_content("#result") == "Stopped."
    page.wait_for_function(
        "() => document.getElementById('runs').textContent.includes('cancelled')"
    )
    assert [call.outcome for call in stage.calls] != ["open"]


def test_all_of_it_works_by_keyboard(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.travel(0.001), samples=["A sample?"]))
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("Which way?")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.input_value("#question") == "A sample?"
    page.keyboard.press("Control+Enter")
    ended(page)
    page.focus("#graph")
    page.keyboard.press("Tab")
    name = page.evaluate("document.activeElement.querySelector('title').textContent")
    assert name.startswith("1. Going by train\n")
    page.keyboard.press("Enter")
    assert page.text_content(".answer .found") == "Going by train"


def test_a_server_with_a_key_asks_for_it(serve: Any, browser: Any) -> None:
    context = browser.new_context()
    page = opened(context.new_page(), serve(scenes.travel(0.001), key="a-secret"))
    assert page.is_visible("#key")
    ask(page)
    page.wait_for_function("() => document.getElementById('result').textContent.includes('key')")
    page.fill("#key", "a-secret")
    page.press("#key", "Tab")
    ask(page)
    assert ended(page).startswith("6 parts")
    context.close()


def test_options_reach_the_models(serve: Any, new_page: Any) -> None:
    stage = Stage({"plain": Say("ok")})
    page = new_page(serve(SGDRunnable(**stage.pair(), mode="never")))
    page.click("summary")
    page.fill("#system", "Be brief.")
    page.fill("#max-tokens", "7")
    page.fill("#temperature", "0.5")
    ask(page, "Hello")
    ended(page)
    [call] = stage.calls
    assert call.prompt == "system: Be brief.\nhuman: Hello"
    assert call.options["max_tokens"] == 7
    assert call.options["temperature"] == 0.5


# -- phone, colors, accessibility


@pytest.mark.parametrize("width", [320, 390, 768, 1059, 1061])
def test_nothing_is_wider_than_the_window(serve: Any, new_page: Any, width: int) -> None:
    page = new_page(serve(scenes.travel(0.001)), viewport={"width": width, "height": 800})
    ask(page, race=True)
    ended(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_plan_fits_or_is_large_enough_to_read(serve: Any, new_page: Any) -> None:
    """A graph that fits is seen whole; one that does not is scrolled, and its words stay readable."""
    url = serve(scenes.travel(0.001))
    for width, whole in ((1280, True), (390, False)):
        page = new_page(url, viewport={"width": width, "height": 844})
        ask(page)
        ended(page)
        graph = page.locator("#graph")
        fits = graph.evaluate("(graph) => graph.scrollWidth <= graph.clientWidth")
        assert fits == whole
        assert (graph.get_attribute("class") == "beyond") != whole
        height = graph.locator(".heading").first.evaluate(
            "(text) => text.getBoundingClientRect().height"
        )
        assert height >= 12, width


def test_it_says_who_waits_for_whom_and_begins_without_a_gap(serve: Any, new_page: Any) -> None:
    stage = scenes.ByHand()
    stage.hold("1")
    page = new_page(serve(scenes.travel(0, stage=stage)), **PHONE)
    asking, intro = page.locator("#ask").bounding_box(), page.locator("#intro").bounding_box()
    assert intro["y"] - asking["y"] - asking["height"] < 44
    ask(page, race=True)
    page.wait_for_selector("#graph g.running")
    assert (
        page.text_content("#result")
        == "First sgd, then plain, so that neither slows the other down."
    )
    stage.let("1", 1000)
    assert " s against " in ended(page)


def test_a_phone_shows_answer_before_times(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.travel(0.001)), **PHONE)
    ask(page)
    ended(page)
    tops = [page.locator(each).bounding_box()["y"] for each in ("#plan", ".answer", "#time")]
    assert tops == sorted(tops)
    # What is written is read by scrolling the page, not a box in it.
    page.wait_for_function(
        "() => { const a = document.querySelector('.answer'); return a.scrollHeight === a.clientHeight; }"
    )


@pytest.mark.skipif(not AXE.exists(), reason="`make browser` installs axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_axe_finds_nothing_serious(serve: Any, browser: Any, scheme: str, size: str) -> None:
    options = PHONE if size == "phone" else {"viewport": {"width": 1440, "height": 900}}
    # The policy of the page would refuse the checker itself.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True, **options)
    stage = scenes.ByHand()
    stage.hold("2")
    page = opened(context.new_page(), serve(scenes.failing(0.002, stage), samples=["A sample?"]))
    page.add_script_tag(path=str(AXE))

    def check() -> None:
        found = page.evaluate("axe.run()")
        assert found["passes"]
        faults = [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
        assert faults == []

    check()
    ask(page, race=True)
    page.wait_for_selector("#graph g.running")
    check()
    stage.let("2", 10)
    ended(page)
    page.click("summary")
    check()
    context.close()


# -- speed


_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]"


def test_the_first_paint_is_fast(serve: Any, new_page: Any) -> None:
    page = new_page(serve(scenes.travel()))
    painted: list[float] = []
    while len(painted) < 20 and not any(each < 1000 for each in painted):
        page.reload()  # more than once only on a machine that is busy
        page.wait_for_function(f"() => {_PAINTED}")
        painted.append(page.evaluate(f"{_PAINTED}.startTime"))
    assert min(painted) < 1000, painted


_SEEN_MS = 51
"""Three frames of a screen of 60 Hz and what rounding adds, about one frame of a film: text that grows in such
steps looks smooth. Times between frames are whole frames: four would be 67 ms."""
_FRAMES = """() => {
  const gaps = window.gaps = [];
  let last = performance.now();
  const tick = (now) => { gaps.push(now - last); last = now; if (window.gaps === gaps) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
_P99 = """() => {
  const gaps = window.gaps.splice(0).sort((a, b) => a - b);
  window.gaps = null;
  return [gaps.length, gaps[Math.floor(gaps.length * 0.99)]];
}"""


def test_at_200_tokens_a_second_no_frame_is_missed(serve: Any, new_page: Any) -> None:
    """For 20 s. An empty page, watched at the same time, tells what the machine itself is late with."""
    url = serve(scenes.long_answer(4000, 0.005))
    page, empty = new_page(url), new_page(url)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

    before = spent()
    for each in (page, empty):
        each.evaluate(_FRAMES)
    ask(page, "A long one?")
    ended(page)
    (count, late_ms), (_, machine_ms) = page.evaluate(_P99), empty.evaluate(_P99)
    took = float(page.text_content(".clock").removesuffix(" s"))
    assert took >= 19
    assert page.locator(".answer p").count() > 200
    assert late_ms < max(_SEEN_MS, 2 * machine_ms), (count, took)
    # In processor time, so that it can be told on a busy machine, too: most of each second is left.
    assert (spent() - before) / took < 0.6
