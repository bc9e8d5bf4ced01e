"""What the page is served with: runs as events, the history, the shared file, metrics."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from langchain_sgd.drawing.colors import tier_colors
from langchain_sgd.proxy import Limits, make_app
from langchain_sgd.proxy.engine import Text
from langchain_sgd.proxy.history import Record
from langchain_sgd.proxy.showing import PAGE
from langchain_sgd.runnable import SGDRunnable
from tests.support.asgi import Asked, ask
from tests.support.models import Say, Stage, planning, settle
from tests.support.skeletons import skeleton

PLAN = skeleton("1", "2", "3! <- 1,2")


def a_stage(**lines: Any) -> Stage:
    said = {
        "planner": planning(PLAN, usage=(100, 30)),
        "1": Say(["On", "e."], usage=(10, 2)),
        "2": Say(["Two."], usage=(10, 2)),
        "3": Say(["Three."], usage=(30, 3)),
        "plain": Say(["In one piece."], usage=(7, 4)),
    }
    return Stage({**said, **lines})


def an_app(stage: Stage | None = None, **options: Any) -> Any:
    sgd = options.pop("sgd", {})
    return make_app(SGDRunnable(**(stage or a_stage()).pair(), **sgd), **options)


def a_question(text: str = "Which way?", model: str = "sgd", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def run(app: Any, *args: Any, **more: Any) -> Asked:
    return await ask(app, "/api/runs", a_question(*args, **more))


# -- runs


async def test_a_run_tells_all_that_happens_and_ends_with_its_report() -> None:
    answer = await run(an_app())
    events = answer.events
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "done"
    assert {"planned", "plan_ended", "started", "token", "ended", "text"} <= set(kinds)
    assert kinds.count("planned") == 3
    planned = [event for event in events if event["type"] == "planned"]
    assert planned[2]["node"]["dependencies"] == ["1", "2"]
    assert kinds.count("graph") == 3
    graph = next(event["graph"] for event in reversed(events) if event["type"] == "graph")
    assert set(graph["boxes"]) == {"1", "2", "3"}
    assert {(line["from"], line["to"]) for line in graph["lines"]} == {("1", "3"), ("2", "3")}
    assert all(line["d"].startswith("M") for line in graph["lines"])
    text = "".join(event["text"] for event in events if event["type"] == "text")
    assert text == events[-1]["text"] == events[-1]["text"].strip()
    assert events[-1]["report"]["status"] == "complete"
    assert events[-1]["usage"]["total_tokens"] == 187
    times = [event["at"] for event in events if event["type"] not in {"done", "text", "graph"}]
    assert times == sorted(times)


async def test_a_failed_run_ends_with_its_error() -> None:
    app = an_app(a_stage(plain=Say("", error=ValueError("gone"))), sgd={"retries": 0})
    events = (await run(app, "Hi", "plain")).events
    assert events[-1]["type"] == "error"
    assert "gone" in events[-1]["error"]["message"]
    [kept] = (await ask(app, "/api/runs")).json["runs"]
    assert kept["status"] == "failed"


async def test_a_page_that_is_closed_ends_the_models() -> None:
    stage = a_stage(**{"1": Say(["a"], hang=True)})
    async with Asked(an_app(stage), "/api/runs", a_question()) as asked:
        await settle(lambda: "1" in stage.parts())
        asked.leave()
        await asked.done()
    assert stage.in_flight == 0


async def test_tools_are_not_for_the_page() -> None:
    answer = await ask(an_app(), "/api/runs", a_question(tools=[{"type": "function"}]))
    assert answer.status == 400


# -- history


async def test_runs_of_page_and_api_are_kept_newest_first_and_shown_again() -> None:
    app = an_app()
    await run(app, "First?")
    await ask(app, "/v1/chat/completions", a_question("Second?", "plain"))
    second, first = (await ask(app, "/api/runs")).json["runs"]
    assert (first["question"], first["source"], first["status"], first["nodes"]) == (
        "First?",
        "page",
        "complete",
        3,
    )
    assert (second["question"], second["source"], second["model"]) == ("Second?", "api", "plain")
    again = await ask(app, f"/api/runs/{first['id']}")
    assert again.events[-1]["type"] == "done"
    kinds = [event["type"] for event in again.events]
    assert kinds.count("planned") == kinds.count("graph") == 3


async def test_the_runs_of_a_race_are_told_to_belong_together() -> None:
    app = an_app()
    for model in ("sgd", "plain"):
        await ask(app, "/api/runs?race=0a1b", a_question(model=model))
    await run(app)
    kept = (await ask(app, "/api/runs")).json["runs"]
    assert [(each["model"], each["race"]) for each in kept] == [
        ("sgd", None),
        ("plain", "0a1b"),
        ("sgd", "0a1b"),
    ]
    for name in ("", "x", "a" * 33):
        refused = await ask(app, f"/api/runs?race={name}", a_question())
        assert refused.status == 400
        assert "hexadecimal" in refused.json["error"]["message"]


async def test_a_run_shown_again_has_its_whole_question() -> None:
    app = an_app()
    question = "Which\n\nway? " * 60
    await run(app, question)
    [kept] = (await ask(app, "/api/runs")).json["runs"]
    assert len(kept["question"]) == 300
    again = await ask(app, f"/api/runs/{kept['id']}")
    assert again.events[0] == {"type": "asked", "question": question}


async def test_the_history_is_bounded_and_can_be_forgotten() -> None:
    app = an_app(limits=Limits(history=2))
    for text in ("One?", "Two?", "Three?"):
        await run(app, text)
    kept = (await ask(app, "/api/runs")).json["runs"]
    assert [each["question"] for each in kept] == ["Three?", "Two?"]
    assert (await ask(app, "/api/runs", method="DELETE")).status == 204
    assert (await ask(app, "/api/runs")).json["runs"] == []


async def test_the_history_is_bounded_in_bytes_too() -> None:
    app = an_app(limits=Limits(history_bytes=100))
    await run(app, "One?")
    await run(app, "Two?")
    kept = (await ask(app, "/api/runs")).json["runs"]
    assert [each["question"] for each in kept] == ["Two?"]


def test_bytes_are_counted_not_characters() -> None:
    record = Record("sgd", "größer", "api")
    assert record.size == 8
    event = record.note(Text("größer"))
    assert record.size == 8 + len(event.encode())


async def test_who_does_not_want_it_is_not_kept() -> None:
    app = an_app()
    await ask(app, "/v1/chat/completions", a_question(store=False))
    assert (await ask(app, "/api/runs")).json["runs"] == []
    app = an_app(limits=Limits(history=0))
    await run(app)
    assert (await ask(app, "/api/runs")).json["runs"] == []


# -- the shared file


class Tags(HTMLParser):
    """The tags and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "action"}]
        assert not [name for name, _ in attrs if name.startswith("on")]


