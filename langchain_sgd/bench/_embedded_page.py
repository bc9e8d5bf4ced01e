"""The page of `bench embedded`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element

from langchain_sgd.bench._compare import speedup_bars
from langchain_sgd.bench._embedded_figures import (
    ADAPTIVE,
    BRIEF,
    PLAIN,
    PLANNED,
    SGD,
    SHORT,
    SOT,
    SUPERSTEPS,
    in_short,
)
from langchain_sgd.bench._html import (
    Bar,
    chart,
    color,
    page,
    picture,
    section,
    table,
    timelines,
)
from langchain_sgd.bench._measure import rounded, with_interval
from langchain_sgd.drawing.markup import element

_SHARES: Final = {
    "section accuracy": "Sections that are right as a whole",
    "fact consistency": "Facts that sections repeat as other sections of the answer state them",
    "exactness": "Answers without any fault",
}

_DRAWN: Final = (PLAIN, SOT, SGD, ADAPTIVE, PLANNED, SUPERSTEPS)


def embedded_page(found: Mapping[str, Any], reports: Mapping[str, Any], command: str) -> str:
    """The figures with plots, and one question's runs as timelines."""
    options = found["options"]
    parts: list[Element] = [
        *section("In short", table(("", ""), in_short(found)), told="Medians over all questions."),
        *section(
            f"Speed: {found['questions'].get(BRIEF, 0)} questions that decompose",
            chart("Times faster than plain", speedup_bars(found["methods"]), unit="x", line=1.0),
            table(
                ("", "wall ms", "first text ms", "steps", "tokens in sequence", "ms a step"),
                [
                    (
                        name,
                        rounded(methods["wall_s"]["median"] * 1000),
                        rounded(methods["ttft_s"]["median"] * 1000),
                        rounded(found["work"][name]["steps"]["median"]),
                        rounded(found["work"][name]["path_tokens"]),
                        rounded(found["work"][name]["step_ms"], 2),
                    )
                    for name, methods in found["methods"].items()
                ],
            ),
            told="How many times faster than plain decoding by the large model, planning included."
            " Median of the questions' ratios; whiskers are 95 % intervals.",
        ),
    ]
    if found["quality"]:
        parts += section(
            "Quality: the same answers",
            *_quality_charts(found["quality"]),
            told="Checked by grammar and arithmetic. Whiskers are Wilson's 95 % intervals, the gray mark"
            " is what guessing gives.",
        )
    if found["short_answers"]:
        parts += section(
            f"The other way: {found['questions'][SHORT]} questions that do not decompose",
            chart(
                "Times faster than plain on questions that do not decompose",
                speedup_bars(found["short_answers"]),
                unit="x",
                line=1.0,
            ),
            told="The planner says that the question is not to be split, then one model answers.",
        )
    parts += section(
        "One question, all methods",
        *timelines(_shown(reports)),
        told="The question whose speedup is nearest to the median; all on one scale.",
    )
    parts += section(
        "The engine",
        table(
            ("streams", "tokens a step", "ms in the model", "ms in all", "tokens/s"),
            [
                (
                    step["streams"],
                    *(f"{step[n]:.2f}" for n in ("tokens_per_step", "step_ms", "wall_per_step_ms")),
                    f"{step['tokens_per_s']:.0f}",
                )
                for step in found["steps"]
            ],
        ),
        told=f"{options['engine']}, {options['slots']} slots: what a decode step costs, by the number of"
        " streams that it serves. Where a step for four takes four times as long, parallel decoding"
        " saves no time, whatever the schedule.",
    )
    parts += section(
        "Prefill",
        table(
            ("", "prompt tokens computed", "taken from the cache", "of the node prompts cached"),
            [
                (
                    name,
                    rounded(work["prefill_computed"]),
                    rounded(work["prefill_cached"]),
                    rounded(work["node_prompts_cached"] * 100, unit=" %"),
                )
                for name, work in found["work"].items()
            ],
        ),
        told="Of a run, on average, by the engine's own counters.",
    )
    parts += section(
        "First text",
        table(
            ("", "over plain decoding"),
            [(n, with_interval(f["ttft_ratio"])) for n, f in found["methods"].items()],
        ),
    )
    return page("SGD on the embedded models", command, parts)


def embedded_picture(reports: Mapping[str, Any]) -> str:
    """The timelines of the page as an SVG file."""
    return picture("One question, all methods on one scale", _shown(reports))


def _shown(reports: Mapping[str, Any]) -> dict[str, Any]:
    return {name: reports[name] for name in _DRAWN if name in reports}


def _quality_charts(quality: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Element]:
    parts: list[Element] = []
    for index, (share, title) in enumerate(_SHARES.items()):
        bars = []
        for method, shares in quality.items():
            found = {name: value * 100 for name, value in shares[share].items()}
            low, high, chance = found["low"], found["high"], found["chance"]
            bars.append(Bar(method, found["value"], low, high, color(index), chance))
        parts += [element("h3", title), chart(title, bars, unit=" %", top=100.0)]
    return parts
