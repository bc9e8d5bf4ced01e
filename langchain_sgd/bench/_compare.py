"""Methods side by side: what the rows of a bench come to, in numbers and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_sgd.bench import _measure
from langchain_sgd.bench._html import Bar, color
from langchain_sgd.bench._measure import (
    by,
    column,
    interval,
    median,
    paired,
    rounded,
    with_interval,
)
from langchain_sgd.bench._output import show
from langchain_sgd.decoding.sentences import count_words
from langchain_sgd.files import Row
from langchain_sgd.repetition import overlap, paragraphs

Figures = dict[str, Any]


def compare(rows: Iterable[Row], *, base: str) -> dict[str, Figures]:
    """Time, first text, length and tokens of every method, and beside the base method, question by question.

    Args:
        rows: Rows of any number of methods; failed ones count as such and as nothing else. Partial
            answers, of which a part failed or was cut, count with the others and are told.
        base: The method that the others are compared with.
    """
    methods = by(rows, "method")
    against = methods.get(base, [])
    return {name: _of_method(found, against) for name, found in methods.items()}


def _of_method(rows: Sequence[Row], against: Sequence[Row]) -> Figures:
    answered = [row for row in rows if row["error"] is None and row["report"]]
    reports = [row["report"] for row in answered]
    tiers = list(dict.fromkeys(t for r in reports for t in _measure.tokens_by_tier(r)))
    statuses = [report["status"] for report in reports]
    nodes = [len(r["nodes"]) for r in reports if (r["skeleton"] or {}).get("nodes")]
    read = [_prompt_tokens(report, "input_tokens") for report in reports]
    cached = sum(_prompt_tokens(report, "cached_tokens") for report in reports)
    return {
        "runs": len(rows),
        "failed": len(rows) - len(answered),
        "partial": statuses.count("partial"),
        "status": {status: statuses.count(status) for status in sorted(set(statuses))},
        "nodes": median(nodes),
        "wall_s": interval(list(column(rows, "wall_s").values())),
        "speedup": paired(column(against, "wall_s"), column(rows, "wall_s")),
        "ttft_s": interval(list(column(rows, "ttft_s").values())),
        "ttft_ratio": paired(column(rows, "ttft_s"), column(against, "ttft_s")),
        "length_ratio": paired(_words(rows), _words(against)),
        "repeated": median(
            overlap({str(n): text for n, text in enumerate(paragraphs(row["answer"]))}).share
            for row in answered
        ),
        "costed": len(column(rows, "cost")),
        "cost": interval(list(column(rows, "cost").values())),
        "cost_ratio": paired(column(rows, "cost"), column(against, "cost")),
        "prompt_tokens": median(read),
        "cached_share": cached / sum(read) if sum(read) else math.nan,
        "tokens": {
            tier: median(_measure.tokens_by_tier(r).get(tier, 0) for r in reports) for tier in tiers
        },
    }


def _prompt_tokens(report: Mapping[str, Any], count: str) -> int:
    return sum(usage[count] for usage in report["usage"].values())


def _words(rows: Sequence[Row]) -> dict[str, float]:
    """How long the answers are, by question; a failed one has none."""
    return {row["question_id"]: count_words(row["answer"]) for row in rows if row["error"] is None}


def by_category(rows: Sequence[Row], *, base: str) -> dict[str, dict[str, dict[str, float]]]:
    """The speedup of every method in every category of questions."""
    return {
        category: {name: found["speedup"] for name, found in compare(group, base=base).items()}
        for category, group in by(rows, "category").items()
    }


def example(rows: Sequence[Row], *, base: str, other: str) -> dict[str, Any]:
    """One question's reports by method: that question whose speedup is nearest to the median."""
    methods = by(rows, "method")
    slow, fast = (column(methods.get(name, []), "wall_s") for name in (base, other))
    ratios = {key: slow[key] / fast[key] for key in slow.keys() & fast.keys()}
    if not ratios:
        return {}
    middle = median(ratios.values())
    chosen = min(sorted(ratios), key=lambda key: abs(ratios[key] - middle))
    return {r["method"]: r["report"] for r in rows if r["question_id"] == chosen and r["report"]}


def show_comparison(title: str, figures: Mapping[str, Figures], note: str = "") -> None:
    """Print it."""
    show(
        title,
        ("", "wall s", "times faster", "first text s", "... over base"),
        [
            (
                name,
                with_interval(found["wall_s"]),
                with_interval(found["speedup"]),
                rounded(found["ttft_s"]["median"], 2),
                with_interval(found["ttft_ratio"]),
            )
            for name, found in figures.items()
        ],
        note or "Medians; brackets are 95 % intervals. Ratios are taken question by question.",
    )
    show(
        "What was written",
        ("", "length over base", "repeated", "tokens", "runs", "failed", "partial"),
        [
            (
                name,
                with_interval(found["length_ratio"]),
                rounded(100 * found["repeated"], 1, " %"),
                ", ".join(f"{tier} {count:.0f}" for tier, count in found["tokens"].items()),
                found["runs"],
                found["failed"],
                found["partial"],
            )
            for name, found in figures.items()
        ],
        "Length in words. Repeated: words in runs that an earlier paragraph has, too.",
    )
    if is_priced(figures):
        _show_costs(figures)


def is_priced(figures: Mapping[str, Figures]) -> bool:
    """Whether it is known what any of the answers cost."""
    return any(math.isfinite(found["cost"]["median"]) for found in figures.values())


def _show_costs(figures: Mapping[str, Figures]) -> None:
    show(
        "What it cost, in the currency of the prices",
        ("", "1,000 answers", "over base", "answers", "prompt tokens", "from the cache"),
        [
            (
                name,
                with_interval(a_thousand(found["cost"])),
                with_interval(found["cost_ratio"]),
                found["costed"],
                rounded(found["prompt_tokens"]),
                rounded(100 * found["cached_share"], 0, " %"),
            )
            for name, found in figures.items()
        ],
        "By the tokens that the servers counted. An answer with a call that was not counted is left out.",
    )


def a_thousand(cost: Mapping[str, float]) -> dict[str, float]:
    """What a thousand answers cost, for one costs too little to be read."""
    return {name: 1000 * value for name, value in cost.items()}


def speedup_bars(figures: Mapping[str, Figures]) -> list[Bar]:
    """The speedups, to be drawn."""
    return [
        Bar(name, **_named(found["speedup"]), color=color(0)) for name, found in figures.items()
    ]


def _named(figure: Mapping[str, float]) -> dict[str, float]:
    return {"value": figure["median"], "low": figure["low"], "high": figure["high"]}


def show_categories(title: str, figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print the speedups."""
    names = list(dict.fromkeys(name for found in figures.values() for name in found))
    show(
        title,
        ("", *names),
        [
            (category, *(with_interval(found[n]) if n in found else "-" for n in names))
            for category, found in figures.items()
        ],
    )