async def test_a_report_is_one_file_without_script_and_without_addresses() -> None:
    evil = (
        "<script>alert(1)</script><img src=x onerror=alert(2)>\n\n![leak](https://evil.example/a.png)"
        " [click](javascript:alert(3)) <https://evil.example> \u202e\n\n[a]\n\n[a]: https://evil.example\n"
        "\n**Bold** and:\n\n| a | b |\n|---|---|\n| <b>c | d |"
    )
    app = an_app(a_stage(**{"1": Say(evil)}))
    await run(app, evil)
    [kept] = (await ask(app, "/api/runs")).json["runs"]
    shared = await ask(app, f"/api/runs/{kept['id']}/page")
    assert shared.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in shared.headers["content-security-policy"]
    page = Tags(shared.body.decode())
    assert {"html", "svg", "table", "strong"} <= set(page.tags)
    assert page.tags.count("table") == 2  # the model's and that of all numbers
    assert not {"script", "img", "link", "iframe", "a", "b"} & set(page.tags)
    assert page.links == []
    assert "alert(1)" in shared.body.decode()
    assert "![leak](https://evil.example/a.png)" in shared.body.decode()
    assert "\u202e" not in shared.body.decode()


async def test_a_race_is_shared_with_both_runs() -> None:
    app = an_app()
    await run(app)
    await run(app, "Which way?", "plain")
    second, first = (await ask(app, "/api/runs")).json["runs"]
    shared = (await ask(app, f"/api/runs/{first['id']}/page?with={second['id']}")).body.decode()
    assert "Whole answer: sgd after " in shared
    assert "In one piece." in shared
    # Of the two timelines, one fills its width and the other stands on the same scale.
    marks = [
        re.findall(r">([\d.]+ m?s)</text>", part)
        for part in shared.split("Timeline of the run")[1:]
    ]
    assert len(marks) == 2
    assert marks[0][:3] == marks[1][:3]


