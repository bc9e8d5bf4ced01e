from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from langchain_sgd.cli import parsed
from langchain_sgd.commands import demo
from langchain_sgd.commands import proxy as proxying
from langchain_sgd.commands.demo import (
    OUTLINED,
    PLAIN,
    SGD,
    Compared,
    compare,
    sentence,
    shown,
)
from langchain_sgd.embedded.briefs import domain, grammar
from langchain_sgd.embedded.briefs.domain import Brief
from langchain_sgd.embedded.briefs.texts import SECTIONS
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.terminal.race import Frame, Lane, run_lane
from langchain_sgd.terminal.recording import recording
from tests.support.models import Say, Stage, planning
from tests.support.skeletons import skeleton


def brief() -> Brief:
    return next(domain.briefs(3, held_out=True))


def right_answer(asked: Brief) -> str:
    rng = random.Random(5)
    facts = asked.invent(rng)
    texts = {h: grammar.render(SECTIONS[h], facts, rng)[0] for h in asked.headings}
    return "\n\n".join(f"## {heading}\n\n{texts[heading]}" for heading in asked.headings)


def drawn(frame: Frame, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(frame)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def lanes() -> list[Lane]:
    whole = Stage({"plain": Say("## One\n\nPlainly written.")})
    split = Stage({"planner": planning(skeleton("1", "2", "3 <- 1"))})
    plain = SGDRunnable(mode="never", **whole.pair())
    return [
        await run_lane(PLAIN, plain.aevents("A question")),
        await run_lane(SGD, SGDRunnable(**split.pair()).aevents("A question")),
    ]


async def test_every_way_answers_every_question_and_is_checked() -> None:
    asked = brief()
    right = Stage({"plain": Say(right_answer(asked))})
    wrong = Stage({"planner": planning(skeleton("1", "2"))})
    found = await compare(
        {PLAIN: SGDRunnable(mode="never", **right.pair()), SGD: SGDRunnable(**wrong.pair())},
        [asked, asked],
    )
    assert found[PLAIN].facts == 1.0
    assert found[SGD].facts == 0.0
    assert [len(each.lanes) for each in found.values()] == [2, 2]
    said = sentence(found)
    assert said.startswith(
        "This was the middle one of 2 questions. In the median, SGD's whole answer came "
    )
    assert said.endswith(", and 0% of its facts agree. Plain decoding: 100%.")


async def test_the_sentence_takes_the_median_of_the_questions_ratios_and_says_what_is_slower() -> (
    None
):
    tally = (await compare({PLAIN: SGDRunnable(mode="never", **Stage().pair())}, [brief()]))[PLAIN]
    walls = {PLAIN: [2.0, 9.0, 4.0], SGD: [1.0, 3.0, 4.0], OUTLINED: [4.0, 9.0, 8.0]}
    said = sentence({name: Compared(tally.tally, times) for name, times in walls.items()})
    assert "3 questions" in said
    assert "SGD's whole answer came 2.0x sooner" in said
    assert "Skeleton-of-Thought's whole answer came 2.0x later" in said


def test_the_question_that_is_shown_has_the_ratio_that_the_sentence_tells() -> None:
    walls = {PLAIN: [2.0, 9.0, 4.0, 5.0], SGD: [4.0, 3.0, 2.5, 4.0], OUTLINED: [4.0, 9.0, 8.0, 5.0]}
    compared = {name: Compared(walls_s=times) for name, times in walls.items()}
    assert shown(compared) == 3
    assert "SGD's whole answer came 1.2x sooner" in sentence(compared)


async def test_everything_fits_a_terminal_of_24_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    asked = next(b for b in domain.briefs(3, held_out=True) if len(b.headings) >= 8)
    parts = [str(number) for number in range(1, len(asked.headings) + 1)]
    split = Stage({"planner": planning(skeleton(*parts))})
    ways = {
        PLAIN: SGDRunnable(mode="never", **Stage().pair()),
        SGD: SGDRunnable(**split.pair(), threshold=1),
        OUTLINED: SGDRunnable(**split.pair(), threshold=1),
    }

    async def measured(_: Any, __: Any, *, quiet: bool) -> dict[str, Compared]:
        del quiet
        return await compare(ways, [asked])

    out = io.StringIO()
    monkeypatch.setattr(demo, "_measured", measured)
    monkeypatch.setattr(demo, "Console", lambda: Console(file=out, force_terminal=True))
    monkeypatch.setattr("sys.stdout", out)
    args = parsed(["demo", "--plain", "--questions", "1"])
    assert await asyncio.to_thread(demo.demo, args) == 0
    assert "asks the same again" in out.getvalue()
    assert len(out.getvalue().splitlines()) <= 23


async def test_a_picture_shows_what_was_written_by_then() -> None:
    ran = await lanes()
    before, after = drawn(Frame(ran, -1.0, 22)), drawn(Frame(ran, 1e9, 22, "a note"))
    assert "Plainly written." in after
    assert "Plainly written." not in before
    assert after.count("done in") == 2
    assert "done in" not in before
    assert "━" not in re.sub(r".*━ writes", "", before)
    assert "planner" in after
    assert re.search(r"0 .*a note.* \d", after)
    assert re.search(r"writes\n■ planner  ■ large  ■ small$", after.rstrip())
    assert re.search(r"writes  ■ planner  ■ ", drawn(Frame(ran, 1e9, 22), 90))
    assert "waits for other parts" in after
    assert max(map(len, after.splitlines())) <= 80


@pytest.mark.parametrize("height", [14, 22, 40])
async def test_a_picture_is_as_high_as_is_asked_for(height: int) -> None:
    ran = await lanes()
    assert len(drawn(Frame(ran, 1e9, height)).splitlines()) == height


async def test_a_recording_is_one_picture_with_both_runs_and_the_verdict() -> None:
    ran = await lanes()
    made = recording("What <is> it?", ran, "SGD & others.", seconds=5.0)
    root = ET.fromstring(made)  # noqa: S314 - our own
    text = "".join(root.itertext()).replace("\u00a0", " ")
    assert "What <is> it?" in text
    assert "SGD & others." in text
    assert "prefers-reduced-motion" in text
    assert "http://" not in made.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in made
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert width < 1100
    assert height < 800


async def test_a_run_without_a_message_is_no_lane() -> None:
    async def nothing() -> AsyncIterator[Any]:
        return
        yield

    with pytest.raises(ValueError, match="without a message"):
        await run_lane("x", nothing())


def test_the_page_of_the_demo_is_about_the_bundled_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGD_LARGE", "http://127.0.0.1:1")
    monkeypatch.setattr(proxying, "bundled", lambda: contextlib.nullcontext({}))
    with proxying._models({}, parsed(["proxy"]), is_demo=True) as (_, samples):
        assert all("launch" in sample or "brief" in sample for sample in samples)
    noted = capsys.readouterr().err
    assert "launch briefs only" in noted
    assert "--large" not in noted