async def test_a_run_without_a_report_is_shared_all_the_same() -> None:
    app = an_app(a_stage(plain=Say("", error=ValueError("gone"))), sgd={"retries": 0})
    await run(app, "Hi", "plain")
    [kept] = (await ask(app, "/api/runs")).json["runs"]
    shared = await ask(app, f"/api/runs/{kept['id']}/page")
    assert "Status: failed" in shared.body.decode()


async def test_the_text_of_a_run_that_was_stopped_or_failed_is_shared() -> None:
    app = an_app(a_stage(plain=Say(["In one", " piece"], hang=True)))
    async with Asked(app, "/api/runs", a_question(model="plain")) as asked:
        await asked.seen(" piece")
        asked.leave()
        await asked.done()
    broken = Say(["In one", " piece"], error=ValueError("gone"))
    for_good = an_app(a_stage(plain=broken), sgd={"retries": 0})
    await run(for_good, "Hi", "plain")
    for where, status in ((app, "cancelled"), (for_good, "failed")):
        [kept] = (await ask(where, "/api/runs")).json["runs"]
        shared = (await ask(where, f"/api/runs/{kept['id']}/page")).body.decode()
        assert f"Status: {status}" in shared
        assert "In one piece" in shared


# -- the page


def page_file(name: str) -> str:
    return (resources.files("langchain_sgd.proxy") / "page" / name).read_text(encoding="utf-8")


async def test_every_file_of_the_page_is_served_and_none_is_missing() -> None:
    app = an_app()
    folder = resources.files("langchain_sgd.proxy") / "page"
    assert {each.name for each in folder.iterdir()} == set(PAGE)
    for name, kind in PAGE.items():
        answer = await ask(app, f"/page/{name}")
        assert answer.headers["content-type"] == kind
        assert answer.body.decode() == page_file(name)


@pytest.mark.parametrize("name", sorted(PAGE))
def test_the_page_needs_no_network_and_makes_no_markup_of_text(name: str) -> None:
    text = page_file(name)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert word not in text
    assert not re.search(r"\son[a-z]+=", text)
    assert " style=" not in text


async def test_the_page_takes_its_colors_from_the_drawings() -> None:
    config = (await ask(an_app(samples=["Why?"]), "/api/config")).json
    colors = tier_colors(["small", "large"])
    assert config["tiers"] == {name: colors[name] for name in ("planner", "small", "large")}
    assert config["models"] == ["sgd", "sgd-large", "plain"]
    assert config["samples"] == ["Why?"]
    assert config["needs_key"] is False


# -- metrics and health


async def test_metrics_count_answers_tokens_parts_and_errors() -> None:
    app = an_app()
    await run(app)
    await ask(app, "/v1/chat/completions", a_question("Hi", "plain"))
    await ask(app, "/v1/chat/completions", a_question("Hi", "unknown"))
    answer = await ask(app, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found["sgd_answers_total", "sgd", "complete"] == 1
    assert found["sgd_answers_total", "plain", "plain"] == 1
    assert found["sgd_tokens_total", "output", "small"] == 4
    assert found["sgd_tokens_total", "input", "planner"] == 100
    assert found["sgd_nodes_total", "complete", "small"] == 2
    assert found["sgd_errors_total", "404"] == 1
    assert found["sgd_answers_in_flight",] == 0
    assert found["sgd_answer_seconds_count", "sgd"] == 1
    assert found["sgd_first_text_seconds_count", "plain"] == 1


async def test_health() -> None:
    assert (await ask(an_app(), "/health")).json == {"status": "ok"}
